package access

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// The model keeps what administrators and documents said, and at each look at a user computes from scratch
// what it must have (I13), remembers what it was seen to have, and holds history and revocations against
// that (I8).
type model struct {
	r     *Registry
	docs  docs
	users map[string]*modelUser
	roles map[string]*modelRole
	seq   tidegate.Seq
	// ever holds every channel that a user ever had, or would have had if it had existed then, looked at or
	// not: nothing else may appear anywhere.
	ever map[string]map[chanIn]bool
}

type chanIn struct {
	coll    store.Collection
	channel string
}

type modelUser struct {
	explicit map[store.Collection]tidegate.Grants
	roles    tidegate.Grants
	looks    []look
}

type modelRole struct {
	explicit map[store.Collection]tidegate.Grants
	since    tidegate.Seq
	deleted  bool
}

// look is what a user had when it was looked at.
type look struct {
	seq tidegate.Seq
	has map[chanIn]bool
}

var (
	modelColls    = []store.Collection{0, 1}
	modelChannels = []string{"x", "y", "z"}
	modelUsers    = []string{"amy", "bob"}
	modelRoles    = []string{"r", "s"}
)

// own computes what documents and administrators give a principal itself.
func (m *model) own(principal string, explicit map[store.Collection]tidegate.Grants, since tidegate.Seq) map[store.Collection]tidegate.Grants {
	own := map[store.Collection]tidegate.Grants{}
	for _, coll := range modelColls {
		own[coll] = tidegate.Grants{}
		for c, at := range explicit[coll] {
			own[coll].Add(c, max(at, since))
		}
		for key, g := range m.docs {
			if g == nil || store.Collection(key[0]-'0') != coll {
				continue
			}
			for c, at := range g.Access[principal] {
				own[coll].Add(c, max(at, since))
			}
		}
	}
	return own
}

// effective computes from scratch what a user has.
func (m *model) effective(name string) map[store.Collection]tidegate.Grants {
	u := m.users[name]
	if u == nil {
		u = &modelUser{roles: tidegate.Grants{}}
	}
	all := m.own(name, u.explicit, 0)
	roles := maps.Clone(u.roles)
	for _, g := range m.docs {
		if g != nil {
			addGrants(roles, g.Roles[name])
		}
	}
	for role, at := range roles {
		g := m.roles[role]
		if g == nil || g.deleted {
			continue
		}
		for coll, channels := range m.own("role:"+role, g.explicit, g.since) {
			for c, since := range channels {
				all[coll].Add(c, max(since, at))
			}
		}
	}
	for _, coll := range modelColls {
		all[coll].Add(tidegate.PublicChannel, 1)
	}
	return all
}

// settle notes what everybody has now.
func (m *model) settle() {
	for _, name := range modelUsers {
		if m.ever[name] == nil {
			m.ever[name] = map[chanIn]bool{}
		}
		for coll, g := range m.effective(name) {
			for c := range g {
				m.ever[name][chanIn{coll, c}] = true
			}
		}
	}
}

// look compares a user with the computation from scratch, and its history with what was seen before.
func (m *model) look(t *rapid.T, tb testing.TB, name string) {
	u, err := m.r.User(tb.Context(), name)
	if m.users[name] == nil {
		if !errors.Is(err, tidegate.ErrMissing) {
			t.Fatalf("User %s: %v, want missing", name, err)
		}
		return
	}
	if err != nil {
		t.Fatalf("User %s: %v", name, err)
	}
	if err := m.compare(u, name); err != nil {
		t.Fatal(err)
	}
	has := map[chanIn]bool{}
	for coll, g := range m.effective(name) {
		for c := range g {
			has[chanIn{coll, c}] = true
		}
	}
	m.users[name].looks = append(m.users[name].looks, look{m.seq, has})
	if err := m.history(u, name); err != nil {
		t.Fatal(err)
	}
}

