package chaos

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// unites merges two documents into one that has the marks of both, whichever of them is the local one.
const unites = `function (conflict) {
	var a = conflict.LocalDocument, b = conflict.RemoteDocument, marks = {};
	[a.marks || {}, b.marks || {}].forEach(function (m) { Object.keys(m).forEach(function (k) { marks[k] = true; }); });
	return {channels: ["m"], marks: marks};
}`

// TestMeshMerges: a ring of three with resolvers that merge loses no mark that somebody made, comes to the same documents
// everywhere, and then writes nothing more.
func TestMeshMerges(t *testing.T) {
	runs := []meshRun{{0, 1, "one", "pushAndPull"}, {1, 2, "two", "pushAndPull"}, {2, 0, "three", "pushAndPull"}}
	m := newMesh(t, 3, nil, runs, map[string]any{"conflict_resolution_type": "custom", "custom_conflict_resolver": unites})
	const docs, each = 5, 40
	var writing sync.WaitGroup
	for _, g := range m.gateways {
		writing.Go(func() {
			for n := range each {
				if err := mark(g, fmt.Sprintf("merged-%d", n%docs), fmt.Sprintf("%s%d", g.name, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		m.links[m.rnd.IntN(len(m.links))].reset()
	}
	writing.Wait()
	m.converge()
	m.quiet()
	all := 0
	for i := range docs {
		var doc struct{ Marks map[string]bool }
		if code, err := call(http.MethodGet, m.gateways[0].url(fmt.Sprintf("/merged-%d", i)), nil, &doc); err != nil || code != http.StatusOK {
			t.Fatalf("status %d: %v", code, err)
		}
		all += len(doc.Marks)
	}
	if all != 3*each {
		t.Errorf("%d marks, not %d", all, 3*each)
	}
	if err := equal(m.gateways...); err != nil {
		t.Error(err)
	}
}

// mark adds a mark to a document, however often others are faster.
func mark(g *gateway, id, name string) error {
	for {
		doc := map[string]any{}
		code, err := call(http.MethodGet, g.url("/"+id), nil, &doc)
		if err != nil || code != http.StatusOK && code != http.StatusNotFound {
			return fmt.Errorf("GET %s: status %d: %w", id, code, err)
		}
		marks, _ := doc["marks"].(map[string]any)
		if marks == nil {
			marks = map[string]any{}
		}
		marks[name] = true
		next := map[string]any{"channels": []string{"m"}, "marks": marks}
		if rev, ok := doc["_rev"]; ok {
			next["_rev"] = rev
		}
		code, err = call(http.MethodPut, g.url("/"+id), next, nil)
		if err != nil || code == http.StatusCreated {
			return err
		}
		if code != http.StatusConflict {
			return fmt.Errorf("PUT %s: status %d", id, code)
		}
	}
}

// quiet waits until the replications have come to the end of everything, and both ends' checkpoints say so: with every source
// at the sequence up to which its replications have dealt with everything, there is nothing that could still make revisions.
func (m *mesh) quiet() {
	m.t.Helper()
	eventually(m.t, "all is quiet", func() error {
		for _, r := range m.runs {
			if err := m.agree(m.gateways[r.from], m.gateways[r.to], r); err != nil {
				return err
			}
		}
		return nil
	})
}
