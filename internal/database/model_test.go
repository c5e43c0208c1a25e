package database_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// The model: documents as sets of revisions with edges to their parents, and nothing clever. What the database says after any
// operations is compared with it: leaves and winner (hardening.md I2, I3), who may read what (I7), and that everything that is
// stored twice agrees (I13, by Check).

type modelRev struct {
	id      tidegate.RevID
	parent  string // "" if unknown
	deleted bool
	stub    bool // known as an ancestor only
	closed  bool
	channel string
}

type modelDoc map[string]*modelRev

func (d modelDoc) leaves() []*modelRev {
	children := map[string]bool{}
	for _, r := range d {
		children[r.parent] = true
	}
	var leaves []*modelRev
	for id, r := range d {
		if !children[id] {
			leaves = append(leaves, r)
		}
	}
	slices.SortFunc(leaves, func(a, b *modelRev) int {
		if a.deleted != b.deleted {
			if b.deleted {
				return -1
			}
			return 1
		}
		if a.deleted && a.closed != b.closed {
			if b.closed {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.id.Generation, a.id.Generation), strings.Compare(b.id.Digest, a.id.Digest))
	})
	return leaves
}

func (d modelDoc) isLeaf(id string) bool {
	for _, r := range d {
		if r.parent == id {
			return false
		}
	}
	return true
}

// ancestor returns the first of the history that the document has.
func (d modelDoc) ancestor(history []string) string {
	for _, id := range history {
		if d[id] != nil {
			return id
		}
	}
	return ""
}

// accepts applies gateway-rest.md §11.2 to a revision made elsewhere.
func (d modelDoc) accepts(history []string, deleted, conflicts bool) bool {
	if len(d) == 0 || conflicts {
		return true
	}
	winner := d.leaves()[0]
	parent := d.ancestor(history[1:])
	switch {
	case parent == "":
		return winner.deleted && !deleted
	case parent == winner.id.String():
		return true
	}
	return deleted && d.isLeaf(parent) && !d[parent].deleted
}

// add adds a revision with what its history tells.
func (d modelDoc) add(history []string, r modelRev) {
	for i, id := range history {
		parent := ""
		if i+1 < len(history) {
			parent = history[i+1]
		}
		if known := d[id]; known != nil {
			if known.parent == "" {
				known.parent = parent
			}
			continue
		}
		n := modelRev{parent: parent, stub: true}
		if i == 0 {
			n = r
			n.parent = parent
		}
		n.id, _ = tidegate.ParseRevID(id)
		d[id] = &n
	}
}

// machine is a database and the model of it.
type machine struct {
	e         *env
	conflicts bool
	docs      map[string]modelDoc
	handles   map[string]*database.Handle // by the channel that they see
	ids       []string
	made      int
	// purged documents: their old revisions, pushed again, may lose their bodies early, since the time that was set for them
	// before still stands.
	purged map[string]bool
}

var modelChannels = []string{"a", "b", "c"}

// foreign are the histories of revisions made elsewhere: a fixed tree, the same for every document. Revision i hangs below
// revision foreignParents[i].
var foreignParents = []int{-1, 0, 1, 2, 1, 4, 0, 6, -1, 8, 9, 3, 7}

func foreignHistory(i int) []string {
	var history []string
	for ; i >= 0; i = foreignParents[i] {
		depth := 0
		for p := i; p >= 0; p = foreignParents[p] {
			depth++
		}
		history = append(history, fmt.Sprintf("%d-%c", depth, 'f'+i))
	}
	return history
}

func (m *machine) doc(t *rapid.T) string { return rapid.SampledFrom(m.ids).Draw(t, "doc") }

func (m *machine) body(t *rapid.T) (raw, channel string) {
	channel = rapid.SampledFrom(modelChannels).Draw(t, "channel")
	m.made++
	raw = fmt.Sprintf(`"channels":%q,"n":%d`, channel, m.made)
	// What the model does not know of, but Check does.
	if rapid.Bool().Draw(t, "grants") {
		raw += fmt.Sprintf(`,"grant":[["u%d","x%d"],["role:r","y"]]`, m.made%2, m.made%3)
	}
	if rapid.Bool().Draw(t, "expires") {
		raw += fmt.Sprintf(`,"_exp":"20%d-01-01T00:00:00Z"`, 70+m.made%3)
	}
	if rapid.Bool().Draw(t, "attachment") {
		raw += fmt.Sprintf(`,"_attachments":{"f":{"data":%q},"g":{"data":"eHh4eHh4eHg="}}`, []string{"YQ==", "Yg=="}[m.made%2])
	}
	return raw, channel
}

