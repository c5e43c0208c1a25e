package access

import (
	"context"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// PutRole creates or changes a role; a deleted one is made again. created tells which. With mustNotExist an
// existing role is Conflict "Already exists". Other errors are Invalid, with the reasons of gateway-rest.md
// §16.1.
func (r *Registry) PutRole(ctx context.Context, name string, u RoleUpdate, mustNotExist bool) (created bool, err error) {
	if err := tidegate.ValidPrincipalName(name); err != nil {
		return false, err
	}
	explicit, err := r.explicitUpdate(u.AdminChannels, u.CollectionAccess)
	if err != nil {
		return false, err
	}
	if u.ReadOnly != nil {
		info, err := r.RoleRecord(ctx, name)
		if err != nil && tidegate.ErrorCode(err) != tidegate.NotFound {
			return false, err
		}
		if err := u.ReadOnly.check(UserInfo{principalInfo: info.principalInfo}); err != nil {
			return false, err
		}
	}
	now := r.now()
	err = r.change(ctx, roleKey(name), func(rec *record) (*edit, error) {
		created = rec == nil || rec.deleted
		if !created && mustNotExist {
			return nil, errAlreadyExists
		}
		e := editOf(rec, now)
		if created {
			e.next.deleted, e.next.created, e.next.since = false, now, 0
			e.newSeq, e.rebuild = true, true
		}
		e.setExplicit(explicit)
		return e, nil
	})
	return created, err
}

// DeleteRole removes a role. It is remembered, so that users who had it learn what they lost, unless purge
// is set, with which also a deleted one can be removed for good. NotFound "missing": there is none.
func (r *Registry) DeleteRole(ctx context.Context, name string, purge bool) error {
	return r.change(ctx, roleKey(name), func(rec *record) (*edit, error) {
		if rec == nil || rec.deleted && !purge {
			return nil, tidegate.ErrMissing
		}
		if purge {
			return &edit{newSeq: true}, nil
		}
		e := editOf(rec, r.now())
		e.next.deleted, e.next.explicit = true, map[store.Collection]tidegate.Grants{}
		e.newSeq, e.rebuild = true, true
		return e, nil
	})
}

// Roles returns the names of all roles in order, on demand with those that were deleted but are remembered.
func (r *Registry) Roles(ctx context.Context, deleted bool) ([]string, error) {
	names := []string{}
	err := r.eachHead(ctx, rolePrefix, func(h head) bool {
		if deleted || !h.deleted {
			names = append(names, h.name)
		}
		return true
	})
	return names, err
}

// RoleRecord returns what there is to tell of a role. NotFound "missing": there is none, or it was deleted.
func (r *Registry) RoleRecord(ctx context.Context, name string) (RoleInfo, error) {
	g, err := r.role(ctx, name)
	if err != nil {
		return RoleInfo{}, err
	}
	rec := g.live()
	if rec == nil {
		return RoleInfo{}, tidegate.ErrMissing
	}
	all := map[store.Collection]tidegate.Grants{0: publicOnly()}
	for coll, own := range rec.channels {
		all[coll] = publicOnly()
		addGrants(all[coll], own.grants)
	}
	return RoleInfo{r.principalInfo(name, rec, all)}, nil
}

// role reads a role, rebuilt if it must be.
func (r *Registry) role(ctx context.Context, name string) (*role, error) {
	v, err := r.assembled(ctx, func(rd store.Reader) (*view, []rebuilt, error) {
		var todo []rebuilt
		rec, err := r.read(rd, roleKey(name), &todo)
		return &view{rec: rec}, todo, err
	})
	if err != nil {
		return nil, err
	}
	return &role{rec: v.rec}, nil
}
