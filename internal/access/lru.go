package access

import "container/list"

// lru is a bounded map that forgets what was used longest ago. Its owner locks it.
type lru[K comparable, V any] struct {
	limit  int         // of the sum of weights
	weight func(V) int // nil: 1 each
	gone   func(K, V)  // told of what leaves for whatever reason; may be nil
	used   int
	byKey  map[K]*list.Element
	order  list.List // front: used last
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](limit int) *lru[K, V] {
	return &lru[K, V]{limit: limit, byKey: make(map[K]*list.Element)}
}

// get returns the value of key and marks it as used.
func (c *lru[K, V]) get(key K) (V, bool) {
	el, ok := c.byKey[key]
	if !ok {
		var none V
		return none, false
	}
	c.order.MoveToFront(el)
	return el.Value.(*lruEntry[K, V]).value, true
}

// put stores value under key, in place of an older one, and forgets others until the limit is kept. A
// value that is over the limit by itself is kept alone.
func (c *lru[K, V]) put(key K, value V) {
	c.remove(key)
	c.byKey[key] = c.order.PushFront(&lruEntry[K, V]{key, value})
	c.used += c.weigh(value)
	for c.used > c.limit && c.order.Len() > 1 {
		c.remove(c.order.Back().Value.(*lruEntry[K, V]).key)
	}
}

// remove forgets key.
func (c *lru[K, V]) remove(key K) {
	el, ok := c.byKey[key]
	if !ok {
		return
	}
	e := c.order.Remove(el).(*lruEntry[K, V])
	delete(c.byKey, key)
	c.used -= c.weigh(e.value)
	if c.gone != nil {
		c.gone(e.key, e.value)
	}
}

// clear forgets everything.
func (c *lru[K, V]) clear() {
	for c.order.Len() > 0 {
		c.remove(c.order.Back().Value.(*lruEntry[K, V]).key)
	}
}

func (c *lru[K, V]) len() int { return c.order.Len() }

func (c *lru[K, V]) weigh(v V) int {
	if c.weight == nil {
		return 1
	}
	return c.weight(v)
}
