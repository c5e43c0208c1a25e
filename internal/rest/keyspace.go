package rest

import (
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
)

// keyspace is what the first segment of a path names: a database, and in it a collection
// (gateway-rest.md §2).
type keyspace struct {
	text       string // as the client wrote it, for error texts
	db         string
	scope      string // "" if not given: the only scope there is
	collection string // "" if not given: the default collection
}

// parseKeyspace reads db, db.collection or db.scope.collection.
func parseKeyspace(s string) (keyspace, error) {
	ks := keyspace{text: s}
	if strings.IndexByte(s, '.') < 0 {
		ks.db = s
		return ks, nil
	}
	parts := strings.Split(s, ".")
	bad := len(parts) > 3
	for _, p := range parts {
		bad = bad || p == ""
	}
	if bad {
		return ks, tidegate.Errorf(tidegate.Invalid, "unknown keyspace format: %q - expected 1-3 fields", s)
	}
	ks.db, ks.collection = parts[0], parts[len(parts)-1]
	if len(parts) == 3 {
		ks.scope = parts[1]
	}
	return ks, nil
}

// isDefault reports whether the keyspace is the default collection, by whatever name.
func (ks keyspace) isDefault(cfg *config.Database) bool {
	if ks.collection == "" {
		return true
	}
	_, named := cfg.Scopes[config.DefaultName]
	only := cfg.Scopes == nil || named && len(cfg.Scopes) == 1
	return ks.collection == config.DefaultName && (ks.scope == config.DefaultName || ks.scope == "" && only)
}

// notFound is the error for a keyspace that is not configured.
func (ks keyspace) notFound() error {
	return tidegate.Errorf(tidegate.NotFound, "keyspace %s not found", ks.text)
}
