package access

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// The bounds of an explanation. What is beyond them is counted, not listed.
const (
	maxGrantingDocuments = 20  // documents named for each thing that is granted
	maxGrantingRoles     = 20  // roles named for each channel
	maxExplainedRoles    = 100 // roles of a user
)

// Reach is what a user has of some channels of one collection, and by what (sync-function.md §10). It is made from
// one snapshot and holds no secret.
type Reach struct {
	// User is the user as of the snapshot; nil if there is none of that name. All below is empty then.
	User *User `json:"-"`
	// Roles are those that give or gave one of the channels, then the others.
	Roles     []RoleReach    `json:"roles"`
	MoreRoles int            `json:"more_roles,omitempty"`
	Channels  []ChannelReach `json:"channels"` // in the order they were asked for
}

// ChannelReach is what a user has of one channel.
type ChannelReach struct {
	Channel string       `json:"channel"`
	Held    bool         `json:"held"`
	Since   tidegate.Seq `json:"since,omitempty"` // the lowest sequence in By, since it is what counts
	// HeldSince is since when it is held without a break: before Since if an older grant went away meanwhile.
	HeldSince tidegate.Seq `json:"held_since,omitempty"`
	By        []Grant      `json:"by"`
	// MoreDocuments and MoreRoles grant it as well, at sequences not below those in By.
	MoreDocuments int    `json:"more_documents,omitempty"`
	MoreRoles     int    `json:"more_roles,omitempty"`
	History       []Span `json:"history"` // when it was held and no longer is, oldest first
}

// RoleReach is a role that a user has or had.
type RoleReach struct {
	Role          string       `json:"role"`
	Exists        bool         `json:"exists"` // a role that does not exist gives nothing
	Held          bool         `json:"held"`
	Since         tidegate.Seq `json:"since,omitempty"`
	By            []Grant      `json:"by"`
	MoreDocuments int          `json:"more_documents,omitempty"`
	History       []Span       `json:"history"`
}

// GrantKind says by what something is granted.
type GrantKind string

// The kinds of grants.
const (
	GrantedByAdmin    GrantKind = "admin"    // admin_channels, admin_roles
	GrantedByDocument GrantKind = "document" // access() or role() for a document
	GrantedByRole     GrantKind = "role"     // the user has a role that has it
	GrantedToAll      GrantKind = "public"   // everybody has the channel "!"
)

// Grant is one reason why something is held.
type Grant struct {
	Kind  GrantKind    `json:"kind"`
	Since tidegate.Seq `json:"since"`

	Collection string `json:"collection,omitempty"` // of Document, as scope.name
	Document   string `json:"document,omitempty"`

	// Of a role: the later of RoleSince and ChannelSince counts.
	Role                 string       `json:"role,omitempty"`
	RoleSince            tidegate.Seq `json:"role_since,omitempty"`
	ChannelSince         tidegate.Seq `json:"channel_since,omitempty"`
	Through              []Grant      `json:"through,omitempty"` // why the role has the channel
	MoreThroughDocuments int          `json:"more_through_documents,omitempty"`
}

// Explain tells what a user has of the channels of a collection and why, all from one snapshot. "" or GUEST is the guest.
// It walks all grants of documents to the user and to the roles that it names.
func (r *Registry) Explain(ctx context.Context, rd store.Reader, name string, coll store.Collection, channels []string) (*Reach, error) {
	x := &explainer{r: r, ctx: ctx, rd: rd, coll: coll, wanted: map[string]bool{}}
	for _, c := range channels {
		x.wanted[c] = true
	}
	reach := &Reach{Roles: []RoleReach{}, Channels: []ChannelReach{}}
	var err error
	if reach.User, err = x.user(userKey(name)); err != nil || reach.User == nil {
		return reach, err
	}
	own, err := x.documents(userPrefix+reach.User.name, 0)
	if err != nil {
		return nil, err
	}
	through, err := x.roleGrants(reach.User)
	if err != nil {
		return nil, err
	}
	for _, c := range channels {
		reach.Channels = append(reach.Channels, x.channel(reach.User, c, own, through))
	}
	x.addRoles(reach, own.roles)
	return reach, nil
}

// explainer is an Explain under way.
type explainer struct {
	r      *Registry
	ctx    context.Context //nolint:containedctx // lives for one call of Explain
	rd     store.Reader
	coll   store.Collection
	wanted map[string]bool // the channels asked for
}

