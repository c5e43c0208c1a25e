package mapping

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// ViewOptions say who is told what does not go along.
type ViewOptions struct {
	// Warn is told in words for people, without contents of documents. Nil: it goes to Log.
	Warn func(string)
	Log  *slog.Logger // nil: none
}

// Pair prepares two clusters for one sync, and says how their documents compare. Of a mixed pair the tidegate cluster is seen as a MongoDB
// cluster sees it: its names, keys and documents are written down as MongoDB's, so that filters, routing and records know one language. Clusters
// of one kind are returned as they are.
func Pair(a, b clustersync.Cluster, opts ViewOptions) (x, y clustersync.Cluster, compare clustersync.Comparison) {
	switch {
	case a.Kind() == b.Kind():
		return a, b, Comparison(a.Kind(), b.Kind())
	case a.Kind() == clustersync.Tidegate:
		return View(a, opts), b, viewComparison
	}
	return a, View(b, opts), viewComparison
}

// viewComparison brings keys of both sides to one form; documents are equal if their bytes are.
var viewComparison = clustersync.Comparison{Translate: func(k clustersync.Key, _, _ clustersync.Kind) (clustersync.Key, error) {
	id, _, err := documentID(k.Raw)
	if err != nil {
		return clustersync.Key{}, err
	}
	raw, err := keyOf(id)
	return clustersync.Key{ID: k.ID, Raw: raw}, err
}}

// View shows a tidegate cluster as a MongoDB cluster would be. Its kind stays Tidegate, for its ranges are not MongoDB's.
func View(c clustersync.Cluster, opts ViewOptions) clustersync.Cluster {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &view{Cluster: c, opts: opts}
}

// view passes through what names no collection and no document: Inspect, Ping, Mark, Reached, Oplog, BlockWrites, Metadata, Close.
type view struct {
	clustersync.Cluster
	opts ViewOptions
}

// inner is the name in tidegate.
func (v *view) inner(ns clustersync.Namespace) (clustersync.Namespace, error) {
	return namespace(ns, clustersync.MongoDB, clustersync.Tidegate)
}

func (v *view) innerRef(ref clustersync.Ref) (clustersync.Ref, error) {
	ns, err := v.inner(ref.Namespace)
	return clustersync.Ref{Namespace: ns, UUID: ref.UUID}, err
}

// outer is the name in MongoDB.
func (v *view) outer(ns clustersync.Namespace) (clustersync.Namespace, error) {
	return namespace(ns, clustersync.Tidegate, clustersync.MongoDB)
}

// List leaves options out: they mean nothing to MongoDB. Names that have no counterpart are the filter's affair: they may not be synced at all.
func (v *view) List(ctx context.Context) ([]clustersync.Collection, error) {
	all, err := v.Cluster.List(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		outer, err := v.outer(all[i].Namespace)
		if all[i].Unmappable = err; err == nil {
			all[i].Namespace = outer
		}
		all[i].Options = nil
	}
	return all, nil
}

func (v *view) Partition(ctx context.Context, c clustersync.Collection, targetBytes int64) ([]clustersync.Range, error) {
	var err error
	if c.Ref, err = v.innerRef(c.Ref); err != nil {
		return nil, err
	}
	return v.Cluster.Partition(ctx, c, targetBytes)
}

func (v *view) Read(ctx context.Context, ref clustersync.Ref, r clustersync.Range, opts clustersync.ReadOptions, fn func([]clustersync.Document) error) error {
	inner, err := v.innerRef(ref)
	if err != nil {
		return err
	}
	return v.Cluster.Read(ctx, inner, r, opts, func(docs []clustersync.Document) error {
		out := make([]clustersync.Document, 0, len(docs))
		for _, d := range docs {
			converted, err := v.document(ref.Namespace, d)
			if err != nil {
				return err
			}
			if converted.Body != nil {
				out = append(out, converted)
			}
		}
		if len(out) == 0 {
			return nil // tombstones, all of them
		}
		return fn(out)
	})
}

