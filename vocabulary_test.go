package tidegate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	. "github.com/tidegate/tidegate"
)

func TestValidDocID(t *testing.T) {
	for _, id := range []string{"a", "A_b", "ü", "a/b", "a b", "%", "a\x00", strings.Repeat("x", 250), strings.Repeat("é", 125), "+", "\"", "😀"} {
		if err := ValidDocID(id); err != nil {
			t.Errorf("ValidDocID(%q): %v", id, err)
		}
	}
	for _, id := range []string{"", "_", "_a", "_local/x", "_design/x", strings.Repeat("x", 251), strings.Repeat("é", 126), "\xff", "a\xc3", "\xed\xa0\x80"} {
		if err := ValidDocID(id); !errors.Is(err, ErrInvalidDocID) || ErrorReason(err) != "Invalid doc ID" {
			t.Errorf("ValidDocID(%q): %v", id, err)
		}
	}
}

func FuzzValidDocID(f *testing.F) {
	for _, s := range []string{"a", "_a", "", "ü", "\xff", strings.Repeat("x", 250)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if ValidDocID(id) != nil {
			return
		}
		if id == "" || len(id) > MaxDocIDLen || strings.HasPrefix(id, "_") || !utf8.ValidString(id) {
			t.Errorf("%q is taken", id)
		}
		if c := (Change{ID: id}); !strings.Contains(string(c.AppendJSON(nil)), `"id":"`) {
			t.Errorf("%q breaks an entry", id)
		}
	})
}

func TestValidPrincipalName(t *testing.T) {
	for _, name := range []string{"bob", "0", "a.b-c_d@e", "José", "名", "a b", "GUEST", "_x", "%41", strings.Repeat("x", 239), "a\"b", "a*"} {
		if err := ValidPrincipalName(name); err != nil {
			t.Errorf("ValidPrincipalName(%q): %v", name, err)
		}
	}
	for _, name := range []string{"", "-", "...", "a/b", "a:b", "a,b", "a`b", "role:x", "a\xff", strings.Repeat("x", 240), "😀", "a\x00"} {
		if err := ValidPrincipalName(name); ErrorCode(err) != Invalid || err == nil {
			t.Errorf("ValidPrincipalName(%q): %v", name, err)
		}
	}
	if User.String() != "user" || Role.String() != "role" {
		t.Error("kinds have other names")
	}
}

func TestRevisions(t *testing.T) {
	for _, c := range []struct {
		start uint64
		ids   []string
		want  string
	}{
		{3, []string{"c", "b", "a"}, "3-c 2-b 1-a"},
		{3, []string{"c"}, "3-c"},
		{9, []string{"z", "y"}, "9-z 8-y"},
	} {
		got, err := Revisions{c.start, c.ids}.RevIDs()
		if err != nil || text(got) != c.want {
			t.Errorf("%d %q: %s, %v, want %s", c.start, c.ids, text(got), err, c.want)
		}
		if back := NewRevisions(got); !reflect.DeepEqual(back, Revisions{c.start, c.ids}) {
			t.Errorf("%s: %+v", c.want, back)
		}
	}
	for name, r := range map[string]Revisions{
		"nothing": {}, "no ids": {Start: 3}, "too many ids": {1, []string{"b", "a"}}, "generation 0": {0, []string{"a"}},
		"a bad digest": {2, []string{"b", "a,"}}, "an empty digest": {2, []string{"b", ""}}, "a whole ID": {2, []string{"2-b", "1 a"}},
		"too high": {1<<53 + 1, []string{"a"}}, "too long": {1, []string{strings.Repeat("a", 254)}},
	} {
		if got, err := r.RevIDs(); !errors.Is(err, ErrBadRevisions) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got := NewRevisions(revs("9-d 8-c 5-b 4-a")); !reflect.DeepEqual(got, Revisions{9, []string{"d", "c"}}) {
		t.Errorf("a history with a gap: %+v", got)
	}
	if got := NewRevisions(nil); got.Start != 0 || got.IDs == nil || len(got.IDs) != 0 {
		t.Errorf("no history: %+v", got)
	}
}

// TestChangeJSON holds the member order of gateway-rest.md §14.2.
func TestChangeJSON(t *testing.T) {
	for _, c := range []struct {
		change Change
		want   string
	}{
		{Change{Seq: Since{Seq: 12}, ID: "doc", Revs: revs("2-b"), Deleted: true, Removed: NewChannelSet("ch1"), Doc: []byte(`{"a":1}`), Revoked: true},
			`{"seq":12,"id":"doc","changes":[{"rev":"2-b"}],"deleted":true,"removed":["ch1"],"doc":{"a":1},"revoked":true}`},
		{Change{Seq: Since{Trigger: 9, Seq: 3}, ID: "a\"\n<ü>", Revs: revs("2-b 1-a")},
			`{"seq":"9:3","id":"a\"\n<ü>","changes":[{"rev":"2-b"},{"rev":"1-a"}]}`},
		{Change{Seq: Since{Seq: 5}, ID: "_user/bob"}, `{"seq":5,"id":"_user/bob","changes":[]}`},
		{Change{Seq: Since{Seq: 5}, ID: "x", Revs: revs("1-a"), Removed: ChannelSet{"b", "c\"d"}},
			`{"seq":5,"id":"x","changes":[{"rev":"1-a"}],"removed":["b","c\"d"]}`},
	} {
		if got := string(c.change.AppendJSON([]byte("x"))); got != "x"+c.want {
			t.Errorf("got  %s\nwant %s", got[1:], c.want)
		}
	}
}

func TestChannelSet(t *testing.T) {
	for _, c := range []struct {
		names []string
		want  ChannelSet
	}{
		{nil, nil}, {[]string{"b", "a", "b"}, ChannelSet{"a", "b"}}, {[]string{"a", "*", "!"}, ChannelSet{"*"}}, {[]string{"!"}, ChannelSet{"!"}},
	} {
		got := NewChannelSet(slices.Clone(c.names)...)
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %q", c.names, got)
		}
		for _, name := range got {
			if !got.Has(name) {
				t.Errorf("%q has no %q", got, name)
			}
		}
		if got.Has("zzz") || got.Has("") {
			t.Errorf("%q has what is not in it", got)
		}
	}
	for _, name := range []string{"a", "*", "!", " ", "a.b", "ü", "a\x00b", strings.Repeat("x", 1000)} {
		if !ValidChannelName(name) {
			t.Errorf("%q is no channel", name)
		}
	}
	for _, name := range []string{"", "a,b", ",", "a\xff"} {
		if ValidChannelName(name) {
			t.Errorf("%q is a channel", name)
		}
	}
}

