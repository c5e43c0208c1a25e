package clustersync

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// hotDocs are documents that change so often that they are copied at commit only (spec §2.1), by the name that their collection had when
// it was first seen, and by their _id.
type hotDocs map[Namespace]map[string]bson.Raw

// add makes a document hot and reports whether it was not.
func (h hotDocs) add(ns Namespace, raw bson.Raw) bool {
	id, err := raw.LookupErr("_id")
	if err != nil {
		return false
	}
	if h[ns] == nil {
		h[ns] = map[string]bson.Raw{}
	}
	key := canonicalValue(id)
	_, known := h[ns][key]
	h[ns][key] = raw
	return !known
}

func (h hotDocs) len() (n int) {
	for _, ids := range h {
		n += len(ids)
	}
	return n
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

// Collections of the metadata: the hot documents that have changed, by their keys as the source writes them down, and all that were ever
// made hot.
const (
	hotCollection   = "hotDocuments"
	hotIDCollection = "hotDocumentIDs"
)

// hotIDRecord is a document that is hot from now on. Its _id is a hash, since an _id of a document may be long.
type hotIDRecord struct {
	ID         string `bson:"_id"`
	Database   string `bson:"database"`
	Collection string `bson:"collection"`
	Key        []byte `bson:"key"` // {"_id": …}
}

func newHotIDRecord(ns Namespace, raw bson.Raw) hotIDRecord {
	sum := sha256.Sum256([]byte(ns.Database + "\x00" + ns.Collection + "\x00" + canonicalValue(raw.Lookup("_id"))))
	return hotIDRecord{hex.EncodeToString(sum[:16]), ns.Database, ns.Collection, raw}
}

// rememberHot joins the hot documents of the settings with those of earlier runs: none may be taken away (spec §2.1), for whoever starts the
// process again may have forgotten some.
func (e *Engine) rememberHot(ctx context.Context) error {
	hot := hotDocs{}
	err := e.retries.do(ctx, "read which documents are hot", func() error {
		return e.journal.meta.All(ctx, hotIDCollection, func(raw bson.Raw) error {
			var r hotIDRecord
			if err := bson.Unmarshal(raw, &r); err != nil {
				return fmt.Errorf("decode which document is hot: %w", err)
			}
			hot.add(Namespace{r.Database, r.Collection}, slices.Clone(r.Key))
			return nil
		})
	})
	if err != nil {
		return err
	}
	before, again := hot.len(), 0
	var fresh []any
	for _, h := range e.cfg.Settings.HotDocs {
		for _, raw := range h.IDs {
			if hot.add(h.Namespace, raw) {
				fresh = append(fresh, newHotIDRecord(h.Namespace, raw))
			} else {
				again++
			}
		}
	}
	if kept := before - again; kept > 0 {
		e.cfg.Log.InfoContext(ctx, "Documents of an earlier --hotDocIDs that are not given any more stay hot", "documents", kept)
	}
	for part := range slices.Chunk(fresh, maxRecords) {
		err := e.retries.do(ctx, "store which documents are hot", func() error {
			return e.journal.meta.Put(ctx, e.journal.fence(), hotIDCollection, part...)
		})
		if err != nil {
			return err
		}
	}
	e.hot = hot
	return nil
}

// hotSeen are those documents.
type hotSeen struct {
	mu   sync.Mutex
	keys map[hotID]Key
}

type hotID struct {
	Collection string `bson:"collUUID"`
	Key        string `bson:"key"`
}

type hotRecord struct {
	ID  hotID    `bson:"_id"`
	Raw bson.Raw `bson:"raw"`
}

// loadHot reads which hot documents have changed.
func (e *Engine) loadHot(ctx context.Context) error {
	e.seen.mu.Lock()
	defer e.seen.mu.Unlock()
	e.seen.keys = map[hotID]Key{}
	return e.retries.do(ctx, "read the hot documents", func() error {
		return e.journal.meta.All(ctx, hotCollection, func(raw bson.Raw) error {
			var r hotRecord
			if err := bson.Unmarshal(raw, &r); err != nil {
				return fmt.Errorf("decode a hot document: %w", err)
			}
			e.seen.keys[r.ID] = Key{ID: r.ID.Key, Raw: slices.Clone(r.Raw)}
			return nil
		})
	})
}

// noteHot remembers that a hot document has changed, before the checkpoint can pass the change.
func (e *Engine) noteHot(ctx context.Context, m *mapping, k Key) error {
	e.seen.mu.Lock()
	defer e.seen.mu.Unlock()
	id := hotID{m.ID, k.ID}
	if _, ok := e.seen.keys[id]; ok {
		return nil
	}
	err := e.retries.do(ctx, "store a hot document", func() error {
		return e.journal.meta.Put(ctx, e.journal.fence(), hotCollection, hotRecord{id, k.Raw})
	})
	if err == nil {
		e.seen.keys[id] = k
	}
	return err
}

// copyHotDocs makes the hot documents that have changed on the destination what they are on the source.
func (e *Engine) copyHotDocs(ctx context.Context) error {
	e.seen.mu.Lock()
	keys := map[string][]Key{}
	for id, k := range e.seen.keys {
		keys[id.Collection] = append(keys[id.Collection], k)
	}
	e.seen.mu.Unlock()
	for id, all := range keys {
		m := e.catalog.get(id)
		if m == nil {
			continue
		}
		for part := range slices.Chunk(all, e.limits().BatchDocs) {
			if err := e.copyHot(ctx, m, part); err != nil {
				return err
			}
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
		d.Key, d.Format = keys[i], e.cfg.Source.Kind()
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
