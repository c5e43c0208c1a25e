package gatewaycluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Limits of reading.
const (
	maxRanges    = 10_000
	minRangeDocs = 100
	fetchedKeys  = 500 // asked for with one request
)

// Partition cuts a collection by document IDs. It walks over all IDs, without their documents.
func (c *Cluster) Partition(ctx context.Context, coll clustersync.Collection, targetBytes int64) ([]clustersync.Range, error) {
	average, err := c.averageBytes(ctx, coll.Namespace)
	if err != nil {
		return nil, c.gone(ctx, coll.Ref, err)
	}
	every := max(targetBytes/max(average, 1), minRangeDocs)
	var bounds []string
	var n int64
	query := url.Values{"deleted": {"true"}}
	err = c.rows(ctx, coll.Namespace, query, nil, func(r row) error {
		if n++; n%every == 0 {
			bounds = append(bounds, r.ID)
			if len(bounds) >= maxRanges {
				bounds, every = thin(bounds), 2*every
			}
		}
		return nil
	})
	if err != nil {
		return nil, c.gone(ctx, coll.Ref, err)
	}
	c.mu.Lock()
	c.sizes[coll.UUID] = sizes{n, n * average}
	c.mu.Unlock()
	if n%every < every/2 && len(bounds) > 0 {
		bounds = bounds[:len(bounds)-1] // a short rest goes with the range before
	}
	ranges := make([]clustersync.Range, 0, len(bounds)+1)
	var from bson.Raw
	for _, id := range bounds {
		to := bound(id)
		ranges = append(ranges, clustersync.Range{From: from, To: to})
		from = to
	}
	return append(ranges, clustersync.Range{From: from}), nil
}

// thin keeps every other bound.
func thin(bounds []string) []string {
	kept := bounds[:0]
	for i := 1; i < len(bounds); i += 2 {
		kept = append(kept, bounds[i])
	}
	return kept
}

// bound is a document ID as a bound, and as a key.
func bound(id string) bson.Raw {
	raw, err := bson.Marshal(bson.D{{Key: "_id", Value: id}})
	if err != nil { // a string always can be
		return nil
	}
	return raw
}

// keyOf is the key of a document.
func keyOf(id string) clustersync.Key { return clustersync.Key{ID: id, Raw: bound(id)} }

// docIDOf reads a bound or a key.
func docIDOf(raw bson.Raw) (string, error) {
	id, ok := raw.Lookup("_id").StringValueOK()
	if !ok {
		return "", fmt.Errorf("a key that is no document ID: %w", clustersync.ErrUnmappable)
	}
	return id, nil
}

// Read gives the documents of a range, tombstones too, in the order of their IDs (also when the order of insertion is asked for, which
// means nothing to documents that keep their sequence no longer than until their next write).
func (c *Cluster) Read(ctx context.Context, ref clustersync.Ref, r clustersync.Range, opts clustersync.ReadOptions, fn func([]clustersync.Document) error) error {
	if err := c.same(ctx, ref); err != nil {
		return err
	}
	b := batch{c: c, ns: ref.Namespace, opts: opts, fn: fn}
	from, to, err := bounds(r)
	if err != nil {
		return err
	}
	for try := 0; ; {
		query := documentQuery()
		query.Set("inclusive_end", "false")
		if from != "" {
			query.Set("startkey", quote(from))
		}
		if to != "" {
			query.Set("endkey", quote(to))
		}
		// Whole pages, so that what is written meanwhile is seen by the next one and no answer stays open for long.
		query.Set("limit", strconv.Itoa(pageDocs))
		n := 0
		err := c.rows(ctx, ref.Namespace, query, nil, func(r row) error {
			n, from = n+1, r.ID+"\x00"
			return b.add(ctx, r)
		})
		switch {
		case err != nil && b.failed == nil && n > 0 && try < len(c.client.pauses) && ctx.Err() == nil && !isFinal(err):
			try++ // the answer broke off: go on behind what has come
			continue
		case err != nil:
			return c.gone(ctx, ref, err)
		case n < pageDocs:
			if err := b.flush(); err != nil {
				return err
			}
			return c.same(ctx, ref)
		}
		try = 0
	}
}

