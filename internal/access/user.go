package access

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// User is a principal that logs in, or the guest, as it stood at one moment. It is immutable and safe for
// concurrent use; maps and slices that its methods return must not be changed.
type User struct {
	name  string // "" is the guest
	rec   *record
	roles map[string]*role // those it has, and those it lost and may still have to answer for

	channels map[store.Collection]tidegate.Grants // effective
	names    []string                             // of the roles that exist

	stale atomic.Bool // the cache no longer stands by it

	switched uint32
}

// role is a role as it stood at one moment, shared by the users that have it.
type role struct {
	rec   *record // nil: there is none of that name
	stale atomic.Bool
}

// live returns the role's record if the role exists and is not deleted, else nil.
func (g *role) live() *record {
	if g == nil || g.rec == nil || g.rec.deleted {
		return nil
	}
	return g.rec
}

// publicOnly is what everybody has in every collection (sync-function.md §7).
func publicOnly() tidegate.Grants { return tidegate.Grants{tidegate.PublicChannel: 1} }

// newUser makes the snapshot of a user from its record and the roles it names.
func newUser(name string, rec *record, roles map[string]*role, guestStar bool) *User {
	u := &User{name: name, rec: rec, roles: roles, channels: map[store.Collection]tidegate.Grants{0: publicOnly()}}
	for coll, own := range rec.channels {
		addGrants(u.all(coll), own.grants)
	}
	for roleName, at := range rec.roles.grants {
		g := roles[roleName].live()
		if g == nil {
			continue
		}
		u.names = append(u.names, roleName)
		for coll, own := range g.channels {
			all := u.all(coll)
			for channel, since := range own.grants {
				all.Add(channel, max(since, at))
			}
		}
	}
	slices.Sort(u.names)
	if u.IsGuest() && !guestStar {
		for _, all := range u.channels {
			delete(all, tidegate.AllChannels)
		}
	}
	return u
}

// all returns the map of effective channels of a collection while u is being made.
func (u *User) all(coll store.Collection) tidegate.Grants {
	g := u.channels[coll]
	if g == nil {
		g = publicOnly()
		u.channels[coll] = g
	}
	return g
}

// fresh reports whether the cache still stands by u and all it was made from.
func (u *User) fresh() bool {
	if u.stale.Load() {
		return false
	}
	for _, g := range u.roles {
		if g.stale.Load() {
			return false
		}
	}
	return true
}

// weight is what u weighs in the cache; its roles weigh in their own.
func (u *User) weight() int {
	n := u.rec.size() + len(u.roles)
	for _, g := range u.channels {
		n += len(g)
	}
	return n
}

// PrincipalName returns the user's name, "" for the guest.
func (u *User) PrincipalName() string { return u.name }

// IsGuest reports whether u is the guest.
func (u *User) IsGuest() bool { return u.name == "" }

// Disabled reports whether u may not log in.
func (u *User) Disabled() bool { return u.rec.disabled }

// LoginMark identifies the logins of the user that are good now: a new password, disabling, the end of all its
// sessions, and deleting the user and making it again each give another one.
func (u *User) LoginMark() uint64 { return u.rec.sessions }

// LastSwitch is that of store.Routing when the user was read: what documents grant to it is as of that online resync.
func (u *User) LastSwitch() uint32 { return u.switched }

// Email returns the user's address, "" if none is known.
func (u *User) Email() string { return u.rec.email }

// CreatedAt returns when the user was made; zero for a guest that was never configured.
func (u *User) CreatedAt() time.Time { return u.rec.created }

// UpdatedAt returns when an administrator last changed the user.
func (u *User) UpdatedAt() time.Time { return u.rec.updated }

// Sequence returns the sequence of the last change of the user's explicit channels or roles; 0 if there was
// none.
func (u *User) Sequence() tidegate.Seq { return u.rec.seq }

// RoleNames returns the roles that the user has and that exist, in order.
func (u *User) RoleNames() []string { return u.names }

// Channels returns every channel the user has in a collection, by itself, through roles, or because
// everybody has it, with the sequence since which it has it.
func (u *User) Channels(coll store.Collection) tidegate.Grants {
	if g, ok := u.channels[coll]; ok {
		return g
	}
	return publicOnly()
}

// Revoked returns the channels that the user does not have and lost after since, with the sequence of the
// latest loss (sync-function.md §6). A user with "*" has lost nothing.
//
// A channel of a role counts only while the user had the role.
func (u *User) Revoked(coll store.Collection, since tidegate.Seq) tidegate.Grants {
	all := u.Channels(coll)
	if _, ok := all[tidegate.AllChannels]; ok {
		return nil
	}
	var revoked tidegate.Grants
	for channel := range u.lostAfter(coll, since) {
		if _, ok := all[channel]; ok {
			continue
		}
		spans := u.ChannelHistory(coll, channel)
		if len(spans) == 0 {
			continue
		}
		if end := spans[len(spans)-1].End; end > since {
			if revoked == nil {
				revoked = tidegate.Grants{}
			}
			revoked[channel] = end
		}
	}
	return revoked
}

// lostAfter returns the channels that Revoked has to look at: no channel lost after since is missing.
func (u *User) lostAfter(coll store.Collection, since tidegate.Seq) map[string]struct{} {
	candidates := map[string]struct{}{}
	add := func(h history) {
		for channel, l := range h {
			if l.end() > since {
				candidates[channel] = struct{}{}
			}
		}
	}
	add(u.rec.lost[coll])
	for name, g := range u.roles {
		if g.rec == nil {
			continue
		}
		add(g.rec.lost[coll])
		if u.rec.lostRoles[name].end() > since {
			for channel := range g.rec.channels[coll].grants {
				candidates[channel] = struct{}{}
			}
		}
	}
	return candidates
}

// ChannelHistory returns when the user had a channel, by itself or through a role, oldest first. If it has
// it now, the last period has End 0. What happened before the history window is not known.
func (u *User) ChannelHistory(coll store.Collection, channel string) []Span {
	if channel == tidegate.PublicChannel {
		return []Span{{Start: 1}}
	}
	spans := held(u.rec.channels[coll], u.rec.lost[coll], channel)
	for name, g := range u.roles {
		if g.rec == nil {
			continue
		}
		if in := held(g.rec.channels[coll], g.rec.lost[coll], channel); len(in) > 0 {
			spans = append(spans, intersect(in, held(u.rec.roles, u.rec.lostRoles, name))...)
		}
	}
	return unite(spans)
}

// held returns when a name was and is held, oldest first.
func held(now holding, past history, name string) []Span {
	spans := slices.Clone(past[name].spans)
	if _, ok := now.grants[name]; ok {
		spans = append(spans, Span{Start: now.heldSince(name)})
	}
	return spans
}

// roleNames returns all roles that a user's snapshot is made from, each once.
func (rec *record) roleNames() []string {
	names := slices.Collect(maps.Keys(rec.roles.grants))
	for name := range rec.lostRoles {
		if _, ok := rec.roles.grants[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}
