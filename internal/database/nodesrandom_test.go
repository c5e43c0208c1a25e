package database_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
)

// replica is what a user's device has, by a feed that it reads from one node after the other.
type replica struct {
	user  string
	since tidegate.Since
	docs  map[string]tidegate.RevID
	feed  *database.Feed // nil: not connected
}

// chaos drives two nodes at random.
type chaos struct {
	t        *testing.T
	p        *pair
	rnd      *rand.Rand
	replicas []*replica
	disabled map[string]bool
	log      []string
}

func (c *chaos) node() *env { return []*env{c.p.a, c.p.b}[c.rnd.IntN(2)] }

// some is a random subset of names.
func (c *chaos) some(names ...string) []string {
	out := []string{}
	for _, name := range names {
		if c.rnd.IntN(3) == 0 {
			out = append(out, name)
		}
	}
	return out
}

func quoted(names []string) string {
	if len(names) == 0 {
		return "[]"
	}
	return `["` + strings.Join(names, `","`) + `"]`
}

var (
	chaosUsers    = []string{"u1", "u2", "u3"}
	chaosChannels = []string{"a", "b", "c", "d"}
)

// step does one thing on one node.
func (c *chaos) step() {
	e, id := c.node(), fmt.Sprint("d", c.rnd.IntN(8))
	user := chaosUsers[c.rnd.IntN(len(chaosUsers))]
	what := "write " + id
	switch c.rnd.IntN(10) {
	default:
		c.write(e, id, fmt.Sprintf(`{"channels":%s}`, quoted(c.some(chaosChannels...))))
	case 0, 1:
		id, what = fmt.Sprint("g", c.rnd.IntN(3)), "grants"
		c.write(e, id, fmt.Sprintf(`{"grant":[[%q,%s],["role:r",%s]],"roles":[[%q,%s]]}`, user, quoted(c.some(chaosChannels...)),
			quoted(c.some(chaosChannels...)), user, quoted(c.some("role:r"))))
	case 2:
		what = "user " + user
		e.change(user, access.UserUpdate{AdminChannels: c.some(chaosChannels...), AdminRoles: c.some("r")})
	case 3:
		what = "role"
		if _, err := e.db.Access().PutRole(c.t.Context(), "r", access.RoleUpdate{AdminChannels: c.some(chaosChannels...)}, false); err != nil {
			c.t.Fatal(err)
		}
	case 4:
		c.disabled[user] = !c.disabled[user]
		what = fmt.Sprint("disabled ", user, c.disabled[user])
		d := c.disabled[user]
		e.change(user, access.UserUpdate{Disabled: &d})
		for _, e := range []*env{c.p.a, c.p.b} {
			if _, err := e.db.Access().User(c.t.Context(), user); (err != nil) != d {
				c.t.Fatalf("%s: %v, but %v elsewhere", what, err, d)
			}
		}
	case 5:
		what = "purge " + id
		if _, err := e.admin.Purge(c.t.Context(), []string{id}); err != nil {
			c.t.Fatal(err)
		}
		for _, r := range c.replicas { // the feed does not tell, and does not bring it back either
			delete(r.docs, id)
		}
		for _, e := range []*env{c.p.a, c.p.b} {
			for _, line := range lines(drain(c.t, e.feed(e.admin, database.ChangesOptions{}), 0)) {
				if strings.Contains(line, " "+id+" ") {
					c.t.Fatalf("%s: a feed has %s", what, line)
				}
			}
		}
	case 6, 7:
		r := c.replicas[c.rnd.IntN(len(c.replicas))]
		what = "read of " + r.user
		c.read(r)
	}
	c.log = append(c.log, what)
}

func (c *chaos) write(e *env, id, body string) {
	c.t.Helper()
	w := &database.Write{ID: id, NewEdits: true, Body: []byte(body), Deleted: c.rnd.IntN(6) == 0}
	if doc, err := c.node().admin.Get(c.t.Context(), id, database.GetOptions{}); err == nil {
		w.Parent = doc.Rev
	}
	if _, err := e.admin.Put(c.t.Context(), w); err != nil {
		c.t.Fatalf("write %s: %v", id, err)
	}
}

// read reads a page or two, now and then from another node than before.
func (c *chaos) read(r *replica) {
	if r.feed != nil && c.rnd.IntN(3) == 0 {
		r.feed.Close()
		r.feed = nil
	}
	for range 1 + c.rnd.IntN(3) {
		if !c.page(r, 1+c.rnd.IntN(5)) {
			return
		}
	}
}

