package clustertest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tidegate/tidegate/internal/clustersync"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// ErrWritesBlocked is what users get while their writes are blocked.
var ErrWritesBlocked = errors.New("user writes blocked")

// User is everybody who is not the sync: no faults, but refused while writes are blocked. Reads always work.
type User struct{ server *server }

// User returns a user of the cluster.
func (m *Memory) User() *User { return &User{m.server} }

func (u *User) write(do func(*server) error) error {
	u.server.mu.Lock()
	defer u.server.mu.Unlock()
	if u.server.blocked {
		return ErrWritesBlocked
	}
	return do(u.server)
}

// Insert stores a new document, which needs an _id.
func (u *User) Insert(ns clustersync.Namespace, doc bson.D) error {
	return u.write(func(s *server) error { return s.insert(ns, s.document(marshal(doc))) })
}

// Replace stores a document whatever was there.
func (u *User) Replace(ns clustersync.Namespace, doc bson.D) error {
	return u.write(func(s *server) error { return s.upsert(ns, s.document(marshal(doc))) })
}

// Update sets members of a document by their dotted paths, and removes others; a missing document is left missing.
func (u *User) Update(ns clustersync.Namespace, id any, set bson.D, unset ...string) error {
	delta := marshal(bson.D{{Key: "updatedFields", Value: set}, {Key: "removedFields", Value: unset}})
	return u.write(func(s *server) error { return s.update(ns, Key(id), delta) })
}

// Delete deletes a document; a missing one is no error.
func (u *User) Delete(ns clustersync.Namespace, id any) error {
	return u.write(func(s *server) error { s.remove(ns, Key(id)); return nil })
}

// Create makes a collection or view with these options ("viewOn" makes it a view).
func (u *User) Create(ns clustersync.Namespace, options bson.D) error {
	c := clustersync.Collection{Ref: clustersync.Ref{Namespace: ns}, Type: clustersync.Plain, Options: marshal(options)}
	if _, err := c.Options.LookupErr("viewOn"); err == nil {
		c.Type = clustersync.View
	}
	return u.write(func(s *server) error { return s.create(c) })
}

// Drop drops a collection or view.
func (u *User) Drop(ns clustersync.Namespace) error {
	return u.write(func(s *server) error { s.drop(ns); return nil })
}

// DropDatabase drops a database: first its collections, each with an event.
func (u *User) DropDatabase(database string) error {
	return u.write(func(s *server) error {
		var all []clustersync.Namespace
		for ns := range s.collections {
			if ns.Database == database {
				all = append(all, ns)
			}
		}
		for _, ns := range all {
			s.drop(ns)
		}
		s.emit(clustersync.Event{Op: clustersync.OpDropDatabase, Ref: clustersync.Ref{Namespace: clustersync.Namespace{Database: database}}})
		return nil
	})
}

// Rename renames a collection. Into another database it is copied, as servers do it.
func (u *User) Rename(from, to clustersync.Namespace, dropTarget bool) error {
	return u.write(func(s *server) error {
		if from.Database == to.Database {
			return s.rename(from, to, dropTarget)
		}
		return s.move(from, to, dropTarget)
	})
}

// move is a rename into another database: a temporary collection, its documents, a rename, a drop.
func (s *server) move(from, to clustersync.Namespace, dropTarget bool) error {
	c := s.collections[from]
	if c == nil {
		return fmt.Errorf("rename %s: %w", from, clustersync.ErrNotFound)
	}
	if s.collections[to] != nil && !dropTarget {
		return fmt.Errorf("rename %s to %s: %w", from, to, clustersync.ErrExists)
	}
	temporary := clustersync.Namespace{Database: to.Database, Collection: fmt.Sprintf("tmp%d.rename", s.seq)}
	listing := c.listing(from)
	listing.Namespace = temporary
	if err := s.create(listing); err != nil {
		return err
	}
	s.createIndexes(temporary, s.collections[temporary], listing.Indexes)
	for _, d := range slices.Clone(c.docs) {
		if err := s.insert(temporary, d); err != nil {
			return err
		}
	}
	if err := s.rename(temporary, to, dropTarget); err != nil {
		return err
	}
	s.drop(from)
	return nil
}

// Modify is collMod of a collection or view.
func (u *User) Modify(ns clustersync.Namespace, change bson.D) error {
	return u.write(func(s *server) error { return s.modify(ns, marshal(change)) })
}

// CreateIndex makes an index with these members besides v ({name, key, unique…}).
func (u *User) CreateIndex(ns clustersync.Namespace, spec bson.D) error {
	raw := marshal(append(bson.D{{Key: "v", Value: int32(2)}}, spec...))
	return u.write(func(s *server) error {
		c := s.collections[ns]
		if c == nil {
			return fmt.Errorf("create index on %s: %w", ns, clustersync.ErrNotFound)
		}
		isNew, err := c.addIndex(raw)
		if err == nil && isNew {
			s.emit(clustersync.Event{Op: clustersync.OpCreateIndexes, Ref: s.ref(ns), Indexes: []bson.Raw{raw}})
		}
		return err
	})
}

// DropIndex drops an index; a missing one is no error.
func (u *User) DropIndex(ns clustersync.Namespace, name string) error {
	return u.write(func(s *server) error { s.dropIndex(ns, name); return nil })
}

// ModifyIndex is collMod {index: …}.
func (u *User) ModifyIndex(ns clustersync.Namespace, name string, change bson.D) error {
	return u.write(func(s *server) error { return s.modifyIndex(ns, name, change) })
}

// Raise tells an event that the cluster cannot make by itself, such as OpShard or OpUnsupported.
func (u *User) Raise(e clustersync.Event) {
	u.server.mu.Lock()
	defer u.server.mu.Unlock()
	u.server.emit(e)
}

// Forget makes the history begin now: streams that are behind are lost.
func (u *User) Forget() {
	u.server.mu.Lock()
	defer u.server.mu.Unlock()
	u.server.seq++
	u.server.history, u.server.forgotten = nil, u.server.seq
}

// LosePlaces has places of natural reads count no more, as when another node takes over.
func (u *User) LosePlaces() {
	u.server.mu.Lock()
	defer u.server.mu.Unlock()
	u.server.lives++
}

// Docs returns the bodies of a collection in the order of their keys.
func (u *User) Docs(ns clustersync.Namespace) []bson.Raw {
	u.server.mu.Lock()
	defer u.server.mu.Unlock()
	c := u.server.collections[ns]
	if c == nil {
		return nil
	}
	var out []bson.Raw
	for _, d := range c.sorted() {
		out = append(out, slices.Clone(d.Body))
	}
	return out
}

// Collections returns the listing of everything.
func (u *User) Collections() map[clustersync.Namespace]clustersync.Collection {
	u.server.mu.Lock()
	defer u.server.mu.Unlock()
	out := map[clustersync.Namespace]clustersync.Collection{}
	for ns, c := range u.server.collections {
		out[ns] = c.listing(ns)
	}
	return out
}

// Key makes the key of an _id as a cluster in memory does.
func Key(id any) clustersync.Key {
	return keyOf(marshal(bson.D{{Key: "_id", Value: id}}).Lookup("_id"))
}

// NS is a namespace from "database.collection".
func NS(database, collection string) clustersync.Namespace {
	return clustersync.Namespace{Database: database, Collection: collection}
}
