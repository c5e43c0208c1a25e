package clustertest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// maxEvents is how many events one Next gives at most.
const maxEvents = 100

// Mark implements clustersync.Source. It takes a place in the history, as a no-op in an oplog does.
func (m *Memory) Mark(ctx context.Context) (clustersync.Position, error) {
	eff, err := m.begin(ctx, Call{Name: "Mark"})
	if err != nil {
		return clustersync.Position{}, err
	}
	s := m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	p := s.position(s.seq, s.now())
	close(s.changed)
	s.changed = make(chan struct{})
	return p, eff.lost
}

// Reached implements clustersync.Source.
func (m *Memory) Reached(at, mark clustersync.Position) bool { return seqOf(at) >= seqOf(mark) }

func seqOf(p clustersync.Position) int64 {
	n, _ := p.Token.Lookup("seq").AsInt64OK()
	return n
}

// Oplog implements clustersync.Source.
func (m *Memory) Oplog(ctx context.Context) (oldest, newest time.Time, err error) {
	if _, err := m.begin(ctx, Call{Name: "Oplog"}); err != nil {
		return oldest, newest, err
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	if h := m.server.history; len(h) > 0 {
		oldest, newest = h[0].at, h[len(h)-1].at
	}
	return oldest, newest, nil
}

// Changes implements clustersync.Source.
func (m *Memory) Changes(ctx context.Context, from clustersync.Position) (clustersync.Stream, error) {
	if _, err := m.begin(ctx, Call{Name: "Changes"}); err != nil {
		return nil, err
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	if seqOf(from) < m.server.forgotten {
		return nil, clustersync.ErrHistoryLost
	}
	return &stream{m: m, at: seqOf(from), time: from.Time}, nil
}

type stream struct {
	m    *Memory
	at   int64
	time bson.Timestamp
}

// Next implements clustersync.Stream.
func (st *stream) Next(ctx context.Context, wait time.Duration) ([]clustersync.Event, clustersync.Position, error) {
	if _, err := st.m.begin(ctx, Call{Name: "Next"}); err != nil {
		return nil, clustersync.Position{}, err
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for last := false; ; {
		before := st.at
		events, changed, err := st.take()
		if err != nil || st.at > before || last {
			return events, st.m.server.position(st.at, st.time), err
		}
		select {
		case <-changed:
			last = true // also for a killed connection, which is looked at below
		case <-timeout.C:
			last = true
		case <-ctx.Done():
			return nil, clustersync.Position{}, ctx.Err()
		}
		if err := st.m.alive(); err != nil {
			return nil, clustersync.Position{}, err
		}
	}
}

// take returns what is there after st.at, and a channel that is closed when there is more.
func (st *stream) take() ([]clustersync.Event, <-chan struct{}, error) {
	s := st.m.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.at < s.forgotten {
		return nil, nil, clustersync.ErrHistoryLost
	}
	from, _ := slices.BinarySearchFunc(s.history, st.at+1, func(c change, seq int64) int { return int(c.seq - seq) })
	var events []clustersync.Event
	for _, c := range s.history[from:] {
		if len(events) == maxEvents {
			return events, s.changed, nil
		}
		events = append(events, c.event)
		st.at, st.time = c.seq, c.event.Time
	}
	st.at, st.time = s.seq, s.clock
	return events, s.changed, nil
}

// Close implements clustersync.Stream.
func (st *stream) Close(context.Context) error { return nil }

// Partition implements clustersync.Source.
func (m *Memory) Partition(ctx context.Context, c clustersync.Collection, targetBytes int64) ([]clustersync.Range, error) {
	if _, err := m.begin(ctx, Call{Name: "Partition", Namespace: c.Namespace}); err != nil {
		return nil, err
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	_, coll := m.server.find(c.Ref)
	if coll == nil || coll.capped {
		return []clustersync.Range{{}}, nil
	}
	var ranges []clustersync.Range
	var from bson.Raw
	var bytes int64
	for _, d := range coll.sorted() {
		if bytes += int64(len(d.Body)); bytes > targetBytes {
			ranges = append(ranges, clustersync.Range{From: from, To: d.Key.Raw})
			from, bytes = d.Key.Raw, int64(len(d.Body))
		}
	}
	return append(ranges, clustersync.Range{From: from}), nil
}

// sorted returns the documents in the order of their keys.
func (c *collection) sorted() []clustersync.Document {
	docs := slices.Clone(c.docs)
	slices.SortFunc(docs, func(a, b clustersync.Document) int { return compareIDs(idOf(a.Key.Raw), idOf(b.Key.Raw)) })
	return docs
}

func idOf(key bson.Raw) bson.RawValue { return key.Lookup("_id") }

// Read implements clustersync.Source. Each batch is read when it is given, as a cursor does it.
func (m *Memory) Read(ctx context.Context, ref clustersync.Ref, r clustersync.Range, opts clustersync.ReadOptions,
	fn func([]clustersync.Document) error) error {
	var after bson.Raw // the last key given
	place, err := m.resume(opts.Resume)
	if err != nil {
		return err
	}
	for {
		eff, err := m.begin(ctx, Call{Name: "Read", Namespace: ref.Namespace, Items: opts.BatchDocs})
		if err != nil {
			return err
		}
		docs, numbers, err := m.batch(ref, r, opts, after, place)
		if err != nil {
			return err
		}
		more := len(docs) > 0
		docs = docs[:eff.cut(len(docs))]
		if len(docs) > 0 {
			after, place = docs[len(docs)-1].Key.Raw, numbers[len(docs)-1]
			if err := fn(docs); err != nil {
				return err
			}
			if opts.Natural && opts.Place != nil {
				opts.Place(marshal(bson.D{{Key: "record", Value: place}, {Key: "life", Value: m.server.life()}}))
			}
		}
		if eff.lost != nil || !more {
			return eff.lost
		}
	}
}

// resume reads the place of a natural read.
func (m *Memory) resume(place bson.Raw) (int64, error) {
	if place == nil {
		return 0, nil
	}
	if life, _ := place.Lookup("life").AsInt64OK(); life != m.server.life() {
		return 0, clustersync.ErrPlaceLost
	}
	n, _ := place.Lookup("record").AsInt64OK()
	return n, nil
}

func (s *server) life() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lives
}

// RandomKeys implements clustersync.KeyOrder: it compares all documents.
func (m *Memory) RandomKeys(ctx context.Context, coll clustersync.Collection) (bool, error) {
	if _, err := m.begin(ctx, Call{Name: "RandomKeys", Namespace: coll.Namespace}); err != nil {
		return false, err
	}
	if m.server.opts.NoKeyOrder {
		return false, fmt.Errorf("compare keys: %w", clustersync.ErrUnsupported)
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	_, c := m.server.find(coll.Ref)
	if c == nil {
		return false, clustersync.ErrGone
	}
	up := 0
	for i := range len(c.docs) - 1 {
		if compareIDs(idOf(c.docs[i].Key.Raw), idOf(c.docs[i+1].Key.Raw)) < 0 {
			up++
		}
	}
	return up*4 > len(c.docs) && up*4 < 3*len(c.docs), nil
}

func (m *Memory) batch(ref clustersync.Ref, r clustersync.Range, opts clustersync.ReadOptions, after bson.Raw, place int64,
) (out []clustersync.Document, numbers []int64, err error) {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	_, c := m.server.find(ref)
	if c == nil {
		return nil, nil, clustersync.ErrGone
	}
	var docs []clustersync.Document
	if opts.Natural {
		docs = slices.DeleteFunc(slices.Clone(c.docs), func(d clustersync.Document) bool { return c.numbers[d.Key.ID] <= place })
	} else {
		docs = c.sorted()
	}
	bytes := 0
	for _, d := range docs {
		id := idOf(d.Key.Raw)
		if !opts.Natural && after != nil && compareIDs(id, idOf(after)) <= 0 ||
			r.From != nil && compareIDs(id, idOf(r.From)) < 0 || r.To != nil && compareIDs(id, idOf(r.To)) >= 0 {
			continue
		}
		full := opts.BatchDocs > 0 && len(out) == opts.BatchDocs || opts.BatchBytes > 0 && bytes+len(d.Body) > opts.BatchBytes
		if full && len(out) > 0 {
			break
		}
		out, numbers, bytes = append(out, clone(d)), append(numbers, c.numbers[d.Key.ID]), bytes+len(d.Body)
	}
	return out, numbers, nil
}

// clone copies a document, which the caller may keep and change.
func clone(d clustersync.Document) clustersync.Document {
	d.Body, d.Key.Raw = slices.Clone(d.Body), slices.Clone(d.Key.Raw)
	return d
}

// Fetch implements clustersync.Source.
func (m *Memory) Fetch(ctx context.Context, ref clustersync.Ref, keys []clustersync.Key) ([]clustersync.Document, error) {
	if _, err := m.begin(ctx, Call{Name: "Fetch", Namespace: ref.Namespace, Items: len(keys)}); err != nil {
		return nil, err
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	_, c := m.server.find(ref)
	if c == nil {
		return nil, clustersync.ErrGone
	}
	out := make([]clustersync.Document, len(keys))
	for i, k := range keys {
		if place, ok := c.where[k.ID]; ok {
			out[i] = clone(c.docs[place])
		}
	}
	return out, nil
}
