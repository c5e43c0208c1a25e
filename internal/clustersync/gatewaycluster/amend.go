package gatewaycluster

import (
	"context"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
)

var _ clustersync.Amender = (*Cluster)(nil)

// Amend has the first look of a stream compare what there is with what the sync knows. A collection that comes in this way is followed from the
// beginning of its feed.
func (c *Cluster) Amend(ctx context.Context, from clustersync.Position, known []clustersync.Known, synced func(clustersync.Namespace) bool,
) (clustersync.Position, error) {
	was, err := placeOf(from)
	if err != nil {
		return clustersync.Position{}, err
	}
	p := was.clone()
	uuids := map[clustersync.Namespace]string{}
	for _, ref := range known {
		uuids[ref.Namespace] = ref.UUID
	}
	for db, at := range p.Databases {
		for name := range at.Collections {
			ref := refOf(db, name, at)
			if synced(ref.Namespace) && uuids[ref.Namespace] != ref.UUID {
				delete(at.Collections, name)
			}
		}
	}
	for _, ref := range known {
		if err := c.amend(ctx, &p, ref.Ref); err != nil {
			return clustersync.Position{}, err
		}
		// It may have been dropped and made again since then, which changes nothing of its name.
		if at := p.Databases[ref.Database]; ref.Made.After(from.Time) && refOf(ref.Database, ref.Collection, at).UUID == ref.UUID {
			at.Collections[ref.Collection] = 0
		}
	}
	out, err := p.position(time.Time{})
	out.Time = from.Time
	return out, err
}

// amend puts a collection into a place.
func (c *Cluster) amend(ctx context.Context, p *place, ref clustersync.Ref) error {
	at, there := p.Databases[ref.Database]
	if there && collectionUUID(at.Instance, ref.Collection) == ref.UUID {
		if _, ok := at.Collections[ref.Collection]; !ok {
			at.Collections[ref.Collection] = 0
		}
		return nil
	}
	now, ok, err := c.lookAt(ctx, ref.Database)
	if err != nil {
		return err
	}
	switch {
	case !ok || collectionUUID(now.Instance, ref.Collection) != ref.UUID:
		p.Gone = append(p.Gone, goneCollection{ref.Database, ref.Collection, ref.UUID})
	case !there:
		p.Databases[ref.Database] = dbPlace{now.Instance, map[string]uint64{ref.Collection: 0}}
	}
	// Otherwise the database of the place is another one: the look tells of all collections that this one has.
	return nil
}
