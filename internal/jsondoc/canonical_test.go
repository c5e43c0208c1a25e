package jsondoc_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

func TestAppendCanonical(t *testing.T) {
	for _, c := range []struct {
		name, in string
		deleted  bool
		want     string
	}{
		{"empty", `{}`, false, `{}`},
		{"empty tombstone", `{}`, true, `{"_deleted":true}`},
		{"sorted", `{"a":1,"b":2}`, false, `{"a":1,"b":2}`},
		{"unsorted", `{"b":1,"a":2,"c":3}`, false, `{"a":2,"b":1,"c":3}`},
		{"every level", `{"b":{"d":[{"f":1,"e":2}],"c":0},"a":{}}`, false, `{"a":{},"b":{"c":0,"d":[{"e":2,"f":1}]}}`},
		{"spaces", " { \"b\" : [ 1 , \"x y\" ] ,\n\"a\":\t{ } } ", false, `{"a":{},"b":[1,"x y"]}`},
		{"prefixes", `{"ab":1,"a":2,"":3,"abcdefgh":4,"abcdefg":5,"abcdefghi":6}`, false, `{"":3,"a":2,"ab":1,"abcdefg":5,"abcdefgh":4,"abcdefghi":6}`},
		{"bytes, not letters or UTF-16", `{"é":1,"z":2,"Z":3,"😀":4,"\uff21":5}`, false, `{"Z":3,"z":2,"é":1,"Ａ":5,"😀":4}`},
		{"null bytes in names", `{"a\u0000":1,"a":2}`, false, `{"a":2,"a\u0000":1}`},
		{"sorted by the text, not its escapes", `{"\u0062":1,"a":2,"\"":3,"!":4,"#":5}`, false, `{"!":4,"\"":3,"#":5,"a":2,"b":1}`},
		{"minimal escapes", `{"a":"\u0061\/\u00e9\ud83d\ude00\u2028<>&\u007f"}`, false, `{"a":"a/é😀` + "\u2028" + `<>&` + "\x7f" + `"}`},
		{"short escapes", `{"a":"\u0008\u000C\u000a\u000d\u0009\u0022\u005c"}`, false, `{"a":"\b\f\n\r\t\"\\"}`},
		{"control characters", `{"a":"\u001F\u0000\u000b"}`, false, `{"a":"\u001f\u0000\u000b"}`},
		{"escapes that stay", `{"a":"\"\\\b\f\n\r\t"}`, false, `{"a":"\"\\\b\f\n\r\t"}`},
		{"escapes in unsorted members", `{"b":"\u0078","a":"\/","\u0061a":[{"\u007a":1,"y":"\u0041"}]}`, false, `{"a":"/","aa":[{"y":"A","z":1}],"b":"x"}`},
		{"escaped names around escaped names", `{"the same \u0062":{"\u0078":{"\u0079":0}},"the same \u0061":2}`, false, `{"the same a":2,"the same b":{"x":{"y":0}}}`},
		{"digits", `{"b":-0,"a":1E400,"c":1.00,"d":9007199254740993,"e":1e+2}`, false, `{"a":1E400,"b":-0,"c":1.00,"d":9007199254740993,"e":1e+2}`},
		{"tombstone with members", `{"a":1,"Z":2}`, true, `{"Z":2,"_deleted":true,"a":1}`},
		{"tombstone, sorted already", `{"A":1,"Z":2}`, true, `{"A":1,"Z":2,"_deleted":true}`},
		{"only the top is deleted", `{"b":{},"a":[{}]}`, true, `{"_deleted":true,"a":[{}],"b":{}}`},
	} {
		if err := jsondoc.Check([]byte(c.in), jsondoc.Limits{}); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got := jsondoc.AppendCanonical([]byte("before"), []byte(c.in), c.deleted)
		if string(got) != "before"+c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if again := jsondoc.AppendCanonical(nil, []byte(c.want), false); string(again) != c.want {
			t.Errorf("%s: not stable:\n got %s\nwant %s", c.name, again, c.want)
		}
	}
}

// TestDigestRule goes from what a client sends to the digests that a real gateway gave (replication.md §4.2).
func TestDigestRule(t *testing.T) {
	var parent tidegate.RevID
	for _, c := range []struct{ in, want string }{
		{`{ "_id":"x", "n":1, "channels":["A"] }`, "1-67a06e8ba083e88a8b4a9ad87b73ca37"},
		{`{ "_deleted":true, "_rev":"1-67a06e8ba083e88a8b4a9ad87b73ca37" }`, "2-2095a1af7cfe09ae0f7a162f03ff1ba8"},
	} {
		d, err := jsondoc.Split([]byte(c.in), jsondoc.Limits{}, false)
		if err != nil {
			t.Fatal(err)
		}
		parent = tidegate.NewRevID(parent, jsondoc.AppendCanonical(nil, d.Body, d.Deleted))
		if parent.String() != c.want {
			t.Errorf("%s: %v, want %s", c.in, parent, c.want)
		}
	}
}

// TestCanonicalManyMembers: objects of all sizes around those at which the way of sorting changes.
func TestCanonicalManyMembers(t *testing.T) {
	for n := range 60 {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf(`"a common beginning %02d":%d`, i, i))
		}
		want := "{" + strings.Join(members, ",") + "}"
		rand.New(rand.NewPCG(uint64(n), 1)).Shuffle(n, func(i, k int) { members[i], members[k] = members[k], members[i] })
		in := "{" + strings.Join(members, ",") + "}"
		if got := jsondoc.AppendCanonical(nil, []byte(in), false); string(got) != want {
			t.Errorf("%d members:\n got %s\nwant %s", n, got, want)
		}
	}
}

// TestCanonicalDeep: as deep as may be, and (which no checked document is) deeper than any stack.
func TestCanonicalDeep(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"b":[`, n) + "1" + strings.Repeat(`],"a":2}`, n) }
	want := func(n int) string { return strings.Repeat(`{"a":2,"b":[`, n) + "1" + strings.Repeat(`]}`, n) }
	if got := jsondoc.AppendCanonical(nil, []byte(deep(64)), false); string(got) != want(64) {
		t.Errorf("got %s\nwant %s", got, want(64))
	}
	jsondoc.AppendCanonical(nil, []byte(strings.Repeat(`{"b":[`, 2_000_000)), false)
}

func TestCanonicalOfNothing(t *testing.T) {
	for _, in := range []string{"", "  ", "1", `"x"`, "[]", "null"} {
		if got := jsondoc.AppendCanonical([]byte("x"), []byte(in), true); string(got) != "x" {
			t.Errorf("AppendCanonical(%q) = %s", in, got)
		}
	}
}
