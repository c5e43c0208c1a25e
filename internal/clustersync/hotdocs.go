package clustersync

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// hotDocs are documents that change so often that they are copied at commit only (spec §2.1), by the name that their collection had when
// it was first seen, and by their _id.
type hotDocs map[Namespace]map[string]bson.Raw

func newHotDocs(all []HotDocs) hotDocs {
	out := hotDocs{}
	for _, h := range all {
		if out[h.Namespace] == nil {
			out[h.Namespace] = map[string]bson.Raw{}
		}
		for _, raw := range h.IDs {
			if id, err := raw.LookupErr("_id"); err == nil {
				out[h.Namespace][canonicalValue(id)] = raw
			}
		}
	}
	return out
}

// has reports whether a document is hot.
func (h hotDocs) has(ns Namespace, k Key) bool {
	ids := h[ns]
	if len(ids) == 0 {
		return false
	}
	id, err := k.Raw.LookupErr("_id")
	if err != nil {
		return false
	}
	_, ok := ids[canonicalValue(id)]
	return ok
}

// copyHotDocs makes the hot documents on the destination what they are on the source.
func (e *Engine) copyHotDocs(ctx context.Context) error {
	for _, m := range e.catalog.all() {
		var keys []Key
		for id, raw := range e.hot[m.Origin] {
			keys = append(keys, Key{ID: id, Raw: raw})
		}
		if len(keys) == 0 || m.Type == View {
			continue
		}
		if err := e.copyHot(ctx, m, keys); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) copyHot(ctx context.Context, m *mapping, keys []Key) error {
	defer e.observe(HotDoc, time.Now())
	var docs []Document
	err := e.retries.do(ctx, "fetch hot documents", func() (err error) { docs, err = e.cfg.Source.Fetch(ctx, m.ref(), keys); return err })
	if err != nil {
		return err
	}
	intents := make([]Intent, len(keys))
	for i, d := range docs {
		if !e.cfg.Plan.Filter.Keeps(d) {
			d.Body = nil
		}
		// A document is written under its own key, which may have the fields of a shard key besides.
		if d.Body == nil || d.Key.Raw == nil {
			d.Key = keys[i]
		}
		d.Format = e.cfg.Source.Kind()
		intents[i] = Intent{Doc: d}
	}
	err = e.retries.do(ctx, "write hot documents", func() error {
		failed, err := e.cfg.Destination.Apply(ctx, m.Destination, intents, WriteOptions{})
		if err == nil && len(failed) > 0 {
			err = failed[0].Err
		}
		return err
	})
	if err != nil {
		return Errorf(NameOf(err), "copy hot documents of %s: %w", m.Source, err)
	}
	if e.verifier == nil {
		return nil
	}
	return e.retries.do(ctx, "verify hot documents", func() error { return e.verifier.Dirty(ctx, m.ref(), keys...) })
}
