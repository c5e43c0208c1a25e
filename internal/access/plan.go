package access

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// GrantChanges are what a dry run would change of what documents grant (resync.md §3.9): for each principal and name
// in how many documents more, or fewer, it would be granted. It is bounded, since the changes of all documents together
// may be more than memory holds.
type GrantChanges struct {
	room        int // bytes left, about
	byPrincipal map[string]*grantChange
	dropped     int64
	roles       bool
}

// grantChange is what changes for one principal. A count of 0 stays: the document is another one, the grant is there still.
type grantChange struct {
	channels map[store.Collection]map[string]int
	roles    map[string]int
}

// NewGrantChanges makes an empty one that takes about so many bytes at most.
func NewGrantChanges(bytes int) *GrantChanges {
	return &GrantChanges{room: bytes, byPrincipal: map[string]*grantChange{}}
}

// Add notes that a document of the collection would grant new instead of old; nil is nothing.
func (g *GrantChanges) Add(coll store.Collection, old, new *DocGrants) {
	before, after := old.byPrincipal(), new.byPrincipal()
	for _, principal := range unionKeys(before, after) {
		was, is := before[principal], after[principal]
		g.addAll(principal, was.channels, is.channels, func(c *grantChange) map[string]int {
			if c.channels[coll] == nil {
				c.channels[coll] = map[string]int{}
			}
			return c.channels[coll]
		})
		g.addAll(principal, was.roles, is.roles, func(c *grantChange) map[string]int {
			g.roles = true
			return c.roles
		})
	}
}

// addAll notes the difference between two sets of names.
func (g *GrantChanges) addAll(principal string, was, is tidegate.Grants, counts func(*grantChange) map[string]int) {
	for name := range was {
		if _, stays := is[name]; !stays {
			g.count(principal, name, -1, counts)
		}
	}
	for name := range is {
		if _, had := was[name]; !had {
			g.count(principal, name, 1, counts)
		}
	}
}

// Bytes that an entry takes beside its name, about.
const (
	principalOverhead = 400
	countOverhead     = 160
)

func (g *GrantChanges) count(principal, name string, n int, counts func(*grantChange) map[string]int) {
	c := g.byPrincipal[principal]
	if c == nil {
		if !g.take(principalOverhead + len(principal)) {
			return
		}
		c = &grantChange{channels: map[store.Collection]map[string]int{}, roles: map[string]int{}}
		g.byPrincipal[strings.Clone(principal)] = c
	}
	into := counts(c)
	if _, known := into[name]; !known {
		if !g.take(countOverhead + len(name)) {
			return
		}
		name = strings.Clone(name)
	}
	into[name] += n
}

func (g *GrantChanges) take(bytes int) bool {
	if g.room < bytes {
		g.dropped++
		return false
	}
	g.room -= bytes
	return true
}

// Exact reports whether all that was added is there.
func (g *GrantChanges) Exact() bool { return g.dropped == 0 }

// Roles reports whether a role would be given to or taken from a user.
func (g *GrantChanges) Roles() bool { return g.roles }

// PlannedPrincipal is what a principal has and would have. A user's channels are the effective ones without the public
// channel, a role's its own.
type PlannedPrincipal struct {
	Kind          tidegate.PrincipalKind
	Name          string                               // GUEST for the guest
	Before, After map[store.Collection]tidegate.Grants // channels; the sequences mean nothing
	Changed       bool                                 // Before and After differ
	RolesGained   []string                             // that the user would have; sorted
	RolesLost     []string
}

