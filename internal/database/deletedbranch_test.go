package database_test

import (
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// TestDeletedBranch: who resolved a conflict for his own revision pushes it together with the tombstone that closes
// the branch of the current one (deleted_branch).
func TestDeletedBranch(t *testing.T) {
	revs := func(texts ...string) []tidegate.RevID {
		var all []tidegate.RevID
		for _, text := range texts {
			rev, err := tidegate.ParseRevID(text)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, rev)
		}
		return all
	}
	for _, tt := range []struct {
		name    string
		gone    bool     // the current revision is a deletion
		deleted bool     // the new revision
		branch  []string // the tombstone's history
		code    tidegate.Code
		current string
	}{
		{"closes the current one", false, false, []string{"3-dd", "2-bb"}, 0, "2-cc"},
		{"brings a deleted document back", true, false, []string{"3-dd", "2-bb"}, 0, "2-cc"},
		{"with all of its history", false, false, []string{"3-dd", "2-bb", "1-aa"}, 0, "2-cc"},
		{"both are deletions", false, true, []string{"3-dd", "2-bb"}, 0, "2-cc"},
		{"of something else", false, false, []string{"3-dd", "2-xx"}, tidegate.Conflict, "2-bb"},
		{"of an ancestor", false, false, []string{"2-dd", "1-aa"}, tidegate.Conflict, "2-bb"},
		{"of nothing", false, false, []string{"3-dd"}, tidegate.Conflict, "2-bb"},
		{"that is no history", false, false, []string{"2-dd", "2-bb"}, tidegate.Invalid, "2-bb"},
	} {
		e := open(t, database.Options{})
		for _, history := range [][]string{{"1-aa"}, {"2-bb", "1-aa"}} {
			w := &database.Write{ID: "d", Body: []byte(`{"channels":["old"]}`), History: revs(history...)}
			w.Deleted = tt.gone && len(history) == 2
			if _, err := e.admin.Put(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		w := &database.Write{ID: "d", Body: []byte(`{"channels":["new"],"keepChannels":true}`), Deleted: tt.deleted,
			History: revs("2-cc", "1-aa"), DeletedBranch: revs(tt.branch...), NoConflicts: true}
		written, err := e.admin.Put(t.Context(), w)
		if (err == nil) != (tt.code == 0) || err != nil && tidegate.ErrorCode(err) != tt.code {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		leaves, err := e.admin.OpenRevs(t.Context(), "d", nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := leaves[0].Doc.Rev.String(); got != tt.current {
			t.Errorf("%s: the current revision is %s, want %s", tt.name, got, tt.current)
		}
		live := 0
		for _, leaf := range leaves {
			if !leaf.Doc.Deleted {
				live++
			}
		}
		if live != 1 && !(tt.deleted && live == 0) {
			t.Errorf("%s: %d live leaves", tt.name, live)
		}
		if tt.code == 0 {
			// The sync function saw the revision that lost as the old one.
			if doc := leaves[0].Doc; !tt.deleted && !doc.Channels.Has("old") {
				t.Errorf("%s: channels %v", tt.name, doc.Channels)
			}
			if again, err := e.admin.Put(t.Context(), w); err != nil || !again.Existed || again.Seq != written.Seq {
				t.Errorf("%s: once more: %+v, %v", tt.name, again, err)
			}
		}
		e.check()
	}
}