// compare is the checker of I13: what the registry says is what a computation from scratch gives.
func (m *model) compare(u *User, name string) error {
	for coll, want := range m.effective(name) {
		if got := u.Channels(coll); !maps.Equal(got, want) {
			return fmt.Errorf("%s in collection %d: %v, from scratch: %v", name, coll, got, want)
		}
	}
	return nil
}

// history is the checker of I8 for principals.
func (m *model) history(u *User, name string) error {
	looks := m.users[name].looks
	now := looks[len(looks)-1]
	for _, coll := range modelColls {
		for _, c := range modelChannels {
			in := chanIn{coll, c}
			spans := u.ChannelHistory(coll, c)
			if len(spans) > 0 && !m.ever[name][in] {
				return fmt.Errorf("%s has a history %v of %v, which it never had", name, spans, in)
			}
			for _, l := range looks {
				if l.has[in] && !covers(spans, l.seq) {
					return fmt.Errorf("%s had %v at %d, but its history says %v", name, in, l.seq, spans)
				}
			}
			lastHad := lastSeenWith(looks, in)
			for i, l := range looks {
				end, revoked := u.Revoked(coll, l.seq)[c]
				switch {
				case now.has[in] && revoked:
					return fmt.Errorf("%s has %v, but it is revoked at %d", name, in, end)
				case revoked && (end <= l.seq || end > now.seq):
					return fmt.Errorf("%s: %v revoked at %d since %d, now %d", name, in, end, l.seq, now.seq)
				case !now.has[in] && lastHad >= i && (!revoked || end <= looks[lastHad].seq):
					return fmt.Errorf("%s had %v at %d and has it no more, but since %d it is revoked: %v at %d",
						name, in, looks[lastHad].seq, l.seq, revoked, end)
				}
			}
		}
	}
	return nil
}

// lastSeenWith returns the last look that had the channel, -1 if none.
func lastSeenWith(looks []look, in chanIn) int {
	for i := len(looks) - 1; i >= 0; i-- {
		if looks[i].has[in] {
			return i
		}
	}
	return -1
}

func covers(spans []Span, seq tidegate.Seq) bool {
	return slices.ContainsFunc(spans, func(s Span) bool { return s.Start <= seq && (s.End == 0 || seq < s.End) })
}

// replaceModel is what an update of explicit channels does, said once more in other words.
func (m *model) replace(old tidegate.Grants, names []string) tidegate.Grants {
	g := tidegate.Grants{}
	for _, n := range names {
		g[n] = m.seq + 1
		if at, ok := old[n]; ok {
			g[n] = at
		}
	}
	if maps.Equal(g, old) {
		return old
	}
	return g
}

func subset(names []string) *rapid.Generator[[]string] {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, len(names), rapid.ID[string])
}

