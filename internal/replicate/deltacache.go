package replicate

import (
	"container/list"
	"sync"

	"github.com/tidegate/tidegate/internal/store"
)

// deltaCacheBytes bounds the deltas that a Server keeps, in bytes.
const deltaCacheBytes = 8 << 20

// deltaCache keeps deltas that were made lately: when a document changes, all who hold the revision before get the same
// one. Revisions never change, so an entry never gets stale. It is safe for concurrent use.
type deltaCache struct {
	mu    sync.Mutex
	max   int
	bytes int
	byKey map[deltaKey]*list.Element
	order *list.List // of *cachedDelta, the latest used first
}

// deltaKey names a delta: of a document, from one revision to another. The attachments' metadata are part of a delta, and
// follow from the revisions.
type deltaKey struct {
	db       string // source of the database's versions
	coll     store.Collection
	id       string
	from, to string
}

type cachedDelta struct {
	key   deltaKey
	delta []byte
	ok    bool // false: it is not worth a delta
}

// entryBytes is about what an entry takes beside its strings and delta.
const entryBytes = 250

func (c *cachedDelta) size() int {
	return entryBytes + len(c.key.db) + len(c.key.id) + len(c.key.from) + len(c.key.to) + len(c.delta)
}

func newDeltaCache(max int) *deltaCache {
	return &deltaCache{max: max, byKey: map[deltaKey]*list.Element{}, order: list.New()}
}

// get returns a delta. found is false if it is not here; worth is false if the document is to be sent whole.
func (c *deltaCache) get(key deltaKey) (delta []byte, worth, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil {
		return nil, false, false
	}
	c.order.MoveToFront(e)
	d := e.Value.(*cachedDelta)
	return d.delta, d.ok, true
}

// put keeps a delta and drops those that were not used for longest.
func (c *deltaCache) put(key deltaKey, delta []byte, worth bool) {
	d := &cachedDelta{key: key, delta: delta, ok: worth}
	if d.size() > c.max/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[key] != nil {
		return // two made it at once
	}
	c.byKey[key] = c.order.PushFront(d)
	c.bytes += d.size()
	for c.bytes > c.max {
		last := c.order.Back()
		old := c.order.Remove(last).(*cachedDelta)
		delete(c.byKey, old.key)
		c.bytes -= old.size()
	}
}
