package changes

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// world is a database in small: documents, users with grants, and what they were at every moment. It is the
// model that feeds are held against, and the fake of Viewers, History and States.
type world struct {
	st    store.Store
	space store.Space
	coll  store.Collection

	mu    sync.Mutex
	story []string
	last  tidegate.Seq
	docs  map[string]*modelDoc
	users map[string]*modelUser
	// markers and floor are those of device-sync.md §12.1.
	markers []tidegate.Seq
	ever    []tidegate.Seq // markers, those that were dropped too
	floor   tidegate.Seq
	// onView is called at the beginning and at the end of every View, with no lock held.
	onView func()
}

// modelDoc is a document with everything it ever was.
type modelDoc struct {
	id      string
	state   *DocState
	periods map[string][]Period
	revs    []modelRev
}

type modelRev struct {
	seq      tidegate.Seq
	rev      tidegate.RevID
	deleted  bool
	channels tidegate.ChannelSet
}

// modelUser is a user; versions are all the views there ever were.
type modelUser struct {
	name     string
	sources  map[string]map[string]tidegate.Seq // who grants ("admin" or a document) → channel → sequence
	versions []*modelViewer
	watchers map[*func()]struct{}
	gone     bool
}

// modelViewer is a Viewer: the user at one moment.
type modelViewer struct {
	name     string
	at, own  tidegate.Seq
	channels tidegate.Grants
	periods  map[string][]Period
}

var spaces struct {
	sync.Mutex
	last store.Space
}

