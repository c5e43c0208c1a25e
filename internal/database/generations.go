package database

import (
	"fmt"

	"github.com/tidegate/tidegate/internal/store"
)

// Which generation of a collection's routed rows is read follows from the snapshot (store.Routing). All keys of document
// records are made here.

// docKey is the key of a document record in a generation.
func (c *collection) docKey(physical store.Collection, id string) store.Key {
	return c.docPrefix(physical).Name(id)
}

// docPrefix is the beginning of the keys of all document records of a generation.
func (c *collection) docPrefix(physical store.Collection) store.Key {
	return store.NewKey(c.space, store.KindDoc).Collection(physical)
}

// physical returns the number of the generation that the reader reads.
func (c *collection) physical(r store.Reader) (store.Collection, error) {
	routing, err := c.routes.Read(r)
	if err != nil {
		return 0, fmt.Errorf("read routing: %w", err)
	}
	return routing.Live(c.id), nil
}

// stored returns a document's record as the reader sees it; nil if there is none.
func (c *collection) stored(r store.Reader, id string) ([]byte, error) {
	physical, err := c.physical(r)
	if err != nil {
		return nil, err
	}
	b, err := r.Get(c.docKey(physical, id))
	if err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	return b, nil
}
