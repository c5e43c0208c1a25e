package database

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// errBodyLost says that a revision that must have a body has none.
var errBodyLost = tidegate.Errorf(tidegate.Corrupt, "a stored revision is missing")

// readRecord reads and decodes a document's record; nil if there is no document.
func readRecord(r store.Reader, c *collection, id string) (*record, error) {
	stored, err := c.stored(r, id)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		return nil, nil
	}
	rec, err := parseRecord(stored)
	if err != nil {
		return nil, fmt.Errorf("read document %q: %w", id, err)
	}
	return rec, nil
}

// readBody reads a revision's body, with memory of its own; nil if it is not kept.
func readBody(r store.Reader, c *collection, id string, rev tidegate.RevID) (*body, error) {
	stored, err := r.Get(c.bodyKey(id, rev))
	if err != nil {
		return nil, fmt.Errorf("read revision: %w", err)
	}
	if stored == nil {
		return nil, nil
	}
	y, err := parseBody(append(make([]byte, 0, len(stored)), stored...))
	if err != nil {
		return nil, fmt.Errorf("read revision %s of %q: %w", rev, id, err)
	}
	return &y, nil
}

// readLeaf reads the body of a leaf, which every leaf has: one that is stored, or {} of a tombstone of the ledger.
func readLeaf(r store.Reader, c *collection, id string, leaf *tidegate.Rev) (*body, error) {
	if bodiless(leaf) {
		return &body{deleted: true, channels: leaf.Channels, json: emptyBody}, nil
	}
	y, err := readBody(r, c, id, leaf.ID)
	if err == nil && y == nil {
		err = fmt.Errorf("read revision %s of %q: %w", leaf.ID, id, errBodyLost)
	}
	return y, err
}

// readRevision reads the body of any revision; nil if it is not kept.
func (c *collection) readRevision(r store.Reader, id string, tree *tidegate.RevTree, i int) (*body, error) {
	if tree.IsLeaf(i) {
		return readLeaf(r, c, id, tree.At(i))
	}
	return readBody(r, c, id, tree.At(i).ID)
}

// nearReader is a Reader for documents that are asked for in order of their IDs: it moves along two iterators
// instead of looking each key up. What Get returns for a record or body is valid until the next of its kind.
type nearReader struct {
	store.Reader
	docs, bodies near
}

// near is an iterator and the last key that it was asked for.
type near struct {
	it   store.Iterator
	last []byte
}

func newNearReader(r store.Reader, c *collection) (*nearReader, error) {
	physical, err := c.physical(r)
	if err != nil {
		return nil, err
	}
	scan := func(prefix store.Key) near { return near{it: r.Scan(store.Prefix(prefix))} }
	return &nearReader{
		Reader: r, docs: scan(c.docPrefix(physical)), bodies: scan(store.NewKey(c.space, store.KindBody).Collection(c.id)),
	}, nil
}

// Get returns the value of a key of the collection. A key that is not above the last of its kind is looked up.
func (n *nearReader) Get(key []byte) ([]byte, error) {
	at := &n.docs
	switch store.Kind(key[store.Header-1]) {
	case store.KindDoc:
	case store.KindBody:
		at = &n.bodies
	default:
		return n.Reader.Get(key)
	}
	if at.last != nil && bytes.Compare(key, at.last) <= 0 {
		return n.Reader.Get(key)
	}
	return at.get(key)
}

// get returns the value of a key that is above the last.
func (n *near) get(key []byte) ([]byte, error) {
	n.last = append(n.last[:0], key...)
	if !n.it.SeekGE(key) {
		return nil, n.it.Err()
	}
	if !bytes.Equal(n.it.Key(), key) {
		return nil, nil
	}
	return n.it.Value(), n.it.Err()
}

func (n *nearReader) close() {
	_, _ = n.docs.it.Close(), n.bodies.it.Close()
}

// err returns what ended one of the iterators early.
func (n *nearReader) err() error { return cmp.Or(n.docs.it.Err(), n.bodies.it.Err()) }

// visit calls fn for each of n documents in one snapshot, the first one first and then in order of their IDs, which
// costs the store much less than any other order. When fn says that no more is wanted it stops. It returns up to
// which document all were visited; at least one, if there is any.
func (h *Handle) visit(ctx context.Context, n int, id func(i int) string, fn func(r store.Reader, i int) (more bool, err error)) (int, error) {
	if n == 0 {
		return 0, nil
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order[1:], func(a, b int) int { return strings.Compare(id(a), id(b)) })
	done := make([]bool, n)
	err := h.view(ctx, func(r store.Reader) error {
		near, err := newNearReader(r, h.coll)
		if err != nil {
			return err
		}
		defer near.close()
		pinned, err := h.coll.routes.Pin(near)
		if err != nil {
			return err
		}
		for _, i := range order {
			more, err := fn(pinned, i)
			if err != nil {
				return err
			}
			if done[i] = true; !more {
				break
			}
		}
		return near.err()
	})
	if err != nil {
		return 0, err
	}
	visited := 1
	for visited < n && done[visited] {
		visited++
	}
	return visited, nil
}

// eachBody calls fn with the bodies of a document's revisions. Their json is valid only during the call.
func eachBody(r store.Reader, c *collection, id string, fn func(rev string, y *body) error) error {
	prefix := c.bodyPrefix(id)
	it := r.Scan(store.Prefix(prefix))
	defer it.Close()
	for it.Next() {
		rev, _, err := store.CutName(it.Key()[len(prefix):])
		if err != nil {
			return err
		}
		y, err := parseBody(it.Value())
		if err != nil {
			return fmt.Errorf("read revision %s of %q: %w", rev, id, err)
		}
		if err := fn(rev, &y); err != nil {
			return err
		}
	}
	return it.Err()
}
