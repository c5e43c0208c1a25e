package bench

import (
	"encoding/json"
	"testing"
)

// TestDocuments checks that the documents are what the reports say: valid JSON of about 1 KiB.
func TestDocuments(t *testing.T) {
	for name, make := range map[string]func(int) []byte{"document": document, "varied": varied} {
		for _, n := range []int{0, 7, 49_999} {
			body := make(n)
			if !json.Valid(body) {
				t.Errorf("%s(%d) is no JSON: %s", name, n, body)
			}
			if len(body) < 980 || len(body) > 1060 {
				t.Errorf("%s(%d) has %d bytes", name, n, len(body))
			}
		}
	}
}
