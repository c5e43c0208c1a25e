package config

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tidegate/tidegate"
)

// minPasswordBytes is the shortest password that is not empty (gateway-rest.md §16.1); bcrypt takes no more
// than maxPasswordBytes.
const (
	minPasswordBytes = 3
	maxPasswordBytes = 72
)

// checkPrincipals checks users, roles and guest of a file.
func (d *Database) checkPrincipals(c *check) {
	for _, name := range slices.Sorted(maps.Keys(d.Users)) {
		path := join("users", name)
		u := d.Users[name]
		checkPrincipal(c, path, name, u)
		switch password := u.Password.Reveal(); {
		case password == "" && !value(d.AllowEmptyPassword):
			c.fail(path+".password", "a user needs a password unless allow_empty_password is true")
		case password != "" && len(password) < minPasswordBytes:
			c.fail(path+".password", "must have at least %d characters", minPasswordBytes)
		case len(password) > maxPasswordBytes:
			c.fail(path+".password", "must have at most %d bytes", maxPasswordBytes)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Roles)) {
		path := join("roles", name)
		r := d.Roles[name]
		checkPrincipal(c, path, name, r)
		if !r.Password.IsZero() || r.Email != "" || r.Disabled != nil || r.AdminRoles != nil {
			c.fail(path, "a role has only name, admin_channels and collection_access")
		}
	}
	if d.Guest != nil {
		d.checkGuest(c)
	}
}

func (d *Database) checkGuest(c *check) {
	g := d.Guest
	checkPrincipal(c, "guest", tidegate.GuestName, g)
	if !g.Password.IsZero() || g.Email != "" {
		c.fail("guest", "the guest has no password and no email")
	}
	if value(value(d.Unsupported).AllowGuestStar) {
		return
	}
	star := slices.Contains(g.AdminChannels, tidegate.AllChannels)
	for _, scope := range g.CollectionAccess {
		for _, coll := range scope {
			star = star || slices.Contains(coll.AdminChannels, tidegate.AllChannels)
		}
	}
	if star {
		c.fail("guest.admin_channels", `the channel "*" would let anybody read everything; `+
			"if that is what you want set unsupported.allow_guest_star to true")
	}
}

// checkPrincipal checks what users, roles and the guest have in common.
func checkPrincipal(c *check, path, name string, p *Principal) {
	if err := tidegate.ValidPrincipalName(name); err != nil {
		c.fail(path, "%s", tidegate.ErrorReason(err))
	}
	if p.Name != "" && p.Name != name {
		c.fail(path+".name", "the name differs from the key")
	}
	checkChannels(c, path+".admin_channels", p.AdminChannels)
	for i, role := range p.AdminRoles {
		if err := tidegate.ValidPrincipalName(role); err != nil {
			c.fail(fmt.Sprintf("%s.admin_roles[%d]", path, i), "%s", tidegate.ErrorReason(err))
		}
	}
	for scope, colls := range p.CollectionAccess {
		for coll, access := range colls {
			checkChannels(c, join(join(join(path, "collection_access"), scope), coll)+".admin_channels", access.AdminChannels)
		}
	}
}

func checkChannels(c *check, path string, channels []string) {
	for i, ch := range channels {
		if !tidegate.ValidChannelName(ch) {
			c.fail(fmt.Sprintf("%s[%d]", path, i), "Illegal channel name %q", shorten(ch))
		}
	}
}