// pageDocs is how many documents one request asks for.
const pageDocs = 1000

func bounds(r clustersync.Range) (from, to string, err error) {
	if r.From != nil {
		if from, err = docIDOf(r.From); err != nil {
			return "", "", err
		}
	}
	if r.To != nil {
		to, err = docIDOf(r.To)
	}
	return from, to, err
}

func quote(id string) string {
	b, err := json.Marshal(id)
	if err != nil { // a string always can be
		return `""`
	}
	return string(b)
}

// batch collects documents for the one who reads.
type batch struct {
	c      *Cluster
	ns     clustersync.Namespace
	opts   clustersync.ReadOptions
	fn     func([]clustersync.Document) error
	docs   []clustersync.Document
	bytes  int
	failed error // of fn
}

func (b *batch) add(ctx context.Context, r row) error {
	doc, err := b.c.document(ctx, b.ns, r)
	if err != nil || doc.Body == nil {
		return err
	}
	full := len(b.docs) > 0 && b.opts.BatchBytes > 0 && b.bytes+len(doc.Body) > b.opts.BatchBytes
	if full || b.opts.BatchDocs > 0 && len(b.docs) >= b.opts.BatchDocs {
		if err := b.flush(); err != nil {
			return err
		}
	}
	b.docs, b.bytes = append(b.docs, doc), b.bytes+len(doc.Body)
	return nil
}

func (b *batch) flush() error {
	if len(b.docs) == 0 {
		return nil
	}
	b.failed = b.fn(b.docs)
	b.docs, b.bytes = nil, 0
	return b.failed
}

// document makes a document of a row; a zero one if there is none.
func (c *Cluster) document(ctx context.Context, ns clustersync.Namespace, r row) (clustersync.Document, error) {
	switch {
	case r.missing():
		return clustersync.Document{}, nil
	case r.Error != "" || r.Doc == nil:
		return clustersync.Document{}, fmt.Errorf("read document %q of %s: %s (%d)", r.Key, ns, r.Error, r.Status)
	}
	body, err := c.leaves(ctx, ns, r)
	if err != nil || body == nil {
		return clustersync.Document{}, err
	}
	return clustersync.Document{Key: keyOf(r.ID), Format: clustersync.Tidegate, Body: body}, nil
}

// Fetch returns documents as they are now, tombstones too.
func (c *Cluster) Fetch(ctx context.Context, ref clustersync.Ref, keys []clustersync.Key) ([]clustersync.Document, error) {
	out := make([]clustersync.Document, 0, len(keys))
	for start := 0; start < len(keys); start += fetchedKeys {
		some := keys[start:min(start+fetchedKeys, len(keys))]
		ids := make([]string, len(some))
		for i, k := range some {
			id, err := docIDOf(k.Raw)
			if err != nil {
				return nil, err
			}
			ids[i] = id
		}
		got, err := c.fetch(ctx, ref.Namespace, ids)
		if err != nil {
			return nil, c.gone(ctx, ref, err)
		}
		out = append(out, got...)
	}
	// Only now: what was missing may have been so because the collection is another one.
	return out, c.same(ctx, ref)
}

// fetch asks for some documents; an answer that breaks off is asked for again.
func (c *Cluster) fetch(ctx context.Context, ns clustersync.Namespace, ids []string) ([]clustersync.Document, error) {
	for try := 0; ; try++ {
		var out []clustersync.Document
		err := c.rows(ctx, ns, documentQuery(), ids, func(r row) error {
			doc, err := c.document(ctx, ns, r)
			out = append(out, doc)
			return err
		})
		switch {
		case err == nil && len(out) != len(ids):
			return nil, fmt.Errorf("read %s: %d rows for %d keys", ns, len(out), len(ids))
		case err == nil || try >= len(c.client.pauses) || isFinal(err) || ctx.Err() != nil:
			return out, err
		}
	}
}
