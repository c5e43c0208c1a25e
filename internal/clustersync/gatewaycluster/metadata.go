package gatewaycluster

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mapping"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// metadata keeps records as documents of a database of its own. A record's document ID is its collection and a hash of its id; the
// record itself is in a member, as the mapping writes BSON down. A write names the revision that it replaces, so that two writers cannot both
// believe that they were the last.
type metadata struct {
	c  *Cluster
	db string

	mu      sync.Mutex
	made    bool             // the database is known to be there
	leaseOf map[int64]string // of fences that were given here
}

// metadataConfig keeps as little history as can be: records are written often.
const metadataConfig = `{"revs_limit":1,"old_rev_expiry_seconds":0}`

// Limits of metadata.
const (
	recordTries = 20 // how often a record is written again because somebody else wrote it meanwhile
	recordBatch = 500
)

func newMetadata(c *Cluster) *metadata {
	return &metadata{c: c, db: c.opts.MetadataDB, leaseOf: map[int64]string{}}
}

func (m *metadata) ns() clustersync.Namespace {
	return clustersync.Namespace{Database: m.db, Collection: defaultCollection}
}

// stored is a record, or a lease, as a document.
type stored struct {
	ID         string          `json:"_id"`
	Rev        string          `json:"_rev,omitempty"`
	Deleted    bool            `json:"_deleted,omitempty"`
	Collection string          `json:"collection,omitempty"`
	Fence      int64           `json:"fence"`
	Record     json.RawMessage `json:"record,omitempty"`

	Owner   string `json:"owner,omitempty"`
	Expires int64  `json:"expires,omitempty"` // ms since 1970
}

const (
	recordPrefix = "record:"
	leasePrefix  = "lease:"
	fenceDoc     = "fence"
)

// docID names a record. Ids that MongoDB takes for equal are one.
func docID(collection string, id any) (string, error) {
	raw, err := bson.Marshal(bson.D{{Key: "_id", Value: bson.D{{Key: "id", Value: id}}}})
	if err != nil {
		return "", fmt.Errorf("encode the id of a record: %w", err)
	}
	canonical, err := mapping.KeyText(raw)
	if err != nil {
		return "", err
	}
	return recordPrefix + collection + ":" + fmt.Sprintf("%x", sha256.Sum256([]byte(canonical)))[:40], nil
}

// Exists reports whether there are records.
func (m *metadata) Exists(ctx context.Context) (bool, error) {
	found := errors.New("found")
	query := url.Values{"startkey": {quote(recordPrefix)}, "endkey": {quote(recordPrefix + "\uffff")}, "limit": {"1"}}
	err := m.c.rows(ctx, m.ns(), query, nil, func(row) error { return found })
	switch {
	case errors.Is(err, found):
		return true, nil
	case isNotFound(err):
		return false, nil
	}
	return false, err
}

// Get reads a record.
func (m *metadata) Get(ctx context.Context, collection string, id, out any) error {
	name, err := docID(collection, id)
	if err != nil {
		return err
	}
	s, err := m.read(ctx, name)
	if err != nil {
		return fmt.Errorf("get a record of %s: %w", collection, err)
	}
	if s.Rev == "" {
		return fmt.Errorf("get a record of %s: %w", collection, clustersync.ErrNotFound)
	}
	raw, err := s.record()
	if err != nil {
		return err
	}
	if err := bson.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("decode a record of %s: %w", collection, err)
	}
	return nil
}

// record is the record in a document.
func (s stored) record() (bson.Raw, error) {
	doc := jsondoc.AppendDoc(nil, []byte("{}"), jsondoc.Member{Name: "_id", Value: []byte(`"x"`)}, jsondoc.Member{Name: "record", Value: s.Record})
	raw, err := mapping.DocumentToBSON(doc)
	if err != nil {
		return nil, fmt.Errorf("decode record %q: %w", s.ID, err)
	}
	record, ok := raw.Lookup("record").DocumentOK()
	if !ok {
		return nil, fmt.Errorf("decode record %q: it is no document", s.ID)
	}
	return record, nil
}

// read reads a document; its Rev is "" if there is none.
func (m *metadata) read(ctx context.Context, id string) (stored, error) {
	all, err := m.readAll(ctx, []string{id})
	if err != nil {
		return stored{}, err
	}
	return all[0], nil
}

// readAll reads documents, in order.
func (m *metadata) readAll(ctx context.Context, ids []string) ([]stored, error) {
	out := make([]stored, 0, len(ids))
	err := m.c.rows(ctx, m.ns(), url.Values{"include_docs": {"true"}}, ids, func(r row) error {
		s := stored{ID: r.Key}
		if r.Doc != nil {
			if err := json.Unmarshal(r.Doc, &s); err != nil {
				return fmt.Errorf("decode record %q: %w", r.Key, err)
			}
		} else if !r.missing() {
			return fmt.Errorf("read record %q: %s (%d)", r.Key, r.Error, r.Status)
		}
		out = append(out, s)
		return nil
	})
	if isNotFound(err) { // no database
		out = out[:0]
		for _, id := range ids {
			out = append(out, stored{ID: id})
		}
		return out, nil
	}
	if err == nil && len(out) != len(ids) {
		err = fmt.Errorf("read records: %d rows for %d keys", len(out), len(ids))
	}
	return out, err
}