// openStore opens one store for a test and everything below it.
func openStore(t testing.TB) store.Store {
	t.Helper()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func newWorld(st store.Store) *world {
	spaces.Lock()
	defer spaces.Unlock()
	spaces.last++
	return &world{st: st, space: spaces.last, docs: map[string]*modelDoc{}, users: map[string]*modelUser{}}
}

// update runs fn as one write: inside a transaction, with its sequence.
func (w *world) update(fn func(tx store.Tx, seq tidegate.Seq) error) tidegate.Seq {
	w.mu.Lock()
	var seq tidegate.Seq
	err := w.st.Update(context.Background(), func(tx store.Tx) (err error) {
		if seq, err = tx.NextSequence(w.space); err != nil {
			return err
		}
		return fn(tx, seq)
	})
	if err != nil {
		panic(err)
	}
	w.last = seq
	var wake []*func()
	for _, u := range w.users {
		if u.versions[len(u.versions)-1].at == seq || u.gone {
			wake = slices.AppendSeq(wake, maps.Keys(u.watchers))
		}
	}
	w.mu.Unlock()
	for _, changed := range wake {
		(*changed)()
	}
	return seq
}

// user creates a user with channels granted by an administrator.
func (w *world) user(name string, channels ...string) tidegate.Seq {
	w.users[name] = &modelUser{
		name: name, sources: map[string]map[string]tidegate.Seq{}, watchers: map[*func()]struct{}{},
		versions: []*modelViewer{{name: name, channels: tidegate.Grants{"!": 1}, periods: map[string][]Period{}}},
	}
	return w.admin(name, channels...)
}

// admin sets the channels that an administrator grants to a user.
func (w *world) admin(name string, channels ...string) tidegate.Seq {
	return w.update(func(tx store.Tx, seq tidegate.Seq) error {
		w.grant(name, "admin", channels, seq)
		w.users[name].versions[len(w.users[name].versions)-1].own = seq
		return WriteEvent(tx, w.space, seq, "user:"+name)
	})
}

// always gives a user channels that count as never granted.
func (w *world) always(name string, channels ...string) {
	u := w.users[name]
	u.sources["ever"] = map[string]tidegate.Seq{}
	for _, c := range channels {
		u.sources["ever"][c] = 1
		u.versions[len(u.versions)-1].channels[c] = 1
		u.versions[len(u.versions)-1].periods[c] = []Period{{Start: 1}}
	}
}

// grant replaces what one source grants to a user.
func (w *world) grant(name, source string, channels []string, seq tidegate.Seq) (changed bool) {
	u := w.users[name]
	old := u.sources[source]
	next := make(map[string]tidegate.Seq)
	for _, c := range channels {
		if next[c] = seq; old[c] > 0 {
			next[c] = old[c]
		}
	}
	if source != "admin" && maps.Equal(old, next) {
		return false
	}
	u.sources[source] = next
	prev := u.versions[len(u.versions)-1]
	v := &modelViewer{name: name, at: seq, own: prev.own, channels: tidegate.Grants{"!": 1}, periods: map[string][]Period{}}
	for _, given := range u.sources {
		for c, at := range given {
			v.channels.Add(c, at)
		}
	}
	for c, ps := range prev.periods {
		v.periods[c] = slices.Clone(ps)
	}
	for c, since := range v.channels {
		if _, had := prev.channels[c]; !had {
			v.periods[c] = append(v.periods[c], Period{Start: since})
		}
	}
	for c := range prev.channels {
		if _, has := v.channels[c]; !has {
			v.periods[c][len(v.periods[c])-1].End = seq
		}
	}
	u.versions = append(u.versions, v)
	w.logf("%d: %s has %v", seq, name, v.channels)
	return true
}

// remove deletes a user.
func (w *world) remove(name string) {
	w.update(func(tx store.Tx, seq tidegate.Seq) error {
		w.users[name].gone = true
		return WriteEvent(tx, w.space, seq, "user:"+name)
	})
}

// write describes one write of a document.
type write struct {
	id       string
	deleted  bool
	channels []string
	access   map[string][]string // user → channels; nil: the document never grants
	others   []Leaf
}

func (w *world) put(id string, channels ...string) tidegate.Seq {
	return w.write(write{id: id, channels: channels})
}

// del deletes a document: by default a tombstone is in no channel.
func (w *world) del(id string) tidegate.Seq { return w.write(write{id: id, deleted: true}) }

func (w *world) write(wr write) tidegate.Seq { return w.writeAll(wr)[0] }

// writeAll writes documents in one transaction.
func (w *world) writeAll(writes ...write) (seqs []tidegate.Seq) {
	w.update(func(tx store.Tx, seq tidegate.Seq) (err error) {
		for i, wr := range writes {
			if i > 0 {
				if seq, err = tx.NextSequence(w.space); err != nil {
					return err
				}
			}
			seqs = append(seqs, seq)
			if err := w.writeAt(tx, seq, wr); err != nil {
				return err
			}
			w.last = seq
		}
		return nil
	})
	w.mu.Lock()
	w.last = seqs[len(seqs)-1]
	w.mu.Unlock()
	return seqs
}

func (w *world) writeAt(tx store.Tx, seq tidegate.Seq, wr write) error {
	d := w.docs[wr.id]
	if d == nil {
		d = &modelDoc{id: wr.id, periods: map[string][]Period{}}
		w.docs[wr.id] = d
	}
	old := d.state
	set := tidegate.NewChannelSet(slices.Clone(wr.channels)...)
	next := &DocState{Seq: seq, Deleted: wr.deleted, Channels: map[string]Membership{}, Others: wr.others}
	next.Rev = tidegate.RevID{Generation: uint64(len(d.revs) + 1), Digest: fmt.Sprintf("%s%d", wr.id, seq)}
	for _, c := range set {
		next.Channels[c] = Membership{}
		if old == nil || !isMember(old, c) {
			d.periods[c] = append(d.periods[c], Period{Start: seq})
		}
	}
	if old != nil {
		for c, m := range old.Channels {
			if !set.Has(c) {
				if !m.Removed {
					m = Membership{Removed: true, Seq: seq, Rev: next.Rev, Deleted: wr.deleted}
					d.periods[c][len(d.periods[c])-1].End = seq
				}
				next.Channels[c] = m
			}
		}
	}
	d.state = next
	w.logf("%d: put %s %v deleted=%v", seq, wr.id, set, wr.deleted)
	d.revs = append(d.revs, modelRev{seq, next.Rev, wr.deleted, set})
	for name := range w.users {
		if w.users[name].sources[wr.id] == nil && len(wr.access[name]) == 0 {
			continue
		}
		if w.grant(name, wr.id, wr.access[name], seq) {
			if err := WriteEvent(tx, w.space, seq, "user:"+name); err != nil {
				return err
			}
		}
	}
	return WriteIndex(tx, w.space, w.coll, wr.id, old, next)
}

func isMember(s *DocState, channel string) bool {
	m, ok := s.Channels[channel]
	return ok && !m.Removed
}

// View implements Viewers: it is exactly as new as the store, and the store may move on meanwhile.
func (w *world) View(ctx context.Context, name string) (Viewer, error) {
	if w.onView != nil {
		w.onView()
		defer w.onView()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.users[name]
	if u == nil || u.gone {
		return nil, tidegate.ErrMissing
	}
	return u.versions[len(u.versions)-1], nil
}

// Watch implements Viewers.
func (w *world) Watch(name string, changed func()) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.users[name]
	u.watchers[&changed] = struct{}{}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(u.watchers, &changed)
	}
}

