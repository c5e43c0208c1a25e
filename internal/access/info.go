package access

import (
	"context"
	"maps"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// UserInfo is what an administrator is told of a user (gateway-rest.md §16.1). It marshals to the JSON
// object of the wire, and holds no secret.
type UserInfo struct {
	principalInfo
	Email      string   `json:"email"`
	Disabled   bool     `json:"disabled"`
	AdminRoles []string `json:"admin_roles,omitempty"`
	Roles      []string `json:"roles,omitempty"` // explicit and granted, whether they exist or not
}

// RoleInfo is what an administrator is told of a role.
type RoleInfo struct{ principalInfo }

// principalInfo is what users and roles have in common.
type principalInfo struct {
	Name             string                               `json:"name"`
	AdminChannels    []string                             `json:"admin_channels,omitempty"`
	AllChannels      []string                             `json:"all_channels,omitempty"`
	CollectionAccess map[string]map[string]CollectionInfo `json:"collection_access,omitempty"`
	CreatedAt        time.Time                            `json:"created_at,omitzero"`
	UpdatedAt        time.Time                            `json:"updated_at,omitzero"`
}

// CollectionInfo is what an administrator is told of a principal in a named collection.
type CollectionInfo struct {
	AdminChannels []string `json:"admin_channels,omitempty"`
	AllChannels   []string `json:"all_channels,omitempty"`
}

// AppendJSON appends the JSON object of the wire.
func (i UserInfo) AppendJSON(b []byte) []byte { return appendJSON(b, i) }

// AppendJSON appends the JSON object of the wire.
func (i RoleInfo) AppendJSON(b []byte) []byte { return appendJSON(b, i) }

func appendJSON(b []byte, v any) []byte {
	j, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic(err) // only strings, booleans and times: cannot be
	}
	return append(b, j...)
}

// UserRecord returns what there is to tell of a user, disabled or not; "" or GUEST is the guest. NotFound
// "missing": there is none.
func (r *Registry) UserRecord(ctx context.Context, name string) (UserInfo, error) {
	name = userKey(name)[len(userPrefix):]
	u, err := r.user(ctx, name)
	if err != nil {
		return UserInfo{}, err
	}
	if name == "" {
		name = tidegate.GuestName
	}
	return UserInfo{
		principalInfo: r.principalInfo(name, u.rec, u.channels),
		Email:         u.Email(),
		Disabled:      u.Disabled(),
		AdminRoles:    sortedNames(u.rec.explicitRoles),
		Roles:         sortedNames(u.rec.roles.grants),
	}, nil
}

func (r *Registry) principalInfo(name string, rec *record, all map[store.Collection]tidegate.Grants) principalInfo {
	info := principalInfo{
		Name: name, AdminChannels: sortedNames(rec.explicit[0]), AllChannels: sortedNames(all[0]),
		CreatedAt: rec.created, UpdatedAt: rec.updated,
	}
	for _, c := range r.cfg.Collections {
		if c.ID == 0 {
			continue
		}
		if info.CollectionAccess == nil {
			info.CollectionAccess = map[string]map[string]CollectionInfo{}
		}
		if info.CollectionAccess[c.Scope] == nil {
			info.CollectionAccess[c.Scope] = map[string]CollectionInfo{}
		}
		channels := all[c.ID]
		if channels == nil {
			channels = publicOnly()
		}
		info.CollectionAccess[c.Scope][c.Name] = CollectionInfo{
			AdminChannels: sortedNames(rec.explicit[c.ID]), AllChannels: sortedNames(channels),
		}
	}
	return info
}

// ReadOnly are values of a principal that a client may send back as it got them but not change.
type ReadOnly struct {
	AllChannels []string // nil: not sent; so for the others
	Roles       []string
	Collections map[string]map[string][]string // all_channels by scope and collection
	CreatedAt   *time.Time
	UpdatedAt   *time.Time
	Other       bool // something was sent that no principal has here
}

// check returns Invalid if a value differs from what the principal has now; info is empty for a new one.
func (o *ReadOnly) check(info UserInfo) error {
	if o.AllChannels != nil && !sameNames(o.AllChannels, info.AllChannels) {
		return tidegate.Errorf(tidegate.Invalid, "all_channels is read-only")
	}
	for scope, collections := range o.Collections {
		for name, channels := range collections {
			if !sameNames(channels, info.CollectionAccess[scope][name].AllChannels) {
				return tidegate.Errorf(tidegate.Invalid, "all_channels is read-only")
			}
		}
	}
	if o.Roles != nil && !sameNames(o.Roles, info.Roles) {
		return tidegate.Errorf(tidegate.Invalid, "roles is read-only")
	}
	if o.Other || o.CreatedAt != nil && !o.CreatedAt.Equal(info.CreatedAt) ||
		o.UpdatedAt != nil && !o.UpdatedAt.Equal(info.UpdatedAt) {
		return tidegate.Errorf(tidegate.Invalid, "Can't change read-only properties")
	}
	return nil
}

// sameNames compares two lists as sets. The channel that everybody has does not count.
func sameNames(a, b []string) bool {
	set := func(names []string) map[string]bool {
		m := make(map[string]bool, len(names))
		for _, n := range names {
			if n != tidegate.PublicChannel {
				m[n] = true
			}
		}
		return m
	}
	return maps.Equal(set(a), set(b))
}
