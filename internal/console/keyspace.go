package console

import (
	"context"
	"maps"
	"slices"
)

// defaultKeyspace is how the default collection is written in addresses of the console.
const defaultKeyspace = "_default._default"

// keyspace is a collection of a database.
type keyspace struct {
	DB   string
	Name string // "scope.collection"
}

// keyspaceOf returns the collection that a request's parameter ks names; without one it is the default.
func keyspaceOf(rq *request) keyspace {
	name := rq.FormValue("ks")
	if name == "" {
		name = defaultKeyspace
	}
	return keyspace{rq.db, name}
}

// segment is the keyspace as the first segment of an API's path.
func (k keyspace) segment() string {
	if k.Name == defaultKeyspace {
		return k.DB
	}
	return k.DB + "." + k.Name
}

// param is the value of ks in an address; "" for the default.
func (k keyspace) param() string {
	if k.Name == defaultKeyspace {
		return ""
	}
	return k.Name
}

// Documents is the address of the list of documents.
func (k keyspace) Documents() string {
	return address(queryOf("ks", k.param()), "db", k.DB, "documents")
}

// Doc is the address of a document's page.
func (k keyspace) Doc(id string) string {
	return address(queryOf("ks", k.param(), "id", id), "db", k.DB, "document")
}

// Channel is the address of a channel's page.
func (k keyspace) Channel(name string) string {
	return address(queryOf("ks", k.param(), "name", name), "db", k.DB, "channel")
}

// collections returns the names of a database's collections as "scope.collection".
func collections(ctx context.Context, api *client, db string) ([]string, error) {
	var cfg struct {
		Scopes map[string]struct {
			Collections map[string]struct{} `json:"collections"`
		} `json:"scopes"`
	}
	if err := api.get(ctx, pathOf(db, "_config"), queryOf("include_javascript", "false"), &cfg); err != nil {
		return nil, err
	}
	var names []string
	for scope, s := range cfg.Scopes {
		for name := range maps.Keys(s.Collections) {
			names = append(names, scope+"."+name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		names = []string{defaultKeyspace}
	}
	return names, nil
}