func (m *model) actions(tb testing.TB) map[string]func(*rapid.T) {
	userName, roleName := rapid.SampledFrom(modelUsers), rapid.SampledFrom(modelRoles)
	doc, coll := rapid.SampledFrom([]string{"A", "B", "C"}), rapid.SampledFrom(modelColls)
	return map[string]func(*rapid.T){
		"": func(*rapid.T) { m.seq = bump(tb, m.r, 0); m.settle() },
		"write": func(t *rapid.T) {
			access, roles := lists{}, lists{}
			for _, p := range []string{"amy", "bob", "role:r", "role:s"} {
				if cs := subset(modelChannels).Draw(t, p); len(cs) > 0 && rapid.Bool().Draw(t, "grant") {
					access[p] = cs
				}
			}
			for _, p := range modelUsers {
				if rs := subset(modelRoles).Draw(t, "roles of "+p); len(rs) > 0 && rapid.Bool().Draw(t, "give") {
					roles[p] = rs
				}
			}
			m.docs.write(tb, m.r, coll.Draw(t, "coll"), doc.Draw(t, "doc"), access, roles)
		},
		"purge":     func(t *rapid.T) { m.docs.purge(tb, m.r, coll.Draw(t, "coll"), doc.Draw(t, "doc")) },
		"otherDocs": func(*rapid.T) { bump(tb, m.r, 3) },
		"putUser": func(t *rapid.T) {
			m.putUser(tb, userName.Draw(t, "user"), subset(modelChannels).Draw(t, "0"),
				subset(modelChannels).Draw(t, "1"), subset(modelRoles).Draw(t, "roles"))
		},
		"deleteUser": func(t *rapid.T) {
			name := userName.Draw(t, "user")
			if m.users[name] != nil && rapid.IntRange(0, 3).Draw(t, "really") == 0 {
				if err := m.r.DeleteUser(tb.Context(), name); err != nil {
					t.Fatal(err)
				}
				delete(m.users, name)
			}
		},
		"putRole": func(t *rapid.T) {
			m.putRole(tb, roleName.Draw(t, "role"), subset(modelChannels).Draw(t, "0"), subset(modelChannels).Draw(t, "1"))
		},
		"deleteRole": func(t *rapid.T) {
			name := roleName.Draw(t, "role")
			if g := m.roles[name]; g != nil && !g.deleted {
				if err := m.r.DeleteRole(tb.Context(), name, false); err != nil {
					t.Fatal(err)
				}
				g.deleted, g.explicit = true, nil
			}
		},
		"look": func(t *rapid.T) { m.look(t, tb, userName.Draw(t, "user")) },
		"fresh registry": func(t *rapid.T) {
			other := open(tb, m.r.cfg.Store, noPasswords, func(c *Config) { c.Space = m.r.cfg.Space })
			for name := range m.users {
				if err := m.compare(load(tb, other, name), name); err != nil {
					t.Fatalf("another registry on the same store: %v", err)
				}
				m.look(t, tb, name) // the other one's look has rebuilt it
			}
		},
	}
}

func (m *model) putUser(tb testing.TB, name string, c0, c1, roles []string) {
	put(tb, m.r, name, UserUpdate{AdminChannels: c0, AdminRoles: roles, CollectionAccess: map[string]map[string]CollectionUpdate{
		"s": {"c": {AdminChannels: c1}},
	}})
	u := m.users[name]
	if u == nil {
		u = &modelUser{explicit: map[store.Collection]tidegate.Grants{}, roles: tidegate.Grants{}}
		m.users[name] = u
	}
	u.explicit[0], u.explicit[1] = m.replace(u.explicit[0], c0), m.replace(u.explicit[1], c1)
	u.roles = m.replace(u.roles, roles)
}

func (m *model) putRole(tb testing.TB, name string, c0, c1 []string) {
	if _, err := m.r.PutRole(tb.Context(), name, RoleUpdate{AdminChannels: c0, CollectionAccess: map[string]map[string]CollectionUpdate{
		"s": {"c": {AdminChannels: c1}},
	}}, false); err != nil {
		tb.Fatal(err)
	}
	g := m.roles[name]
	if g == nil || g.deleted {
		g = &modelRole{explicit: map[store.Collection]tidegate.Grants{}, since: m.seq + 1}
		m.roles[name] = g
	}
	g.explicit[0], g.explicit[1] = m.replace(g.explicit[0], c0), m.replace(g.explicit[1], c1)
}

func TestModel(t *testing.T) {
	st, space := openStore(t), testSpace
	rapid.Check(t, func(rt *rapid.T) {
		space++
		small := rapid.Bool().Draw(rt, "small caches")
		r := open(t, st, noPasswords, func(c *Config) {
			if c.Space = space; small {
				c.UserCacheSize = 8
			}
		})
		m := &model{r: r, docs: docs{}, users: map[string]*modelUser{}, roles: map[string]*modelRole{}, ever: map[string]map[chanIn]bool{}}
		rt.Repeat(m.actions(t))
		for _, name := range modelUsers {
			m.look(rt, t, name)
		}
		if problems, _, _ := check(t, r); len(problems) > 0 {
			rt.Fatalf("Check: %q", problems)
		}
	})
}

