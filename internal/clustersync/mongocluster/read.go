package mongocluster

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Batches of a reader that is told nothing else (spec §7.4).
const (
	defaultBatchDocs  = 10_000
	defaultBatchBytes = 8 << 20
)

// Codes with which a reader's cursor dies though the documents may still be there (spec §7.4): renamed, dropped, or forgotten.
var cursorDied = []int{codeNamespaceNotFound, codeQueryPlanKilled, codeCursorNotFound, codeUUIDMismatch, 134, 136}

// errAgain ends a cursor that another has to follow: the collection has moved, or bounds were not kept to.
var errAgain = errors.New("read again")

// Read implements [clustersync.Source] (spec §7.4).
func (c *Cluster) Read(ctx context.Context, ref clustersync.Ref, r clustersync.Range, opts clustersync.ReadOptions, fn func([]clustersync.Document) error) error {
	caps, err := c.capabilities(ctx)
	if err != nil {
		return err
	}
	if opts.BatchDocs <= 0 {
		opts.BatchDocs = defaultBatchDocs
	}
	if opts.BatchBytes <= 0 {
		opts.BatchBytes = defaultBatchBytes
	}
	rd := &reader{c: c, ref: ref, at: ref.Namespace, bounds: r, opts: opts, fn: fn, guarded: caps.collectionUUID && ref.UUID != ""}
	if err := rd.locate(ctx); err != nil {
		return err
	}
	if opts.Natural && opts.Place != nil && !caps.sharded && caps.setName != "" {
		if err := rd.readNatural(ctx, caps.sessions); !errors.Is(err, errNoPlaces) {
			return err
		}
	}
	return rd.run(ctx)
}

// reader reads a range to its end, over as many cursors as it takes.
type reader struct {
	c        *Cluster
	ref      clustersync.Ref
	at       clustersync.Namespace // where the collection is
	collated bool                  // its keys have another order than compare's
	guarded  bool                  // the server itself watches over the UUID
	bounds   clustersync.Range
	opts     clustersync.ReadOptions
	fn       func([]clustersync.Document) error

	given     int64          // documents given to fn
	last      bson.RawValue  // the key of the last one
	start     *bson.RawValue // the key behind which the present cursor reads; nil if it reads from the beginning
	unordered bool           // documents did not come in the order of keys, so there is no place to go on from
	fails     bool           // fn has failed
}

// locate finds the collection and what must be known of it.
func (r *reader) locate(ctx context.Context) error {
	at, err := r.c.find(ctx, clustersync.Ref{Namespace: r.at, UUID: r.ref.UUID})
	if err != nil {
		return err
	}
	r.at = at
	coll, err := r.c.lookUp(ctx, at)
	if errors.Is(err, clustersync.ErrNotFound) {
		return gone(r.ref)
	}
	r.collated = isCollated(coll.Options)
	return err
}

func (r *reader) run(ctx context.Context) error {
	deadline := time.Now().Add(r.c.opts.Retry)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		before := r.given
		err := r.cursor(ctx)
		if err == nil || r.fails || ctx.Err() != nil {
			return err
		}
		if r.given > before {
			deadline, pause = time.Now().Add(r.c.opts.Retry), firstPause
		}
		again := errors.Is(err, errAgain) || hasCode(err, cursorDied...)
		switch {
		case !again && !errors.Is(err, clustersync.ErrUnreachable):
			return err
		case (r.opts.Natural || r.unordered) && r.given > 0, time.Now().After(deadline):
			return unreachable(err) // there is no place to go on from
		}
		if err := waitFor(ctx, pause); err != nil {
			return err
		}
		if again {
			if err := r.locate(ctx); err != nil {
				return err
			}
		}
	}
}

// cursor reads with one cursor what is left of the range.
func (r *reader) cursor(ctx context.Context) error {
	mode := r.c.rangeMode()
	if r.start = nil; r.given > 0 {
		last := r.last
		r.start = &last
	}
	cursor, err := r.c.client.Database(r.at.Database).RunCommandCursor(ctx, r.command(mode))
	if err != nil {
		if r.opts.Natural || !r.bounded() || !r.c.weaken(mode, err) {
			return r.c.failed("read "+r.at.String(), err)
		}
		return errAgain
	}
	defer closeCursor(ctx, cursor)
	b := batch{}
	for cursor.Next(ctx) {
		keep, err := r.keeps(cursor.Current, mode)
		if err != nil {
			return err
		}
		if !keep {
			continue
		}
		if err := b.add(cursor.Current); err != nil {
			return r.c.failed("read "+r.at.String(), err)
		}
		if len(b.docs) >= r.opts.BatchDocs || b.bytes >= r.opts.BatchBytes {
			if err := r.flush(ctx, &b); err != nil {
				return err
			}
		}
	}
	if err := cursor.Err(); err != nil {
		return r.c.failed("read "+r.at.String(), err)
	}
	return r.flush(ctx, &b)
}

