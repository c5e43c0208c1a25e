package chaos

import (
	"errors"
	"testing"
)

// The checkers of the mesh see planted faults.
func TestMeshCheckersSeeFaults(t *testing.T) {
	a, b := startGateway(t, "a"), startGateway(t, "b")
	a.database(nil)
	b.database(nil)
	rev := a.put("a-1", map[string]any{"n": 1})
	if err := equal(a, b); !errors.Is(err, errDiffer) {
		t.Errorf("a document on one side: %v", err)
	}
	b.put("a-1", map[string]any{"n": 2})
	if err := equal(a, b); !errors.Is(err, errDiffer) {
		t.Errorf("documents that differ: %v", err)
	}
	for name, plant := range map[string]func(*model, *author){
		"a revision that is not known": func(_ *model, w *author) { w.note("shared-1", "1-0123456789abcdef0123456789abcdef") },
		"a write that was undone":      func(m *model, _ *author) { m.own["a-1"] = "2-0123456789abcdef0123456789abcdef" },
		"a delete that came back":      func(m *model, _ *author) { m.own["a-1"] = "" },
		"a shared delete, too":         func(m *model, _ *author) { m.deleted["a-1"] = true },
	} {
		m := newModel()
		w := &author{g: a, m: m, doubtful: map[string]bool{}}
		w.note("a-1", rev)
		if err := m.check([]*gateway{a}); err != nil {
			t.Errorf("all is well: %v", err)
		}
		plant(m, w)
		if err := m.check([]*gateway{a}); !errors.Is(err, errLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a.replicate("r", b.link(), "push", map[string]any{"initial_state": "stopped"})
	m := &mesh{t: t, gateways: []*gateway{a, b}}
	if err := m.agree(a, b, meshRun{0, 1, "r", "push"}); err == nil {
		t.Error("checkpoints that are not there agree")
	}
}
