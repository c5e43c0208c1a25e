package database

import (
	"fmt"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// errBodyLost says that a revision that must have a body has none.
var errBodyLost = tidegate.Errorf(tidegate.Corrupt, "a stored revision is missing")

// readRecord reads and decodes a document's record; nil if there is no document.
func readRecord(r store.Reader, c *collection, id string) (*record, error) {
	stored, err := r.Get(c.docKey(id))
	if err != nil {
		return nil, fmt.Errorf("read document: %w", err)
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