// Plan calls fn with every principal that there is in a snapshot, roles first, and with what it would have after the
// changes. fn must not keep the maps. Memory is bounded whatever the number of principals.
func (r *Registry) Plan(ctx context.Context, rd store.Reader, changes *GrantChanges, fn func(*PlannedPrincipal) error) error {
	p := &planner{r: r, rd: rd, changes: changes, roles: map[string]*plannedRole{}}
	prefix := store.NewKey(r.cfg.Space, store.KindPrincipal)
	it := rd.Scan(store.Prefix(prefix))
	defer it.Close()
	for it.Next() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		principal, _, err := store.CutName(it.Key()[len(prefix):])
		if err != nil {
			return err
		}
		planned, err := p.principal(principal)
		if err != nil {
			return err
		}
		if planned == nil {
			continue
		}
		if err := fn(planned); err != nil {
			return err
		}
	}
	return it.Err()
}

// planner is a Plan under way.
type planner struct {
	r       *Registry
	rd      store.Reader
	changes *GrantChanges
	roles   map[string]*plannedRole // those read last
	held    int                     // names in roles
}

// maxPlannedNames bounds how many names of roles are kept in memory while principals are walked.
const maxPlannedNames = 200_000

// plannedRole is what a role has and would have.
type plannedRole struct {
	exists        bool
	changed       bool
	before, after map[store.Collection]tidegate.Grants
}

// principal computes one principal; nil if there is none in fact.
func (p *planner) principal(principal string) (*PlannedPrincipal, error) {
	if name, ok := strings.CutPrefix(principal, rolePrefix); ok {
		g, err := p.role(name)
		if err != nil || !g.exists {
			return nil, err
		}
		return &PlannedPrincipal{Kind: tidegate.Role, Name: name, Before: g.before, After: g.after, Changed: g.changed}, nil
	}
	var todo []rebuilt // not stored: whoever needs the user next does
	rec, err := p.r.read(p.rd, principal, &todo)
	if err != nil || rec == nil {
		return nil, err
	}
	return p.user(principal, rec)
}

// user puts together what a user has, and would have, by itself and through roles, as newUser does.
func (p *planner) user(principal string, rec *record) (*PlannedPrincipal, error) {
	own, err := p.own(principal, rec)
	if err != nil {
		return nil, err
	}
	u := &PlannedPrincipal{Kind: tidegate.User, Name: principal[len(userPrefix):], Changed: own.changed || own.rolesChanged}
	if principal == guestKey {
		u.Name = tidegate.GuestName
	}
	u.RolesGained, u.RolesLost = missingFrom(own.rolesBefore, own.rolesAfter), missingFrom(own.rolesAfter, own.rolesBefore)
	u.Before = copyOf(own.before)
	changed, err := p.addRoles(u.Before, own.rolesBefore, roleBefore)
	if err != nil {
		return nil, err
	}
	u.After = u.Before
	if u.Changed = u.Changed || changed; u.Changed {
		u.After = copyOf(own.after)
		if _, err := p.addRoles(u.After, own.rolesAfter, roleAfter); err != nil {
			return nil, err
		}
	}
	if principal == guestKey && !p.r.cfg.AllowGuestStar {
		for _, all := range []map[store.Collection]tidegate.Grants{u.Before, u.After} {
			for _, g := range all {
				delete(g, tidegate.AllChannels)
			}
		}
	}
	return u, nil
}

// What a role has, and would have.
func roleBefore(g *plannedRole) map[store.Collection]tidegate.Grants { return g.before }
func roleAfter(g *plannedRole) map[store.Collection]tidegate.Grants  { return g.after }

// addRoles adds to all what one side of roles has. changed: one of them would have other channels.
func (p *planner) addRoles(all map[store.Collection]tidegate.Grants, roles tidegate.Grants, side func(*plannedRole) map[store.Collection]tidegate.Grants) (changed bool, err error) {
	for name := range roles {
		g, err := p.role(name)
		if err != nil {
			return false, err
		}
		changed = changed || g.changed
		for coll, channels := range side(g) {
			if all[coll] == nil {
				all[coll] = tidegate.Grants{}
			}
			addGrants(all[coll], channels)
		}
	}
	return changed, nil
}

