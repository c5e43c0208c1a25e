package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// scribe is a client that writes documents of its own, through one place after another, and keeps account of what it was told.
type scribe struct {
	name   string
	places []func(path string) string // URLs of things in the database
	l      *ledger                    // what was acknowledged: the last revision of each document
	rnd    *rand.Rand
	n      int
	doubt  map[string]bool // documents of which it does not know
	// late are, by document, the revisions that unanswered writes began from ("" for none): a node that was stopped with one may carry it
	// out long after somebody looked.
	late map[string]map[string]bool
}

func newScribe(name string, seed uint64, l *ledger, places ...func(string) string) *scribe {
	return &scribe{name: name, places: places, l: l, rnd: rand.New(rand.NewPCG(seed, uint64(len(name))<<8+uint64(name[len(name)-1]))), doubt: map[string]bool{}, late: map[string]map[string]bool{}}
}

// run writes until ctx ends. What an unanswered write came to is found out before the document is written again, and in the end by settle.
func (s *scribe) run(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.step(); err != nil && !errors.Is(err, errUnknown) {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
}

func (s *scribe) place() func(string) string { return s.places[s.rnd.IntN(len(s.places))] }

func (s *scribe) step() error {
	s.n++
	own := s.name + "-own-" + strconv.Itoa(s.rnd.IntN(20))
	switch r := s.rnd.IntN(10); {
	case r < 4: // never written again: a feed that misses it is found out
		return s.put(s.name + "-" + strconv.Itoa(s.n))
	case r < 5:
		return s.bulk()
	case r < 9:
		return s.put(own)
	default:
		return s.remove(own)
	}
}

func (s *scribe) body() map[string]any {
	doc := map[string]any{"n": s.n, "by": s.name, "channels": []string{"c" + strconv.Itoa(s.n%4)}, "pad": strings.Repeat("x", s.rnd.IntN(500))}
	if s.rnd.IntN(20) == 0 {
		doc["_attachments"] = map[string]any{"a.txt": map[string]any{"content_type": "text/plain", "data": []byte(strings.Repeat(s.name+strconv.Itoa(s.n), 1+s.rnd.IntN(4000)))}}
	}
	return doc
}

func (s *scribe) put(id string) error {
	if s.doubt[id] {
		return s.find(id)
	}
	doc := s.body()
	if a, ok := s.l.get(id); ok && !a.deleted {
		doc["_rev"] = a.rev
	}
	return s.write(http.MethodPut, s.place()("/"+id), id, doc, false)
}

func (s *scribe) remove(id string) error {
	if s.doubt[id] {
		return s.find(id)
	}
	a, ok := s.l.get(id)
	if !ok || a.deleted {
		return nil
	}
	return s.write(http.MethodDelete, s.place()("/"+id+"?rev="+a.rev), id, nil, true)
}

// write makes one write. Nobody else writes these documents, so a conflict is one with what was acknowledged: a write that is lost, or not
// seen by the node; unless an unanswered write that began from the same revision came about late.
func (s *scribe) write(method, url, id string, doc any, deleted bool) error {
	var ans struct{ Rev string }
	status, err := ask(method, url, doc, &ans)
	switch {
	case err != nil:
		s.doubt[id] = true
		if s.late[id] == nil {
			s.late[id] = map[string]bool{}
		}
		s.late[id][s.base(id)] = true
		return err
	case status == http.StatusConflict && s.late[id][s.base(id)]:
		s.doubt[id] = true
		return nil
	case status >= 300:
		a, _ := s.l.get(id)
		return fmt.Errorf("%w: %s %s: status %d; acknowledged is %+v", errLost, method, url, status, a)
	}
	s.l.note(id, ans.Rev, deleted)
	return nil
}

// base is the revision that a write of a document begins from; "" if there is none.
func (s *scribe) base(id string) string {
	if a, ok := s.l.get(id); ok && !a.deleted {
		return a.rev
	}
	return ""
}

func (s *scribe) bulk() error {
	var docs []any
	for i := range 10 {
		doc := s.body()
		doc["_id"] = fmt.Sprintf("%s-%d-%d", s.name, s.n, i)
		docs = append(docs, doc)
	}
	var rows []struct{ ID, Rev, Error string }
	status, err := ask(http.MethodPost, s.place()("/_bulk_docs"), map[string]any{"docs": docs}, &rows)
	if err != nil {
		for i := range docs {
			s.doubt[fmt.Sprintf("%s-%d-%d", s.name, s.n, i)] = true
		}
		return err
	}
	if status != http.StatusCreated {
		return fmt.Errorf("_bulk_docs: status %d", status)
	}
	for _, r := range rows {
		if r.Error != "" {
			s.doubt[r.ID] = true // a part of it may have failed with the database
			continue
		}
		s.l.note(r.ID, r.Rev, false)
	}
	return nil
}

// find asks what became of a document.
func (s *scribe) find(id string) error {
	var doc struct {
		Rev string `json:"_rev"`
	}
	status, err := ask(http.MethodGet, s.place()("/"+id), nil, &doc)
	if err != nil {
		return err
	}
	switch before, known := s.l.get(id); {
	case status == http.StatusOK && known && generation(doc.Rev) < generation(before.rev):
		return fmt.Errorf("%w: %s was acknowledged as %s and is %s", errLost, id, before.rev, doc.Rev)
	case status == http.StatusOK:
		s.l.note(id, doc.Rev, false)
	case status == http.StatusNotFound && known: // its unanswered delete went through
		s.l.note(id, before.rev, true)
	case status != http.StatusNotFound:
		return fmt.Errorf("GET %s: status %d", id, status)
	}
	delete(s.doubt, id)
	return nil
}

// settle finds out about everything that is in doubt.
func (s *scribe) settle() error {
	for id, bases := range s.late {
		if bases[s.base(id)] {
			s.doubt[id] = true
		}
	}
	for id := range s.doubt {
		if err := s.find(id); err != nil {
			return err
		}
	}
	return nil
}

// checkAcked holds what was acknowledged against what a replica holds: for each document its revision, or that it is deleted.
func checkAcked(acked map[string]acked, held map[string]replica) error {
	for id, a := range acked {
		got, ok := held[id]
		if !ok || got.deleted != a.deleted || !a.deleted && got.rev != a.rev {
			return fmt.Errorf("%w: %s was acknowledged as %+v, it is %+v", errLost, id, a, got)
		}
	}
	return nil
}

// replica is a document as a replica holds it.
type replica struct {
	rev       string
	deleted   bool
	conflicts string
}

// replicas reads everything that a gateway holds.
func replicas(g *gateway) (map[string]replica, error) {
	var feed struct {
		Results []struct {
			ID      string
			Deleted bool
			Changes []struct{ Rev string }
		}
	}
	status, err := call(http.MethodGet, g.url("/_changes?style=all_docs"), nil, &feed)
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("_changes of %s: status %d: %w", g.name, status, err)
	}
	all := map[string]replica{}
	for _, e := range feed.Results {
		if strings.HasPrefix(e.ID, "_user/") || len(e.Changes) == 0 {
			continue
		}
		r := replica{rev: e.Changes[0].Rev, deleted: e.Deleted}
		for _, c := range e.Changes[1:] {
			r.conflicts += c.Rev + " "
		}
		all[e.ID] = r
	}
	return all, nil
}

