package clustersync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// eachIndex does something with every index that the destination has.
func (e *Engine) eachIndex(ctx context.Context, do func(context.Context, *mapping, *indexRecord) error) error {
	for _, m := range e.catalog.all() {
		for _, x := range e.catalog.indexesOf(m.ID) {
			if x.Refused != "" {
				continue
			}
			if err := do(ctx, m, x); err != nil {
				return fmt.Errorf("index %s of %s: %w", x.ID.Name, m.Destination, err)
			}
		}
	}
	return nil
}

// prepareUnique has a unique index refuse new duplicates (spec §9.2 step 1). Where indexes cannot be changed it is made anew as what it is
// to be, while nobody writes yet.
func (e *Engine) prepareUnique(ctx context.Context, m *mapping, x *indexRecord) error {
	if !specFlag(x.Spec, "unique") {
		return nil
	}
	err := e.modifyIndex(ctx, m, x, bson.D{{Key: "prepareUnique", Value: true}})
	if errors.Is(err, ErrUnsupported) {
		return e.replaceIndex(ctx, m, x)
	}
	return violations(m, x, err)
}

// makeUnique converts a unique index (step 2). Duplicates cannot be but in the source itself, or written by others.
func (e *Engine) makeUnique(ctx context.Context, m *mapping, x *indexRecord) error {
	if !specFlag(x.Spec, "unique") {
		return nil
	}
	err := e.modifyIndex(ctx, m, x, bson.D{{Key: "unique", Value: true}})
	if errors.Is(err, ErrUnsupported) {
		return nil // made anew before
	}
	return violations(m, x, err)
}

// restoreIndex gives an index its expiry and hides it (step 3).
func (e *Engine) restoreIndex(ctx context.Context, m *mapping, x *indexRecord) error {
	if v, err := x.Spec.LookupErr("expireAfterSeconds"); err == nil {
		if err := e.restoreMember(ctx, m, x, "expireAfterSeconds", v); err != nil {
			return err
		}
	}
	if specFlag(x.Spec, "hidden") {
		return e.restoreMember(ctx, m, x, "hidden", true)
	}
	return nil
}

func (e *Engine) restoreMember(ctx context.Context, m *mapping, x *indexRecord, name string, value any) error {
	err := e.modifyIndex(ctx, m, x, bson.D{{Key: name, Value: value}})
	if errors.Is(err, ErrUnsupported) {
		e.warn(ctx, fmt.Sprintf("%s: the destination cannot set %s of index %s", m.Destination, name, x.ID.Name))
		return nil
	}
	return err
}

func (e *Engine) modifyIndex(ctx context.Context, m *mapping, x *indexRecord, change bson.D) error {
	err := e.retries.do(ctx, "modify an index", func() error {
		return e.cfg.Destination.ModifyIndex(ctx, m.Destination, x.ID.Name, change)
	})
	if errors.Is(err, ErrNotFound) && e.journal.Get().CanWrite {
		return nil // the destination is its users' by now, and they have dropped it
	}
	return err
}

// replaceIndex drops an index and makes it as it is to be.
func (e *Engine) replaceIndex(ctx context.Context, m *mapping, x *indexRecord) error {
	spec, err := finalIndex(x.Spec)
	if err != nil {
		return err
	}
	err = e.retries.do(ctx, "drop an index", func() error { return e.cfg.Destination.DropIndex(ctx, m.Destination, x.ID.Name) })
	if err != nil {
		return err
	}
	refused, err := e.createOnDestination(ctx, m, []bson.Raw{spec})
	if err != nil {
		return err
	}
	if len(refused) > 0 { // one was asked for
		r := refused[0]
		if _, notUnique := errors.AsType[*NotUniqueError](r.Err); notUnique {
			return violations(m, x, r.Err)
		}
		return e.catalog.putIndexes(ctx, e.refusedIndex(ctx, m, x, r.Err))
	}
	return nil
}

// violations names the documents that keep an index from being unique.
func violations(m *mapping, x *indexRecord, err error) error {
	v, ok := errors.AsType[*NotUniqueError](err)
	if !ok {
		return err
	}
	const shown = 10
	var ids []string
	for id := range slices.Values(v.IDs[:min(shown, len(v.IDs))]) {
		ids = append(ids, id.String())
	}
	return Errorf(MigrationFailed, "index %s of %s cannot be made unique: documents with the same value have these _id: %v (%d in all): %w",
		x.ID.Name, m.Destination, ids, len(v.IDs), err)
}