// role computes a role, from memory if it was asked for not long ago.
func (p *planner) role(name string) (*plannedRole, error) {
	if g := p.roles[name]; g != nil {
		return g, nil
	}
	var todo []rebuilt
	rec, err := p.r.read(p.rd, roleKey(name), &todo)
	if err != nil {
		return nil, err
	}
	g := &plannedRole{exists: rec != nil && !rec.deleted}
	if g.exists {
		own, err := p.own(roleKey(name), rec)
		if err != nil {
			return nil, err
		}
		g.before, g.after, g.changed = own.before, own.after, own.changed
	}
	size := 1
	for _, channels := range []map[store.Collection]tidegate.Grants{g.before, g.after} {
		for _, names := range channels {
			size += len(names)
		}
	}
	if p.held += size; p.held > maxPlannedNames {
		clear(p.roles)
		p.held = size
	}
	p.roles[name] = g
	return g, nil
}

// ownReach is what a principal has, and would have, by itself.
type ownReach struct {
	before, after           map[store.Collection]tidegate.Grants
	rolesBefore, rolesAfter tidegate.Grants
	changed, rolesChanged   bool
}

// own computes it: a name is held afterwards if an administrator gave it, or if documents are left that grant it.
func (p *planner) own(principal string, rec *record) (*ownReach, error) {
	o := &ownReach{before: map[store.Collection]tidegate.Grants{}, rolesBefore: rec.roles.grants}
	for coll, h := range rec.channels {
		o.before[coll] = h.grants
	}
	o.after, o.rolesAfter = o.before, o.rolesBefore
	change := p.changes.byPrincipal[principal]
	if change == nil || rec.deleted {
		return o, nil
	}
	now, err := p.counts(principal, change)
	if err != nil {
		return nil, err
	}
	o.after = maps.Clone(o.before)
	for coll, counts := range change.channels {
		next, changed := changedGrants(o.before[coll], rec.explicit[coll], now.channels[coll], counts)
		o.after[coll], o.changed = next, o.changed || changed
	}
	o.rolesAfter, o.rolesChanged = changedGrants(o.rolesBefore, rec.explicitRoles, now.roles, change.roles)
	return o, nil
}

// counts reads by how many documents a principal is granted what may change.
func (p *planner) counts(principal string, change *grantChange) (*grantChange, error) {
	now := &grantChange{channels: map[store.Collection]map[string]int{}, roles: map[string]int{}}
	routing, err := p.r.routes.Read(p.rd)
	if err != nil {
		return nil, err
	}
	err = eachGrant(p.rd, p.r.cfg.Space, routing, principal, func(coll store.Collection, _ string, set grantSet) error {
		for name := range set.channels {
			if _, asked := change.channels[coll][name]; asked {
				if now.channels[coll] == nil {
					now.channels[coll] = map[string]int{}
				}
				now.channels[coll][name]++
			}
		}
		for name := range set.roles {
			if _, asked := change.roles[name]; asked {
				now.roles[name]++
			}
		}
		return nil
	})
	return now, err
}

// changedGrants returns what is held once the numbers of documents have changed.
func changedGrants(before, explicit tidegate.Grants, now, change map[string]int) (after tidegate.Grants, changed bool) {
	after = before
	for name, n := range change {
		_, given := explicit[name]
		_, had := before[name]
		has := given || now[name]+n > 0
		if has == had {
			continue
		}
		if !changed {
			after, changed = maps.Clone(before), true
			if after == nil {
				after = tidegate.Grants{}
			}
		}
		if has {
			after[name] = 1
		} else {
			delete(after, name)
		}
	}
	return after, changed
}

// missingFrom returns the names of b that are not in a, sorted.
func missingFrom(a, b tidegate.Grants) (names []string) {
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// copyOf copies channels by collection.
func copyOf(all map[store.Collection]tidegate.Grants) map[store.Collection]tidegate.Grants {
	c := make(map[store.Collection]tidegate.Grants, len(all))
	for coll, g := range all {
		c[coll] = maps.Clone(g)
	}
	return c
}
