package replicate

import (
	"fmt"
	"strings"
	"testing"
)

func TestDeltaCache(t *testing.T) {
	c := newDeltaCache(40 * (entryBytes + 100))
	key := func(i int) deltaKey { return deltaKey{id: fmt.Sprint(i), from: "1-a", to: "2-b"} }
	for i := range 1000 {
		c.put(key(i), []byte(strings.Repeat("x", 50)), i%2 == 0)
		if i > 10 { // what is used stays
			if _, _, found := c.get(key(5)); !found {
				t.Fatalf("after %d: the one in use is gone", i)
			}
		}
		if c.bytes > c.max || c.order.Len() != len(c.byKey) {
			t.Fatalf("after %d: %d bytes, %d and %d entries", i, c.bytes, c.order.Len(), len(c.byKey))
		}
	}
	for i, want := range map[int]bool{999: false, 998: true} {
		if delta, worth, found := c.get(key(i)); !found || worth != want || len(delta) != 50 {
			t.Errorf("%d: %q %v %v", i, delta, worth, found)
		}
	}
	if _, _, found := c.get(key(100)); found {
		t.Error("an old one is still there")
	}
	before := c.bytes
	c.put(key(999), nil, false)
	c.put(key(5000), []byte(strings.Repeat("x", c.max)), true)
	if c.bytes != before {
		t.Error("one that is there, or too large, was kept")
	}
}
