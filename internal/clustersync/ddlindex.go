package clustersync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// wantsIndex reports whether an index of the source is built on the destination at all (spec §9.1).
func (e *Engine) wantsIndex(spec bson.Raw) bool {
	mode := e.cfg.Plan.BuildIndexes
	return mode != IndexesNever && !(mode.NoHashed() && hashedIndex(spec))
}

func (e *Engine) applyCreateIndexes(ctx context.Context, ev Event) error {
	m := e.catalog.of(ev.Ref)
	if m == nil || m.Type == View {
		return nil
	}
	lock := e.catalog.build(m.ID)
	if err := lock.lock(ctx); err != nil {
		return err
	}
	defer lock.unlock()
	var fresh []*indexRecord
	for _, spec := range ev.Indexes {
		// An index of that name is the same one, or newer, from the listing: later events put things right.
		if e.wantsIndex(spec) && indexName(spec) != "_id_" && e.catalog.index(m.ID, indexName(spec)) == nil {
			fresh = append(fresh, newIndexRecord(m.ID, spec))
		}
	}
	return e.createIndexes(ctx, m, fresh)
}

func (e *Engine) applyDropIndexes(ctx context.Context, ev Event) error {
	m := e.catalog.of(ev.Ref)
	if m == nil {
		return nil
	}
	lock := e.catalog.build(m.ID)
	if err := lock.lock(ctx); err != nil {
		return err
	}
	defer lock.unlock()
	for _, spec := range ev.Indexes {
		name := indexName(spec)
		if name == "" || name == "_id_" {
			continue
		}
		err := e.retries.do(ctx, "drop an index of "+m.Destination.String(), func() error {
			return e.cfg.Destination.DropIndex(ctx, m.Destination, name)
		})
		if err != nil {
			return err
		}
		if err := e.catalog.removeIndexes(ctx, m.ID, name); err != nil {
			return err
		}
	}
	return nil
}

// applyModify follows a collMod. What is put off until commit changes the records only (spec §8.6).
func (e *Engine) applyModify(ctx context.Context, ev Event) error {
	m := e.catalog.of(ev.Ref)
	if m == nil {
		return nil
	}
	elements, err := ev.Change.Elements()
	if err != nil {
		return fmt.Errorf("read the modification: %w", err)
	}
	var now, later bson.D
	for _, el := range elements {
		switch name := el.Key(); name {
		case "index":
			if err := e.modifyRegistry(ctx, m, el.Value()); err != nil {
				return err
			}
		case "cappedSize":
			later = append(later, bson.E{Key: "size", Value: el.Value()})
		case "cappedMax":
			later = append(later, bson.E{Key: "max", Value: el.Value()})
		case "validator", "validationLevel", "validationAction", "viewOn", "pipeline", "changeStreamPreAndPostImages", "expireAfterSeconds":
			now = append(now, bson.E{Key: name, Value: el.Value()})
		}
	}
	if len(later) > 0 {
		next := *m
		if next.Options, err = withMembers(m.Options, later); err != nil {
			return err
		}
		if err := e.catalog.put(ctx, &next); err != nil {
			return err
		}
		m = &next
	}
	if len(now) > 0 {
		return e.modifyCollection(ctx, m, now)
	}
	return nil
}

// modifyCollection changes options of a collection or view on the destination now.
func (e *Engine) modifyCollection(ctx context.Context, m *mapping, change bson.D) error {
	raw, err := bson.Marshal(change)
	if err != nil {
		return err
	}
	err = e.retries.do(ctx, "modify "+m.Destination.String(), func() error { return e.cfg.Destination.Modify(ctx, m.Destination, raw) })
	switch {
	case errors.Is(err, ErrUnsupported):
		e.warn(ctx, fmt.Sprintf("%s: its options changed on the source, and the destination cannot change them", m.Destination))
	case err != nil:
		return err
	}
	next := *m
	if next.Options, err = withMembers(m.Options, change); err != nil {
		return err
	}
	return e.catalog.put(ctx, &next)
}

// modifyRegistry notes what an index shall be like after the commit.
func (e *Engine) modifyRegistry(ctx context.Context, m *mapping, change bson.RawValue) error {
	doc, ok := change.DocumentOK()
	if !ok {
		return nil
	}
	x := e.catalog.index(m.ID, indexName(doc))
	if keys, err := doc.LookupErr("keyPattern"); x == nil && err == nil {
		x = e.catalog.indexByKeys(m.ID, keys)
	}
	if x == nil {
		return nil
	}
	var members bson.D
	for _, name := range []string{"expireAfterSeconds", "hidden", "unique", "prepareUnique"} {
		v, err := doc.LookupErr(name)
		if err != nil {
			continue
		}
		var value any = v
		if on, isBool := v.BooleanOK(); isBool && !on {
			value = nil
		}
		members = append(members, bson.E{Key: name, Value: value})
	}
	if specFlag(doc, "forceNonUnique") {
		members = append(members, bson.E{Key: "unique", Value: nil})
	}
	next := *x
	var err error
	if next.Spec, err = withMembers(x.Spec, members); err != nil {
		return err
	}
	if slices.Equal(next.Spec, x.Spec) {
		return nil
	}
	return e.catalog.putIndexes(ctx, &next)
}
