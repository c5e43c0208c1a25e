package gatewaycluster

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// defaultCollection is the one that a database without scopes has.
const defaultCollection = "_default._default"

// databaseNames lists all databases, ours too.
func (c *Cluster) databaseNames(ctx context.Context) ([]string, error) {
	var names []string
	if err := c.client.get(ctx, "/_all_dbs", nil, &names); err != nil {
		return nil, fmt.Errorf("list databases: %w", err)
	}
	return names, nil
}

// instance is a database as it stands now.
type instance struct {
	UpdateSeq  uint64 `json:"update_seq"`
	ServerUUID string `json:"server_uuid"`
	SyncEpoch  string `json:"sync_epoch"`
	Start      int64  `json:"instance_start_time"`
	State      string `json:"state"`
}

// id tells databases of one name apart: it is another one when the database was deleted and made anew, or emptied.
func (i instance) id() string {
	if i.ServerUUID == "" && i.SyncEpoch == "" {
		return fmt.Sprint(i.Start)
	}
	return i.ServerUUID + "/" + i.SyncEpoch
}

// instance looks at a database. One that is not online, perhaps because it is just being made, changed or deleted, is looked at for a while.
func (c *Cluster) instance(ctx context.Context, db string) (i instance, err error) {
	for try := 0; ; try++ {
		if err := c.client.get(ctx, dbPath(db), nil, &i); err != nil {
			return i, fmt.Errorf("look at database %q: %w", db, err)
		}
		if i.State == "" || i.State == "Online" {
			return i, nil
		}
		if try >= len(c.client.pauses) {
			return i, fmt.Errorf("database %q is %s: %w", db, strings.ToLower(i.State), clustersync.ErrUnreachable)
		}
		if err := pause(ctx, c.client.pauses[try]); err != nil {
			return i, err
		}
	}
}

// collectionUUID names a collection of an instance of a database, in the form of a UUID.
func collectionUUID(instance, collection string) string {
	sum := sha256.Sum256([]byte(instance + "\x00" + collection))
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// config is a database's config, field by field.
type config map[string]json.RawMessage

// scopes are the collections of a config.
type scopes map[string]struct {
	Collections map[string]config `json:"collections"`
}

// getConfig reads a config and its version.
func (c *Cluster) getConfig(ctx context.Context, db string) (cfg config, version string, err error) {
	header, err := c.client.do(ctx, call{method: http.MethodGet, path: dbPath(db) + "_config"}, &cfg)
	if err != nil {
		return nil, "", fmt.Errorf("read the config of database %q: %w", db, err)
	}
	return cfg, header.Get("ETag"), nil
}

// hasScopes reports whether the config names its collections.
func (cfg config) hasScopes() bool {
	raw, ok := cfg["scopes"]
	return ok && string(raw) != "null" && string(raw) != "{}"
}

// scopes reads the collections; a database without scopes has the default collection.
func (cfg config) scopes() (scopes, error) {
	var s scopes
	if cfg.hasScopes() {
		if err := json.Unmarshal(cfg["scopes"], &s); err != nil {
			return nil, fmt.Errorf("decode scopes: %w", err)
		}
	}
	if len(s) > 0 {
		return s, nil
	}
	s = scopes{}
	s.put(defaultCollection, config{})
	return s, nil
}

// put adds a collection "scope.collection".
func (s scopes) put(name string, cfg config) {
	scope, coll, _ := strings.Cut(name, ".")
	in := s[scope]
	in.Collections = maps.Clone(in.Collections)
	if in.Collections == nil {
		in.Collections = map[string]config{}
	}
	in.Collections[coll] = cfg
	s[scope] = in
}

// remove takes a collection out and reports whether it was there.
func (s scopes) remove(name string) bool {
	scope, coll, _ := strings.Cut(name, ".")
	if _, ok := s[scope].Collections[coll]; !ok {
		return false
	}
	delete(s[scope].Collections, coll)
	if len(s[scope].Collections) == 0 {
		delete(s, scope)
	}
	return true
}

// names are the collections, sorted.
func (s scopes) names() []string {
	var out []string
	for scope, in := range s {
		for coll := range in.Collections {
			out = append(out, scope+"."+coll)
		}
	}
	slices.Sort(out)
	return out
}
