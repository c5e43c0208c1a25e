package tidegate_test

import (
	"strings"
	"testing"

	. "github.com/tidegate/tidegate"
)

// TestNewRevID holds the digests that a real gateway gave (replication.md §4.2).
func TestNewRevID(t *testing.T) {
	first := NewRevID(RevID{}, []byte(`{"channels":["A"],"n":1}`))
	if got, want := first.String(), "1-67a06e8ba083e88a8b4a9ad87b73ca37"; got != want {
		t.Errorf("first revision %s, want %s", got, want)
	}
	if got, want := NewRevID(first, []byte(`{"_deleted":true}`)).String(), "2-2095a1af7cfe09ae0f7a162f03ff1ba8"; got != want {
		t.Errorf("its delete %s, want %s", got, want)
	}
	longest := RevID{Generation: 9, Digest: strings.Repeat("a", MaxRevIDLen-2)}
	if a, b := NewRevID(longest, nil), NewRevID(RevID{}, nil); a == b || a.Generation != 10 {
		t.Errorf("child of the longest ID: %v", a)
	}
}

func TestParseRevID(t *testing.T) {
	for _, good := range []string{
		"1-a", "2-67a06e8ba083e88a8b4a9ad87b73ca37", "9007199254740992-x", "1-~!#$%&'()*+-./:;<=>?@[]^_`{|}",
		"3-abc-def", "1-" + strings.Repeat("a", MaxRevIDLen-2),
	} {
		id, err := ParseRevID(good)
		if err != nil || id.String() != good {
			t.Errorf("ParseRevID(%q) = %v, %v", good, id, err)
		}
	}
	for _, bad := range []string{
		"", "-", "1", "1-", "-a", "0-a", "01-a", "+1-a", "1.0-a", "x-a", " 1-a", "1 -a", "1-a b", "1-a,b", `1-a"b`, `1-a\b`,
		"1-a\n", "1-\x00", "1-é", "9007199254740993-a", "99999999999999999999-a", "1-" + strings.Repeat("a", MaxRevIDLen-1),
	} {
		if id, err := ParseRevID(bad); err != ErrInvalidRevID || !id.IsZero() {
			t.Errorf("ParseRevID(%q) = %v, %v", bad, id, err)
		}
	}
}

func FuzzParseRevID(f *testing.F) {
	for _, s := range []string{"1-a", "12-67a06e8ba083e88a8b4a9ad87b73ca37", "0-a", "1-", "9007199254740993-a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseRevID(s)
		if err != nil {
			return
		}
		if id.String() != s || id.IsZero() || len(s) > MaxRevIDLen || strings.ContainsAny(s, ", \"\\") {
			t.Errorf("ParseRevID(%q) = %#v", s, id)
		}
		var tree RevTree
		if _, err := tree.Add(-1, Rev{ID: id}); err != nil {
			t.Errorf("a tree refuses %q: %v", s, err)
		}
	})
}