// edit makes an interactive write.
func (m *machine) edit(t *rapid.T) {
	id := m.doc(t)
	d := m.docs[id]
	deleted := rapid.IntRange(0, 3).Draw(t, "deleted") == 0
	parents := append(slices.Sorted(maps.Keys(d)), "", "7-unknown")
	parent := rapid.SampledFrom(parents).Draw(t, "parent")
	body, channel := m.body(t)
	raw := fmt.Sprintf(`{"_id":%q,"_deleted":%v,%s`, id, deleted, body)
	if parent != "" {
		raw += fmt.Sprintf(`,"_rev":%q`, parent)
	}
	want := ""
	switch leaves := d.leaves(); {
	case parent == "" && len(d) > 0 && !leaves[0].deleted:
		want = "Document exists"
	case parent == "" && len(d) > 0:
		parent = leaves[0].id.String()
	case parent == "":
	case d[parent] == nil || !d.isLeaf(parent):
		want = "Document revision conflict"
	case parent == leaves[0].id.String() || m.conflicts || (deleted && !d[parent].deleted):
	default:
		want = "Document revision conflict"
	}
	res, err := m.e.admin.Put(m.e.t.Context(), m.e.write(raw+"}", true))
	if reason(err) != want {
		t.Fatalf("%s: %v, want %q", raw, err, want)
	}
	if err != nil {
		return
	}
	history := []string{res.Rev.String()}
	if parent != "" {
		history = append(history, parent)
	}
	m.add(id, history, modelRev{deleted: deleted, channel: channel})
}

func (m *machine) add(id string, history []string, r modelRev) {
	if m.docs[id] == nil {
		m.docs[id] = modelDoc{}
	}
	m.docs[id].add(history, r)
	if winner := m.docs[id].leaves()[0]; winner.closed && winner.deleted {
		winner.channel = "" // the server's own tombstone is in no channel once it is current
	}
}

// push writes a revision made elsewhere, perhaps as part of a bulk push.
func (m *machine) push(t *rapid.T) {
	id := m.doc(t)
	d := m.docs[id]
	history := foreignHistory(rapid.IntRange(0, len(foreignParents)-1).Draw(t, "revision"))
	history = history[:rapid.IntRange(1, len(history)).Draw(t, "known history")]
	deleted := rapid.IntRange(0, 3).Draw(t, "deleted") == 0
	bulk := rapid.Bool().Draw(t, "bulk")
	body, channel := m.body(t)
	first, _ := tidegate.ParseRevID(history[0])
	digests := make([]string, len(history))
	for i, h := range history {
		_, digest, _ := strings.Cut(h, "-")
		digests[i] = fmt.Sprintf("%q", digest)
	}
	raw := fmt.Sprintf(`{"_id":%q,"_deleted":%v,%s,"_revisions":{"start":%d,"ids":[%s]}}`, id, deleted, body, first.Generation, strings.Join(digests, ","))
	w := m.e.write(raw, false)
	w.BulkPush = bulk
	known := d[history[0]] != nil
	accepted := d.accepts(history, deleted, m.conflicts)
	closes := !known && !accepted && bulk && !deleted && !d.leaves()[0].deleted
	want := ""
	if !known && !accepted && !bulk {
		want = "Document revision conflict"
	}
	res, err := m.e.admin.Put(m.e.t.Context(), w)
	if reason(err) != want {
		t.Fatalf("%s bulk %v: %v, want %q", raw, bulk, err, want)
	}
	if err != nil || known {
		return
	}
	if res.Closed != closes {
		t.Fatalf("%s: closed %v, want %v", raw, res.Closed, closes)
	}
	m.add(id, history, modelRev{deleted: deleted, channel: channel, closed: closes})
	if closes {
		tomb := tidegate.NewRevID(res.Rev, []byte(`{"_deleted":true}`))
		m.add(id, []string{tomb.String(), history[0]}, modelRev{deleted: true, closed: true, channel: channel})
	}
}

func (m *machine) purge(t *rapid.T) {
	id := m.doc(t)
	purged, err := m.e.admin.Purge(m.e.t.Context(), []string{id})
	if err != nil || len(purged) > 0 != (m.docs[id] != nil) {
		t.Fatalf("%v %v", purged, err)
	}
	delete(m.docs, id)
	m.purged[id] = true
}

