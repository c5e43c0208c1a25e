package tidegate_test

import (
	"errors"
	"testing"

	. "github.com/tidegate/tidegate"
)

// TestCheckNewRev walks through gateway-rest.md §11.2. Each row is one place where a revision could go, with
// the verdicts for a live revision and for a tombstone: 0 is allowed, c is "Document revision conflict", e is
// "Document exists". The four columns are interactive and pushed, each without and with allow_conflicts.
func TestCheckNewRev(t *testing.T) {
	const none = ""
	for _, c := range []struct {
		name       string
		histories  []string // the document; "!" is a tombstone
		parent     string   // named or nearest known ancestor
		live, dead string
	}{
		{"no document", nil, none, "00 00", "00 00"},

		{"live document, nothing named", []string{"2-b 1-a"}, none, "ee c0", "ee c0"},
		{"live document, current", []string{"2-b 1-a"}, "2-b", "00 00", "00 00"},
		{"live document, older", []string{"2-b 1-a"}, "1-a", "cc c0", "cc c0"},

		// Rule 1 allows a tombstone on a tombstone if that is current (DELETE of a deleted document, §11.5).
		{"deleted document, nothing named", []string{"!2-b 1-a"}, none, "00 00", "00 c0"},
		{"deleted document, current", []string{"!2-b 1-a"}, "2-b", "00 00", "00 00"},
		{"deleted document, older", []string{"!2-b 1-a"}, "1-a", "cc c0", "cc c0"},

		{"conflict, nothing named", []string{"2-b 1-a", "2-c 1-a"}, none, "ee c0", "ee c0"},
		{"conflict, winner", []string{"2-b 1-a", "2-c 1-a"}, "2-c", "00 00", "00 00"},
		{"conflict, losing leaf", []string{"2-b 1-a", "2-c 1-a"}, "2-b", "c0 c0", "00 00"}, // rule 2 closes a branch
		{"conflict, fork", []string{"2-b 1-a", "2-c 1-a"}, "1-a", "cc c0", "cc c0"},

		{"closed branch, winner", []string{"2-b 1-a", "!3-d 2-c 1-a"}, "2-b", "00 00", "00 00"},
		{"closed branch, its tombstone", []string{"2-b 1-a", "!3-d 2-c 1-a"}, "3-d", "c0 c0", "c0 c0"},
		{"closed branch, below its tombstone", []string{"2-b 1-a", "!3-d 2-c 1-a"}, "2-c", "cc c0", "cc c0"},

		{"all branches deleted, nothing named", []string{"!2-b 1-a", "!3-d 2-c 1-a"}, none, "00 00", "00 c0"},
		{"all branches deleted, winner", []string{"!2-b 1-a", "!3-d 2-c 1-a"}, "3-d", "00 00", "00 00"},
		{"all branches deleted, the other", []string{"!2-b 1-a", "!3-d 2-c 1-a"}, "2-b", "c0 c0", "c0 c0"},
		{"all branches deleted, older", []string{"!2-b 1-a", "!3-d 2-c 1-a"}, "2-c", "cc c0", "cc c0"},
	} {
		tree := build(t, c.histories...)
		parent, history := -1, []RevID{rev("9-new"), rev("8-unknown")}
		if c.parent != none {
			i, ok := tree.Find(rev(c.parent))
			if !ok {
				t.Fatalf("%s: no %s", c.name, c.parent)
			}
			parent = i
			history = append(history, tree.History(i, 0)...)
		}
		for _, deleted := range []bool{false, true} {
			want := c.live
			if deleted {
				want = c.dead
			}
			verdict := func(allow, newEdits bool, parent int, history []RevID) byte {
				switch err := CheckNewRev(tree, allow, newEdits, parent, history, deleted); {
				case err == nil:
					return '0'
				case errors.Is(err, ErrRevisionConflict):
					return 'c'
				case errors.Is(err, ErrDocumentExists):
					return 'e'
				default:
					t.Fatalf("%s: error %v", c.name, err)
					return 0
				}
			}
			got := string([]byte{verdict(false, true, parent, nil), verdict(true, true, parent, nil), ' ',
				verdict(false, false, parent, history), verdict(true, false, parent, history)})
			if got != want {
				t.Errorf("%s, tombstone %v: %s, want %s", c.name, deleted, got, want)
			}
			// A pushed revision's parent may be left to be found.
			if found := verdict(false, false, -1, history); found != want[3] {
				t.Errorf("%s, tombstone %v: %c when the parent is looked for, want %c", c.name, deleted, found, want[3])
			}
		}
	}
}

// TestCheckNewRevKnown: what is there already may come again, wherever it is.
func TestCheckNewRevKnown(t *testing.T) {
	tree := build(t, "3-c 2-b 1-a", "!3-d 2-b 1-a")
	for _, history := range []string{"3-c 2-b 1-a", "3-d 2-b 1-a", "2-b 1-a", "1-a", "2-b"} {
		for _, deleted := range []bool{false, true} {
			if err := CheckNewRev(tree, false, false, -1, revs(history), deleted); err != nil {
				t.Errorf("%s: %v", history, err)
			}
		}
	}
}

// TestCheckNewRevBadParent: an index that is none is no reason to panic.
func TestCheckNewRevBadParent(t *testing.T) {
	for _, newEdits := range []bool{false, true} {
		if err := CheckNewRev(build(t, "1-a"), true, newEdits, 1, nil, false); !errors.Is(err, ErrRevisionConflict) {
			t.Errorf("parent out of range: %v", err)
		}
		if err := CheckNewRev(new(RevTree), true, newEdits, 0, nil, false); !errors.Is(err, ErrRevisionConflict) {
			t.Errorf("parent in an empty tree: %v", err)
		}
	}
}
