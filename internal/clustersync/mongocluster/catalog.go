package mongocluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// catalog is the collections, views and indexes of a cluster at some time.
type catalog struct{ collections []listed }

// listed is a collection in a catalog. Read back from a position it has hashes only.
type listed struct {
	clustersync.Ref
	Type    clustersync.CollectionType
	options uint64
	indexes []listedIndex
	whole   clustersync.Collection
}

type listedIndex struct {
	name string
	hash uint64
	spec bson.Raw
}

// snapshot lists everything, without sizes.
func (c *Cluster) snapshot(ctx context.Context) (catalog, error) {
	names, err := c.databases(ctx)
	if err != nil {
		return catalog{}, err
	}
	var out catalog
	for _, name := range names {
		if c.internal(name) {
			continue
		}
		found, err := c.catalog(ctx, name)
		if err != nil {
			return catalog{}, err
		}
		for _, coll := range found {
			if coll.Type == clustersync.Plain {
				coll.Indexes, err = c.indexes(ctx, coll.Namespace)
			}
			if errors.Is(err, clustersync.ErrNotFound) {
				err = nil
				continue // gone since
			}
			if err != nil {
				return catalog{}, err
			}
			out.collections = append(out.collections, listing(coll))
		}
	}
	return out, nil
}

func listing(coll clustersync.Collection) listed {
	l := listed{Ref: coll.Ref, Type: coll.Type, options: hashOf(coll.Options), whole: coll}
	for _, spec := range coll.Indexes {
		l.indexes = append(l.indexes, listedIndex{name: lookupString(spec, "name"), hash: hashOf(spec), spec: spec})
	}
	return l
}

func hashOf(doc bson.Raw) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(doc)
	return h.Sum64()
}

// identity is what makes a collection the same: its UUID, or its name where there is none.
func (l listed) identity() string { return cmp.Or(l.UUID, l.Namespace.String()) }

func (c catalog) byIdentity() map[string]listed {
	out := make(map[string]listed, len(c.collections))
	for _, l := range c.collections {
		out[l.identity()] = l
	}
	return out
}

// changes tells how this catalog became the other (spec §23.4): drops first, so that names are free; then renames, then what is new.
func (c catalog) changes(now catalog) []clustersync.Event {
	old, new := c.byIdentity(), now.byIdentity()
	var drops, rest []clustersync.Event
	var moved []clustersync.Event
	for _, l := range c.collections {
		if _, ok := new[l.identity()]; !ok {
			drops = append(drops, clustersync.Event{Op: clustersync.OpDrop, Ref: l.Ref})
		}
	}
	for _, l := range now.collections {
		was, ok := old[l.identity()]
		switch {
		case !ok:
			whole := l.whole
			whole.Indexes = nil
			rest = append(rest, clustersync.Event{Op: clustersync.OpCreate, Ref: l.Ref, Collection: whole})
		case was.Namespace != l.Namespace:
			moved = append(moved, clustersync.Event{Op: clustersync.OpRename, Ref: was.Ref, To: l.Namespace})
		}
		rest = append(rest, was.indexChanges(l)...)
		if ok && was.options != l.options {
			rest = append(rest, clustersync.Event{Op: clustersync.OpModify, Ref: l.Ref, Change: modifiable(l.whole.Options)})
		}
	}
	return slices.Concat(drops, inTurn(moved), rest)
}

// indexChanges tells which indexes are gone, and which are new or not what they were.
func (l listed) indexChanges(now listed) []clustersync.Event {
	var gone, made []bson.Raw
	for _, was := range l.indexes {
		if !slices.ContainsFunc(now.indexes, func(is listedIndex) bool { return is.name == was.name && is.hash == was.hash }) {
			gone = append(gone, marshal(bson.D{{Key: "name", Value: was.name}}))
		}
	}
	for _, is := range now.indexes {
		if !slices.ContainsFunc(l.indexes, func(was listedIndex) bool { return is.name == was.name && is.hash == was.hash }) {
			made = append(made, is.spec)
		}
	}
	var events []clustersync.Event
	if len(gone) > 0 {
		events = append(events, clustersync.Event{Op: clustersync.OpDropIndexes, Ref: now.Ref, Indexes: gone})
	}
	if len(made) > 0 {
		events = append(events, clustersync.Event{Op: clustersync.OpCreateIndexes, Ref: now.Ref, Indexes: made})
	}
	return events
}

// modifiable are the options that collMod can change.
func modifiable(options bson.Raw) bson.Raw {
	out := newDoc()
	elements, _ := options.Elements()
	for _, e := range elements {
		switch name := e.Key(); name {
		case "size":
			out.append("cappedSize", e.Value())
		case "max":
			out.append("cappedMax", e.Value())
		case "validator", "validationLevel", "validationAction", "viewOn", "pipeline", "changeStreamPreAndPostImages", "expireAfterSeconds":
			out.append(name, e.Value())
		}
	}
	return out.end()
}

// inTurn orders renames so that none meets a name that another still has. A circle is opened with a name of our own.
func inTurn(moves []clustersync.Event) []clustersync.Event {
	var out []clustersync.Event
	for len(moves) > 0 {
		i := slices.IndexFunc(moves, func(m clustersync.Event) bool {
			return !slices.ContainsFunc(moves, func(other clustersync.Event) bool { return other.Ref.Namespace == m.To })
		})
		if i >= 0 {
			out = append(out, moves[i])
			moves = slices.Delete(moves, i, i+1)
			continue
		}
		aside := clustersync.Namespace{Database: moves[0].Ref.Database, Collection: "tidegate.aside." + moves[0].Ref.UUID}
		out = append(out, clustersync.Event{Op: clustersync.OpRename, Ref: moves[0].Ref, To: aside})
		moves[0].Ref.Namespace = aside
	}
	return out
}

// kept is a listed collection as a position keeps it.
type kept struct {
	UUID    string      `bson:"u,omitempty"`
	DB      string      `bson:"d"`
	Coll    string      `bson:"c"`
	Type    string      `bson:"t"`
	Options int64       `bson:"o"`
	Indexes []keptIndex `bson:"i,omitempty"`
}

type keptIndex struct {
	Name string `bson:"n"`
	Hash int64  `bson:"h"`
}

// token writes the catalog down for a position.
func (c catalog) token() bson.Raw {
	all := make([]kept, 0, len(c.collections))
	for _, l := range c.collections {
		k := kept{UUID: l.UUID, DB: l.Database, Coll: l.Collection, Type: string(l.Type), Options: int64(l.options)}
		for _, i := range l.indexes {
			k.Indexes = append(k.Indexes, keptIndex{i.name, int64(i.hash)})
		}
		all = append(all, k)
	}
	return marshal(bson.D{{Key: "catalog", Value: all}})
}

func readCatalog(token bson.Raw) (catalog, error) {
	var in struct {
		Catalog []kept `bson:"catalog"`
	}
	if _, err := token.LookupErr("catalog"); err != nil {
		return catalog{}, errNoCatalog
	}
	if err := bson.Unmarshal(token, &in); err != nil {
		return catalog{}, fmt.Errorf("read position: %w", err)
	}
	var out catalog
	for _, k := range in.Catalog {
		l := listed{Type: clustersync.CollectionType(k.Type), options: uint64(k.Options)}
		l.Ref = clustersync.Ref{Namespace: clustersync.Namespace{Database: k.DB, Collection: k.Coll}, UUID: k.UUID}
		for _, i := range k.Indexes {
			l.indexes = append(l.indexes, listedIndex{name: i.Name, hash: uint64(i.Hash)})
		}
		out.collections = append(out.collections, l)
	}
	return out, nil
}
