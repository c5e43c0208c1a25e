package access

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// The stored forms begin with a version byte. Numbers are unsigned varints, texts are preceded by their
// length, maps are sorted by key and preceded by their size, times are unix milliseconds with 0 for none.
const (
	recordVersion  = 1
	grantsVersion  = 1
	sessionVersion = 1
)

// Flags of a record.
const (
	flagDeleted = 1 << iota
	flagDisabled
)

// encode returns the stored form of a record.
func (rec *record) encode() []byte {
	w := writer{b: make([]byte, 0, 128+32*rec.size())}
	w.b = append(w.b, recordVersion)
	var flags byte
	if rec.deleted {
		flags |= flagDeleted
	}
	if rec.disabled {
		flags |= flagDisabled
	}
	w.b = append(w.b, flags)
	w.text(rec.email)
	w.text(string(rec.hash))
	w.b = binary.BigEndian.AppendUint64(w.b, rec.sessions)
	w.time(rec.created)
	w.time(rec.updated)
	w.seq(rec.seq)
	w.seq(rec.since)
	writeMap(&w, rec.explicit, w.grants)
	w.grants(rec.explicitRoles)
	writeMap(&w, rec.channels, w.holding)
	w.holding(rec.roles)
	writeMap(&w, rec.lost, w.history)
	w.history(rec.lostRoles)
	return w.b
}

// decodeRecord reads the stored form. Corrupt: it is not one.
func decodeRecord(b []byte) (*record, error) {
	r := reader{b: b}
	r.version(recordVersion)
	flags := r.byte()
	rec := &record{deleted: flags&flagDeleted != 0, disabled: flags&flagDisabled != 0}
	rec.email = r.text()
	if hash := r.text(); hash != "" {
		rec.hash = []byte(hash)
	}
	rec.sessions = r.uint64()
	rec.created, rec.updated = r.time(), r.time()
	rec.seq, rec.since = r.seq(), r.seq()
	rec.explicit = readMap(&r, r.grants)
	rec.explicitRoles = r.grants()
	rec.channels = readMap(&r, r.holding)
	rec.roles = r.holding()
	rec.lost = readMap(&r, r.history)
	rec.lostRoles = r.history()
	return rec, r.end("principal")
}

// writer builds a stored form.
type writer struct{ b []byte }

func (w *writer) uint(n uint64)      { w.b = binary.AppendUvarint(w.b, n) }
func (w *writer) seq(s tidegate.Seq) { w.uint(uint64(s)) }
func (w *writer) text(s string)      { w.uint(uint64(len(s))); w.b = append(w.b, s...) }

func (w *writer) time(t time.Time) {
	if t.IsZero() {
		w.uint(0)
		return
	}
	w.uint(uint64(t.UnixMilli()))
}

func (w *writer) grants(g tidegate.Grants) {
	w.uint(uint64(len(g)))
	for _, name := range sortedNames(g) {
		w.text(name)
		w.seq(g[name])
	}
}

func (w *writer) holding(h holding) { w.grants(h.grants); w.grants(h.earlier) }

func (w *writer) history(h history) {
	w.uint(uint64(len(h)))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		w.text(name)
		w.time(h[name].updated)
		w.uint(uint64(len(h[name].spans)))
		for _, s := range h[name].spans {
			w.seq(s.Start)
			w.seq(s.End)
		}
	}
}

func writeMap[V any](w *writer, m map[store.Collection]V, value func(V)) {
	w.uint(uint64(len(m)))
	for _, coll := range slices.Sorted(maps.Keys(m)) {
		w.uint(uint64(coll))
		value(m[coll])
	}
}

// reader reads a stored form. After a fault everything reads as zero and end returns the fault.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.bad, r.b = true, nil }

func (r *reader) version(want byte) {
	if r.byte() != want {
		r.fail()
	}
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) uint64() uint64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	n := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return n
}

func (r *reader) seq() tidegate.Seq { return tidegate.Seq(r.uint()) }

// count reads a number of elements that take at least min bytes each.
func (r *reader) count(min int) int {
	n := r.uint()
	if n > uint64(len(r.b)/min) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) text() string {
	n := r.count(1)
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) time() time.Time {
	ms := r.uint()
	if ms == 0 || ms > 1<<62 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}

func (r *reader) grants() tidegate.Grants {
	n := r.count(2)
	if n == 0 {
		return nil
	}
	g := make(tidegate.Grants, n)
	for range n {
		name := r.text()
		g[name] = r.seq()
	}
	return g
}

func (r *reader) holding() holding { return holding{grants: r.grants(), earlier: r.grants()} }

func (r *reader) history() history {
	n := r.count(3)
	if n == 0 {
		return nil
	}
	h := make(history, n)
	for range n {
		name := r.text()
		l := loss{updated: r.time()}
		for range r.count(2) {
			l.spans = append(l.spans, Span{Start: r.seq(), End: r.seq()})
		}
		h[name] = l
	}
	return h
}

func readMap[V any](r *reader, value func() V) map[store.Collection]V {
	m := make(map[store.Collection]V)
	for range r.count(2) {
		coll := r.uint()
		m[store.Collection(coll)] = value()
	}
	return m
}

// end returns Corrupt if something did not fit or something is left over.
func (r *reader) end(what string) error {
	if r.bad || len(r.b) > 0 {
		return tidegate.Errorf(tidegate.Corrupt, "a stored %s does not make sense", what)
	}
	return nil
}
