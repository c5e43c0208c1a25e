package access

import (
	"errors"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tidegate/tidegate"
)

// principalBody is the JSON object of a user or role in a request (gateway-rest.md §16.1).
type principalBody struct {
	Name             *string                              `json:"name"`
	AdminChannels    []string                             `json:"admin_channels"`
	CollectionAccess map[string]map[string]collectionBody `json:"collection_access"`

	AllChannels []string   `json:"all_channels"`
	CreatedAt   *time.Time `json:"created_at"`
	UpdatedAt   *time.Time `json:"updated_at"`
}

// collectionBody is the part of a principalBody about one collection. The JWT fields are always empty here.
type collectionBody struct {
	AdminChannels  []string       `json:"admin_channels"`
	AllChannels    []string       `json:"all_channels"`
	JWTChannels    []string       `json:"jwt_channels"`
	JWTLastUpdated jsontext.Value `json:"jwt_last_updated"`
}

// userBody adds what only users have.
type userBody struct {
	principalBody
	Password   *string  `json:"password"`
	Email      *string  `json:"email"`
	Disabled   *bool    `json:"disabled"`
	AdminRoles []string `json:"admin_roles"`

	Roles          []string       `json:"roles"`
	JWTIssuer      string         `json:"jwt_issuer"`
	JWTRoles       []string       `json:"jwt_roles"`
	JWTChannels    []string       `json:"jwt_channels"`
	JWTLastUpdated jsontext.Value `json:"jwt_last_updated"`
}

// ParseUserUpdate reads the body of a request that creates or changes a user. name is "" if the body has
// none. Invalid: it is not such an object, with a reason that never quotes a value.
func ParseUserUpdate(body []byte) (name string, u UserUpdate, err error) {
	var b userBody
	if err := unmarshal(body, &b); err != nil {
		return "", u, err
	}
	u = UserUpdate{
		Email: b.Email, Disabled: b.Disabled, AdminChannels: b.AdminChannels, AdminRoles: b.AdminRoles,
		CollectionAccess: b.collections(), ReadOnly: b.readOnly(),
	}
	if b.Password != nil {
		secret := NewSecret(*b.Password)
		u.Password = &secret
	}
	jwt := b.JWTIssuer != "" || len(b.JWTRoles)+len(b.JWTChannels) > 0 || given(b.JWTLastUpdated)
	if b.Roles != nil || jwt {
		if u.ReadOnly == nil {
			u.ReadOnly = &ReadOnly{}
		}
		u.ReadOnly.Roles, u.ReadOnly.Other = b.Roles, u.ReadOnly.Other || jwt
	}
	return b.name(), u, nil
}

// ParseRoleUpdate is ParseUserUpdate for roles.
func ParseRoleUpdate(body []byte) (name string, u RoleUpdate, err error) {
	var b principalBody
	if err := unmarshal(body, &b); err != nil {
		return "", u, err
	}
	u = RoleUpdate{AdminChannels: b.AdminChannels, CollectionAccess: b.collections(), ReadOnly: b.readOnly()}
	return b.name(), u, nil
}

func (b *principalBody) name() string {
	if b.Name == nil {
		return ""
	}
	return *b.Name
}

// collections returns what the body changes in named collections.
func (b *principalBody) collections() map[string]map[string]CollectionUpdate {
	if b.CollectionAccess == nil {
		return nil
	}
	updates := make(map[string]map[string]CollectionUpdate, len(b.CollectionAccess))
	for scope, collections := range b.CollectionAccess {
		updates[scope] = make(map[string]CollectionUpdate, len(collections))
		for name, c := range collections {
			updates[scope][name] = CollectionUpdate{AdminChannels: c.AdminChannels}
		}
	}
	return updates
}

// readOnly returns the values that cannot be changed, nil if there are none.
func (b *principalBody) readOnly() *ReadOnly {
	o := &ReadOnly{AllChannels: b.AllChannels, CreatedAt: b.CreatedAt, UpdatedAt: b.UpdatedAt}
	any := b.AllChannels != nil || b.CreatedAt != nil || b.UpdatedAt != nil
	for scope, collections := range b.CollectionAccess {
		for name, c := range collections {
			if len(c.JWTChannels) > 0 || given(c.JWTLastUpdated) {
				o.Other, any = true, true
			}
			if c.AllChannels == nil {
				continue
			}
			if o.Collections == nil {
				o.Collections = map[string]map[string][]string{}
			}
			if o.Collections[scope] == nil {
				o.Collections[scope] = map[string][]string{}
			}
			o.Collections[scope][name], any = c.AllChannels, true
		}
	}
	if !any {
		return nil
	}
	return o
}

// given reports whether a value is there and says something: a zero time does not.
func given(v jsontext.Value) bool {
	switch string(v) {
	case "", "null", `""`, `"0001-01-01T00:00:00Z"`:
		return false
	}
	return true
}

// unmarshal reads a JSON object strictly: unknown and duplicate members are refused. The reason of an error
// names the place and never a value, which might be a password.
func unmarshal(body []byte, into any) error {
	err := json.Unmarshal(body, into, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return tidegate.Errorf(tidegate.Invalid, "Bad JSON: duplicate member %s", e.JSONPointer)
		}
		return tidegate.Errorf(tidegate.Invalid, "Bad JSON: syntax error at byte %d", e.ByteOffset)
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		if errors.Is(err, json.ErrUnknownName) {
			return tidegate.Errorf(tidegate.Invalid, "JSON Unknown Field: %s", e.JSONPointer)
		}
		return tidegate.Errorf(tidegate.Invalid, "Bad JSON: wrong type of value at %q", e.JSONPointer)
	}
	return tidegate.Errorf(tidegate.Invalid, "Bad JSON: not an object as expected")
}
