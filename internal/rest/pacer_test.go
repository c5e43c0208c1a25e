package rest

import (
	"testing"

	"github.com/tidegate/tidegate"
)

func TestPacer(t *testing.T) {
	p := pacer{target: 32 << 10, most: 500, docs: true}
	if n := p.next(); n != 8 {
		t.Errorf("begins with %d", n)
	}
	large := make([]tidegate.Change, 3)
	for i := range large {
		large[i].Doc = make([]byte, 1<<20)
	}
	p.note(large)
	if n := p.next(); n != 1 {
		t.Errorf("after documents of 1 MiB: %d", n)
	}
	small := make([]tidegate.Change, 10)
	for range 60 {
		p.note(small)
	}
	if n := p.next(); n < 300 || n > 500 {
		t.Errorf("after many small entries: %d", n)
	}
	p = pacer{target: 1 << 30, most: 500}
	if n := p.next(); n != 500 {
		t.Errorf("beyond the most: %d", n)
	}
}