// document converts a document; one without a body is none.
func (v *view) document(ns clustersync.Namespace, d clustersync.Document) (clustersync.Document, error) {
	converted, err := convert(d, clustersync.MongoDB)
	if err != nil {
		return clustersync.Document{}, fmt.Errorf("%s: %w", ns, err)
	}
	if converted.Doc.Body == nil {
		return clustersync.Document{}, nil
	}
	if converted.Dropped > 0 {
		v.warn(fmt.Sprintf("A document of %s has conflicting revisions: only its winner goes to MongoDB (%d dropped).", ns, converted.Dropped))
	}
	if converted.Expires {
		v.warn(fmt.Sprintf("A document of %s has an expiry (_exp), which does not go to MongoDB.", ns))
	}
	key, err := outerKey(d.Key)
	converted.Doc.Key = key
	return converted.Doc, err
}

// outerKey is a key as MongoDB writes it down, the same for all that MongoDB takes for equal.
func outerKey(k clustersync.Key) (clustersync.Key, error) {
	return translate(k, clustersync.Tidegate, clustersync.MongoDB)
}

func (v *view) warn(text string) {
	if v.opts.Warn != nil {
		v.opts.Warn(text)
		return
	}
	v.opts.Log.Warn(text)
}

func (v *view) Fetch(ctx context.Context, ref clustersync.Ref, keys []clustersync.Key) ([]clustersync.Document, error) {
	inner, err := v.innerRef(ref)
	if err != nil {
		return nil, err
	}
	theirs := make([]clustersync.Key, len(keys))
	for i, k := range keys {
		if theirs[i], err = translate(k, clustersync.MongoDB, clustersync.Tidegate); err != nil {
			return nil, err
		}
	}
	docs, err := v.Cluster.Fetch(ctx, inner, theirs)
	if err != nil {
		return nil, err
	}
	for i := range docs {
		if docs[i].Body == nil {
			continue
		}
		if docs[i], err = v.document(ref.Namespace, docs[i]); err != nil {
			return nil, err
		}
		if docs[i].Body != nil {
			docs[i].Key.ID = keys[i].ID // it is the caller's
		}
	}
	return docs, nil
}

// Create leaves out what a tidegate collection has no counterpart of, and says so.
func (v *view) Create(ctx context.Context, c clustersync.Collection) error {
	var err error
	name := c.Namespace
	if c.Ref, err = v.innerRef(c.Ref); err != nil {
		return err
	}
	if c.Capped {
		v.warn(fmt.Sprintf("%s is capped; in tidegate it is not.", name))
	}
	c.Options, c.Indexes, c.Capped = nil, nil, false
	return v.Cluster.Create(ctx, c)
}

func (v *view) Drop(ctx context.Context, ns clustersync.Namespace) error {
	inner, err := v.inner(ns)
	if err != nil {
		return err
	}
	return v.Cluster.Drop(ctx, inner)
}

func (v *view) Rename(ctx context.Context, from, to clustersync.Namespace) error {
	a, err := v.inner(from)
	b, err2 := v.inner(to)
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	return v.Cluster.Rename(ctx, a, b)
}

func (v *view) Modify(ctx context.Context, ns clustersync.Namespace, change bson.Raw) error {
	inner, err := v.inner(ns)
	if err != nil {
		return err
	}
	return v.Cluster.Modify(ctx, inner, change)
}

func (v *view) CreateIndexes(ctx context.Context, ns clustersync.Namespace, specs []bson.Raw) ([]clustersync.RefusedIndex, error) {
	inner, err := v.inner(ns)
	if err != nil {
		return nil, err
	}
	return v.Cluster.CreateIndexes(ctx, inner, specs)
}

func (v *view) DropIndex(ctx context.Context, ns clustersync.Namespace, name string) error {
	inner, err := v.inner(ns)
	if err != nil {
		return err
	}
	return v.Cluster.DropIndex(ctx, inner, name)
}

func (v *view) ModifyIndex(ctx context.Context, ns clustersync.Namespace, name string, change bson.D) error {
	inner, err := v.inner(ns)
	if err != nil {
		return err
	}
	return v.Cluster.ModifyIndex(ctx, inner, name, change)
}

