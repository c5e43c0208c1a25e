package gatewaycluster

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// look compares the databases and collections that there are with those that were there, and gives the difference as events. It is also how a
// database that was deleted and made anew is noticed: all its collections are dropped and made.
func (s *stream) look(ctx context.Context) error {
	now, err := s.c.look(ctx)
	if err != nil {
		return err
	}
	at := timestamp(time.Unix(0, now.Listed))
	for _, gone := range s.at.Gone {
		s.pending = append(s.pending, clustersync.Event{Op: clustersync.OpDrop, Ref: gone.ref(), Time: at})
	}
	s.at.Gone = nil
	for _, db := range slices.Sorted(maps.Keys(s.at.Databases)) {
		was := s.at.Databases[db]
		is, there := now.Databases[db]
		another := !there || is.Instance != was.Instance
		for _, name := range slices.Sorted(maps.Keys(was.Collections)) {
			if _, kept := is.Collections[name]; another || !kept {
				s.pending = append(s.pending, clustersync.Event{Op: clustersync.OpDrop, Ref: refOf(db, name, was), Time: at})
				delete(was.Collections, name)
			}
		}
		if another {
			delete(s.at.Databases, db)
			delete(s.reached, db)
		}
	}
	for _, db := range slices.Sorted(maps.Keys(now.Databases)) {
		is := now.Databases[db]
		was, known := s.at.Databases[db]
		if !known {
			was = dbPlace{is.Instance, map[string]uint64{}}
			s.at.Databases[db] = was
		}
		for _, name := range slices.Sorted(maps.Keys(is.Collections)) {
			if _, known := was.Collections[name]; known {
				continue
			}
			coll, ok, err := s.c.collection(ctx, db, name, is)
			if err != nil {
				return err
			}
			if !ok {
				continue // gone already: the next look sees it
			}
			s.pending = append(s.pending, clustersync.Event{Op: clustersync.OpCreate, Ref: coll.Ref, Time: at, Collection: coll})
			was.Collections[name] = 0
			delete(s.reached, db)
		}
	}
	s.at.Listed = now.Listed
	return nil
}

func refOf(db, name string, at dbPlace) clustersync.Ref {
	return clustersync.Ref{Namespace: clustersync.Namespace{Database: db, Collection: name}, UUID: collectionUUID(at.Instance, name)}
}

// collection describes a collection as List does, without its size.
func (c *Cluster) collection(ctx context.Context, db, name string, at dbPlace) (clustersync.Collection, bool, error) {
	cfg, _, err := c.getConfig(ctx, db)
	if isNotFound(err) {
		return clustersync.Collection{}, false, nil
	}
	if err != nil {
		return clustersync.Collection{}, false, err
	}
	s, err := cfg.scopes()
	if err != nil || !slices.Contains(s.names(), name) {
		return clustersync.Collection{}, false, err
	}
	return clustersync.Collection{Ref: refOf(db, name, at), Type: clustersync.Plain, Options: portableOptions(cfg, s, name)}, true, nil
}
