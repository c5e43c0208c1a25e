package clustersync

import (
	"errors"
	"testing"
)

// TestHostUse reads what Linux tells, and says nothing where nothing is told.
func TestHostUse(t *testing.T) {
	files := map[string]string{
		"/proc/stat":    "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3 4\n",
		"/proc/meminfo": "MemTotal:       8000 kB\nMemFree:        1000 kB\nMemAvailable:   6000 kB\n",
	}
	h := hostSampler{read: func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, errors.New("no such file")
		}
		return []byte(text), nil
	}}
	if use := h.sample(); use.cpu != nil || use.memory == nil || *use.memory != 25 {
		t.Errorf("at first: %+v", use)
	}
	files["/proc/stat"] = "cpu  130 0 110 750 110 0 0 0 99 0\n"
	if use := h.sample(); use.cpu == nil || *use.cpu != 40 {
		t.Errorf("40 of 100 ticks were busy: %+v", use)
	}
	for _, broken := range []string{"", "cpu  x y z a b", "cpu", "intr 5"} {
		files["/proc/stat"], files["/proc/meminfo"] = broken, broken
		if use := h.sample(); use.cpu != nil || use.memory != nil {
			t.Errorf("%q: %+v", broken, use)
		}
	}
	clear(files)
	if use := h.sample(); use.cpu != nil || use.memory != nil {
		t.Errorf("without /proc: %+v", use)
	}
}

// TestSpread: writers that are equally busy have no disparity.
func TestSpread(t *testing.T) {
	var s stats
	s.beginApply(4)
	if s.spread() != nil {
		t.Error("a spread of nothing")
	}
	for i := range 4 {
		s.appliedBy(i, 10)
	}
	if d := s.spread(); d == nil || *d != 0 {
		t.Errorf("even: %v", d)
	}
	s.appliedBy(0, 20) // 30, 10, 10, 10
	if d := s.spread(); d == nil || *d != 20.0/15 {
		t.Errorf("uneven: %v", d)
	}
}
