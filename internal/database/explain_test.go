package database_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
)

// explainWorld is a part of a database, by its names, whose documents and principals change at random.
type explainWorld struct {
	e                  *env
	users, roles, docs []string
	made               int
}

var explainChannels = []string{"a", "b", "c"}

func newExplainWorld(e *env, n int) *explainWorld {
	named := func(names ...string) []string {
		for i := range names {
			names[i] = fmt.Sprintf("%s-%d", names[i], n)
		}
		return names
	}
	return &explainWorld{e: e, users: named("amy", "bob"), roles: named("r", "s"), docs: named("d1", "d2", "d3")}
}

func someOf(names []string) *rapid.Generator[[]string] {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, len(names), rapid.ID[string])
}

// body draws a document's members: where it goes and what it grants.
func (w *explainWorld) body(t *rapid.T) string {
	w.made++
	quoted := func(names []string) string { return strings.ReplaceAll(fmt.Sprintf("%q", names), `" "`, `","`) }
	channels := someOf([]string{"a", "b", "c", "!", "*"}).Draw(t, "channels")
	if rapid.Bool().Draw(t, "one channel") {
		channels = []string{rapid.SampledFrom(explainChannels).Draw(t, "channel")}
	}
	var grants, roles []string
	for _, who := range []string{w.users[0], w.users[1], "role:" + w.roles[0], "role:" + w.roles[1]} {
		if rapid.IntRange(0, 3).Draw(t, "grant "+who) == 0 {
			grants = append(grants, fmt.Sprintf(`[%q,%s]`, who, quoted(someOf(explainChannels).Draw(t, "granted"))))
		}
	}
	for _, who := range w.users {
		if rapid.IntRange(0, 3).Draw(t, "role for "+who) == 0 {
			roles = append(roles, fmt.Sprintf(`[%q,"role:%s"]`, who, rapid.SampledFrom(w.roles).Draw(t, "role")))
		}
	}
	return fmt.Sprintf(`"channels":%s,"grant":[%s],"roles":[%s],"n":%d`, quoted(channels), strings.Join(grants, ","), strings.Join(roles, ","), w.made)
}

// current returns the revision to write upon; "" if there is none.
func (w *explainWorld) current(id string) string {
	raw, err := w.e.admin.Raw(w.e.t.Context(), id)
	if err != nil || raw.Deleted {
		return ""
	}
	return raw.Rev.String()
}

