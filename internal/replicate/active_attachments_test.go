package replicate_test

import (
	"fmt"
	"testing"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
)

// TestReplicateAttachmentAgain: an attachment that an earlier revision had, and a later one has again, is proved and not
// sent again.
func TestReplicateAttachmentAgain(t *testing.T) {
	for _, v := range []replicate.Version{replicate.V4, replicate.V3, replicate.V2} {
		for _, push := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s push=%v", v.Subprotocol(), push), func(t *testing.T) {
				there := newRemote(t, database.Options{})
				there.version = v
				here := newEnv(t, database.Options{})
				source := there.env
				if push {
					source = here
				}
				rep := here.replicator(there, replicate.ActiveOptions{Push: push, Pull: !push})
				rev := source.put("a", `{"channels":["A"],"_attachments":{"a.txt":{"data":"aGVsbG8="}}}`)
				run(t, rep)
				rev = source.put("a", fmt.Sprintf(`{"channels":["A"],"_rev":%q}`, rev))
				run(t, rep)
				source.put("a", fmt.Sprintf(`{"channels":["A"],"_rev":%q,"_attachments":{"a.txt":{"data":"aGVsbG8="}}}`, rev))
				run(t, rep)
				equal(t, here, there.env)
				st := rep.Stats()
				if n := st.Push.Attachments.Load() + st.Pull.Attachments.Load(); n != 1 {
					t.Errorf("the attachment was sent %d times", n)
				}
				if n := st.Push.Failures.Load() + st.Pull.Failures.Load(); n != 0 {
					t.Errorf("%d failures", n)
				}
			})
		}
	}
}
