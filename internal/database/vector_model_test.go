package database_test

import (
	"fmt"
	"net/http"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// A model of documents that all kinds of clients write: those with rev-tree IDs here and elsewhere, and those with version
// vectors, which go on from any state that the document ever had. What is known of vectors is compared with the truth:
// the set of versions that each state came of.

// state is a document at one time.
type state struct {
	vector  tidegate.VersionVector
	past    map[tidegate.Version]bool
	rev     tidegate.RevID
	deleted bool
}

func (s *state) with(v tidegate.Version) map[tidegate.Version]bool {
	past := map[tidegate.Version]bool{v: true}
	for w := range s.past {
		past[w] = true
	}
	return past
}

type vectorMachine struct {
	e        *env
	id       string
	states   []state            // all that the document was in, and before it was
	versions []tidegate.Version // all that anybody ever made
	made     int
}

func (m *vectorMachine) now() *state { return &m.states[len(m.states)-1] }

func (m *vectorMachine) body() string {
	m.made++
	return fmt.Sprintf(`{"n":%d,"channels":"a"}`, m.made)
}

// here notes a write with rev-tree IDs that made a revision current.
func (m *vectorMachine) here(t *rapid.T, res database.Written, deleted bool) {
	was := m.now()
	v := m.e.vector(m.id)
	if res.Version != v.Current || v.Current.Source != m.e.db.Source() || was.vector.Knows(v.Current) {
		t.Fatalf("%+v: the vector goes from %s to %s", res, was.vector, v)
	}
	m.versions = append(m.versions, v.Current)
	m.states = append(m.states, state{vector: v, past: was.with(v.Current), rev: res.Rev, deleted: deleted})
}

func (m *vectorMachine) edit(t *rapid.T, deleted bool) {
	w := &database.Write{ID: m.id, Body: []byte(m.body()), NewEdits: true, Parent: m.now().rev, Deleted: deleted}
	res, err := m.e.admin.Put(m.e.t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	m.here(t, res, deleted)
}

// pushTree is a push of a client with rev-tree IDs that has the current revision.
func (m *vectorMachine) pushTree(t *rapid.T, deleted bool) {
	m.made++
	top := tidegate.RevID{Generation: m.now().rev.Generation + 1, Digest: fmt.Sprintf("%04x", m.made)}
	history := []tidegate.RevID{top}
	if !m.now().rev.IsZero() {
		history = append(history, m.now().rev)
	}
	w := &database.Write{ID: m.id, Body: []byte(m.body()), History: history, NoConflicts: true, Deleted: deleted}
	m.propose(t, top.String(), m.now().rev.String(), 0)
	res, err := m.e.admin.Put(m.e.t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	m.here(t, res, deleted)
}

// pushVersion is a push of a client with version vectors that last saw some state of the document, or none.
func (m *vectorMachine) pushVersion(t *rapid.T, deleted bool) {
	base := m.states[rapid.IntRange(0, len(m.states)-1).Draw(t, "saw")]
	if rapid.IntRange(0, 2).Draw(t, "is up to date") > 0 {
		base = *m.now()
	}
	was := m.now()
	m.made++
	v := tidegate.Version{Time: uint64(m.made), Source: client(rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "client"))}
	m.versions = append(m.versions, v)
	w := &database.Write{ID: m.id, Body: []byte(m.body()), Deleted: deleted, Vector: base.vector.Next(v)}
	upToDate := was.rev.IsZero() || w.Vector.Knows(was.vector.Current)
	unrelated := was.deleted && !deleted && base.vector.IsZero() && was.vector.TimeOf(v.Source) == 0
	verdict := http.StatusConflict
	if upToDate || (was.deleted && base.vector.IsZero()) {
		verdict = 0
	}
	parent := ""
	if !base.vector.IsZero() {
		parent = base.vector.Current.String()
	}
	name := w.Vector.String()
	if rapid.Bool().Draw(t, "proposes the version only") && parent != "" {
		name = v.String()
	}
	m.propose(t, name, parent, verdict)
	res, err := m.e.admin.Put(m.e.t.Context(), w)
	if !upToDate && !unrelated {
		if reason(err) != "Document revision conflict" {
			t.Fatalf("%s on %s: %v", w.Vector, was.vector, err)
		}
		return
	}
	if err != nil || res.Version != v || res.Rev != tidegate.NewRevID(was.rev, canonical(w)) {
		t.Fatalf("%s on %s: %+v %v", w.Vector, was.vector, res, err)
	}
	m.states = append(m.states, state{vector: m.e.vector(m.id), past: was.with(v), rev: res.Rev, deleted: deleted})
	for k := range base.past {
		m.now().past[k] = true
	}
	m.propose(t, v.String(), parent, http.StatusNotModified)
	if again, err := m.e.admin.Put(m.e.t.Context(), w); err != nil || !again.Existed || again.Seq != res.Seq {
		t.Fatalf("%s again: %+v %v", w.Vector, again, err)
	}
}

func canonical(w *database.Write) []byte {
	if w.Deleted {
		return fmt.Appendf(nil, `{"_deleted":true,"channels":"a",%s}`, w.Body[1:len(w.Body)-len(`,"channels":"a"}`)])
	}
	return fmt.Appendf(nil, `{"channels":"a",%s}`, w.Body[1:len(w.Body)-len(`,"channels":"a"}`)])
}

func (m *vectorMachine) propose(t *rapid.T, rev, parent string, want int) {
	verdicts, err := m.e.admin.Propose(m.e.t.Context(), []database.Proposal{{ID: m.id, Rev: rev, Parent: parent}})
	if err != nil || verdicts[0].Status != want {
		t.Fatalf("proposal of %s after %s on %s: %+v %v, want %d", rev, parent, m.now().vector, verdicts, err, want)
	}
	if want == http.StatusConflict && verdicts[0].Rev != m.now().vector.Current.String() {
		t.Fatalf("conflict with %s, want %s", verdicts[0].Rev, m.now().vector)
	}
}

// compare holds what the document knows against the truth.
func (m *vectorMachine) compare(t *rapid.T) {
	now := m.now()
	if now.rev.IsZero() {
		return
	}
	raw := m.e.raw(m.id)
	if raw.Vector.String() != now.vector.String() || raw.Rev != now.rev || raw.Deleted != now.deleted {
		t.Fatalf("%s is %s, deleted %v; want %s %+v", raw.Rev, raw.Vector, raw.Deleted, now.rev, now)
	}
	for _, v := range m.versions {
		want := false
		for p := range now.past {
			want = want || (p.Source == v.Source && p.Time >= v.Time)
		}
		if raw.Vector.Knows(v) != want {
			t.Fatalf("%s knows %s: %v", raw.Vector, v, !want)
		}
	}
	if n := raw.Tree.LiveLeaves(); n > 1 {
		t.Fatalf("%d live leaves", n)
	}
	for _, s := range m.states[1:] {
		doc, err := m.e.admin.Base(m.e.t.Context(), m.id, s.vector.Current.String())
		switch {
		case s.deleted:
			if err == nil {
				t.Fatalf("tombstone %s can be a base", s.rev)
			}
		case err != nil || doc.Rev != s.rev:
			t.Fatalf("base %s: %v, want %s", s.vector.Current, err, s.rev)
		}
	}
}

func TestVectorModel(t *testing.T) {
	for _, conflicts := range []bool{false, true} {
		t.Run(fmt.Sprintf("conflicts %v", conflicts), func(t *testing.T) {
			e := open(t, database.Options{AllowConflicts: conflicts})
			n := 0
			rapid.Check(t, func(t *rapid.T) {
				n++
				m := &vectorMachine{e: e, id: fmt.Sprint("d", n), states: []state{{}}}
				for range rapid.IntRange(1, 15).Draw(t, "operations") {
					deleted := rapid.IntRange(0, 4).Draw(t, "deletes") == 0
					switch rapid.IntRange(0, 4).Draw(t, "operation") {
					case 0:
						m.edit(t, deleted)
					case 1:
						m.pushTree(t, deleted)
					default:
						m.pushVersion(t, deleted)
					}
				}
				m.compare(t)
			})
			e.check()
		})
	}
}
