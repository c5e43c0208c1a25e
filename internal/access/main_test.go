package access

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

const testSpace = store.Space(7)

// openStore opens an empty store in memory.
func openStore(t testing.TB) store.Store {
	t.Helper()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// open opens a registry with cheap passwords; adjust may change its configuration.
func open(t testing.TB, st store.Store, adjust ...func(*Config)) *Registry {
	t.Helper()
	cfg := Config{
		Store: st, Space: testSpace, BcryptCost: bcrypt.MinCost,
		Logger:      slog.New(slog.NewTextHandler(io.Discard, nil)),
		Collections: []Collection{{"_default", "_default", 0}, {"s", "c", 1}},
	}
	for _, f := range adjust {
		f(&cfg)
	}
	r, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func noPasswords(c *Config) { c.AllowEmptyPassword = true }

// clock is a time that a test moves.
type clock struct{ at time.Time }

func newClock() *clock                { return &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }
func (c *clock) now() time.Time       { return c.at }
func (c *clock) pass(d time.Duration) { c.at = c.at.Add(d) }
func (c *clock) config(cfg *Config)   { cfg.Now = c.now }
func secret(s string) *Secret         { x := NewSecret(s); return &x }
func ptr[T any](v T) *T               { return &v }
func user(pw string, chans ...string) UserUpdate {
	return UserUpdate{Password: secret(pw), AdminChannels: chans}
}

// put creates or changes a user.
func put(t testing.TB, r *Registry, name string, u UserUpdate) {
	t.Helper()
	if _, err := r.PutUser(t.Context(), name, u, false); err != nil {
		t.Fatalf("PutUser %s: %v", name, err)
	}
}

func putRole(t testing.TB, r *Registry, name string, channels ...string) {
	t.Helper()
	if _, err := r.PutRole(t.Context(), name, RoleUpdate{AdminChannels: channels}, false); err != nil {
		t.Fatalf("PutRole %s: %v", name, err)
	}
}

// load returns a user.
func load(t testing.TB, r *Registry, name string) *User {
	t.Helper()
	u, err := r.User(t.Context(), name)
	if err != nil {
		t.Fatalf("User %s: %v", name, err)
	}
	return u
}

// docs stands for the documents of a database: it remembers what each grants.
type docs map[string]*DocGrants

// write gives a document new grants, by access ("bob", "role:r" → channels) and roles, at the next sequence.
func (d docs) write(t testing.TB, r *Registry, coll store.Collection, id string, access map[string][]string, roles map[string][]string) tidegate.Seq {
	t.Helper()
	var g *DocGrants
	if len(access)+len(roles) > 0 {
		g = &DocGrants{Access: pending(access), Roles: pending(roles)}
	}
	key := string(rune('0'+coll)) + id
	var seq tidegate.Seq
	var changed []string
	err := r.cfg.Store.Update(t.Context(), func(tx store.Tx) (err error) {
		if seq, err = tx.NextSequence(r.cfg.Space); err != nil {
			return err
		}
		changed, err = WriteGrants(tx, r.cfg.Space, coll, id, d[key], g, seq)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Invalidate(changed)
	if g != nil {
		g = g.settled(d[key], seq)
	}
	d[key] = g
	return seq
}

// settled is what a document's record says once its write is done: grants that continue have the sequence
// they had (sync-function.md §5 rule 1).
func (g *DocGrants) settled(old *DocGrants, seq tidegate.Seq) *DocGrants {
	settle := func(new map[string]tidegate.Grants, old map[string]tidegate.Grants) map[string]tidegate.Grants {
		out := map[string]tidegate.Grants{}
		for who, names := range new {
			out[who] = tidegate.Grants{}
			for name := range names {
				out[who][name] = seq
				if at, ok := old[who][name]; ok {
					out[who][name] = at
				}
			}
		}
		return out
	}
	if old == nil {
		old = &DocGrants{}
	}
	return &DocGrants{Access: settle(g.Access, old.Access), Roles: settle(g.Roles, old.Roles)}
}

// pending turns lists of names into grants without sequences.
func pending(lists map[string][]string) map[string]tidegate.Grants {
	m := map[string]tidegate.Grants{}
	for who, names := range lists {
		m[who] = tidegate.Grants{}
		for _, name := range names {
			m[who][name] = 0
		}
	}
	return m
}

// bump takes n sequences, as writes do that grant nothing, and returns the last one.
func bump(t testing.TB, r *Registry, n int) tidegate.Seq {
	t.Helper()
	var seq tidegate.Seq
	err := r.cfg.Store.Update(context.Background(), func(tx store.Tx) (err error) {
		for range n {
			if _, err = tx.NextSequence(r.cfg.Space); err != nil {
				return err
			}
		}
		seq, err = tx.LastSequence(r.cfg.Space)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// to takes sequences until the next write gets seq.
func to(t testing.TB, r *Registry, seq tidegate.Seq) {
	t.Helper()
	bump(t, r, int(seq-1-bump(t, r, 0)))
}

func names(g tidegate.Grants) []string {
	var list []string
	for n := range g {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// purge removes a document and its grants.
func (d docs) purge(t testing.TB, r *Registry, coll store.Collection, id string) {
	t.Helper()
	key := string(rune('0'+coll)) + id
	var changed []string
	err := r.cfg.Store.Update(t.Context(), func(tx store.Tx) (err error) {
		changed, err = WriteGrants(tx, r.cfg.Space, coll, id, d[key], nil, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Invalidate(changed)
	delete(d, key)
}