func (v *modelViewer) PrincipalName() string                         { return v.name }
func (v *modelViewer) Sequence() tidegate.Seq                        { return v.own }
func (v *modelViewer) Channels(store.Collection) tidegate.Grants     { return v.channels }
func (v *modelViewer) Periods(_ store.Collection, c string) []Period { return v.periods[c] }

func (v *modelViewer) Revoked(_ store.Collection, since tidegate.Seq) tidegate.Grants {
	lost := tidegate.Grants{}
	if _, ok := v.channels[tidegate.AllChannels]; ok {
		return nil
	}
	for c, ps := range v.periods {
		if _, has := v.channels[c]; has || len(ps) == 0 {
			continue
		}
		if end := ps[len(ps)-1].End; end > since {
			lost[c] = end
		}
	}
	return lost
}

// worldHistory is the History (and States) of a world. The world it answers from may be newer than the
// reader's snapshot, which a real one never is; answers are cut back to the snapshot's sequence.
type worldHistory struct{ w *world }

func (h worldHistory) ChannelPeriods(r store.Reader, _ store.Collection, id string) (tidegate.ChannelSet, map[string][]Period, error) {
	last, err := r.LastSequence(h.w.space)
	if err != nil {
		return nil, nil, err
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	d := h.w.docs[id]
	if d == nil {
		return nil, nil, nil
	}
	var current tidegate.ChannelSet
	for _, rev := range d.revs {
		if rev.seq <= last {
			current = rev.channels
		}
	}
	past := map[string][]Period{}
	for c, ps := range d.periods {
		for _, p := range ps {
			if p.Start <= last {
				if p.End > last {
					p.End = 0
				}
				past[c] = append(past[c], p)
			}
		}
	}
	return current, past, nil
}

// worldStates adds lookups.
type worldStates struct{ worldHistory }

func (h worldStates) DocState(_ store.Reader, _ store.Collection, id string) (*DocState, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if d := h.w.docs[id]; d != nil {
		return d.state, nil
	}
	return nil, nil
}

// current returns the newest view of a user, without the promise of View.
func (w *world) current(name string) *modelViewer {
	u := w.users[name]
	return u.versions[len(u.versions)-1]
}

// visible returns what a user may see now by the channels of filter (nil: all): document → revision.
func (w *world) visible(name string, filter tidegate.ChannelSet) map[string]tidegate.RevID {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]tidegate.RevID{}
	for id, d := range w.docs {
		rev := d.revs[len(d.revs)-1]
		if !rev.deleted && w.sees(name, filter, rev, maxSeq) {
			out[id] = rev.rev
		}
	}
	return out
}

// readable reports whether a user may read the revision now, by channels of filter (nil: all) that he had at
// seq already.
func (w *world) readable(name string, filter tidegate.ChannelSet, id string, rev tidegate.RevID, seq tidegate.Seq) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.docs[id].revs {
		if r.rev == rev {
			return w.sees(name, filter, r, seq)
		}
	}
	return false
}

func (w *world) sees(name string, filter tidegate.ChannelSet, rev modelRev, seq tidegate.Seq) bool {
	v := w.current(name)
	has := func(channel string) bool {
		_, ok := v.channels[channel]
		ps := v.periods[channel]
		return ok && (channel == "!" || ps[len(ps)-1].Start <= seq)
	}
	if filter == nil && has("*") {
		return true
	}
	return slices.ContainsFunc(rev.channels, func(c string) bool {
		return (has(c) || has("*")) && (filter == nil || filter.Has(c))
	})
}

// log notes what happens, for messages.
func (w *world) logf(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf(format, args...))
}
