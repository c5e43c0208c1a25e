package clustersync

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// mapping says what a collection or view of the source is on the destination: a record of uuidMap. A mapping in the catalog is never changed,
// only replaced.
type mapping struct {
	ID          string         `bson:"_id"` // refKey of the source
	UUID        string         `bson:"sourceUUID"`
	Source      Namespace      `bson:"source"`
	Origin      Namespace      `bson:"origin"` // Source when it was first seen
	Destination Namespace      `bson:"destination"`
	Type        CollectionType `bson:"type"`
	Options     bson.Raw       `bson:"options,omitempty"`
	Capped      bool           `bson:"capped"`
	Count       int64          `bson:"count"` // when it was listed
	Bytes       int64          `bson:"bytes"`
	Told        bson.Timestamp `bson:"told"` // when the stream told that it was made; zero: it was listed

	// What is under way on the destination, so that it can be told after a crash from what somebody else did.
	Made     bool    `bson:"made"`             // it has been created
	Dropping bool    `bson:"dropping"`         // it is being dropped
	Copying  bool    `bson:"copying"`          // it came in by a rename, and its copy is not done
	Moving   *moving `bson:"moving,omitempty"` // it is being renamed

	// DestinationUUID is taken at commit, for a reverse.
	DestinationUUID string `bson:"destinationUUID,omitempty"`
}

// moving is a rename: the names that a mapping is about to have.
type moving struct {
	Source      Namespace `bson:"source"`
	Destination Namespace `bson:"destination"`
}

func (m *mapping) ref() Ref { return Ref{Namespace: m.Source, UUID: m.UUID} }

// collection is what the source's listing would say.
func (m *mapping) collection() Collection {
	return Collection{Ref: m.ref(), Type: m.Type, Options: m.Options, Capped: m.Capped, Count: m.Count, Bytes: m.Bytes}
}

// collated reports whether strings of the collection's keys are compared by a collation.
func (m *mapping) collated() bool {
	locale, ok := m.Options.Lookup("collation", "locale").StringValueOK()
	return ok && locale != "simple"
}

// catalog is uuidMap and indexCorrection in memory and in metadata: metadata first. Safe for concurrent use.
type catalog struct {
	filter *Filter
	meta   Metadata
	fence  func() int64
	retry  *retrier

	mu       sync.RWMutex
	byID     map[string]*mapping
	byTarget map[Namespace]string
	indexes  map[string]map[string]*indexRecord // by mapping and name
	building map[string]held                    // while a mapping's indexes are made
}

func newCatalog(cfg EngineConfig, retry *retrier) *catalog {
	c := &catalog{filter: cfg.Plan.Filter, meta: cfg.Journal.meta, fence: cfg.Journal.fence, retry: retry}
	c.reset()
	return c
}

func (c *catalog) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byID, c.byTarget = map[string]*mapping{}, map[Namespace]string{}
	c.indexes, c.building = map[string]map[string]*indexRecord{}, map[string]held{}
}

// maxRecords bounds what is put into metadata at once.
const maxRecords = 500

// load reads what metadata holds.
func (c *catalog) load(ctx context.Context) error {
	c.reset()
	err := c.retry.do(ctx, "read the map of collections", func() error {
		return c.meta.All(ctx, uuidMapCollection, func(raw bson.Raw) error {
			m := &mapping{}
			if err := bson.Unmarshal(raw, m); err != nil {
				return fmt.Errorf("decode a record of %s: %w", uuidMapCollection, err)
			}
			m.Options = slices.Clone(m.Options)
			c.remember(m)
			return nil
		})
	})
	if err != nil {
		return err
	}
	return c.retry.do(ctx, "read the registry of indexes", func() error {
		return c.meta.All(ctx, indexCollection, func(raw bson.Raw) error {
			x := &indexRecord{}
			if err := bson.Unmarshal(raw, x); err != nil {
				return fmt.Errorf("decode a record of %s: %w", indexCollection, err)
			}
			x.Spec = slices.Clone(x.Spec)
			c.rememberIndex(x)
			return nil
		})
	})
}

func (c *catalog) remember(m *mapping) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byID[m.ID]; old != nil && c.byTarget[old.Destination] == m.ID {
		delete(c.byTarget, old.Destination)
	}
	c.byID[m.ID] = m
	c.byTarget[m.Destination] = m.ID
}

// put stores mappings.
func (c *catalog) put(ctx context.Context, all ...*mapping) error {
	for part := range slices.Chunk(all, maxRecords) {
		records := make([]any, len(part))
		for i, m := range part {
			records[i] = m
		}
		err := c.retry.do(ctx, "store the map of collections", func() error { return c.meta.Put(ctx, c.fence(), uuidMapCollection, records...) })
		if err != nil {
			return err
		}
		for _, m := range part {
			c.remember(m)
		}
	}
	return nil
}

// remove forgets a mapping and its indexes.
func (c *catalog) remove(ctx context.Context, id string) error {
	var names []string
	for _, x := range c.indexesOf(id) {
		names = append(names, x.ID.Name)
	}
	if err := c.removeIndexes(ctx, id, names...); err != nil {
		return err
	}
	err := c.retry.do(ctx, "remove a collection from the map", func() error { return c.meta.Delete(ctx, c.fence(), uuidMapCollection, id) })
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.byID[id]; m != nil && c.byTarget[m.Destination] == id {
		delete(c.byTarget, m.Destination)
	}
	delete(c.byID, id)
	delete(c.building, id)
	return nil
}

// get returns a mapping by its id; nil if there is none.
func (c *catalog) get(id string) *mapping {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byID[id]
}

// of returns the mapping of a collection of the source; nil if there is none.
func (c *catalog) of(r Ref) *mapping { return c.get(refKey(r)) }

// holder returns which mapping has a name on the destination; nil if none.
func (c *catalog) holder(ns Namespace) *mapping {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byID[c.byTarget[ns]]
}

// all returns the mappings in the order of their ids.
func (c *catalog) all() []*mapping {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := slices.Collect(maps.Values(c.byID))
	slices.SortFunc(out, func(a, b *mapping) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// build returns the lock that is held while indexes of a mapping are made.
func (c *catalog) build(id string) held {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.building[id] == nil {
		c.building[id] = newHeld()
	}
	return c.building[id]
}

// newMapping makes a mapping for a listed or created collection, which is not stored yet.
func (c *catalog) newMapping(coll Collection) *mapping {
	return &mapping{
		ID: refKey(coll.Ref), UUID: coll.UUID, Source: coll.Namespace, Origin: coll.Namespace, Destination: c.filter.Target(coll.Namespace),
		Type: coll.Type, Options: coll.Options, Capped: coll.Capped, Count: coll.Count, Bytes: coll.Bytes,
	}
}
