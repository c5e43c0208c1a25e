package clustertest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tidegate/tidegate/internal/clustersync"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// MaxDocument is the greatest body of a document, as MongoDB has it.
const MaxDocument = 16 << 20

// Create implements clustersync.Destination.
func (m *Memory) Create(ctx context.Context, c clustersync.Collection) error {
	return m.ddl(ctx, "Create", c.Namespace, func(s *server) error { return s.create(c) })
}

// Drop implements clustersync.Destination.
func (m *Memory) Drop(ctx context.Context, ns clustersync.Namespace) error {
	return m.ddl(ctx, "Drop", ns, func(s *server) error { s.drop(ns); return nil })
}

// Rename implements clustersync.Destination.
func (m *Memory) Rename(ctx context.Context, from, to clustersync.Namespace) error {
	return m.ddl(ctx, "Rename", from, func(s *server) error {
		if s.opts.NoRename {
			return clustersync.ErrUnsupported
		}
		return s.rename(from, to, false)
	})
}

// Modify implements clustersync.Destination.
func (m *Memory) Modify(ctx context.Context, ns clustersync.Namespace, change bson.Raw) error {
	return m.ddl(ctx, "Modify", ns, func(s *server) error {
		if s.opts.NoIndexChanges {
			return clustersync.ErrUnsupported
		}
		return s.modify(ns, change)
	})
}

// CreateIndexes implements clustersync.Destination.
func (m *Memory) CreateIndexes(ctx context.Context, ns clustersync.Namespace, specs []bson.Raw) (refused []clustersync.RefusedIndex, err error) {
	err = m.ddl(ctx, "CreateIndexes", ns, func(s *server) error {
		c := s.collections[ns]
		if c == nil {
			return clustersync.ErrNotFound
		}
		refused = s.createIndexes(ns, c, specs)
		return nil
	})
	return refused, err
}

// DropIndex implements clustersync.Destination.
func (m *Memory) DropIndex(ctx context.Context, ns clustersync.Namespace, name string) error {
	return m.ddl(ctx, "DropIndex", ns, func(s *server) error { s.dropIndex(ns, name); return nil })
}

// ModifyIndex implements clustersync.Destination.
func (m *Memory) ModifyIndex(ctx context.Context, ns clustersync.Namespace, name string, change bson.D) error {
	return m.ddl(ctx, "ModifyIndex", ns, func(s *server) error {
		if s.opts.NoIndexChanges {
			return clustersync.ErrUnsupported
		}
		return s.modifyIndex(ns, name, change)
	})
}

