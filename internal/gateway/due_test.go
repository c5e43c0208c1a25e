package gateway

import (
	"slices"
	"testing"
)

func wantDue(t *testing.T, r *Running, want ...string) {
	t.Helper()
	if got := r.ResyncDue(); !slices.Equal(got, want) {
		t.Fatalf("due for a resync: %q, want %q", got, want)
	}
}

// A resync is due from the change of a function on, and stays so if the function changes back: in between documents
// may have been written (resync.md §2).
func TestResyncIsDue(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{"scopes":{"s":{"collections":{"c":{},"d":{}}},"_default":{"collections":{"_default":{}}}}}`)
	if _, err := update(t, g, "db", "", `{"sync":"`+`function (doc) { channel('a'); }`+`"}`); err != nil {
		t.Fatal(err)
	}
	wantDue(t, r) // nothing was ever written
	if err := put(t, r, "doc", `{}`); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		patch string
		due   []string
	}{
		{`{"revs_limit":9}`, nil},
		{`{"scopes":{"s":{"collections":{"d":{"sync":"function (doc) { channel('x'); }"}}}}}`, []string{"s.d"}},
		{`{"sync":"function (doc) { channel('b'); }"}`, []string{"_default._default", "s.d"}},
		{`{"sync":"function (doc) { channel('a'); }"}`, []string{"_default._default", "s.d"}},
		{`{"scopes":{"s":{"collections":{"d":null}}}}`, []string{"_default._default"}},
		{`{"scopes":{"s":{"collections":{"d":{}}}}}`, []string{"_default._default", "s.d"}}, // whatever routed it before
		{`{"scopes":{"s":{"collections":{"new":{"sync":"function (doc) { channel('n'); }"}}}}}`, []string{"_default._default", "s.d"}},
	} {
		if _, err := update(t, g, "db", "", step.patch); err != nil {
			t.Fatal(step.patch, err)
		}
		wantDue(t, r, step.due...)
	}
	e.close(g)
	wantDue(t, get(t, e.open(nil), "db"), "_default._default", "s.d")
}

// It is due after an edit of the config file, too.
func TestResyncIsDueAfterAnEditOfTheFile(t *testing.T) {
	e := newEnv(t)
	g := e.open(fileDBs(t, `{"db":{"sync":"function (doc) { channel('a'); }"}}`))
	if err := put(t, get(t, g, "db"), "doc", `{}`); err != nil {
		t.Fatal(err)
	}
	e.close(g)
	g = e.open(fileDBs(t, `{"db":{"sync":"function (doc) { channel('b'); }"}}`))
	wantState(t, get(t, g, "db"), Online)
	wantDue(t, get(t, g, "db"), "_default._default")
}
