package access

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Principals are named by their kind: "user:bob", "role:r". The guest is "user:", since a sync function
// could otherwise grant it channels under the name of a user that nobody can create.
const (
	userPrefix = "user:"
	rolePrefix = "role:"
	guestKey   = userPrefix
)

// userKey names a user; "" and GUEST are the guest.
func userKey(name string) string {
	if name == tidegate.GuestName {
		name = ""
	}
	return userPrefix + name
}

func roleKey(name string) string { return rolePrefix + name }

// record is what is stored of a principal.
type record struct {
	deleted  bool   // a role that was deleted but is remembered for its history
	disabled bool   // a user that may not log in
	email    string // "" if none
	hash     []byte // of the password; nil if none
	// sessions is drawn anew to end all sessions: a session is good only with the value it was made under.
	sessions uint64

	created, updated time.Time
	seq              tidegate.Seq // of the last change of the explicit channels or roles
	// since is the sequence at which a role was made, or made again after a deletion. What documents granted
	// it before counts as granted then, or users of the role would miss the backfill. 0 for users: a device
	// of a user begins at 0 anyway.
	since tidegate.Seq

	explicit      map[store.Collection]tidegate.Grants // admin_channels
	explicitRoles tidegate.Grants                      // admin_roles

	// What the principal has by itself: explicit, and granted by documents; computed by rebuild.
	channels map[store.Collection]holding
	roles    holding

	lost      map[store.Collection]history
	lostRoles history
}

// holding are names that a principal has, each with the sequence since which it counts as granted.
type holding struct {
	grants tidegate.Grants
	// earlier holds, for some names, since when the principal had it without a break, if that was before
	// the sequence in grants: the oldest of several grants went away and a younger one stayed
	// (sync-function.md §11, vector 11). Revocations ask for it.
	earlier tidegate.Grants
}

// heldSince returns since when the name has been held without a break.
func (h holding) heldSince(name string) tidegate.Seq {
	if at, ok := h.earlier[name]; ok {
		return at
	}
	return h.grants[name]
}

// newRecord is a user or role that was just made.
func newRecord(now time.Time) *record {
	return &record{
		created: now, updated: now,
		explicit: map[store.Collection]tidegate.Grants{},
		channels: map[store.Collection]holding{},
		lost:     map[store.Collection]history{},
	}
}

// clone returns a copy whose explicit grants can be changed; the computed parts are shared, since they are
// only ever replaced.
func (rec *record) clone() *record {
	c := *rec
	c.explicit = maps.Clone(rec.explicit)
	return &c
}

// size is how many names the record holds, which is what a cached copy weighs.
func (rec *record) size() int {
	n := 1 + len(rec.roles.grants) + len(rec.lostRoles)
	for _, h := range rec.channels {
		n += len(h.grants)
	}
	for _, h := range rec.lost {
		n += len(h)
	}
	return n
}

// isRole tells by the principal's name.
func isRole(principal string) bool { return strings.HasPrefix(principal, rolePrefix) }

// sortedNames returns the names of grants in order.
func sortedNames(g tidegate.Grants) []string { return slices.Sorted(maps.Keys(g)) }

// Keys of rows.

func principalRow(space store.Space, principal string) store.Key {
	return store.NewKey(space, store.KindPrincipal).Name(principal)
}

func invalidRow(space store.Space, principal string) store.Key {
	return store.NewKey(space, store.KindInvalid).Name(principal)
}

func grantRow(space store.Space, principal string, coll store.Collection, docID string) store.Key {
	return store.NewKey(space, store.KindGrant).Name(principal).Collection(coll).Name(docID)
}

func sessionRow(space store.Space, hash [32]byte) store.Key {
	return store.NewKey(space, store.KindSession).Name(string(hash[:]))
}