func (v *view) Insert(ctx context.Context, ns clustersync.Namespace, docs []clustersync.Document, opts clustersync.WriteOptions) (clustersync.InsertResult, error) {
	inner, err := v.inner(ns)
	if err != nil {
		return clustersync.InsertResult{}, err
	}
	return v.Cluster.Insert(ctx, inner, docs, opts)
}

// Apply sees to it that what is to be deleted is known to be MongoDB's: it gets a tombstone.
func (v *view) Apply(ctx context.Context, ns clustersync.Namespace, intents []clustersync.Intent, opts clustersync.WriteOptions) ([]clustersync.Failure, error) {
	inner, err := v.inner(ns)
	if err != nil {
		return nil, err
	}
	theirs := make([]clustersync.Intent, len(intents))
	for i, in := range intents {
		in.Doc.Format = clustersync.MongoDB
		theirs[i] = in
	}
	return v.Cluster.Apply(ctx, inner, theirs, opts)
}

func (v *view) ApplyDelta(ctx context.Context, ns clustersync.Namespace, key clustersync.Key, delta bson.Raw) error {
	inner, err := v.inner(ns)
	if err != nil {
		return err
	}
	return v.Cluster.ApplyDelta(ctx, inner, key, delta)
}

// Amend passes on to a source that looks for collections.
func (v *view) Amend(ctx context.Context, from clustersync.Position, known []clustersync.Known, synced func(clustersync.Namespace) bool,
) (clustersync.Position, error) {
	source, ok := v.Cluster.(clustersync.Amender)
	if !ok {
		return from, nil
	}
	inner := make([]clustersync.Known, len(known))
	for i, k := range known {
		var err error
		inner[i].Made = k.Made
		if inner[i].Ref, err = v.innerRef(k.Ref); err != nil {
			return clustersync.Position{}, err
		}
	}
	return source.Amend(ctx, from, inner, func(ns clustersync.Namespace) bool {
		outer, err := v.outer(ns)
		return err == nil && synced(outer)
	})
}

func (v *view) Changes(ctx context.Context, from clustersync.Position) (clustersync.Stream, error) {
	s, err := v.Cluster.Changes(ctx, from)
	if err != nil {
		return nil, err
	}
	return &viewStream{v, s}, nil
}

// viewStream writes events down as MongoDB does.
type viewStream struct {
	v *view
	clustersync.Stream
}

func (s *viewStream) Next(ctx context.Context, wait time.Duration) ([]clustersync.Event, clustersync.Position, error) {
	events, at, err := s.Stream.Next(ctx, wait)
	if err != nil {
		return nil, at, err
	}
	for i := range events {
		if err := s.v.event(&events[i]); err != nil {
			return nil, at, err
		}
	}
	return events, at, nil
}

// event writes an event down as MongoDB does. What cannot be written down may be none of the sync's affair: a collection is left under its own name,
// and a document is only said to be touched, so that it is refused when it is fetched.
func (v *view) event(e *clustersync.Event) error {
	outer, nameless := v.outer(e.Ref.Namespace)
	if nameless == nil {
		e.Ref.Namespace = outer
	}
	if e.Op == clustersync.OpCreate {
		e.Collection.Namespace, e.Collection.Options, e.Collection.Unmappable = e.Ref.Namespace, nil, nameless
	}
	if e.DDL() || nameless != nil {
		return nil
	}
	if e.Doc.Body != nil {
		converted, err := v.document(e.Ref.Namespace, e.Doc)
		switch {
		case err == nil && converted.Body != nil:
			e.Doc = converted
			return nil
		case err == nil:
			return unmappable("", "an event with a document that is deleted")
		case !errors.Is(err, clustersync.ErrUnmappable):
			return err
		}
		e.Op, e.Doc.Body = clustersync.OpTouched, nil
	}
	e.Doc.Format = clustersync.MongoDB
	key, err := outerKey(e.Doc.Key)
	if err == nil {
		e.Doc.Key = key
	} else if !errors.Is(err, clustersync.ErrUnmappable) {
		return err
	}
	return nil
}
