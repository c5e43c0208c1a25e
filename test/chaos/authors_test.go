package chaos

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// model is what must be true in the end of everything that authors were told.
type model struct {
	mu      sync.Mutex
	acked   map[*gateway]map[string][]string // document → revisions that a gateway acknowledged
	own     map[string]string                // document of one author → its last revision; "" if that is a deletion
	deleted map[string]bool                  // shared documents that somebody deleted
	writes  int
}

func newModel() *model {
	return &model{acked: map[*gateway]map[string][]string{}, own: map[string]string{}, deleted: map[string]bool{}}
}

// author writes at one gateway: documents of its own, and some that everybody writes.
type author struct {
	g    *gateway
	m    *model
	rnd  *rand.Rand
	docs int // of its own
	n    int

	doubtful map[string]bool // writes of them were not answered
}

const (
	sharedDocs = 12 // are there before the authors start, edited and deleted by all
	clashDocs  = 6  // are made by each without knowing of the others
)

func sharedID(i int) string { return "shared-" + strconv.Itoa(i) }

// step makes one write. An error means that the gateway did not answer.
func (a *author) step() error {
	a.n++
	switch r := a.rnd.IntN(10); {
	case a.n <= clashDocs:
		return a.edit("clash-"+strconv.Itoa(a.n), false)
	case r < 3:
		return a.edit(sharedID(a.rnd.IntN(sharedDocs)), a.rnd.IntN(12) == 0)
	default:
		return a.edit(a.g.name+"-"+strconv.Itoa(a.rnd.IntN(a.docs)), a.rnd.IntN(6) == 0)
	}
}

// edit reads a document and writes its next revision. What is deleted stays so.
func (a *author) edit(id string, remove bool) error {
	var old struct {
		Rev string `json:"_rev"`
	}
	code, err := call(http.MethodGet, a.g.url("/"+id), nil, &old)
	if err != nil {
		return err
	}
	a.note(id, old.Rev)
	if old.Rev == "" && (code != http.StatusNotFound || strings.HasPrefix(id, "shared-") || a.known(id)) {
		return nil
	}
	if remove && old.Rev != "" {
		return a.remove(id, old.Rev)
	}
	var ans struct{ Rev string }
	code, err = call(http.MethodPut, a.g.url("/"+id), a.body(old.Rev), &ans)
	if err != nil || code == http.StatusConflict {
		a.doubtful[id] = err != nil
		return err
	}
	if code != http.StatusCreated {
		return fmt.Errorf("PUT %s: status %d", id, code)
	}
	a.note(id, ans.Rev)
	return nil
}

func (a *author) remove(id, rev string) error {
	var ans struct{ Rev string }
	code, err := call(http.MethodDelete, a.g.url("/"+id+"?rev="+rev), nil, &ans)
	if err != nil || code == http.StatusConflict {
		a.doubtful[id] = err != nil
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("DELETE %s: status %d", id, code)
	}
	a.note(id, ans.Rev)
	a.noteDeleted(id)
	return nil
}

func (a *author) noteDeleted(id string) {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	if strings.HasPrefix(id, "shared-") {
		a.m.deleted[id] = true
	} else {
		a.m.own[id] = ""
	}
}

// settle asks the gateway what became of writes that it did not answer.
func (a *author) settle() error {
	for id := range a.doubtful {
		var old struct {
			Rev string `json:"_rev"`
		}
		code, err := call(http.MethodGet, a.g.url("/"+id), nil, &old)
		switch {
		case err != nil:
			return err
		case code == http.StatusOK:
			a.note(id, old.Rev)
		case code == http.StatusNotFound && a.known(id):
			a.noteDeleted(id)
		}
	}
	return nil
}

// known reports whether the author made the document.
func (a *author) known(id string) bool {
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	_, ok := a.m.own[id]
	return ok
}

// note keeps a revision that the gateway has shown or acknowledged: it must not lose it.
func (a *author) note(id, rev string) {
	if rev == "" {
		return
	}
	a.m.mu.Lock()
	defer a.m.mu.Unlock()
	if a.m.acked[a.g] == nil {
		a.m.acked[a.g] = map[string][]string{}
	}
	revs := a.m.acked[a.g][id]
	if len(revs) == 0 || revs[len(revs)-1] != rev {
		a.m.acked[a.g][id] = append(revs, rev)
		a.m.writes++
	}
	if strings.HasPrefix(id, a.g.name+"-") {
		a.m.own[id] = rev
	}
}

func (a *author) body(rev string) map[string]any {
	doc := map[string]any{"n": a.n, "by": a.g.name, "channels": []string{"c" + strconv.Itoa(a.rnd.IntN(5))}, "pad": strings.Repeat("x", a.rnd.IntN(500))}
	if rev != "" {
		doc["_rev"] = rev
	}
	if a.rnd.IntN(4) == 0 {
		data := []byte(strings.Repeat(a.g.name+strconv.Itoa(a.rnd.IntN(50)), 1+a.rnd.IntN(5_000)))
		doc["_attachments"] = map[string]any{"a.txt": map[string]any{"content_type": "text/plain", "data": base64.StdEncoding.EncodeToString(data)}}
	}
	return doc
}

// check looks whether the gateways, which hold the same, hold what the authors were told.
func (m *model) check(gateways []*gateway) error {
	for _, g := range gateways {
		if m.acked[g] == nil {
			continue // nobody wrote there
		}
		var missing map[string]any
		if code, err := call(http.MethodPost, g.url("/_revs_diff"), m.acked[g], &missing); err != nil || code != http.StatusOK {
			return fmt.Errorf("_revs_diff: status %d: %w", code, err)
		}
		for id, what := range missing {
			return fmt.Errorf("%w: %s at %s: %v (%d in all)", errLost, id, g.name, what, len(missing))
		}
	}
	final, err := gateways[0].contents()
	if err != nil {
		return err
	}
	for id, rev := range m.own {
		if rev == "" && !strings.HasPrefix(final[id], "deleted=true") {
			return fmt.Errorf("%w: %s was deleted and is %.100q", errLost, id, final[id])
		}
		if rev != "" && !strings.Contains(final[id], ` _rev="`+rev+`"`) {
			return fmt.Errorf("%w: %s %s: it is %.100q", errLost, id, rev, final[id])
		}
	}
	for id := range m.deleted {
		if !strings.HasPrefix(final[id], "deleted=true") {
			return fmt.Errorf("%w: %s was deleted and is %.100q", errLost, id, final[id])
		}
	}
	return nil
}
