package changes

import (
	"slices"
	"sort"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// recent is an entry of the ring: a routed entry, or what is left of one after its document moved on (a
// removal; Channels is empty). It is shared by all readers.
type recent struct {
	Entry
	coll store.Collection
	rev  [1]tidegate.RevID // what Revs of most changes point to
	revs []tidegate.RevID  // all leaves
	// departed: made of a Departure, which does not say which other leaves there were.
	departed bool
}

func newRecent(coll store.Collection, e Entry) *recent {
	r := &recent{Entry: e, coll: coll}
	r.rev[0] = e.Rev
	if r.revs = r.rev[:]; len(e.Others) > 0 {
		r.revs = append(make([]tidegate.RevID, 0, 1+len(e.Others)), e.Rev)
		for _, leaf := range e.Others {
			r.revs = append(r.revs, leaf.Rev)
		}
	}
	return r
}

// recentRemoval is what a departure leaves in the ring.
func recentRemoval(coll store.Collection, docID string, d Departure) *recent {
	e := Entry{Seq: d.Seq, DocID: docID, Rev: d.Rev, Flags: Removed, RemovedFrom: d.Channels, Routed: true}
	if d.Deleted {
		e.Flags |= Deleted
	}
	r := newRecent(coll, e)
	r.departed = true
	return r
}

// size estimates the memory of the entry, in bytes.
func (r *recent) size() int {
	const fixed, word = 320, 16
	n := fixed + len(r.DocID) + len(r.Rev.Digest) + 80*len(r.Others)
	for _, set := range [][]string{r.Channels, r.RemovedFrom} {
		for _, name := range set {
			n += word + len(name)
		}
	}
	for _, d := range r.Left {
		n += 100 + len(d.Channels)*2*word
	}
	return n
}

// docKey names a document of a space.
type docKey struct {
	coll store.Collection
	id   string
}

// ringItem is one place of the ring. The entry is nil once nothing is left of it.
type ringItem struct {
	seq tidegate.Seq
	*recent
}

// ring holds what the index has in the sequences (base, last] of all collections.
type ring struct {
	base       tidegate.Seq
	items      []ringItem // ascending
	docs       map[docKey][]tidegate.Seq
	bytes      int
	maxEntries int
	maxBytes   int
}

// reset empties the ring: it begins after seq.
func (r *ring) reset(seq tidegate.Seq) {
	r.base, r.items, r.bytes = seq, nil, 0
	r.docs = make(map[docKey][]tidegate.Seq)
}

// find returns the place of the first item after seq.
func (r *ring) find(seq tidegate.Seq) int {
	return sort.Search(len(r.items), func(i int) bool { return r.items[i].seq > seq })
}

// add takes in what a batch of new rows of channel "*" says about the sequences after last. Entries are of
// different documents.
func (r *ring) add(batch []*recent, last tidegate.Seq) {
	start := len(r.items)
	for _, e := range batch {
		key := docKey{e.coll, e.DocID}
		kept := r.outdate(key, e)
		for i := len(e.Left) - 1; i >= 0; i-- {
			if d := e.Left[i]; d.Seq > last {
				r.push(recentRemoval(e.coll, e.DocID, d))
				kept = append(kept, d.Seq)
			}
		}
		r.push(e)
		r.docs[key] = append(kept, e.Seq)
	}
	slices.SortFunc(r.items[start:], func(a, b ringItem) int { return compareSeq(a.seq, b.seq) })
}

func (r *ring) push(e *recent) {
	r.items = append(r.items, ringItem{e.Seq, e})
	r.bytes += e.size()
}

// outdate reduces the older items of e's document to the removals that are still in the index, and returns
// where these are.
func (r *ring) outdate(key docKey, e *recent) (kept []tidegate.Seq) {
	for _, seq := range r.docs[key] {
		i := r.find(seq - 1)
		var left *recent
		if e != nil {
			for _, d := range e.Left {
				if d.Seq == seq {
					left = recentRemoval(key.coll, key.id, d)
				}
			}
		}
		r.bytes -= r.items[i].size()
		r.items[i].recent = left
		if left != nil {
			r.bytes += left.size()
			kept = append(kept, seq)
		}
	}
	return kept
}

// forget drops a purged document.
func (r *ring) forget(key docKey) {
	r.outdate(key, nil)
	delete(r.docs, key)
}

// trim drops the oldest items until the ring is within its bounds. last is the last sequence it covers.
func (r *ring) trim(last tidegate.Seq) {
	n := 0
	for n < len(r.items) && (len(r.items)-n > r.maxEntries || r.bytes > r.maxBytes || last-r.items[n].seq >= LeftWindow) {
		item := r.items[n]
		if item.recent != nil {
			r.bytes -= item.size()
			r.drop(docKey{item.coll, item.DocID}, item.seq)
		}
		r.base = max(r.base, item.seq)
		n++
	}
	if last > LeftWindow {
		r.base = max(r.base, last-LeftWindow)
	}
	clear(r.items[:n])
	r.items = r.items[n:]
}

// drop forgets that the document has an item at seq.
func (r *ring) drop(key docKey, seq tidegate.Seq) {
	seqs := slices.DeleteFunc(r.docs[key], func(s tidegate.Seq) bool { return s == seq })
	if len(seqs) == 0 {
		delete(r.docs, key)
		return
	}
	r.docs[key] = seqs
}

// ringRead is how many items a reader looks at under one lock.
const ringRead = 1024

// fromRing returns what the ring has for the reader after its position. served is false if the ring cannot
// answer: the position is before it, or a slot is to be done.
func (f *Feed) fromRing(max int) (out []tidegate.Change, caughtUp, served bool) {
	c := &f.cur
	if f.req.Descending || c.slot != 0 || c.floor != 0 || f.scope.newest > c.plain {
		return nil, false, false
	}
	if c.plain >= f.bound {
		return nil, true, true
	}
	var few [16]*recent
	entries := few[:0]
	end := f.bound
	h := f.h
	h.mu.RLock()
	if c.plain < h.ring.base {
		h.mu.RUnlock()
		return nil, false, false
	}
	items := h.ring.items[h.ring.find(c.plain):]
	for i, item := range items {
		if item.seq > f.bound {
			break
		}
		if i == ringRead {
			end = items[i-1].seq
			break
		}
		if item.recent == nil || item.coll != f.req.Collection {
			continue
		}
		if f.req.AllLeaves && item.departed && item.Flags&Deleted != 0 {
			h.mu.RUnlock()
			return nil, false, false // the row in the index knows the leaves
		}
		entries = append(entries, item.recent)
	}
	h.mu.RUnlock()
	for _, e := range entries {
		if len(out) == max {
			end = e.Seq - 1
			break
		}
		if change, ok := f.change(e); ok {
			out = append(out, change)
		}
	}
	c.moveTo(end)
	return out, end >= f.bound, true
}

// change is what the reader gets of an entry of the ring, if anything.
func (f *Feed) change(e *recent) (tidegate.Change, bool) {
	member, removed := f.scope.match(&e.Entry)
	if !member && len(removed) == 0 || !f.wants(e.DocID) {
		return tidegate.Change{}, false
	}
	if f.req.ActiveOnly && (e.Flags&Deleted != 0 || !member) {
		return tidegate.Change{}, false
	}
	revs := e.revs[:1:1]
	if f.req.AllLeaves && (member || e.Flags&Deleted != 0 && e.Routed) {
		revs = e.revs
	}
	return tidegate.Change{
		Seq: tidegate.Since{Seq: e.Seq}, ID: e.DocID, Revs: revs, Deleted: e.Flags&Deleted != 0, Removed: removed,
		Left: !member,
	}, true
}
