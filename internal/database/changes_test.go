package database_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
)

// drain reads a feed until it has caught up.
func drain(t testing.TB, f *database.Feed, max int) []tidegate.Change {
	t.Helper()
	var all []tidegate.Change
	for {
		page, err := f.Next(t.Context(), max)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		if max > 0 && len(page) > max {
			t.Fatalf("%d entries, asked for %d", len(page), max)
		}
		if last := page[len(page)-1].Seq; f.Since() != last {
			t.Fatalf("position %s after entry %s", f.Since(), last)
		}
		all = append(all, page...)
	}
}

// feed opens a feed that is closed when the test ends.
func (e *env) feed(h *database.Handle, o database.ChangesOptions) *database.Feed {
	e.t.Helper()
	f, err := h.Changes(e.t.Context(), o)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(f.Close)
	return f
}

// lines makes entries readable: "seq id rev[ deleted][ removed …]".
func lines(entries []tidegate.Change) []string {
	var s []string
	for _, c := range entries {
		line := fmt.Sprintf("%s %s", c.Seq, c.ID)
		for _, r := range c.Revs {
			line += " " + r.String()[:2]
		}
		if c.Deleted {
			line += " deleted"
		}
		if len(c.Removed) > 0 {
			line += fmt.Sprintf(" removed %v", c.Removed)
		}
		if c.Revoked {
			line += " revoked"
		}
		s = append(s, line)
	}
	return s
}

