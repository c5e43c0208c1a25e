package access

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// UserUpdate is a change of a user, or of the guest. A nil field leaves what is there; an empty list clears.
type UserUpdate struct {
	Password *Secret // "" takes the password away, where that is allowed
	Email    *string // one that does not look like an address is ignored with a warning
	Disabled *bool
	// AdminChannels are the explicit channels in the default collection.
	AdminChannels []string
	AdminRoles    []string
	// CollectionAccess are the explicit channels in named collections: scope → collection.
	CollectionAccess map[string]map[string]CollectionUpdate
	// ReadOnly are values that a client may send back but not change; nil: none were sent.
	ReadOnly *ReadOnly
}

// CollectionUpdate is the part of an update about one collection.
type CollectionUpdate struct{ AdminChannels []string }

// RoleUpdate is a change of a role. A nil field leaves what is there; an empty list clears.
type RoleUpdate struct {
	AdminChannels    []string
	CollectionAccess map[string]map[string]CollectionUpdate
	ReadOnly         *ReadOnly
}

// now is the time that is stored.
func (r *Registry) now() time.Time { return r.cfg.Now().UTC().Truncate(time.Millisecond) }

// PutUser creates or changes a user; "" or GUEST is the guest, which is always there. created tells which.
// With mustNotExist an existing user is Conflict "Already exists".
//
// Channels and roles that are new get the sequence of this change; those no longer listed are lost by it. A
// new password, and disabling, end the user's sessions. Other errors are Invalid, with the reasons of
// gateway-rest.md §16.1.
func (r *Registry) PutUser(ctx context.Context, name string, u UserUpdate, mustNotExist bool) (created bool, err error) {
	principal := userKey(name)
	if principal != guestKey {
		if err := tidegate.ValidPrincipalName(name); err != nil {
			return false, err
		}
	}
	explicit, err := r.explicitUpdate(u.AdminChannels, u.CollectionAccess)
	if err != nil {
		return false, err
	}
	if err := r.checkUser(ctx, principal, u, explicit, mustNotExist); err != nil {
		return false, err
	}
	var hash []byte
	if u.Password != nil && u.Password.Reveal() != "" {
		if hash, err = r.passwords.hash(ctx, u.Password.Reveal()); err != nil {
			return false, err
		}
	}
	email := r.email(name, u.Email)
	now, sessions := r.now(), newSessionsValue()
	err = r.change(ctx, principal, func(rec *record) (*edit, error) {
		created = rec == nil
		if !created && mustNotExist {
			return nil, errAlreadyExists
		}
		e := editOf(rec, now)
		if created {
			if err := r.checkPassword(u, created, principal); err != nil {
				return nil, err
			}
			e.next.sessions, e.next.disabled, e.rebuild = sessions, principal == guestKey, true
		}
		if email != nil {
			e.next.email = *email
		}
		if u.Password != nil {
			e.next.hash, e.next.sessions = hash, sessions
		}
		if u.Disabled != nil {
			e.next.disabled = *u.Disabled
			if *u.Disabled {
				e.next.sessions = sessions
			}
		}
		e.setExplicit(explicit)
		e.setRoles(u.AdminRoles)
		return e, nil
	})
	return created && principal != guestKey, err
}

var errAlreadyExists = tidegate.Errorf(tidegate.Conflict, "Already exists")

// editOf begins the change of a record; nil: of a new one.
func editOf(rec *record, now time.Time) *edit {
	if rec == nil {
		return &edit{next: newRecord(now)}
	}
	e := &edit{next: rec.clone()}
	e.next.updated = now
	return e
}

// setExplicit makes the channels the explicit ones of their collections.
func (e *edit) setExplicit(explicit map[store.Collection][]string) {
	for coll, names := range explicit {
		g, changed := replace(e.next.explicit[coll], names)
		if !changed {
			continue
		}
		e.next.explicit[coll] = g
		if len(g) == 0 {
			delete(e.next.explicit, coll)
		}
		e.newSeq, e.rebuild = true, true
	}
}

// setRoles makes the roles the explicit ones; nil leaves them.
func (e *edit) setRoles(names []string) {
	if g, changed := replace(e.next.explicitRoles, names); changed {
		e.next.explicitRoles, e.newSeq, e.rebuild = g, true, true
	}
}

// checkUser checks what can be checked of an update before its password is hashed.
func (r *Registry) checkUser(ctx context.Context, principal string, u UserUpdate, explicit map[store.Collection][]string, mustNotExist bool) error {
	for _, role := range u.AdminRoles {
		if err := tidegate.ValidPrincipalName(role); err != nil {
			return err
		}
	}
	if principal == guestKey {
		if u.Password != nil && u.Password.Reveal() != "" {
			return tidegate.Errorf(tidegate.Invalid, "The guest cannot have a password")
		}
		if !r.cfg.AllowGuestStar && anyHas(explicit, tidegate.AllChannels) {
			return tidegate.Errorf(tidegate.Invalid,
				`The guest may have the channel "*" only with unsupported.allow_guest_star`)
		}
	}
	rec, err := r.peek(ctx, principal)
	if err != nil {
		return err
	}
	if rec != nil && mustNotExist {
		return errAlreadyExists
	}
	if u.ReadOnly != nil {
		info, err := r.UserRecord(ctx, principal[len(userPrefix):])
		if err != nil && !errors.Is(err, errNoUser) {
			return err
		}
		if err := u.ReadOnly.check(info); err != nil {
			return err
		}
	}
	return r.checkPassword(u, rec == nil, principal)
}

