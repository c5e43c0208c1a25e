package gatewaycluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Limits of a listing.
const (
	listWorkers = 8
	sampleDocs  = 50   // whose size is measured
	countedDocs = 1000 // up to which documents are counted; beyond, they are estimated
)

// sizes are what is known of how large a collection is.
type sizes struct {
	count, bytes int64
}

// List returns the collections of all databases but our own.
func (c *Cluster) List(ctx context.Context) ([]clustersync.Collection, error) {
	names, err := c.databaseNames(ctx)
	if err != nil {
		return nil, err
	}
	lists := make([][]clustersync.Collection, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(listWorkers)
	for i, db := range names {
		if c.internal(db) {
			continue
		}
		g.Go(func() (err error) {
			lists[i], err = c.listDatabase(ctx, db)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(lists...), nil
}

// listDatabase lists one database; nothing if it is gone by now.
func (c *Cluster) listDatabase(ctx context.Context, db string) ([]clustersync.Collection, error) {
	inst, err := c.instance(ctx, db)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cfg, _, err := c.getConfig(ctx, db)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := cfg.scopes()
	if err != nil {
		return nil, fmt.Errorf("database %q: %w", db, err)
	}
	var out []clustersync.Collection
	for _, name := range s.names() {
		coll := clustersync.Collection{
			Ref:  clustersync.Ref{Namespace: clustersync.Namespace{Database: db, Collection: name}, UUID: collectionUUID(inst.id(), name)},
			Type: clustersync.Plain, Options: portableOptions(cfg, s, name),
		}
		size, err := c.sizeOf(ctx, coll.Ref, inst)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		coll.Count, coll.Bytes = size.count, size.bytes
		out = append(out, coll)
	}
	return out, nil
}

// sizeOf estimates how large a collection is: a few documents are measured and some counted.
func (c *Cluster) sizeOf(ctx context.Context, ref clustersync.Ref, inst instance) (sizes, error) {
	c.mu.Lock()
	known, ok := c.sizes[ref.UUID]
	c.mu.Unlock()
	if ok {
		return known, nil
	}
	counted, err := c.countIDs(ctx, ref.Namespace, countedDocs+1)
	if err != nil || counted == 0 {
		return sizes{}, err
	}
	average, err := c.averageBytes(ctx, ref.Namespace)
	if err != nil {
		return sizes{}, err
	}
	if counted > countedDocs {
		counted = max(counted, int64(inst.UpdateSeq)) // no less documents than sequences, as a rule
	}
	return sizes{counted, counted * average}, nil
}

// countIDs counts documents, tombstones too, up to a limit.
func (c *Cluster) countIDs(ctx context.Context, ns clustersync.Namespace, limit int) (n int64, err error) {
	query := url.Values{"deleted": {"true"}, "limit": {strconv.Itoa(limit)}}
	err = c.rows(ctx, ns, query, nil, func(row) error { n++; return nil })
	return n, err
}

// averageBytes measures the first documents of a collection as they are sent, attachments included.
func (c *Cluster) averageBytes(ctx context.Context, ns clustersync.Namespace) (int64, error) {
	var n, total int64
	query := documentQuery()
	query.Set("attachments", "false")
	query.Set("limit", strconv.Itoa(sampleDocs))
	err := c.rows(ctx, ns, query, nil, func(r row) error {
		n++
		total += int64(len(r.Doc)) + r.attached()
		return nil
	})
	return total / max(n, 1), err
}

// portable are the settings of a database that a copy of it has, too: what says how documents are routed, kept and served. What names
// storage, hosts, people or secrets is each deployment's own.
var portable = []string{
	"revs_limit", "allow_conflicts", "import_docs", "import_backup_old_rev", "old_rev_expiry_seconds", "local_doc_expiry_secs",
	"javascript_timeout_secs", "session_cookie_name", "session_cookie_http_only", "allow_empty_password", "send_www_authenticate_header",
	"serve_insecure_attachment_types", "delta_sync", "compact_interval_days", "user_xattr_key", "client_partition_window_secs", "changes_request_plus",
	"disable_public_all_docs", "max_attachment_bytes", "metadata_purge_interval_days", "query_pagination_limit",
}

// ownSettings are those of a collection. The default collection's may stand among the database's.
var ownSettings = []string{"sync", "import_filter"}

// own are the settings of a collection itself.
func (cfg config) own(s scopes, name string) config {
	scope, coll, _ := strings.Cut(name, ".")
	own := config{}
	if name == defaultCollection {
		for _, field := range ownSettings {
			if raw, ok := cfg[field]; ok {
				own[field] = raw
			}
		}
	}
	maps.Copy(own, s[scope].Collections[coll])
	return own
}

// optionPrefix marks, in Collection.Options, settings of the collection itself; the others are the database's.
const optionPrefix = "collection."

// portableOptions are the settings that go along, each as the text of its JSON.
func portableOptions(cfg config, s scopes, name string) bson.Raw {
	var d bson.D
	for _, field := range portable {
		if raw, ok := cfg[field]; ok && string(raw) != "null" {
			d = append(d, bson.E{Key: field, Value: string(raw)})
		}
	}
	own := cfg.own(s, name)
	for _, field := range ownSettings {
		if raw, ok := own[field]; ok && string(raw) != "null" {
			d = append(d, bson.E{Key: optionPrefix + field, Value: string(raw)})
		}
	}
	raw, err := bson.Marshal(d)
	if err != nil { // strings always can be
		return nil
	}
	return raw
}

// readOptions undoes portableOptions. Options of another kind of cluster mean nothing.
func readOptions(options bson.Raw) (database, collection config) {
	database, collection = config{}, config{}
	elements, _ := options.Elements()
	for _, e := range elements {
		text, ok := e.Value().StringValueOK()
		if !ok || !json.Valid([]byte(text)) {
			continue
		}
		if field, own := strings.CutPrefix(e.Key(), optionPrefix); own {
			if slices.Contains(ownSettings, field) {
				collection[field] = json.RawMessage(text)
			}
		} else if slices.Contains(portable, e.Key()) {
			database[e.Key()] = json.RawMessage(text)
		}
	}
	return database, collection
}