// sweep lets bodies of old revisions go.
func (m *machine) sweep(t *rapid.T) {
	m.e.clock.add(time.Hour)
	if err := m.e.db.Sweep(m.e.t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range m.docs {
		for id, r := range d {
			if !d.isLeaf(id) && (!r.closed || r.deleted) {
				r.stub = true
			}
		}
	}
}

// compare holds the database against the model.
func (m *machine) compare(t *rapid.T) {
	for _, id := range m.ids {
		results, err := m.e.admin.OpenRevs(m.e.t.Context(), id, nil, false)
		d := m.docs[id]
		if d == nil {
			if reason(err) != "missing" {
				t.Fatalf("%s: %v", id, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, res := range results {
			got = append(got, fmt.Sprint(res.Doc.Rev, res.Doc.Deleted))
		}
		for _, leaf := range d.leaves() {
			want = append(want, fmt.Sprint(leaf.id, leaf.deleted))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: leaves %v, want %v", id, got, want)
		}
		m.compareAccess(t, id, d)
	}
	report, err := m.e.db.Check(m.e.t.Context(), database.CheckOptions{})
	if err != nil || !report.OK() {
		t.Fatalf("%v %+v", err, report)
	}
}

// compareAccess is the oracle of I7: for each revision and each reader, what he gets is what its channel allows.
func (m *machine) compareAccess(t *rapid.T, id string, d modelDoc) {
	winner := d.leaves()[0]
	for channel, h := range m.handles {
		doc, err := h.Get(m.e.t.Context(), id, database.GetOptions{})
		switch {
		case winner.channel != channel && channel != "*" && !winner.deleted:
			if reason(err) != "forbidden" {
				t.Fatalf("reader of %s gets current %s %s: %v", channel, id, winner.id, err)
			}
		case winner.deleted:
			if r := reason(err); r != "deleted" && (r != "forbidden" || winner.channel == channel || channel == "*") {
				t.Fatalf("reader of %s gets deleted %s %s: %v", channel, id, winner.id, err)
			}
		case err != nil || doc.Rev != winner.id:
			t.Fatalf("reader of %s gets current %s: %v, want %s", channel, id, err, winner.id)
		}
		for _, r := range d {
			doc, err := h.Get(m.e.t.Context(), id, database.GetOptions{Rev: r.id})
			if r.stub || (m.purged[id] && !d.isLeaf(r.id.String()) && err != nil) {
				if reason(err) != "missing" {
					t.Fatalf("ancestor %s: %v", r.id, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("reader of %s gets %s %s: %v", channel, id, r.id, err)
			}
			allowed := channel == "*" || channel == r.channel
			if doc.Removed == allowed || (!allowed && string(doc.Body) != "{}") || doc.Deleted != r.deleted {
				t.Fatalf("reader of %s gets %s %s in %s: removed %v, body %s", channel, id, r.id, r.channel, doc.Removed, doc.Body)
			}
		}
	}
}

func TestModel(t *testing.T) {
	for _, conflicts := range []bool{false, true} {
		t.Run(fmt.Sprintf("conflicts %v", conflicts), func(t *testing.T) {
			e := open(t, database.Options{AllowConflicts: conflicts, InlineAttachmentBytes: 4})
			handles := map[string]*database.Handle{"*": e.user("all", "*")}
			for _, c := range modelChannels {
				handles[c] = e.user("reader-"+c, c)
			}
			n := 0
			rapid.Check(t, func(t *rapid.T) {
				n++
				m := &machine{
					e: e, conflicts: conflicts, docs: map[string]modelDoc{}, handles: handles,
					ids: []string{fmt.Sprint("d", n), fmt.Sprint("e", n)}, purged: map[string]bool{},
				}
				defer func() {
					if _, err := e.admin.Purge(e.t.Context(), m.ids); err != nil {
						t.Fatal(err)
					}
				}()
				for range rapid.IntRange(1, 25).Draw(t, "operations") {
					switch rapid.IntRange(0, 20).Draw(t, "operation") {
					case 0:
						m.purge(t)
					case 1:
						m.sweep(t)
					case 2, 3, 4, 5, 6, 7, 8:
						m.edit(t)
					default:
						m.push(t)
					}
				}
				m.compare(t)
			})
		})
	}
}

// Two databases that get the same revisions in different order end alike (I2).
func TestConvergence(t *testing.T) {
	one, two := open(t, database.Options{AllowConflicts: true}), open(t, database.Options{AllowConflicts: true})
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		id := fmt.Sprintf("d%d", n)
		indexes := rapid.SliceOfNDistinct(rapid.IntRange(0, len(foreignParents)-1), 1, 8, rapid.ID[int]).Draw(t, "revisions")
		order := rapid.Permutation(indexes).Draw(t, "other order")
		write := func(e *env, i int) {
			history := foreignHistory(i)
			w := &database.Write{ID: id, Body: fmt.Appendf(nil, `{"channels":%q}`, modelChannels[i%3]), Deleted: i%4 == 3}
			for _, h := range history {
				r, err := tidegate.ParseRevID(h)
				if err != nil {
					t.Fatal(err)
				}
				w.History = append(w.History, r)
			}
			if _, err := e.admin.Put(e.t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range indexes {
			write(one, i)
		}
		for _, i := range order {
			write(two, i)
		}
		a, b := one.raw(id), two.raw(id)
		if string(a.Tree.AppendBinary(nil)) != string(b.Tree.AppendBinary(nil)) {
			// A revision that came as somebody's ancestor and is known cannot be told apart from one that came itself.
			if fmt.Sprint(leafIDs(a)) != fmt.Sprint(leafIDs(b)) {
				t.Fatalf("leaves %v and %v", leafIDs(a), leafIDs(b))
			}
		}
		if a.Rev != b.Rev || a.Deleted != b.Deleted {
			t.Fatalf("current %s and %s", a.Rev, b.Rev)
		}
	})
}

func leafIDs(raw *database.RawDocument) []string {
	var ids []string
	for _, leaf := range raw.Tree.Leaves() {
		ids = append(ids, leaf.ID.String())
	}
	return ids
}