func anyHas(explicit map[store.Collection][]string, channel string) bool {
	for _, names := range explicit {
		if slices.Contains(names, channel) {
			return true
		}
	}
	return false
}

// checkPassword checks the password of an update: of a new user there must be one.
func (r *Registry) checkPassword(u UserUpdate, created bool, principal string) error {
	what := "Error updating user/role: "
	if created {
		what = "Error creating user: "
	}
	switch {
	case principal == guestKey || u.Password == nil && !created:
		return nil
	case u.Password == nil || u.Password.Reveal() == "":
		if !r.cfg.AllowEmptyPassword {
			return tidegate.Errorf(tidegate.Invalid, "%sthe password is missing", what)
		}
	case utf8.RuneCountInString(u.Password.Reveal()) < minPasswordLength:
		return tidegate.Errorf(tidegate.Invalid, "%sthe password needs at least %d characters", what, minPasswordLength)
	}
	return nil
}

var addressForm = regexp.MustCompile(`^[^@\s]+@[^@\s]+\.[^@\s]+$`)

// email returns the address to set; nil for none.
func (r *Registry) email(name string, address *string) *string {
	if address == nil || *address == "" || addressForm.MatchString(*address) {
		return address
	}
	r.cfg.Logger.Warn("an email that does not look like one was ignored", "user", name)
	return nil
}

// explicitUpdate returns the explicit channels of an update by collection, checked.
func (r *Registry) explicitUpdate(channels []string, named map[string]map[string]CollectionUpdate) (map[store.Collection][]string, error) {
	explicit := map[store.Collection][]string{}
	if channels != nil {
		explicit[0] = channels
	}
	for scope, collections := range named {
		for name, c := range collections {
			id, ok := r.collection(scope, name)
			if !ok {
				return nil, tidegate.Errorf(tidegate.Invalid, "Unknown collection %q in collection_access", scope+"."+name)
			}
			if c.AdminChannels == nil {
				continue
			}
			if _, twice := explicit[id]; twice {
				return nil, tidegate.Errorf(tidegate.Invalid, "admin_channels of the default collection are given twice")
			}
			explicit[id] = c.AdminChannels
		}
	}
	for _, names := range explicit {
		for _, channel := range names {
			if !tidegate.ValidChannelName(channel) {
				return nil, tidegate.Errorf(tidegate.Invalid, "Illegal channel name %q", channel)
			}
		}
	}
	return explicit, nil
}

// collection returns the number of a collection.
func (r *Registry) collection(scope, name string) (store.Collection, bool) {
	for _, c := range r.cfg.Collections {
		if c.Scope == scope && c.Name == name {
			return c.ID, true
		}
	}
	return 0, scope == "_default" && name == "_default"
}

// DeleteUser removes a user; its feeds and sessions end. NotFound "missing": there is none. NotAllowed: it
// is the guest.
func (r *Registry) DeleteUser(ctx context.Context, name string) error {
	if userKey(name) == guestKey {
		return tidegate.Errorf(tidegate.NotAllowed, "The guest cannot be deleted, only disabled")
	}
	return r.change(ctx, userKey(name), func(rec *record) (*edit, error) {
		if rec == nil {
			return nil, errNoUser
		}
		return &edit{}, nil
	})
}

// Users returns the names of all users in order, without the guest.
func (r *Registry) Users(ctx context.Context) ([]string, error) {
	names := []string{}
	err := r.eachHead(ctx, userPrefix, func(h head) bool {
		names = append(names, h.name)
		return true
	})
	return names, err
}

// UserSummary is what a listing tells of a user.
type UserSummary struct {
	Name     string `json:"name"`
	Email    string `json:"email"`
	Disabled bool   `json:"disabled"`
}

// UserList returns the first users in order, without the guest, at most limit; 0: all.
func (r *Registry) UserList(ctx context.Context, limit int) ([]UserSummary, error) {
	list := []UserSummary{}
	err := r.eachHead(ctx, userPrefix, func(h head) bool {
		list = append(list, UserSummary{Name: h.name, Email: h.email, Disabled: h.disabled})
		return limit <= 0 || len(list) < limit
	})
	return list, err
}

// head is the beginning of a record.
type head struct {
	name, email       string
	deleted, disabled bool
}

// eachHead calls f with the head of each principal of a kind, in order of name, until it returns false.
func (r *Registry) eachHead(ctx context.Context, kind string, f func(head) bool) error {
	prefix := store.NewKey(r.cfg.Space, store.KindPrincipal)
	return r.cfg.Store.View(ctx, func(rd store.Reader) error {
		it := rd.Scan(store.Prefix(append(prefix, kind...)))
		defer it.Close()
		for it.Next() {
			principal, _, err := store.CutName(it.Key()[store.Header:])
			if err != nil {
				return err
			}
			v := reader{b: it.Value()}
			v.version(recordVersion)
			flags := v.byte()
			h := head{name: principal[len(kind):], email: v.text()}
			h.deleted, h.disabled = flags&flagDeleted != 0, flags&flagDisabled != 0
			if v.bad {
				return tidegate.Errorf(tidegate.Corrupt, "a stored principal does not make sense")
			}
			if principal != guestKey && !f(h) {
				return nil
			}
		}
		return it.Err()
	})
}

// peek returns a principal's record as it is stored; nil if there is none.
func (r *Registry) peek(ctx context.Context, principal string) (rec *record, err error) {
	err = r.cfg.Store.View(ctx, func(rd store.Reader) error {
		b, err := rd.Get(principalRow(r.cfg.Space, principal))
		if err != nil || b == nil {
			return err
		}
		rec, err = decodeRecord(b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read principal: %w", err)
	}
	return rec, nil
}