func (m *Memory) ddl(ctx context.Context, name string, ns clustersync.Namespace, do func(*server) error) error {
	eff, err := m.begin(ctx, Call{Name: name, Namespace: ns})
	if err != nil {
		return err
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	return errors.Join(do(m.server), eff.lost)
}

// Insert implements clustersync.Destination.
func (m *Memory) Insert(ctx context.Context, ns clustersync.Namespace, docs []clustersync.Document, opts clustersync.WriteOptions,
) (clustersync.InsertResult, error) {
	eff, err := m.begin(ctx, Call{Name: "Insert", Namespace: ns, Items: len(docs)})
	if err != nil {
		return clustersync.InsertResult{}, err
	}
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	var out clustersync.InsertResult
	for _, d := range docs[:eff.cut(len(docs))] {
		switch err := s.insert(ns, clone(d)); {
		case errors.Is(err, errDuplicateID):
			out.Present++
		case err != nil:
			return out, err
		default:
			out.Inserted++
			out.Bytes += int64(len(d.Body))
		}
	}
	return out, eff.lost
}

// Apply implements clustersync.Destination.
func (m *Memory) Apply(ctx context.Context, ns clustersync.Namespace, intents []clustersync.Intent, opts clustersync.WriteOptions,
) (failed []clustersync.Failure, err error) {
	eff, err := m.begin(ctx, Call{Name: "Apply", Namespace: ns, Items: len(intents)})
	if err != nil {
		return nil, err
	}
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	for i, in := range intents[:eff.cut(len(intents))] {
		if seen[in.Doc.Key.ID] {
			return nil, fmt.Errorf("apply: key %q occurs twice in one batch", in.Doc.Key.ID)
		}
		seen[in.Doc.Key.ID] = true
		if in.Doc.Body == nil {
			s.remove(ns, in.Doc.Key)
		} else if err := s.upsert(ns, clone(in.Doc)); err != nil {
			if opts.Ordered {
				return append(failed, clustersync.Failure{Index: i, Err: err}), eff.lost
			}
			failed = append(failed, clustersync.Failure{Index: i, Err: err})
		}
	}
	return failed, eff.lost
}

// ApplyDelta implements clustersync.Destination.
func (m *Memory) ApplyDelta(ctx context.Context, ns clustersync.Namespace, key clustersync.Key, delta bson.Raw) error {
	return m.ddl(ctx, "ApplyDelta", ns, func(s *server) error {
		if s.opts.NoDelta {
			return clustersync.ErrUnsupported
		}
		return s.update(ns, key, delta)
	})
}

// BlockWrites implements clustersync.Destination.
func (m *Memory) BlockWrites(ctx context.Context, block bool) error {
	return m.ddl(ctx, "BlockWrites", clustersync.Namespace{}, func(s *server) error {
		if s.opts.NoBlock {
			return fmt.Errorf("block writes: %w", clustersync.ErrUnsupported)
		}
		s.blocked = block
		return nil
	})
}

// WritesBlocked implements clustersync.Destination.
func (m *Memory) WritesBlocked(ctx context.Context) (blocked bool, err error) {
	err = m.ddl(ctx, "WritesBlocked", clustersync.Namespace{}, func(s *server) error { blocked = s.blocked; return nil })
	return blocked, err
}

func (s *server) create(c clustersync.Collection) error {
	if _, taken := s.collections[c.Namespace]; taken {
		return fmt.Errorf("create %s: %w", c.Namespace, clustersync.ErrExists)
	}
	c.Options = slices.Clone(c.Options)
	made := s.newCollection(c)
	s.collections[c.Namespace] = made
	listing := made.listing(c.Namespace)
	s.emit(clustersync.Event{Op: clustersync.OpCreate, Ref: listing.Ref, Collection: listing})
	return nil
}

func (s *server) drop(ns clustersync.Namespace) {
	if _, ok := s.collections[ns]; ok {
		ref := s.ref(ns)
		delete(s.collections, ns)
		s.emit(clustersync.Event{Op: clustersync.OpDrop, Ref: ref})
	}
}

func (s *server) rename(from, to clustersync.Namespace, dropTarget bool) error {
	c := s.collections[from]
	if c == nil {
		return fmt.Errorf("rename %s: %w", from, clustersync.ErrNotFound)
	}
	target := s.collections[to]
	if target != nil && !dropTarget {
		return fmt.Errorf("rename %s to %s: %w", from, to, clustersync.ErrExists)
	}
	e := clustersync.Event{Op: clustersync.OpRename, Ref: s.ref(from), To: to}
	if target != nil {
		e.Dropped = target.uuid
	}
	delete(s.collections, from)
	s.collections[to] = c
	s.emit(e)
	return nil
}

func (s *server) modify(ns clustersync.Namespace, change bson.Raw) error {
	c := s.collections[ns]
	if c == nil {
		return fmt.Errorf("modify %s: %w", ns, clustersync.ErrNotFound)
	}
	var members bson.D
	mustUnmarshal(change, &members)
	for i, e := range members {
		switch e.Key {
		case "cappedSize":
			members[i].Key = "size"
		case "cappedMax":
			members[i].Key = "max"
		}
	}
	c.options = merge(c.options, marshal(members))
	c.trim()
	s.emit(clustersync.Event{Op: clustersync.OpModify, Ref: s.ref(ns), Change: change})
	return nil
}

func (s *server) createIndexes(ns clustersync.Namespace, c *collection, specs []bson.Raw) (refused []clustersync.RefusedIndex) {
	var made []bson.Raw
	for _, spec := range specs {
		name, _ := spec.Lookup("name").StringValueOK()
		switch isNew, err := c.addIndex(slices.Clone(spec)); {
		case isNew:
			made = append(made, spec)
		case errors.As(err, new(*clustersync.NotUniqueError)):
			refused = append(refused, clustersync.RefusedIndex{Name: name, Err: err})
		}
	}
	if len(made) > 0 {
		s.emit(clustersync.Event{Op: clustersync.OpCreateIndexes, Ref: s.ref(ns), Indexes: made})
	}
	return refused
}

func (s *server) dropIndex(ns clustersync.Namespace, name string) {
	c := s.collections[ns]
	if c == nil {
		return
	}
	if i := c.index(name); i >= 0 {
		spec := c.indexes[i]
		c.indexes = slices.Delete(slices.Clone(c.indexes), i, i+1)
		s.emit(clustersync.Event{Op: clustersync.OpDropIndexes, Ref: s.ref(ns), Indexes: []bson.Raw{spec}})
	}
}

// modifyIndex is collMod {index: …}: unique and the like become or cease to be members of the spec.
func (s *server) modifyIndex(ns clustersync.Namespace, name string, change bson.D) error {
	c := s.collections[ns]
	if c == nil || c.index(name) < 0 {
		return fmt.Errorf("modify index %s of %s: %w", name, ns, clustersync.ErrNotFound)
	}
	i := c.index(name)
	spec := bson.D{}
	mustUnmarshal(c.indexes[i], &spec)
	for _, e := range change {
		on, isBool := e.Value.(bool)
		switch {
		case e.Key == "unique" && on:
			if ids := c.violations(c.indexes[i]); len(ids) > 0 {
				return &clustersync.NotUniqueError{Index: name, IDs: ids}
			}
			spec = set(unset(spec, []string{"prepareUnique"}), []string{"unique"}, true)
		case e.Key == "forceNonUnique":
			spec = unset(unset(spec, []string{"unique"}), []string{"prepareUnique"})
		case isBool && !on:
			spec = unset(spec, []string{e.Key})
		default:
			spec = set(spec, []string{e.Key}, e.Value)
		}
	}
	c.indexes = slices.Clone(c.indexes)
	c.indexes[i] = marshal(spec)
	what := append(bson.D{{Key: "name", Value: name}}, change...)
	s.emit(clustersync.Event{Op: clustersync.OpModify, Ref: s.ref(ns), Change: marshal(bson.D{{Key: "index", Value: what}})})
	return nil
}

// insert stores a new document; the collection is made if it is missing, as servers do it.
func (s *server) insert(ns clustersync.Namespace, d clustersync.Document) error {
	c, err := s.writable(ns, d)
	if err != nil {
		return err
	}
	if _, there := c.where[d.Key.ID]; there {
		return errDuplicateID
	}
	if err := c.put(d); err != nil {
		return err
	}
	s.emit(clustersync.Event{Op: clustersync.OpInsert, Ref: s.ref(ns), Doc: d})
	return nil
}

// upsert stores a document whatever was there; nothing happens if it is there as it is, as with servers that log no such no-ops.
func (s *server) upsert(ns clustersync.Namespace, d clustersync.Document) error {
	c, err := s.writable(ns, d)
	if err != nil {
		return err
	}
	op := clustersync.OpInsert
	if place, there := c.where[d.Key.ID]; there {
		if slices.Equal(c.docs[place].Body, d.Body) {
			return nil
		}
		op = clustersync.OpReplace
	}
	if err := c.put(d); err != nil {
		return err
	}
	s.emit(clustersync.Event{Op: op, Ref: s.ref(ns), Doc: d})
	return nil
}

func (s *server) writable(ns clustersync.Namespace, d clustersync.Document) (*collection, error) {
	if len(d.Body) > MaxDocument {
		return nil, clustersync.ErrTooLarge
	}
	c := s.collections[ns]
	if c == nil {
		if err := s.create(clustersync.Collection{Ref: clustersync.Ref{Namespace: ns}, Type: clustersync.Plain}); err != nil {
			return nil, err
		}
		c = s.collections[ns]
	}
	if c.view {
		return nil, fmt.Errorf("write to %s: it is a view", ns)
	}
	return c, nil
}

func (s *server) remove(ns clustersync.Namespace, key clustersync.Key) bool {
	c := s.collections[ns]
	if c == nil || !c.remove(key.ID) {
		return false
	}
	s.emit(clustersync.Event{Op: clustersync.OpDelete, Ref: s.ref(ns), Doc: clustersync.Document{Key: key, Format: s.opts.Kind}})
	return true
}

// update applies a delta to a document; a missing one is left missing.
func (s *server) update(ns clustersync.Namespace, key clustersync.Key, delta bson.Raw) error {
	c := s.collections[ns]
	if c == nil {
		return nil
	}
	place, ok := c.where[key.ID]
	if !ok {
		return nil
	}
	body, err := applyDelta(c.docs[place].Body, delta)
	if err != nil {
		return err
	}
	d := c.docs[place]
	if slices.Equal(d.Body, body) {
		return nil
	}
	d.Body = body
	if err := c.put(d); err != nil {
		return err
	}
	told := clustersync.Document{Key: d.Key, Format: s.opts.Kind}
	s.emit(clustersync.Event{Op: clustersync.OpTouched, Ref: s.ref(ns), Doc: told, Delta: delta})
	return nil
}
