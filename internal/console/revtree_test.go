package console

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestDrawTree(t *testing.T) {
	t.Parallel()
	h := rawHistory{Revs: []string{"1-a", "2-b", "2-c", "3-d", "3-e"}, Parents: []int{-1, 0, 0, 1, 2}, Deleted: []int{4}}
	d := h.draw("3-d")
	var lines []string
	for _, n := range d.Nodes {
		lines = append(lines, fmt.Sprintf("%s %d %s", n.Rev, (n.X-20)/treeLane, n.Class()))
	}
	want := []string{"3-d 0 dot current", "3-e 1 dot leaf deleted", "2-b 0 dot", "2-c 1 dot", "1-a 0 dot"}
	if !slices.Equal(lines, want) {
		t.Errorf("drawn: %q", lines)
	}
	if len(d.Edges) != 4 || d.Height != 5*treeRow {
		t.Errorf("%d edges, %d pixels", len(d.Edges), d.Height)
	}
}

// TestDrawTreeOfAnything shows that no history, not even a broken one, is too much: every revision is drawn once, and
// in a lane that is there.
func TestDrawTreeOfAnything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "n")
		h := rawHistory{}
		for i := range n {
			h.Revs = append(h.Revs, fmt.Sprintf("%d-%d", rapid.IntRange(1, 9).Draw(t, "generation"), i))
			h.Parents = append(h.Parents, rapid.IntRange(-1, n+1).Draw(t, "parent"))
		}
		h.Deleted = rapid.SliceOf(rapid.IntRange(0, n)).Draw(t, "deleted")
		current := "none"
		if n > 0 {
			current = rapid.SampledFrom(h.Revs).Draw(t, "current")
		}
		d := h.draw(current)
		if len(d.Nodes) != n || d.Height != n*treeRow {
			t.Fatalf("%d of %d drawn", len(d.Nodes), n)
		}
		for i, node := range d.Nodes {
			if node.X >= d.Width || node.Y != treeRow*i+treeRow/2 {
				t.Fatalf("%+v lies outside", node)
			}
		}
	})
}

func TestPlaceProblems(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string][]placedProblem{
		"JSON Unknown Field: line 1, column 21: users: only in a file\nline 2, column 7: nope: unknown": {{1, 21, "users: only in a file"}, {2, 7, "nope: unknown"}},
		"Bad JSON: line 3, column 1: unexpected end":                                                    {{3, 1, "unexpected end"}},
		"a database cannot be renamed":                                                                  {{0, 0, "a database cannot be renamed"}},
		"":                                                                                              nil,
	} {
		if got := placeProblems(reason); !slices.Equal(got, want) {
			t.Errorf("%q: %+v", reason, got)
		}
	}
}

func TestJSONProblem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"a":1}`: "", "{\n \"a\": 1,\n}": "3,1", "{\"ä\":x}": "1,7", `[]`: "0,0", `null`: "0,0", "": "1,1", `{"a":1} x`: "1,9",
	} {
		got := ""
		if p := jsonProblem(text); p != nil {
			got = fmt.Sprintf("%d,%d", p.Line, p.Column)
		}
		if got != want {
			t.Errorf("%q: at %s, want %s", text, got, want)
		}
	}
}

// TestMembersKeepTheirText shows that what is not edited comes back as it was written.
func TestMembersKeepTheirText(t *testing.T) {
	t.Parallel()
	const doc = `{"_id":"x","z":1.50,"_rev":"1-a","a":12345678901234567890,"<":"\u003c&","nested":{"_id":1}}`
	members, err := membersOf([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(joinMembers(without(members, "_id", "_rev"))); got != `{"z":1.50,"a":12345678901234567890,"<":"\u003c&","nested":{"_id":1}}` {
		t.Errorf("became %s", got)
	}
	for _, broken := range []string{"", "[]", `{"a"`, `{"a":}`} {
		if _, err := membersOf([]byte(broken)); err == nil {
			t.Errorf("%q is an object", broken)
		}
	}
}

func TestWordsForNumbersAndTimes(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		count(1234567):           "1\u202f234\u202f567",
		count(-12):               "−12",
		count(999):               "999",
		byteSize(1023):           "1023 B",
		byteSize(1536):           "1.5 KiB",
		byteSize(50 << 20):       "50 MiB",
		byteSize(int64(3) << 40): "3072 GiB",
		plural(1, "a", "b"):      "1 a",
		average(0, 0):            "–",
		average(3e6, 2):          "1.5 ms",
		average(800, 1):          "800 ns",
		average(25e9, 10):        "2.5 s",
		shortRev("1-a"):          "1-a",
		strings.Join(words(" a, b\r\n\r\nc d,,"), "|"): "a|b|c d",
		pathOf("d b", "a/b%", ".."):                    "/d%20b/a%2Fb%25/..",
		localPath("/db/x?y"):                           "/db/x?y",
		localPath("//evil"):                            "/",
		localPath("/login?next=/"):                     "/",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
