package clustersync

import (
	"context"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// indexRecord is an index of the source as it shall be once the sync is committed: a record of indexCorrection. Until then the destination has
// it as [transformIndex] gives it. A record in the catalog is never changed, only replaced.
type indexRecord struct {
	ID      indexID  `bson:"_id"`
	Spec    bson.Raw `bson:"indexSpec"`
	Should  int      `bson:"shouldCorrectCounter"`
	Last    int      `bson:"lastCorrectedCounter"` // equal to Should: it is on the destination
	Refused string   `bson:"refused,omitempty"`    // why the destination does not take it
}

type indexID struct {
	Collection string `bson:"collUUID"`
	Name       string `bson:"indexName"`
}

func newIndexRecord(id string, spec bson.Raw) *indexRecord {
	return &indexRecord{ID: indexID{id, indexName(spec)}, Spec: spec, Should: 1}
}

func indexName(spec bson.Raw) string {
	name, _ := spec.Lookup("name").StringValueOK()
	return name
}

func (x *indexRecord) built() bool   { return x.Last == x.Should }
func (x *indexRecord) waiting() bool { return !x.built() && x.Refused == "" }

func (x *indexRecord) asBuilt() *indexRecord {
	out := *x
	out.Last = out.Should
	return &out
}

func (c *catalog) rememberIndex(x *indexRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.indexes[x.ID.Collection]
	if of == nil {
		of = map[string]*indexRecord{}
		c.indexes[x.ID.Collection] = of
	}
	of[x.ID.Name] = x
}

// putIndexes stores records.
func (c *catalog) putIndexes(ctx context.Context, all ...*indexRecord) error {
	for part := range slices.Chunk(all, maxRecords) {
		records := make([]any, len(part))
		for i, x := range part {
			records[i] = x
		}
		err := c.retry.do(ctx, "store the registry of indexes", func() error { return c.meta.Put(ctx, c.fence(), indexCollection, records...) })
		if err != nil {
			return err
		}
		for _, x := range part {
			c.rememberIndex(x)
		}
	}
	return nil
}

// removeIndexes forgets indexes of a mapping.
func (c *catalog) removeIndexes(ctx context.Context, id string, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	ids := make([]any, len(names))
	for i, n := range names {
		ids[i] = indexID{id, n}
	}
	err := c.retry.do(ctx, "remove indexes from the registry", func() error { return c.meta.Delete(ctx, c.fence(), indexCollection, ids...) })
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range names {
		delete(c.indexes[id], n)
	}
	return nil
}

// index returns a record; nil if there is none.
func (c *catalog) index(id, name string) *indexRecord {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.indexes[id][name]
}

// indexesOf returns the records of a mapping in the order of their names.
func (c *catalog) indexesOf(id string) []*indexRecord {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []*indexRecord
	for _, x := range c.indexes[id] {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b *indexRecord) int { return strings.Compare(a.ID.Name, b.ID.Name) })
	return out
}

// indexByKeys finds the record of an index that a modification names by its keys.
func (c *catalog) indexByKeys(id string, keys bson.RawValue) *indexRecord {
	want := keyPattern(keys)
	for _, x := range c.indexesOf(id) {
		if keyPattern(x.Spec.Lookup("key")) == want {
			return x
		}
	}
	return nil
}