func TestChanges(t *testing.T) {
	e := open(t, database.Options{})
	bob := e.user("bob", "a")
	r := e.put(`{"_id":"1","channels":["a"]}`)
	e.put(`{"_id":"2","channels":["b"]}`)
	r3 := e.put(`{"_id":"3","channels":["a","b"]}`)
	e.put(`{"_id":"1","_rev":"` + r.String() + `","channels":["b"]}`)
	e.put(`{"_id":"3","_rev":"` + r3.String() + `","_deleted":true}`)
	base := e.raw("2").Seq - 2
	want := func(h *database.Handle, o database.ChangesOptions, want ...string) {
		t.Helper()
		for i := range want {
			var n int
			rest := ""
			if _, err := fmt.Sscanf(want[i], "%d", &n); err == nil {
				_, rest, _ = strings.Cut(want[i], " ")
				want[i] = fmt.Sprintf("%d %s", int(base)+n, rest)
			}
		}
		entries := drain(t, e.feed(h, o), 0)
		entries = slices.DeleteFunc(entries, func(c tidegate.Change) bool { return strings.HasPrefix(c.ID, "_user/") })
		if got := lines(entries); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	want(e.admin, database.ChangesOptions{}, "2 2 1-", "4 1 2-", "5 3 2- deleted")
	want(bob, database.ChangesOptions{}, "4 1 2- removed [a]", "5 3 2- deleted removed [a]")
	want(e.admin, database.ChangesOptions{Request: changes.Request{ActiveOnly: true}}, "2 2 1-", "4 1 2-")
	e.check()
}

func TestChangesWithDocs(t *testing.T) {
	e := open(t, database.Options{})
	bob := e.user("bob", "a")
	r := e.put(`{"_id":"left","channels":["a"],"secret":"old"}`)
	r = e.put(`{"_id":"left","_rev":"` + r.String() + `","channels":["b"],"secret":"new"}`)
	in := e.put(`{"_id":"in","channels":["a"],"v":1,"_attachments":{"f":{"data":"aGk="}}}`)
	d := e.put(`{"_id":"gone","channels":["a"]}`)
	d = e.put(`{"_id":"gone","_rev":"` + d.String() + `","_deleted":true,"secret":"why"}`)
	want := map[string]string{
		"left": `{"_id":"left","_rev":"` + r.String() + `","_removed":true}`,
		"in": `{"_id":"in","_rev":"` + in.String() + `","_attachments":{"f":{"digest":"` + sha1Digest("hi") +
			`","length":2,"revpos":1,"stub":true}},"channels":["a"],"v":1}`,
		"gone":      `{"_id":"gone","_rev":"` + d.String() + `","_deleted":true}`,
		"_user/bob": "",
	}
	for _, max := range []int{0, 1} {
		entries := drain(t, e.feed(bob, database.ChangesOptions{IncludeDocs: true}), max)
		if len(entries) != 4 {
			t.Fatalf("%v", lines(entries))
		}
		for _, c := range entries {
			if string(c.Doc) != want[c.ID] {
				t.Errorf("%s: %s, want %s", c.ID, c.Doc, want[c.ID])
			}
		}
	}
	// Render is asked for what may be seen, and for nothing else.
	var rendered []string
	o := database.ChangesOptions{IncludeDocs: true, Render: func(_ context.Context, doc *database.Document) ([]byte, error) {
		rendered = append(rendered, doc.ID)
		return []byte(`{}`), nil
	}}
	drain(t, e.feed(bob, o), 0)
	if !slices.Equal(rendered, []string{"in"}) {
		t.Errorf("rendered %v", rendered)
	}
}

// Large documents come in pages of bounded size, and the position never runs ahead of them.
func TestChangesPages(t *testing.T) {
	e := open(t, database.Options{})
	pad := strings.Repeat("x", 1<<20)
	for i := range 6 {
		e.put(fmt.Sprintf(`{"_id":"d%02d","pad":"%s"}`, i, pad))
	}
	f := e.feed(e.admin, database.ChangesOptions{IncludeDocs: true})
	var ids []string
	for pages := 0; ; pages++ {
		page, err := f.Next(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			if pages < 2 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		size := 0
		for _, c := range page {
			ids = append(ids, c.ID)
			size += len(c.Doc)
		}
		if size > 6<<20 {
			t.Errorf("a page of %d bytes", size)
		}
		if f.Since().Seq != tidegate.Seq(len(ids)) {
			t.Errorf("position %s after %d entries", f.Since(), len(ids))
		}
	}
	if len(ids) != 6 || !slices.IsSorted(ids) {
		t.Errorf("%v", ids)
	}
}

// The revision of an entry may be outdated, and its body gone, by the time its document is read.
func TestChangesDocGone(t *testing.T) {
	e := open(t, database.Options{OldRevExpiry: -1})
	r := e.put(`{"_id":"d","v":1}`)
	f := e.feed(e.admin, database.ChangesOptions{IncludeDocs: true, Request: changes.Request{DocIDs: []string{"d"}}})
	drain(t, f, 0)
	r2 := e.put(`{"_id":"d","_rev":"` + r.String() + `","v":2}`)
	e.sweep()
	if err := f.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries := drain(t, f, 0)
	if len(entries) != 1 || !strings.Contains(string(entries[0].Doc), r2.String()) {
		t.Fatalf("%v", entries)
	}
}

// A feed lives on while its principal changes: a grant by a document brings older documents, a deletion ends it.
func TestFeedFollowsPrincipal(t *testing.T) {
	e := open(t, database.Options{})
	bob := e.user("bob", "a")
	e.put(`{"_id":"old","channels":["x"]}`)
	f := e.feed(bob, database.ChangesOptions{IncludeDocs: true})
	drain(t, f, 0)
	e.put(`{"_id":"grant","channels":["a"],"grant":[["bob","x"]]}`)
	seen := map[string]string{}
	for len(seen) < 2 {
		if err := f.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, c := range drain(t, f, 0) {
			if c.Doc != nil {
				seen[c.ID] = string(c.Doc)
			}
		}
	}
	if !strings.Contains(seen["old"], `"channels":["x"]`) {
		t.Fatalf("%v", seen)
	}
	disabled := true
	if _, err := e.db.Access().PutUser(t.Context(), "bob", access.UserUpdate{Disabled: &disabled}, false); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil {
		if err = f.Wait(t.Context()); err == nil {
			_, err = f.Next(t.Context(), 0)
		}
	}
	if tidegate.ErrorCode(err) != tidegate.Unauthorized {
		t.Fatalf("%v", err)
	}
}

// A write is in the feed as soon as it is acknowledged (client-facts.md: one-shot pulls).
func TestWriteIsInTheFeedAtOnce(t *testing.T) {
	e := open(t, database.Options{})
	for i := range 50 {
		e.put(fmt.Sprintf(`{"_id":"d%d"}`, i))
		entries := drain(t, e.feed(e.admin, database.ChangesOptions{Request: changes.Request{Since: tidegate.Since{Seq: tidegate.Seq(i)}}}), 0)
		if len(entries) != 1 {
			t.Fatalf("%d: %v", i, lines(entries))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := e.feed(e.admin, database.ChangesOptions{})
	drain(t, f, 0)
	if err := f.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
}