// page reads a page; more is false if there was none.
func (c *chaos) page(r *replica, max int) (more bool) {
	if r.feed == nil && !c.connect(r) {
		return false
	}
	entries, err := r.feed.Next(c.t.Context(), max)
	if err != nil { // he was disabled
		if tidegate.ErrorCode(err) != tidegate.Unauthorized {
			c.t.Fatalf("%s: %v", r.user, err)
		}
		r.feed = nil
		return false
	}
	for _, change := range entries {
		r.since = change.Seq
		switch {
		case strings.HasPrefix(change.ID, "_user/"):
		case change.Deleted || change.Revoked || change.Left:
			delete(r.docs, change.ID)
		default:
			r.docs[change.ID] = change.Revs[0]
		}
	}
	return len(entries) > 0
}

func (c *chaos) connect(r *replica) bool {
	e := c.node()
	u, err := e.db.Access().User(c.t.Context(), r.user)
	if err != nil {
		if !c.disabled[r.user] {
			c.t.Fatalf("%s: %v", r.user, err)
		}
		return false
	}
	if c.disabled[r.user] {
		c.t.Fatalf("%s is disabled and is let in", r.user)
	}
	r.feed = e.feed(e.db.As(u, 0), database.ChangesOptions{Request: changes.Request{Since: r.since, Revocations: true}})
	return true
}

// finish reads until the last write is there.
func (c *chaos) finish(r *replica, last string) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	for r.docs[last].IsZero() {
		if c.page(r, 100) || r.feed == nil {
			continue
		}
		if err := r.feed.Wait(ctx); err != nil {
			c.t.Fatalf("%s does not get the last write: %v\n%s", r.user, err, strings.Join(c.log, "\n"))
		}
	}
	for c.page(r, 100) {
	}
}

// nodesAtRandom: after any mixture of writes, changes of users and purges on two nodes, devices that read from either have what a node that
// knows nothing yet would give them, and both nodes know of users what that one does (I6 to I9, over nodes).
func nodesAtRandom(t *testing.T, p *pair) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &chaos{t: t, p: p, rnd: rand.New(rand.NewPCG(seed, 0)), disabled: map[string]bool{}}
	for _, user := range chaosUsers {
		p.a.user(user, c.some(chaosChannels...)...)
		for range 2 {
			c.replicas = append(c.replicas, &replica{user: user, docs: map[string]tidegate.RevID{}})
		}
	}
	for round := range 3 {
		for range 60 {
			c.step()
		}
		for _, user := range chaosUsers { // who is disabled reads nothing
			c.disabled[user] = false
			no := false
			c.node().change(user, access.UserUpdate{Disabled: &no})
		}
		last := fmt.Sprint("last", round)
		c.node().put(fmt.Sprintf(`{"_id":%q,"channels":["!"]}`, last))
		fresh := p.join(t, fmt.Sprint("F", round))
		for _, r := range c.replicas {
			c.finish(r, last)
			c.compare(fresh, r)
		}
	}
	p.a.check()
}

func (c *chaos) compare(fresh *env, r *replica) {
	c.t.Helper()
	want := map[string]tidegate.RevID{}
	h := fresh.as(r.user)
	for _, change := range drain(c.t, fresh.feed(h, database.ChangesOptions{Request: changes.Request{ActiveOnly: true}}), 0) {
		if !strings.HasPrefix(change.ID, "_user/") {
			want[change.ID] = change.Revs[0]
		}
	}
	if !maps.Equal(r.docs, want) {
		c.t.Fatalf("%s has %v\nand should have %v\n%s", r.user, r.docs, want, strings.Join(c.log, "\n"))
	}
	for _, e := range []*env{c.p.a, c.p.b} {
		got := e.as(r.user)
		if !maps.Equal(got.User().Channels(0), h.User().Channels(0)) || !slices.Equal(got.User().RoleNames(), h.User().RoleNames()) {
			c.t.Fatalf("%s: channels %v, roles %v; a fresh node says %v, %v\n%s", r.user, got.User().Channels(0), got.User().RoleNames(),
				h.User().Channels(0), h.User().RoleNames(), strings.Join(c.log, "\n"))
		}
	}
}
