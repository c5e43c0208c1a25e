package jsondoc

import (
	"bytes"
	"fmt"
	"testing"
)

// TestTableIsSpread: in an object of many keys each is found after a few steps, so that the time is linear in
// their number. (This test looks inside because a test must not look at the clock.)
func TestTableIsSpread(t *testing.T) {
	const n = 50_000
	var raw bytes.Buffer
	k := keyStack{}
	frame := k.open()
	for i := range n {
		start := raw.Len()
		fmt.Fprintf(&raw, "key%d", i)
		k.raw = raw.Bytes()
		if _, ok := k.add(&frame, start, raw.Len(), false); !ok {
			t.Fatalf("key %d was there already", i)
		}
	}
	if slots := len(k.table); slots < 2*n || slots > 16*n {
		t.Fatalf("%d slots for %d keys", slots, n)
	}
	steps := 0
	for i := range n {
		home, slot := int(k.at(i).tag)&(len(k.table)-1), k.find(k.table, k.at(i))
		if int(k.table[slot]) != i+1 {
			t.Fatalf("key %d is not found", i)
		}
		steps += (slot - home) & (len(k.table) - 1)
	}
	if steps > 2*n {
		t.Errorf("%d steps to find %d keys", steps, n)
	}
	k.close(frame)
	if k.n != 0 || len(k.table) != 0 || len(k.more) != 0 {
		t.Errorf("a closed object leaves %d keys, %d slots", k.n, len(k.table))
	}
}
