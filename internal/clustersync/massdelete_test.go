package clustersync

import "testing"

// TestDeletion: a document without a body is deleted, and so is one of tidegate all of whose leaves are.
func TestDeletion(t *testing.T) {
	for body, want := range map[string]bool{
		"": true, `[{"_id":"a","_rev":"2-x","_deleted":true}]`: true, `[{"_id":"a","_rev":"1-x"}]`: false,
		`[{"_id":"a","_deleted":true},{"_id":"a","n":1}]`: false, `[{"_id":"a","_deleted":true},{"_id":"a","_deleted":true}]`: true,
		`[{"_id":"a","text":"\"_deleted\""}]`: false, `[]`: false, `[{"_deleted":1}]`: false,
	} {
		in := Intent{Doc: Document{Format: Tidegate}}
		if body != "" {
			in.Doc.Body = []byte(body)
		}
		if got := deletion(in); got != want {
			t.Errorf("%s: %v", body, got)
		}
	}
	if deletion(Intent{Doc: Document{Format: MongoDB, Body: []byte(`"_deleted":true`)}}) {
		t.Error("a MongoDB document with a body is not deleted")
	}
}
