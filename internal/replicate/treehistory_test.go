package replicate

import (
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
)

// A branch of any length goes into the properties of a message.
func TestLongTreeHistory(t *testing.T) {
	revs := make([]tidegate.RevID, 20_000)
	rev := tidegate.RevID{}
	for i := range revs {
		rev = tidegate.NewRevID(rev, []byte("{}"))
		revs[len(revs)-1-i] = rev
	}
	own, history := treeHistory(revs, nil)
	if own != revs[0].String() || len(history) > blip.MaxProperties*3/4 || len(history) < blip.MaxProperties/4 {
		t.Errorf("%s with %d bytes of history", own, len(history))
	}
	if _, history := treeHistory(revs, []string{revs[2].String()}); history != revs[1].String()+","+revs[2].String() {
		t.Errorf("history %s", history)
	}
}
