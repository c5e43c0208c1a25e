package mongocluster

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Limits of a fetch.
const (
	maxIn         = 100 // keys of one find; a server is known whose time for a find grows with their square
	finders       = 4   // parallel finds with $in
	singleFinders = 8   // parallel finds on a server that scans for $in (spec §23.5)
)

// Fetch implements [clustersync.Source] (spec §8.4).
func (c *Cluster) Fetch(ctx context.Context, ref clustersync.Ref, keys []clustersync.Key) ([]clustersync.Document, error) {
	caps, err := c.capabilities(ctx)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	f := fetcher{c: c, ref: ref, at: ref.Namespace, keys: keys, guarded: caps.collectionUUID && ref.UUID != ""}
	for range maxMoves {
		docs, err := f.fetch(ctx)
		if err == nil {
			return docs, nil
		}
		if !errors.Is(err, errAgain) {
			return nil, err
		}
		if f.at, err = c.find(ctx, clustersync.Ref{Namespace: f.at, UUID: ref.UUID}); err != nil {
			return nil, err
		}
	}
	return nil, gone(ref)
}

// maxMoves is how often a collection is followed that is renamed again and again.
const maxMoves = 10

type fetcher struct {
	c       *Cluster
	ref     clustersync.Ref
	at      clustersync.Namespace
	keys    []clustersync.Key
	guarded bool
}

// fetch reads the documents under the collection's present name. errAgain: it has another.
func (f *fetcher) fetch(ctx context.Context) ([]clustersync.Document, error) {
	docs := make([]clustersync.Document, len(f.keys))
	read := f.many
	if f.c.scans() {
		read = f.singly
	}
	if err := read(ctx, docs); err != nil {
		if hasCode(err, codeUUIDMismatch) {
			at, err := movedTo(err, f.ref)
			if err != nil {
				return nil, err
			}
			f.at = at
			return nil, errAgain
		}
		return nil, err
	}
	if f.guarded {
		return docs, nil
	}
	// What a name says is worth something only while it is the right collection's, and a missing document most of all.
	switch held, err := f.c.holds(ctx, f.at, f.ref.UUID); {
	case err != nil:
		return nil, err
	case !held && f.ref.UUID == "":
		return nil, gone(f.ref)
	case !held:
		return nil, errAgain
	}
	return docs, nil
}

// many fetches with $in, some finds at a time.
func (f *fetcher) many(ctx context.Context, docs []clustersync.Document) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(finders)
	for start := 0; start < len(f.keys); start += maxIn {
		end := min(start+maxIn, len(f.keys))
		group.Go(func() error { return f.some(ctx, f.keys[start:end], docs[start:end]) })
	}
	return group.Wait()
}

// some fetches with one $in.
func (f *fetcher) some(ctx context.Context, keys []clustersync.Key, docs []clustersync.Document) error {
	places := make(map[string][]int, len(keys))
	ids := make(bson.A, len(keys))
	for i, key := range keys {
		docs[i].Key, docs[i].Format = key, clustersync.MongoDB
		id, err := key.Raw.LookupErr("_id")
		if err != nil {
			return f.c.failed("fetch documents", err)
		}
		name := canonical(id)
		places[name], ids[i] = append(places[name], i), id
	}
	found, err := f.c.all(ctx, "fetch documents of "+f.at.String(), f.at.Database, f.find(bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}))
	if err != nil {
		return err
	}
	for _, body := range found {
		id, err := body.LookupErr("_id")
		if err != nil {
			return f.c.failed("fetch documents", err)
		}
		for _, i := range places[canonical(id)] {
			docs[i].Body = body
		}
	}
	return nil
}

// singly fetches each document with a find of its own.
func (f *fetcher) singly(ctx context.Context, docs []clustersync.Document) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(singleFinders)
	for i, key := range f.keys {
		docs[i].Key, docs[i].Format = key, clustersync.MongoDB
		group.Go(func() error {
			id, err := key.Raw.LookupErr("_id")
			if err != nil {
				return f.c.failed("fetch document", err)
			}
			found, err := f.c.all(ctx, "fetch document of "+f.at.String(), f.at.Database, append(f.find(bson.D{{Key: "_id", Value: id}}), bson.E{Key: "limit", Value: 1}))
			if err == nil && len(found) > 0 {
				docs[i].Body = found[0]
			}
			return err
		})
	}
	return group.Wait()
}

func (f *fetcher) find(filter bson.D) bson.D {
	cmd := bson.D{{Key: "find", Value: f.at.Collection}, {Key: "filter", Value: filter}, {Key: "batchSize", Value: maxIn}, {Key: "readConcern", Value: readMajority}}
	if f.guarded {
		if uuid, ok := binaryUUID(f.ref.UUID); ok {
			cmd = append(cmd, bson.E{Key: "collectionUUID", Value: uuid})
		}
	}
	return cmd
}