// flush gives a batch away, once it is sure that it is of the right collection.
func (r *reader) flush(ctx context.Context, b *batch) error {
	if !r.guarded && r.ref.UUID != "" {
		ok, err := r.c.holds(ctx, r.at, r.ref.UUID)
		if err != nil {
			return err
		}
		if !ok {
			return errAgain
		}
	}
	if len(b.docs) == 0 {
		return nil
	}
	docs := b.docs
	*b = batch{}
	if err := r.fn(docs); err != nil {
		r.fails = true
		return err
	}
	for _, doc := range docs {
		id, _ := doc.Key.Raw.LookupErr("_id")
		if r.given > 0 && !r.collated && compare(r.last, id) >= 0 {
			r.unordered = true
		}
		r.given, r.last = r.given+1, id
	}
	return nil
}

func (r *reader) bounded() bool { return r.bounds.From != nil || r.bounds.To != nil || r.start != nil }

// ends are the bounds of the present cursor.
func (r *reader) ends() (from, to *bson.RawValue) {
	from, to = bound(r.bounds.From), bound(r.bounds.To)
	if r.start != nil {
		from = r.start
	}
	return from, to
}

// command is the find that reads what is left, in the way of the mode.
func (r *reader) command(mode rangeMode) bson.D {
	cmd := bson.D{{Key: "find", Value: r.at.Collection}}
	from, to := r.ends()
	switch {
	case r.opts.Natural:
		if mode == rangeMinMax {
			cmd = append(cmd, bson.E{Key: "hint", Value: bson.D{{Key: "$natural", Value: 1}}})
		}
	case from == nil && to == nil || mode == rangeFilter:
		cmd = append(cmd, bson.E{Key: "sort", Value: byID})
	case mode == rangeMinMax:
		cmd = append(cmd, bson.E{Key: "hint", Value: byID})
		if from != nil {
			cmd = append(cmd, bson.E{Key: "min", Value: bson.D{{Key: "_id", Value: *from}}})
		}
		if to != nil {
			cmd = append(cmd, bson.E{Key: "max", Value: bson.D{{Key: "_id", Value: *to}}})
		}
	default:
		cmd = append(cmd, bson.E{Key: "filter", Value: within(from, to)}, bson.E{Key: "sort", Value: byID})
	}
	cmd = append(cmd, bson.E{Key: "batchSize", Value: min(r.opts.BatchDocs, defaultBatchDocs)}, bson.E{Key: "readConcern", Value: readMajority})
	if r.guarded {
		if uuid, ok := binaryUUID(r.ref.UUID); ok {
			cmd = append(cmd, bson.E{Key: "collectionUUID", Value: uuid})
		}
	}
	return cmd
}

// keeps reports whether a document is in the range and was not given before. A server that sends others has ignored the bounds
// and is not believed again.
func (r *reader) keeps(body bson.Raw, mode rangeMode) (bool, error) {
	if r.opts.Natural || !r.bounded() {
		return true, nil
	}
	id, err := body.LookupErr("_id")
	if err != nil {
		return false, r.c.failed("read "+r.at.String(), err)
	}
	if r.start != nil && canonical(id) == canonical(*r.start) {
		return false, nil
	}
	if r.collated {
		return true, nil
	}
	from, to := r.ends()
	if from != nil && compare(id, *from) < 0 || to != nil && compare(id, *to) >= 0 {
		if r.c.weaken(mode, errIgnored) {
			return false, errAgain
		}
		return false, nil
	}
	return true, nil
}

// batch is a batch of documents that keep their own bytes.
type batch struct {
	docs  []clustersync.Document
	bytes int
	chunk []byte
}

// chunkBytes is how much memory is taken at once for copies of documents.
const chunkBytes = 256 << 10

func (b *batch) add(body bson.Raw) error {
	if len(b.chunk)+len(body) > cap(b.chunk) {
		b.chunk = make([]byte, 0, max(chunkBytes, len(body)))
	}
	start := len(b.chunk)
	b.chunk = append(b.chunk, body...)
	doc, err := documentOf(bson.Raw(b.chunk[start:len(b.chunk):len(b.chunk)]))
	if err != nil {
		return err
	}
	b.docs, b.bytes = append(b.docs, doc), b.bytes+len(body)
	return nil
}