func (w *explainWorld) actions() map[string]func(*rapid.T) {
	id, user, role := rapid.SampledFrom(w.docs), rapid.SampledFrom(w.users), rapid.SampledFrom(w.roles)
	registry := w.e.db.Access()
	ctx := w.e.t.Context()
	return map[string]func(*rapid.T){
		"write": func(t *rapid.T) {
			id := id.Draw(t, "doc")
			rev := ""
			if current := w.current(id); current != "" {
				rev = fmt.Sprintf(`"_rev":%q,`, current)
			}
			w.e.put(fmt.Sprintf(`{"_id":%q,%s%s}`, id, rev, w.body(t)))
		},
		"delete": func(t *rapid.T) {
			id := id.Draw(t, "doc")
			rev := w.current(id)
			if rev == "" {
				return
			}
			body := `"n":1`
			if rapid.Bool().Draw(t, "with outputs") {
				body = w.body(t)
			}
			w.e.put(fmt.Sprintf(`{"_id":%q,"_rev":%q,"_deleted":true,%s}`, id, rev, body))
		},
		"branch": func(t *rapid.T) {
			w.made++
			raw := fmt.Sprintf(`{"_id":%q,"_revisions":{"start":1,"ids":["x%d"]},%s}`, id.Draw(t, "doc"), w.made, w.body(t))
			if _, err := w.e.push(raw); err != nil {
				t.Fatal(err)
			}
		},
		"user": func(t *rapid.T) {
			name := rapid.SampledFrom([]string{w.users[0], w.users[1], "GUEST"}).Draw(t, "user")
			disabled := rapid.IntRange(0, 4).Draw(t, "disabled") == 0
			channels := []string{"a", "b", "*"}
			if name == "GUEST" {
				channels = channels[:2]
			}
			_, err := registry.PutUser(ctx, name, access.UserUpdate{
				AdminChannels: someOf(channels).Draw(t, "channels"), AdminRoles: someOf(w.roles).Draw(t, "roles"),
				Disabled: &disabled,
			}, false)
			if err != nil {
				t.Fatal(err)
			}
		},
		"role": func(t *rapid.T) {
			u := access.RoleUpdate{AdminChannels: someOf([]string{"b", "c", "*"}).Draw(t, "channels")}
			if _, err := registry.PutRole(ctx, role.Draw(t, "role"), u, false); err != nil {
				t.Fatal(err)
			}
		},
		"remove": func(t *rapid.T) {
			if rapid.Bool().Draw(t, "a role") {
				_ = registry.DeleteRole(ctx, role.Draw(t, "role"), rapid.Bool().Draw(t, "purge")) // it may not be there
			} else if rapid.Bool().Draw(t, "a user") {
				_ = registry.DeleteUser(ctx, user.Draw(t, "user"))
			}
		},
		"look": func(t *rapid.T) {
			if err := w.compare(id.Draw(t, "doc"), user.Draw(t, "user")); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// compareAll looks at every document as everybody.
func (w *explainWorld) compareAll(t *rapid.T) {
	for _, user := range append([]string{"", "nobody"}, w.users...) {
		for _, id := range append([]string{"nothing"}, w.docs...) {
			if err := w.compare(id, user); err != nil {
				t.Fatalf("%s for %q: %v", id, user, err)
			}
		}
	}
}

// compare holds an explanation against what the user really gets.
func (w *explainWorld) compare(id, user string) error {
	ctx := w.e.t.Context()
	x, err := w.e.admin.Explain(ctx, id, user)
	if err != nil {
		return err
	}
	u, err := w.e.db.Access().User(ctx, user)
	var h *database.Handle
	if err == nil {
		h = w.e.db.As(u, 0)
		_, err = h.Get(ctx, id, database.GetOptions{})
	}
	want, _ := map[tidegate.Code][]database.Visibility{
		tidegate.Unauthorized: {database.VisibilityDisabled},
		tidegate.Forbidden:    {database.VisibilityNotVisible, database.VisibilityRemoved},
		tidegate.NotFound:     {database.VisibilityNoDocument},
	}[tidegate.ErrorCode(err)]
	switch {
	case err == nil:
		want = []database.Visibility{database.VisibilityFull}
	case errors.Is(err, tidegate.ErrDeleted):
		want = []database.Visibility{database.VisibilityDeleted}
	case h == nil && tidegate.ErrorCode(err) == tidegate.NotFound:
		want = []database.Visibility{database.VisibilityNoUser}
	}
	if !slices.Contains(want, x.Verdict) || x.Visible != (err == nil) || len(x.Sentences) == 0 {
		return fmt.Errorf("the verdict is %s, GET says %v (%q)", x.Verdict, err, x.Sentences)
	}
	if h == nil {
		return nil
	}
	for _, c := range x.Channels {
		if err := compareChannel(c, u); err != nil {
			return err
		}
	}
	for _, leaf := range x.Document.Leaves {
		doc, err := h.Get(ctx, id, database.GetOptions{Rev: rev(w.e.t, leaf.Rev)})
		if err != nil || doc.Removed == leaf.Visible {
			return fmt.Errorf("leaf %s: visible %v, but GET says %+v, %v", leaf.Rev, leaf.Visible, doc, err)
		}
	}
	return w.compareRemoval(x, h)
}

// compareChannel: what is held is held by somebody, since the sequence that counts.
func compareChannel(c access.ChannelReach, u *access.User) error {
	since, held := u.Channels(0)[c.Channel]
	if held != c.Held || since != c.Since {
		return fmt.Errorf("channel %s: held %v since %d, but the user has it: %v since %d", c.Channel, c.Held, c.Since, held, since)
	}
	lowest := tidegate.Seq(0)
	for _, g := range c.By {
		if lowest == 0 || g.Since < lowest {
			lowest = g.Since
		}
		if g.Kind == access.GrantedByRole && (g.Since != max(g.RoleSince, g.ChannelSince) || len(g.Through) == 0 || g.Through[0].Since != g.ChannelSince) {
			return fmt.Errorf("channel %s: a role's grant makes no sense: %+v", c.Channel, g)
		}
	}
	if held && lowest != since || !held && len(c.By) > 0 && !(u.IsGuest() && c.Channel == "*") {
		return fmt.Errorf("channel %s is held: %v since %d, by %+v", c.Channel, held, since, c.By)
	}
	return nil
}

// compareRemoval: what is seen as a removal stands in the feed as one, and what is not seen at all does not stand there.
func (w *explainWorld) compareRemoval(x *database.Explanation, h *database.Handle) error {
	if x.Verdict != database.VisibilityRemoved && x.Verdict != database.VisibilityNotVisible {
		return nil
	}
	feed, err := h.Changes(w.e.t.Context(), database.ChangesOptions{Request: changes.Request{DocIDs: []string{x.Doc}}})
	if err != nil {
		return err
	}
	defer feed.Close()
	entries, err := feed.Next(w.e.t.Context(), 10)
	if err != nil || (len(entries) > 0) != (x.Verdict == database.VisibilityRemoved) {
		return fmt.Errorf("the verdict is %s, but the feed says %+v, %v", x.Verdict, entries, err)
	}
	for _, c := range entries {
		if len(c.Removed) == 0 {
			return fmt.Errorf("the feed has an entry that is no removal: %+v", c)
		}
	}
	return nil
}

// TestExplainSaysWhatGetDoes: in random worlds the verdict is what a GET by the user answers, and each channel is held by
// those who are said to grant it.
func TestExplainSaysWhatGetDoes(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true, Access: access.Config{AllowEmptyPassword: true}})
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		w := newExplainWorld(e, n)
		rt.Repeat(w.actions())
		w.compareAll(rt)
	})
}