func TestGrants(t *testing.T) {
	g := Grants{}
	g.Add("a", 7)
	g.Add("a", 9)
	g.Add("b", 9)
	g.Add("b", 3)
	if want := (Grants{"a": 7, "b": 3}); !reflect.DeepEqual(g, want) {
		t.Errorf("grants %v, want %v", g, want)
	}
	for _, c := range []struct {
		grants   Grants
		channels ChannelSet
		want     bool
	}{
		{g, ChannelSet{"a"}, true}, {g, ChannelSet{"x", "z"}, false}, {g, ChannelSet{"a", "x"}, true}, {g, nil, false}, {g, ChannelSet{"*"}, false},
		{g, ChannelSet{"!", "x"}, true}, {nil, ChannelSet{"!"}, true}, {nil, ChannelSet{"a"}, false}, {nil, nil, false},
		{Grants{"*": 1}, nil, true}, {Grants{"*": 1}, ChannelSet{"x"}, true}, {Grants{"*": 1}, ChannelSet{"*"}, true},
		{Grants{"!": 1}, ChannelSet{"x"}, false},
	} {
		if got := c.grants.CanSee(c.channels); got != c.want {
			t.Errorf("%v sees %q: %v", c.grants, c.channels, got)
		}
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("disk on fire at /secret/path")
	wrapped := fmt.Errorf("put document: %w", Errorf(Conflict, "moved"))
	hidden := &Error{Code: Internal, Reason: "cannot write", Err: cause}
	for _, c := range []struct {
		err    error
		code   Code
		reason string
	}{
		{ErrMissing, NotFound, "missing"},
		{wrapped, Conflict, "moved"},
		{cause, Internal, "Internal error"},
		{hidden, Internal, "Internal error"},
		{&Error{Code: Unavailable, Reason: "disk full", Err: cause}, Unavailable, "disk full"},
		{fmt.Errorf("read: %w", context.Canceled), Canceled, "the request was canceled"},
		{context.DeadlineExceeded, Canceled, "the request was canceled"},
		{Errorf(Invalid, "bad %s", "thing"), Invalid, "bad thing"},
		{nil, Internal, "Internal error"},
	} {
		if ErrorCode(c.err) != c.code || ErrorReason(c.err) != c.reason {
			t.Errorf("%v: %v %q, want %v %q", c.err, ErrorCode(c.err), ErrorReason(c.err), c.code, c.reason)
		}
	}
	if !errors.Is(hidden, cause) || !strings.Contains(hidden.Error(), "disk on fire") {
		t.Error("the log does not get the cause")
	}
	if !errors.Is(fmt.Errorf("x: %w", Errorf(NotFound, "missing")), ErrMissing) || errors.Is(ErrDeleted, ErrMissing) {
		t.Error("errors are compared by something else than code and reason")
	}
	if err := Errorf(Corrupt, "read record: %w", io.ErrUnexpectedEOF); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("Errorf loses its cause")
	}
	if Internal.String() != "internal" || NotAllowed.String() != "not allowed" || Code(99).String() != "code(99)" {
		t.Error("codes have other names")
	}
}