// sameReplicas is nil if two replicas hold the same revisions, of documents that are not deleted also the same conflicts. strict also
// compares deletions; a client that came late does not know of them.
func sameReplicas(aName string, a map[string]replica, bName string, b map[string]replica, strict bool) error {
	for _, d := range []struct {
		name, other string
		x, y        map[string]replica
	}{{aName, bName, a, b}, {bName, aName, b, a}} {
		for id, x := range d.x {
			if y, ok := d.y[id]; (!x.deleted || strict && ok) && x != y {
				return fmt.Errorf("%w: %s: %s has %+v, %s has %+v, and lacks %d of %d", errDiffer, id, d.name, x, d.other, y, lacks(d.y, d.x), len(d.x))
			}
		}
	}
	return nil
}

// lacks counts the documents of all, deleted ones aside, that a replica does not hold.
func lacks(held, all map[string]replica) (n int) {
	for id, r := range all {
		if _, ok := held[id]; !ok && !r.deleted {
			n++
		}
	}
	return n
}

// pouch is a PouchDB in a process of its own that stays in step with a node and writes.
type pouch struct {
	in  io.WriteCloser
	out *bufio.Scanner
	log *lockedBuffer
}

// startPouch starts it. remote is the database's URL, with a login.
func startPouch(t *testing.T, name, remote string) *pouch {
	t.Helper()
	cmd := exec.Command("node", "cluster-pouch.mjs", name, remote)
	cmd.Dir = "../interop"
	p := &pouch{log: &lockedBuffer{}}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	errs, err3 := cmd.StderrPipe()
	if err := errors.Join(err1, err2, err3, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	p.in, p.out = in, bufio.NewScanner(out)
	p.out.Buffer(nil, 64<<20)
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		for lines := bufio.NewScanner(errs); lines.Scan(); {
			p.log.write(lines.Bytes())
		}
	}()
	t.Cleanup(func() {
		_ = in.Close() // which ends it
		<-logged
		_ = cmd.Wait()
	})
	return p
}

// say gives the process a command and decodes the line it answers with.
func (p *pouch) say(command string, out any) error {
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		return fmt.Errorf("PouchDB ended: %w\n%s", err, p.log)
	}
	if !p.out.Scan() {
		return fmt.Errorf("PouchDB ended: %w\n%s", errors.Join(io.ErrUnexpectedEOF, p.out.Err()), p.log)
	}
	return json.Unmarshal(p.out.Bytes(), out)
}

// held is everything the PouchDB holds.
func (p *pouch) held() (map[string]replica, error) {
	var docs map[string]struct {
		Rev       string
		Conflicts []string
	}
	if err := p.say("dump", &docs); err != nil {
		return nil, err
	}
	all := map[string]replica{}
	for id, d := range docs {
		r := replica{rev: d.Rev}
		for _, c := range d.Conflicts {
			r.conflicts += c + " "
		}
		all[id] = r
	}
	return all, nil
}