// All gives the records of a collection.
func (m *metadata) All(ctx context.Context, collection string, fn func(bson.Raw) error) error {
	prefix := recordPrefix + collection + ":"
	query := url.Values{"include_docs": {"true"}, "startkey": {quote(prefix)}, "endkey": {quote(prefix + "\uffff")}}
	err := m.c.rows(ctx, m.ns(), query, nil, func(r row) error {
		var s stored
		if err := json.Unmarshal(r.Doc, &s); err != nil {
			return fmt.Errorf("decode record %q: %w", r.ID, err)
		}
		raw, err := s.record()
		if err != nil {
			return err
		}
		return fn(raw)
	})
	if isNotFound(err) {
		return nil
	}
	return err
}

// Put stores records.
func (m *metadata) Put(ctx context.Context, fence int64, collection string, records ...any) error {
	docs := make([]stored, len(records))
	for i, r := range records {
		raw, err := bson.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode a record of %s: %w", collection, err)
		}
		id, err := bson.Raw(raw).LookupErr("_id")
		if err != nil {
			return fmt.Errorf("a record of %s has no _id", collection)
		}
		if docs[i].ID, err = docID(collection, id); err != nil {
			return err
		}
		if docs[i].Record, err = recordJSON(raw); err != nil {
			return fmt.Errorf("encode a record of %s: %w", collection, err)
		}
		docs[i].Collection, docs[i].Fence = collection, fence
	}
	if err := m.make(ctx); err != nil {
		return err
	}
	return m.write(ctx, fence, docs)
}

func recordJSON(raw bson.Raw) (json.RawMessage, error) {
	doc, err := bson.Marshal(bson.D{{Key: "_id", Value: "x"}, {Key: "record", Value: raw}})
	if err != nil {
		return nil, err
	}
	_, body, err := mapping.DocumentToJSON(doc)
	if err != nil {
		return nil, err
	}
	record, _ := jsondoc.Get(body, "record")
	return record, nil
}

// Delete removes records.
func (m *metadata) Delete(ctx context.Context, fence int64, collection string, ids ...any) error {
	docs := make([]stored, len(ids))
	for i, id := range ids {
		name, err := docID(collection, id)
		if err != nil {
			return err
		}
		docs[i] = stored{ID: name, Deleted: true, Fence: fence}
	}
	err := m.write(ctx, fence, docs)
	if isNotFound(err) { // no database
		return nil
	}
	return err
}

// write writes documents, a batch at a time.
func (m *metadata) write(ctx context.Context, fence int64, docs []stored) error {
	for start := 0; start < len(docs); start += recordBatch {
		if err := m.writeBatch(ctx, fence, docs[start:min(start+recordBatch, len(docs))]); err != nil {
			return err
		}
	}
	return nil
}

// writeBatch writes each document on top of what it has read, unless that is a younger fence's. The lease is looked at after the write, too: who
// lost it meanwhile has to stop, whatever it wrote last.
func (m *metadata) writeBatch(ctx context.Context, fence int64, docs []stored) error {
	todo := docs
	for range recordTries {
		if err := m.held(ctx, fence); err != nil {
			return err
		}
		ids := make([]string, len(todo))
		for i, d := range todo {
			ids[i] = d.ID
		}
		now, err := m.readAll(ctx, ids)
		if err != nil {
			return err
		}
		if todo, err = m.replace(ctx, fence, todo, now); err != nil {
			return err
		}
		if len(todo) == 0 {
			return m.held(ctx, fence)
		}
	}
	return fmt.Errorf("write records: others write them all the time: %w", clustersync.ErrUnreachable)
}

// replace writes documents in place of those that were read and returns those that somebody else has written meanwhile.
func (m *metadata) replace(ctx context.Context, fence int64, docs, now []stored) (again []stored, err error) {
	var b bulk
	for i, d := range docs {
		if now[i].Fence > fence && !m.gave(fence) {
			return nil, fmt.Errorf("write a record under fence %d: %w", fence, clustersync.ErrFenced)
		}
		if d.Deleted && now[i].Rev == "" {
			continue
		}
		d.Rev = now[i].Rev
		item, err := json.Marshal(d)
		if err != nil {
			return nil, fmt.Errorf("encode record %q: %w", d.ID, err)
		}
		b.add(i, item)
	}
	var failed error
	err = m.c.send(ctx, m.ns(), &b, func(i int, err error) {
		if isStatus(err, http.StatusConflict) {
			again = append(again, docs[i])
		} else {
			failed = fmt.Errorf("write record %q: %w", docs[i].ID, err)
		}
	})
	return again, errors.Join(err, failed)
}

// make makes the database if there is none.
func (m *metadata) make(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.made {
		return nil
	}
	_, err := m.c.client.do(ctx, call{method: http.MethodPut, path: dbPath(m.db), body: []byte(metadataConfig)}, nil)
	if err != nil && !isStatus(err, http.StatusPreconditionFailed) {
		return fmt.Errorf("make the metadata database %q: %w", m.db, err)
	}
	m.made = true
	return nil
}

// Erase removes the database.
func (m *metadata) Erase(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made = false
	_, err := m.c.client.do(ctx, call{method: http.MethodDelete, path: dbPath(m.db), query: url.Values{"purge": {"true"}}}, nil)
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("erase the metadata: %w", err)
	}
	return nil
}
