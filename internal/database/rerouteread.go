package database

import (
	"bytes"
	"fmt"

	"github.com/tidegate/tidegate/internal/store"
)

// docPage is a run of documents in order of their IDs, read from one snapshot with all their bodies.
type docPage struct {
	docs []storedDoc
	last string // the ID of the last one
	more bool   // there may be others behind it
}

// docReader reads documents with their bodies, page by page, along two iterators.
type docReader struct {
	maxDocs, maxBytes int // of one page; at least one document is read
}

// read reads the documents after an ID ("": from the first) of a collection from a snapshot.
func (d docReader) read(r store.Reader, c *collection, after string) (*docPage, error) {
	physical, err := c.physical(r)
	if err != nil {
		return nil, err
	}
	docPrefix := c.docPrefix(physical)
	bodyPrefix := store.NewKey(c.space, store.KindBody).Collection(c.id)
	rng, bodyRng := store.Prefix(docPrefix), store.Prefix(bodyPrefix)
	if after != "" {
		rng.Start = store.PrefixEnd(docPrefix.Clone().Name(after))
		bodyRng.Start = store.PrefixEnd(bodyPrefix.Clone().Name(after))
	}
	docs, bodies := r.Scan(rng), r.Scan(bodyRng)
	defer docs.Close()
	defer bodies.Close()
	page := &docPage{last: after, docs: make([]storedDoc, 0, d.maxDocs)}
	size := 0
	for docs.Next() {
		if len(page.docs) == d.maxDocs || size > d.maxBytes {
			page.more = true
			return page, nil
		}
		name := docs.Key()[len(docPrefix):]
		id, _, err := store.CutName(name)
		if err != nil {
			return nil, err
		}
		doc := storedDoc{id: id, record: bytes.Clone(docs.Value())}
		if err := doc.readBodies(bodies, append(bodyPrefix[:len(bodyPrefix):len(bodyPrefix)], name...)); err != nil {
			return nil, err
		}
		size += doc.size()
		page.docs, page.last = append(page.docs, doc), id
	}
	return page, docs.Err()
}

// readBodies reads the bodies whose keys begin with prefix, which lies ahead of the iterator.
func (d *storedDoc) readBodies(bodies store.Iterator, prefix store.Key) error {
	for ok := bodies.SeekGE(prefix); ok && bytes.HasPrefix(bodies.Key(), prefix); ok = bodies.Next() {
		rev, _, err := store.CutName(bodies.Key()[len(prefix):])
		if err != nil {
			return fmt.Errorf("read revisions of %q: %w", d.id, err)
		}
		d.bodies = append(d.bodies, storedBody{rev: []byte(rev), raw: bytes.Clone(bodies.Value())})
	}
	return bodies.Err()
}

// size is what the document takes in memory, about.
func (d *storedDoc) size() int {
	n := len(d.record)
	for i := range d.bodies {
		n += len(d.bodies[i].raw)
	}
	return n
}

// readStored reads one document with its bodies; nil if there is none.
func readStored(r store.Reader, c *collection, id string) (*storedDoc, error) {
	stored, err := c.stored(r, id)
	if stored == nil || err != nil {
		return nil, err
	}
	d := &storedDoc{id: id, record: bytes.Clone(stored)}
	prefix := c.bodyPrefix(id)
	it := r.Scan(store.Prefix(prefix))
	defer it.Close()
	return d, d.readBodies(it, prefix)
}