// TestExplainAndPlanAfterAnOnlineResync: grants of generations that are not read count for neither.
func TestExplainAndPlanAfterAnOnlineResync(t *testing.T) {
	e := open(t, database.Options{})
	e.user("bob")
	e.put(`{"_id":"old","channels":["x"],"grant":[["bob",["x"]]]}`)
	e.put(`{"_id":"new","groups":["x"],"gives":[["bob",["x"]]]}`)
	e.resync(database.ResyncOptions{Online: true}, byGroups)
	for range 2 { // before and after the old generation is removed
		x, err := e.admin.Explain(t.Context(), "new", "bob")
		if err != nil || !x.Visible {
			t.Fatalf("%+v, %v", x, err)
		}
		for _, c := range x.Channels {
			if c.Channel == "x" && (len(c.By) != 1 || c.By[0].Document != "new") {
				t.Errorf("granted by %+v", c.By)
			}
		}
		if x, err = e.admin.Explain(t.Context(), "old", "bob"); err != nil || x.Visible {
			t.Errorf("%+v, %v", x, err)
		}
		if r := e.plan(""); r.AnyChange() || r.DocsProcessed != 2 {
			t.Errorf("the function in force would change something: %+v", r)
		}
		if r := e.plan(byChannels); r.DocsWouldChange != 2 || r.Users != 1 || r.Principals[0].DocsGained != 1 || r.Principals[0].DocsLost != 1 {
			t.Errorf("%+v", r)
		}
		e.tidy()
	}
}