// user puts a user together as load does, but from the snapshot alone: what is cached may be newer. Nil: there is none.
func (x *explainer) user(principal string) (*User, error) {
	var rebuilt []rebuilt // not stored: whoever needs the user next does
	rec, err := x.r.read(x.rd, principal, &rebuilt)
	if err != nil {
		return nil, err
	}
	if rec == nil {
		if principal != guestKey {
			return nil, nil
		}
		rec = newRecord(time.Time{}) // a guest that was never configured
		rec.disabled = true
	}
	roles := map[string]*role{}
	for _, name := range rec.roleNames() {
		g, err := x.r.read(x.rd, roleKey(name), &rebuilt)
		if err != nil {
			return nil, err
		}
		roles[name] = &role{rec: g}
	}
	return newUser(principal[len(userPrefix):], rec, roles, x.r.cfg.AllowGuestStar), nil
}

// granters are the documents that grant one thing: those with the lowest sequences, and how many there are.
type granters struct {
	first []Grant
	n     int
}

func (g *granters) add(d Grant) {
	g.n++
	i, _ := slices.BinarySearchFunc(g.first, d, compareGrants)
	if i < maxGrantingDocuments {
		g.first = slices.Insert(g.first, i, d)
		g.first = g.first[:min(len(g.first), maxGrantingDocuments)]
	}
}

func compareGrants(a, b Grant) int {
	return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Collection, b.Collection), cmp.Compare(a.Document, b.Document))
}

// list returns the documents and how many are not among them; g may be nil.
func (g *granters) list() ([]Grant, int) {
	if g == nil {
		return nil, 0
	}
	return g.first, g.n - len(g.first)
}

// docGranters are the documents that grant something to one principal.
type docGranters struct {
	channels map[string]*granters // of those asked for, in the collection asked for
	roles    map[string]*granters
}

// checkEvery is how many rows are read between two looks at the context.
const checkEvery = 1024

// documents reads which documents grant what to a principal. None counts as older than since.
func (x *explainer) documents(principal string, since tidegate.Seq) (docGranters, error) {
	d := docGranters{channels: map[string]*granters{}, roles: map[string]*granters{}}
	add := func(to map[string]*granters, name string, g Grant) {
		if to[name] == nil {
			to[name] = &granters{}
		}
		to[name].add(g)
	}
	rows := 0
	routing, err := x.r.routes.Read(x.rd)
	if err != nil {
		return d, err
	}
	err = eachGrant(x.rd, x.r.cfg.Space, routing, principal, func(coll store.Collection, docID string, set grantSet) error {
		if rows++; rows%checkEvery == 0 && x.ctx.Err() != nil {
			return x.ctx.Err()
		}
		g := Grant{Kind: GrantedByDocument, Collection: x.r.collectionName(coll), Document: docID}
		for name, at := range set.channels {
			if g.Since = max(at, since); coll == x.coll && x.wanted[name] {
				add(d.channels, name, g)
			}
		}
		for name, at := range set.roles {
			g.Since = max(at, since)
			add(d.roles, name, g)
		}
		return nil
	})
	return d, err
}

// eachGrant calls fn with what each document grants to a principal by the generations that are live.
func eachGrant(rd store.Reader, space store.Space, routing *store.Routing, principal string, fn func(coll store.Collection, docID string, set grantSet) error) error {
	prefix := store.NewKey(space, store.KindGrant).Name(principal)
	it := rd.Scan(store.Prefix(prefix))
	defer it.Close()
	for it.Next() {
		physical, rest, err := store.CutCollection(it.Key()[len(prefix):])
		if err != nil {
			return err
		}
		coll, live := routing.Logical(physical)
		if !live {
			continue
		}
		docID, _, err := store.CutName(rest)
		if err != nil {
			return err
		}
		set, err := decodeGrants(it.Value())
		if err != nil {
			return err
		}
		if err := fn(coll, docID, set); err != nil {
			return err
		}
	}
	return it.Err()
}

// collectionName is how a collection is called, as scope.name.
func (r *Registry) collectionName(coll store.Collection) string {
	for _, c := range r.cfg.Collections {
		if c.ID == coll {
			return c.Scope + "." + c.Name
		}
	}
	return ""
}

// roleGrants are what the user's roles give of one channel: those that count most, and how many others there are.
type roleGrants struct {
	first []Grant
	more  int
}

