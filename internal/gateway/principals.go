package gateway

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
)

// installPrincipals creates the roles, users and the guest of the config that are missing. It changes none that
// is there (gateway-rest.md §16).
func (g *Gateway) installPrincipals(ctx context.Context, db *database.Database, d *definition) error {
	reg := db.Access()
	file := g.opts.FileDatabases[d.Name]
	if file == nil {
		file = &config.Database{}
	}
	for _, name := range slices.Sorted(maps.Keys(file.Roles)) {
		p := file.Roles[name]
		update := access.RoleUpdate{AdminChannels: p.AdminChannels, CollectionAccess: collectionAccess(p)}
		created, err := reg.PutRole(ctx, name, update, true)
		if err := g.installed(d.Name, "role", name, created, err); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(file.Users)) {
		created, err := reg.PutUser(ctx, name, userUpdate(file.Users[name]), true)
		if err := g.installed(d.Name, "user", name, created, err); err != nil {
			return err
		}
	}
	if d.Config.Guest != nil {
		created, err := reg.PutUser(ctx, tidegate.GuestName, userUpdate(d.Config.Guest), true)
		return g.installed(d.Name, "user", tidegate.GuestName, created, err)
	}
	return nil
}

// installed logs what became of a principal and returns the errors other than that it was there.
func (g *Gateway) installed(db, kind, name string, created bool, err error) error {
	switch {
	case err == nil:
		if created {
			g.log.Info(kind+" created from the config", "database", db, kind, name)
		}
		return nil
	case tidegate.ErrorCode(err) == tidegate.Conflict:
		return nil
	default:
		return fmt.Errorf("create %s %s of the config: %w", kind, name, err)
	}
}

// changeGuest applies a guest that a config change brought. Unlike a restart, which leaves the guest as it is,
// somebody has just asked for this one.
func changeGuest(ctx context.Context, db *database.Database, old, d *definition) error {
	guest := d.Config.Guest
	if guest == nil || reflect.DeepEqual(guest, old.Config.Guest) {
		return nil
	}
	if _, err := db.Access().PutUser(ctx, tidegate.GuestName, userUpdate(guest), false); err != nil {
		return fmt.Errorf("change guest: %w", err)
	}
	return nil
}

// userUpdate is a user of the config as package access takes it.
func userUpdate(p *config.Principal) access.UserUpdate {
	u := access.UserUpdate{
		Disabled: p.Disabled, AdminChannels: p.AdminChannels, AdminRoles: p.AdminRoles, CollectionAccess: collectionAccess(p),
	}
	if password := p.Password.Reveal(); password != "" {
		secret := access.NewSecret(password)
		u.Password = &secret
	}
	if p.Email != "" {
		u.Email = &p.Email
	}
	return u
}

func collectionAccess(p *config.Principal) map[string]map[string]access.CollectionUpdate {
	if p.CollectionAccess == nil {
		return nil
	}
	out := map[string]map[string]access.CollectionUpdate{}
	for scope, colls := range p.CollectionAccess {
		out[scope] = map[string]access.CollectionUpdate{}
		for coll, a := range colls {
			out[scope][coll] = access.CollectionUpdate{AdminChannels: a.AdminChannels}
		}
	}
	return out
}
