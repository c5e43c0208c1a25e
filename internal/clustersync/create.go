package clustersync

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// cappedSize is that of capped collections during a sync, so that the destination forgets nothing before the source does (spec §10).
const cappedSize = int64(1) << 50

// make creates a mapped collection or view on the destination, and notes that it is made.
func (e *Engine) make(ctx context.Context, m *mapping) error {
	coll, err := e.asCreated(ctx, m)
	if err != nil {
		return err
	}
	err = e.retries.do(ctx, "create "+m.Destination.String(), func() error {
		err := e.cfg.Destination.Create(ctx, coll)
		if errors.Is(err, ErrExists) {
			return e.oursAlready(ctx, coll, err)
		}
		return err
	})
	switch {
	case errors.Is(err, ErrUnsupported) && m.Type == View:
		e.warn(ctx, fmt.Sprintf("%s is a view, which the destination does not have: it is left out", m.Source))
		return e.catalog.remove(ctx, m.ID)
	case err != nil:
		return err
	}
	for _, s := range e.cfg.Plan.Sharding {
		if s.Namespace != m.Source {
			continue
		}
		if err := e.shard(ctx, m, s.Key, false); err != nil {
			return err
		}
	}
	made := *m
	made.Made = true
	return e.catalog.put(ctx, &made)
}

// asCreated is what is created for a mapping (spec §7.2).
func (e *Engine) asCreated(ctx context.Context, m *mapping) (Collection, error) {
	coll := m.collection()
	coll.Ref = Ref{Namespace: m.Destination}
	coll.Indexes = nil
	grows, err := e.capsGrow(ctx)
	if err != nil || !m.Capped || !grows {
		return coll, err
	}
	coll.Options, err = withMembers(coll.Options, bson.D{{Key: "size", Value: cappedSize}, {Key: "max", Value: nil}})
	return coll, err
}

// capsGrow reports whether the destination can change the size of a capped collection. Otherwise it is created with its final one.
func (e *Engine) capsGrow(ctx context.Context) (grows bool, err error) {
	f, ok := e.cfg.Destination.(FixedCapped)
	if !ok {
		return true, nil
	}
	err = e.retries.do(ctx, "look at the destination", func() error {
		fixed, err := f.FixedCapped(ctx)
		grows = !fixed
		return err
	})
	return grows, err
}

// oursAlready is nil if a collection that is in the way is one that we created and of which the answer was lost: it is still empty.
func (e *Engine) oursAlready(ctx context.Context, coll Collection, refused error) error {
	listed, err := e.cfg.Destination.List(ctx)
	if err != nil {
		return err
	}
	for _, c := range listed {
		if c.Namespace == coll.Namespace && (c.Type == View) == (coll.Type == View) && c.Count == 0 {
			return nil
		}
	}
	return Errorf(NamespaceConflict, "the destination has %s already: %w", coll.Namespace, refused)
}