// roleGrants returns what the user's roles give of the channels asked for.
func (x *explainer) roleGrants(u *User) (map[string]*roleGrants, error) {
	given := map[string]*roleGrants{}
	for _, name := range u.names {
		at := u.rec.roles.grants[name]
		for c, since := range x.of(u.roles[name].live().channels[x.coll].grants) {
			if given[c] == nil {
				given[c] = &roleGrants{}
			}
			g := given[c]
			g.first = append(g.first, Grant{Kind: GrantedByRole, Role: name, Since: max(since, at), RoleSince: at, ChannelSince: since})
		}
	}
	docs := map[string]docGranters{} // of the roles that are named
	for c, g := range given {
		slices.SortFunc(g.first, func(a, b Grant) int {
			return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Role, b.Role))
		})
		g.more = max(0, len(g.first)-maxGrantingRoles)
		g.first = g.first[:len(g.first)-g.more]
		for i := range g.first {
			d := &g.first[i]
			rec := u.roles[d.Role].live()
			if _, ok := docs[d.Role]; !ok {
				var err error
				if docs[d.Role], err = x.documents(roleKey(d.Role), rec.since); err != nil {
					return nil, err
				}
			}
			d.Through, d.MoreThroughDocuments = by(rec.explicit[x.coll], rec.since, docs[d.Role].channels, c)
		}
	}
	return given, nil
}

// of returns the channels asked for that are in g.
func (x *explainer) of(g tidegate.Grants) tidegate.Grants {
	wanted := tidegate.Grants{}
	for c := range x.wanted {
		if at, ok := g[c]; ok {
			wanted[c] = at
		}
	}
	return wanted
}

// by lists the grants that a principal has by itself: an administrator's and those of documents.
func by(explicit tidegate.Grants, since tidegate.Seq, docs map[string]*granters, name string) (grants []Grant, more int) {
	listed, more := docs[name].list()
	grants = slices.Clone(listed)
	if at, ok := explicit[name]; ok {
		g := Grant{Kind: GrantedByAdmin, Since: max(at, since)}
		i, _ := slices.BinarySearchFunc(grants, g, compareGrants)
		grants = slices.Insert(grants, i, g)
	}
	return grants, more
}

// channel explains one channel.
func (x *explainer) channel(u *User, name string, own docGranters, through map[string]*roleGrants) ChannelReach {
	spans := u.ChannelHistory(x.coll, name)
	c := ChannelReach{Channel: name, By: []Grant{}, History: over(spans)}
	if c.Since, c.Held = u.Channels(x.coll)[name]; c.Held {
		c.HeldSince = c.Since
		if last := len(spans) - 1; last >= 0 && spans[last].End == 0 {
			c.HeldSince = min(c.Since, spans[last].Start)
		}
	}
	if name == tidegate.PublicChannel {
		c.By = append(c.By, Grant{Kind: GrantedToAll, Since: 1})
	}
	grants, more := by(u.rec.explicit[x.coll], u.rec.since, own.channels, name)
	c.By, c.MoreDocuments = append(c.By, grants...), more
	if g := through[name]; g != nil {
		c.By, c.MoreRoles = append(c.By, g.first...), g.more
	}
	return c
}

// over returns the periods that have ended.
func over(spans []Span) []Span {
	ended := []Span{}
	for _, s := range spans {
		if s.End != 0 {
			ended = append(ended, s)
		}
	}
	return ended
}

// addRoles lists the roles that the user has or had: those first that have or had one of the channels.
func (x *explainer) addRoles(reach *Reach, docs map[string]*granters) {
	rec := reach.User.rec
	names := slices.Sorted(maps.Keys(reach.User.roles))
	gives := map[string]bool{}
	for _, name := range names {
		gives[name] = x.everGave(reach.User.roles[name])
	}
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case gives[a] == gives[b]:
			return 0
		case gives[a]:
			return -1
		}
		return 1
	})
	reach.MoreRoles = max(0, len(names)-maxExplainedRoles)
	for _, name := range names[:len(names)-reach.MoreRoles] {
		g := RoleReach{Role: name, Exists: reach.User.roles[name].live() != nil, History: over(held(rec.roles, rec.lostRoles, name))}
		g.Since, g.Held = rec.roles.grants[name]
		g.By, g.MoreDocuments = by(rec.explicitRoles, rec.since, docs, name)
		if g.By == nil {
			g.By = []Grant{}
		}
		reach.Roles = append(reach.Roles, g)
	}
}

// everGave reports whether a role has or had one of the channels asked for.
func (x *explainer) everGave(g *role) bool {
	if g.rec == nil {
		return false
	}
	for c := range x.wanted {
		if len(held(g.rec.channels[x.coll], g.rec.lost[x.coll], c)) > 0 {
			return true
		}
	}
	return false
}
