package clustertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// metadata are the records of a sync and its leases.
type metadata struct {
	records map[string]map[string]record // by collection and canonical id
	leases  map[string]lease
	leaseOf map[int64]string // which lease a fence was given for
	fences  int64
}

type record struct {
	body  bson.Raw
	fence int64
}

type lease struct {
	owner   string
	fence   int64
	expires time.Time
}

// memoryMetadata is the metadata as one connection sees it.
type memoryMetadata struct{ m *Memory }

func (md memoryMetadata) do(ctx context.Context, name string, items int, do func(*metadata) error) error {
	eff, err := md.m.begin(ctx, Call{Name: "Metadata." + name, Items: items})
	if err != nil {
		return err
	}
	md.m.server.mu.Lock()
	defer md.m.server.mu.Unlock()
	if err := do(&md.m.server.metadata); err != nil {
		return err
	}
	return eff.lost
}

func (md memoryMetadata) Exists(ctx context.Context) (exists bool, err error) {
	err = md.do(ctx, "Exists", 0, func(d *metadata) error { exists = len(d.records) > 0; return nil })
	return exists, err
}

func (md memoryMetadata) Get(ctx context.Context, collection string, id, out any) error {
	return md.do(ctx, "Get", 0, func(d *metadata) error {
		r, ok := d.records[collection][Key(id).ID]
		if !ok {
			return fmt.Errorf("get %s from %s: %w", Key(id).ID, collection, clustersync.ErrNotFound)
		}
		return bson.Unmarshal(r.body, out)
	})
}

func (md memoryMetadata) All(ctx context.Context, collection string, fn func(bson.Raw) error) error {
	var all []bson.Raw
	err := md.do(ctx, "All", 0, func(d *metadata) error {
		for _, id := range slices.Sorted(maps.Keys(d.records[collection])) {
			all = append(all, slices.Clone(d.records[collection][id].body))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range all {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func (md memoryMetadata) Put(ctx context.Context, fence int64, collection string, records ...any) error {
	bodies := make([]bson.Raw, len(records))
	for i, r := range records {
		b, err := bson.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode a record for %s: %w", collection, err)
		}
		if _, err := bson.Raw(b).LookupErr("_id"); err != nil {
			return fmt.Errorf("a record for %s has no _id", collection)
		}
		bodies[i] = b
	}
	return md.do(ctx, "Put", len(records), func(d *metadata) error {
		if d.records[collection] == nil {
			d.records[collection] = map[string]record{}
		}
		for _, b := range bodies {
			id := canonical(b.Lookup("_id"))
			if err := d.check(fence, d.records[collection][id]); err != nil {
				return err
			}
			d.records[collection][id] = record{b, fence}
		}
		return nil
	})
}

func (md memoryMetadata) Delete(ctx context.Context, fence int64, collection string, ids ...any) error {
	return md.do(ctx, "Delete", len(ids), func(d *metadata) error {
		for _, id := range ids {
			if err := d.check(fence, d.records[collection][Key(id).ID]); err != nil {
				return err
			}
			delete(d.records[collection], Key(id).ID)
		}
		return nil
	})
}

// check refuses a fence whose lease has gone to somebody else, or a record that a younger fence has written.
func (d *metadata) check(fence int64, r record) error {
	name, known := d.leaseOf[fence]
	if known && d.leases[name].fence != fence || r.fence > fence && !known {
		return fmt.Errorf("write under fence %d: %w", fence, clustersync.ErrFenced)
	}
	return nil
}

func (md memoryMetadata) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (fence int64, err error) {
	err = md.do(ctx, "Acquire", 0, func(d *metadata) error {
		l, held := d.leases[name]
		switch {
		case held && l.owner == owner:
		case held && l.owner != "" && time.Now().Before(l.expires):
			return fmt.Errorf("lease %s: %w", name, clustersync.ErrLeaseHeld)
		default:
			d.fences++
			l = lease{owner: owner, fence: d.fences}
			d.leaseOf[l.fence] = name
		}
		l.expires = time.Now().Add(ttl)
		d.leases[name] = l
		fence = l.fence
		return nil
	})
	return fence, err
}

func (md memoryMetadata) Release(ctx context.Context, name, owner string) error {
	return md.do(ctx, "Release", 0, func(d *metadata) error {
		if l := d.leases[name]; l.owner == owner && owner != "" {
			l.owner = ""
			d.leases[name] = l
		}
		return nil
	})
}

func (md memoryMetadata) Erase(ctx context.Context) error {
	return md.do(ctx, "Erase", 0, func(d *metadata) error {
		clear(d.records)
		return nil
	})
}