// The checkers of the model must see faults: here they are planted.
func TestModelSeesPlantedFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		plant func(t *testing.T, m *model)
	}{
		{"a grant's row is lost", func(t *testing.T, m *model) {
			m.edit(t, func(tx store.Tx) error { return tx.Delete(grantRow(testSpace, "user:bob", 0, "A")) })
			m.remark(t)
		}},
		{"a grant is never noticed", func(t *testing.T, m *model) {
			m.edit(t, func(tx store.Tx) error {
				g := grantSet{channels: tidegate.Grants{"z": m.seq}}
				return tx.Put(grantRow(testSpace, "user:bob", 0, "B"), g.encode())
			})
			m.docs["0B"] = &DocGrants{Access: map[string]tidegate.Grants{"bob": {"z": m.seq}}}
		}},
		{"a grant moves to a later sequence", func(t *testing.T, m *model) {
			m.edit(t, func(tx store.Tx) error {
				g := grantSet{channels: tidegate.Grants{"x": m.seq}}
				return tx.Put(grantRow(testSpace, "user:bob", 0, "A"), g.encode())
			})
			m.remark(t)
		}},
		{"a loss is not remembered", func(t *testing.T, m *model) {
			m.record(t, func(rec *record) { rec.lost = map[store.Collection]history{} })
		}},
		{"a loss is dated too early", func(t *testing.T, m *model) {
			m.record(t, func(rec *record) { rec.lost[0] = history{"y": {spans: []Span{{2, 3}}}} })
		}},
		{"a loss of what was never there", func(t *testing.T, m *model) {
			m.record(t, func(rec *record) { rec.lost[1] = history{"x": {spans: []Span{{2, m.seq}}}} })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := open(t, openStore(t), noPasswords)
			m := &model{r: r, docs: docs{}, users: map[string]*modelUser{}, roles: map[string]*modelRole{}, ever: map[string]map[chanIn]bool{}}
			step := func() { m.seq = bump(t, r, 0); m.settle() }
			look := func() error {
				u := load(t, r, "bob")
				if err := m.compare(u, "bob"); err != nil {
					return err
				}
				has := map[chanIn]bool{}
				for c := range u.Channels(0) {
					has[chanIn{0, c}] = true
				}
				m.users["bob"].looks = append(m.users["bob"].looks, look{m.seq, has})
				return m.history(u, "bob")
			}
			step()
			m.putUser(t, "bob", []string{"y"}, nil, nil)
			step()
			m.docs.write(t, r, 0, "A", lists{"bob": {"x"}}, nil)
			step()
			if err := look(); err != nil {
				t.Fatal(err)
			}
			bump(t, r, 3)
			step()
			if err := look(); err != nil {
				t.Fatal(err)
			}
			m.putUser(t, "bob", []string{}, nil, nil)
			step()
			if err := look(); err != nil {
				t.Fatal(err)
			}
			tt.plant(t, m)
			if err := look(); err == nil {
				t.Fatal("the fault was not seen")
			} else {
				t.Log(err)
			}
		})
	}
}

func (m *model) edit(t *testing.T, f func(store.Tx) error) {
	t.Helper()
	if err := m.r.cfg.Store.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// remark has bob computed anew.
func (m *model) remark(t *testing.T) {
	m.edit(t, func(tx store.Tx) error { return mark(tx, testSpace, "user:bob", m.seq) })
	m.r.Invalidate([]string{"user:bob"})
}

// record changes what is stored of bob.
func (m *model) record(t *testing.T, f func(*record)) {
	err := m.r.change(t.Context(), "user:bob", func(rec *record) (*edit, error) {
		next := rec.clone()
		next.lost = maps.Clone(rec.lost)
		f(next)
		return &edit{next: next}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
