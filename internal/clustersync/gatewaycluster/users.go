package gatewaycluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// UsersReport says what CopyUsers did, by database.
type UsersReport struct {
	Roles    int      // made or changed
	Users    int      // made, all of them disabled
	Existing []string // "database/user" that were there and were left alone
}

// maxExisting bounds the names in a report.
const maxExisting = 1000

// principalFields are what is copied of a principal: what an administrator gave it. What documents grant follows from the documents.
var principalFields = []string{"admin_channels", "admin_roles", "collection_access", "email"}

// CopyUsers makes the roles and users of another cluster here, in those databases that both have. Passwords do not go along: a gateway gives
// away neither them nor their hashes. So each user that is made is disabled, with a password that nobody knows, and can log in only after an
// administrator has set a new one and enabled it (PUT /{db}/_user/{name} {"password": …, "disabled": false}). Sessions do not go along, nor does the
// guest, whose access is part of each deployment's security. A user that is there already is left alone; a role is changed.
func (c *Cluster) CopyUsers(ctx context.Context, from *Cluster) (UsersReport, error) {
	var report UsersReport
	theirs, err := from.databaseNames(ctx)
	if err != nil {
		return report, fmt.Errorf("copy users: %w", err)
	}
	ours, err := c.databaseNames(ctx)
	if err != nil {
		return report, fmt.Errorf("copy users: %w", err)
	}
	have := map[string]bool{}
	for _, db := range ours {
		have[db] = true
	}
	for _, db := range theirs {
		if from.internal(db) || !have[db] {
			continue
		}
		if err := c.copyRoles(ctx, from, db, &report); err != nil {
			return report, fmt.Errorf("copy roles of database %q: %w", db, err)
		}
		if err := c.copyUsers(ctx, from, db, &report); err != nil {
			return report, fmt.Errorf("copy users of database %q: %w", db, err)
		}
	}
	return report, nil
}

func (c *Cluster) copyRoles(ctx context.Context, from *Cluster, db string, report *UsersReport) error {
	return from.eachPrincipal(ctx, db, "_role", func(name string, p config) error {
		report.Roles++
		return c.putPrincipal(ctx, db, "_role", name, p)
	})
}

func (c *Cluster) copyUsers(ctx context.Context, from *Cluster, db string, report *UsersReport) error {
	return from.eachPrincipal(ctx, db, "_user", func(name string, p config) error {
		err := c.client.get(ctx, dbPath(db)+"_user/"+url.PathEscape(name), nil, nil)
		switch {
		case err == nil:
			if len(report.Existing) < maxExisting {
				report.Existing = append(report.Existing, db+"/"+name)
			}
			return nil
		case !isNotFound(err):
			return err
		}
		report.Users++
		p["password"] = rawString(rand.Text() + rand.Text())
		p["disabled"] = json.RawMessage("true")
		return c.putPrincipal(ctx, db, "_user", name, p)
	})
}

// eachPrincipal calls fn with the fields of each user or role that are copied.
func (c *Cluster) eachPrincipal(ctx context.Context, db, kind string, fn func(name string, p config) error) error {
	var names []string
	if err := c.client.get(ctx, dbPath(db)+kind+"/", nil, &names); err != nil {
		return err
	}
	for _, name := range names {
		var whole config
		err := c.client.get(ctx, dbPath(db)+kind+"/"+url.PathEscape(name), nil, &whole)
		if isNotFound(err) {
			continue // it is gone by now
		}
		if err != nil {
			return err
		}
		p, err := copied(whole)
		if err != nil {
			return fmt.Errorf("%s %q: %w", kind, name, err)
		}
		if err := fn(name, p); err != nil {
			return err
		}
	}
	return nil
}

// copied are the fields of a principal that are copied. Those of collections come with what is computed, which may not be written.
func copied(whole config) (config, error) {
	p := config{}
	for _, field := range principalFields {
		if raw, ok := whole[field]; ok && string(raw) != `""` {
			p[field] = raw
		}
	}
	raw, ok := p["collection_access"]
	if !ok {
		return p, nil
	}
	var access map[string]map[string]config
	if err := json.Unmarshal(raw, &access); err != nil {
		return nil, fmt.Errorf("decode collection_access: %w", err)
	}
	for _, colls := range access {
		for name, of := range colls {
			colls[name] = config{}
			if channels, ok := of["admin_channels"]; ok {
				colls[name]["admin_channels"] = channels
			}
		}
	}
	var err error
	p["collection_access"], err = json.Marshal(access)
	return p, err
}

func (c *Cluster) putPrincipal(ctx context.Context, db, kind, name string, p config) error {
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode %s %q: %w", kind, name, err)
	}
	_, err = c.client.do(ctx, call{method: http.MethodPut, path: dbPath(db) + kind + "/" + url.PathEscape(name), body: body}, nil)
	if err != nil && errors.Is(err, clustersync.ErrUnauthorized) {
		return fmt.Errorf("write %s %q: %w", kind, name, err)
	}
	return err
}
