package gatewaycluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// configTries bounds how often a config is changed again because somebody else changed it meanwhile.
const configTries = 20

// purgedDocs is how many documents of a dropped collection are purged with one request.
const purgedDocs = 1000

// Create makes the collection, and its database if there is none, with the settings of the source if that is a tidegate, too.
func (c *Cluster) Create(ctx context.Context, coll clustersync.Collection) error {
	if coll.Type != clustersync.Plain && coll.Type != "" {
		return fmt.Errorf("create %s: a %s: %w", coll.Namespace, coll.Type, clustersync.ErrUnsupported)
	}
	defer c.configs.lock(coll.Database)()
	var err error
	for range configTries {
		if err = c.create(ctx, coll); !errors.Is(err, errMoved) {
			break
		}
	}
	if err == nil {
		// One that somebody took out of its database comes back with its documents.
		err = c.empty(ctx, coll.Namespace)
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", coll.Namespace, err)
	}
	return nil
}

// errMoved says that somebody else changed the config, or made the database.
var errMoved = errors.New("the config of the database changes too fast")

func (c *Cluster) create(ctx context.Context, coll clustersync.Collection) error {
	database, own := readOptions(coll.Options)
	cfg, version, err := c.getConfig(ctx, coll.Database)
	if isNotFound(err) {
		return c.createDatabase(ctx, coll, database, own)
	}
	if err != nil {
		return err
	}
	s, err := cfg.scopes()
	if err != nil {
		return err
	}
	if slices.Contains(s.names(), coll.Collection) {
		return clustersync.ErrExists
	}
	added := scopes{}
	if !cfg.hasScopes() {
		added.put(defaultCollection, config{}) // it would go as soon as there are scopes that do not name it
	}
	added.put(coll.Collection, own)
	return c.patch(ctx, coll.Database, version, map[string]any{"scopes": added})
}

// createDatabase makes a database with one collection, blocked if writes are.
func (c *Cluster) createDatabase(ctx context.Context, coll clustersync.Collection, cfg, own config) error {
	if coll.Collection == defaultCollection {
		maps.Copy(cfg, own)
	} else {
		s := scopes{}
		s.put(coll.Collection, own)
		raw, err := json.Marshal(s)
		if err != nil {
			return fmt.Errorf("encode scopes: %w", err)
		}
		cfg["scopes"] = raw
	}
	body, err := json.Marshal(cfg)
	if err != nil {
		return fmt.Errorf("encode the config: %w", err)
	}
	_, err = c.client.do(ctx, call{method: http.MethodPut, path: dbPath(coll.Database), body: body}, nil)
	if isStatus(err, http.StatusPreconditionFailed) {
		return errMoved // it is there by now; so are perhaps its collections
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	blocked := c.blocked
	c.mu.Unlock()
	if blocked && !c.internal(coll.Database) {
		return c.block(ctx, coll.Database, true)
	}
	return nil
}

// patch merges a change into a config, if that is still of that version.
func (c *Cluster) patch(ctx context.Context, db, version string, change map[string]any) error {
	body, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("encode a change of the config: %w", err)
	}
	_, err = c.client.do(ctx, call{method: http.MethodPost, path: dbPath(db) + "_config", body: body, header: http.Header{"If-Match": {version}}}, nil)
	if isStatus(err, http.StatusPreconditionFailed) {
		return errMoved
	}
	return err
}

// Drop empties a collection and takes it out of its database; the last one takes the database with it. A collection that is only taken
// out would come back with its documents.
func (c *Cluster) Drop(ctx context.Context, ns clustersync.Namespace) error {
	defer c.configs.lock(ns.Database)()
	var err error
	for range configTries {
		if err = c.drop(ctx, ns); !errors.Is(err, errMoved) {
			break
		}
	}
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("drop %s: %w", ns, err)
	}
	return nil
}

func (c *Cluster) drop(ctx context.Context, ns clustersync.Namespace) error {
	cfg, version, err := c.getConfig(ctx, ns.Database)
	if err != nil {
		return err
	}
	s, err := cfg.scopes()
	if err != nil || !s.remove(ns.Collection) {
		return err
	}
	if len(s) == 0 {
		_, err := c.client.do(ctx, call{method: http.MethodDelete, path: dbPath(ns.Database), query: url.Values{"purge": {"true"}}}, nil)
		return err
	}
	if err := c.empty(ctx, ns); err != nil {
		return err
	}
	return c.patch(ctx, ns.Database, version, cfg.without(ns.Collection, s))
}

// without is the change that takes a collection out of a config; left is what remains.
func (cfg config) without(name string, left scopes) map[string]any {
	scope, coll, _ := strings.Cut(name, ".")
	change := map[string]any{"scopes": map[string]any{scope: map[string]any{"collections": map[string]any{coll: nil}}}}
	if _, kept := left[scope]; !kept {
		change["scopes"] = map[string]any{scope: nil}
	}
	if name == defaultCollection {
		for _, field := range ownSettings { // the database's are the default collection's
			if _, ok := cfg[field]; ok {
				change[field] = nil
			}
		}
	}
	return change
}

// empty purges all documents of a collection.
func (c *Cluster) empty(ctx context.Context, ns clustersync.Namespace) error {
	for {
		var ids []string
		query := url.Values{"deleted": {"true"}, "limit": {strconv.Itoa(purgedDocs)}}
		err := c.rows(ctx, ns, query, nil, func(r row) error { ids = append(ids, r.ID); return nil })
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return nil
		}
		if err := c.purgeIDs(ctx, ns, ids); err != nil {
			return err
		}
	}
}

// Rename is not to be had.
func (c *Cluster) Rename(_ context.Context, from, to clustersync.Namespace) error {
	return fmt.Errorf("rename %s to %s: collections of tidegate keep their names: %w", from, to, clustersync.ErrUnsupported)
}

// Modify has nothing to change: validators and the like are MongoDB's.
func (c *Cluster) Modify(_ context.Context, ns clustersync.Namespace, _ bson.Raw) error {
	return fmt.Errorf("modify %s: %w", ns, clustersync.ErrUnsupported)
}

// errNoIndexes is why an index is not made.
var errNoIndexes = fmt.Errorf("tidegate has no indexes of its users: %w", clustersync.ErrUnsupported)

// CreateIndexes makes none, and says so each time: whoever asks again, after a crash, must know again.
func (c *Cluster) CreateIndexes(_ context.Context, _ clustersync.Namespace, specs []bson.Raw) ([]clustersync.RefusedIndex, error) {
	refused := make([]clustersync.RefusedIndex, len(specs))
	for i, spec := range specs {
		name, _ := spec.Lookup("name").StringValueOK()
		refused[i] = clustersync.RefusedIndex{Name: name, Err: errNoIndexes}
	}
	return refused, nil
}

// DropIndex has nothing to drop.
func (c *Cluster) DropIndex(context.Context, clustersync.Namespace, string) error { return nil }

// ModifyIndex is not to be had.
func (c *Cluster) ModifyIndex(_ context.Context, ns clustersync.Namespace, name string, _ bson.D) error {
	return fmt.Errorf("modify index %s of %s: %w", name, ns, clustersync.ErrUnsupported)
}
