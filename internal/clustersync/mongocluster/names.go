package mongocluster

import (
	"regexp"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Names of databases that are never synced (spec §6), and of those that hold the records of a sync (§15.1).
var (
	internalNames    = []string{"admin", "local", "config", "percona_clustersync_mongodb"}
	internalPrefixes = []string{"mongosync_internal_", "mongosync_reserved_for_verification_", "__mdb_internal"}
	metadataPrefixes = []string{"mongosync_internal_", "__mdb_internal_mongosync"}
)

// internal reports whether a database is never synced.
func (c *Cluster) internal(db string) bool {
	return db == c.opts.Database || db == DefaultDatabase || slices.Contains(internalNames, db) || hasPrefix(db, internalPrefixes)
}

// metadata reports whether a database is one in which syncs keep their records.
func (c *Cluster) metadata(db string) bool {
	return db == c.opts.Database || db == DefaultDatabase || hasPrefix(db, metadataPrefixes)
}

// skipped reports whether nothing of a namespace is synced.
func (c *Cluster) skipped(ns clustersync.Namespace) bool {
	return c.internal(ns.Database) || strings.HasPrefix(ns.Collection, "system.") || ns.Collection == "$cmd"
}

// notInternal is what a pipeline asks of ns.db. It must never change for a sync: resume tokens belong to a pipeline (spec §8.1).
func (c *Cluster) notInternal() bson.D {
	var parts []string
	for _, name := range append(slices.Clone(internalNames), DefaultDatabase, c.opts.Database) {
		parts = append(parts, regexp.QuoteMeta(name)+"$")
	}
	for _, prefix := range internalPrefixes {
		parts = append(parts, regexp.QuoteMeta(prefix))
	}
	return bson.D{{Key: "ns.db", Value: bson.D{{Key: "$not", Value: bson.Regex{Pattern: "^(" + strings.Join(parts, "|") + ")"}}}}}
}

func hasPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }
