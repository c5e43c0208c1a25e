package replicate

import (
	"errors"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
)

// What a peer says of an attachment decides whether its revision is tried again: by who pulls it, and by who pushes to a peer
// that could not get it from us.
func TestAttachmentFailures(t *testing.T) {
	for code, again := range map[int]bool{400: false, 403: false, 404: false, 408: true, 429: true, 500: false, 503: true} {
		for _, what := range []string{"getAttachment", "proveAttachment"} {
			err := peerFailed(what, &blip.Error{Domain: "HTTP", Code: code, Text: "x"})
			if passes(err) != again {
				t.Errorf("%s, %d: tried again: %v", what, code, !again)
			}
			e, ok := errors.AsType[*tidegate.Error](err)
			if !ok || e.Status != 500 {
				t.Fatalf("%s, %d: %v", what, code, err)
			}
			answer := &blip.Error{Domain: "HTTP", Code: 500, Text: e.Reason}
			if attachmentRefused(answer) != (code < 500 && !again) {
				t.Errorf("%s, %d: refused: %v", what, code, attachmentRefused(answer))
			}
		}
	}
}
