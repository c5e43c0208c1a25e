package clustersync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds of what a worker applies at once (spec §8.4), and of what it sets aside (§8.8).
const (
	applyDocs  = 2_000
	applyBytes = 16 << 20

	parkedRounds = 5 // after which a document makes room on the destination
	parkedFirst  = 20 * time.Millisecond
	parkedMost   = time.Second
	maxParked    = 10_000
)

// worker applies the events of its documents.
type worker struct {
	a      *applier
	number int
	queue  chan queued

	// parked are changes that a unique index has refused: the value has moved from one document to another, and the other one's change is
	// yet to be applied. They hold the checkpoint back, but no other events.
	parked map[parkedKey]*parkedChange
}

type parkedKey struct{ target, id string }

type parkedChange struct {
	change *change
	since  time.Time
	due    time.Time
}

func newWorker(a *applier, number int) *worker {
	return &worker{a: a, number: number, queue: make(chan queued, workerQueue), parked: map[parkedKey]*parkedChange{}}
}

// run applies events until the queue is closed and empty.
func (w *worker) run(ctx context.Context) error {
	for {
		batch, more, err := w.collect(ctx)
		if err != nil {
			return err
		}
		if err := w.applyBatch(ctx, batch); err != nil {
			return err
		}
		if err := w.retryParked(ctx); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
}

// collect waits for an event, or for a parked change to be due, and takes what else is there. While a batch is applied the next one gathers, so
// that there is nothing to wait for.
func (w *worker) collect(ctx context.Context) (batch []queued, more bool, err error) {
	var due <-chan time.Time
	if wait, some := w.nextDue(); some {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	bytes := 0
	select {
	case q, ok := <-w.queue:
		if !ok {
			return nil, false, nil
		}
		batch, bytes = append(batch, q), q.event.Bytes
	case <-due:
		return nil, true, nil
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	for len(batch) < applyDocs && bytes < applyBytes {
		select {
		case q, ok := <-w.queue:
			if !ok {
				return batch, false, nil
			}
			batch, bytes = append(batch, q), bytes+q.event.Bytes
		default:
			return batch, true, nil
		}
	}
	return batch, true, nil
}

// applyBatch applies what a batch makes of each document.
func (w *worker) applyBatch(ctx context.Context, batch []queued) error {
	if len(batch) == 0 {
		return nil
	}
	w.a.ddl.RLock()
	defer w.a.ddl.RUnlock()
	for target, changes := range coalesce(batch) {
		for _, c := range changes {
			k := parkedKey{target, c.key.ID}
			if p := w.parked[k]; p != nil {
				c.absorb(p.change)
				c.fetch = true
				delete(w.parked, k)
			}
		}
		if err := w.apply(ctx, target, changes); err != nil {
			return err
		}
	}
	for _, q := range batch {
		w.a.budget.Release(min(int64(q.event.Bytes), w.a.most))
	}
	w.a.e.stats.appliedBy(w.number, len(batch))
	w.a.flying.add(-len(batch))
	return nil
}

// apply brings documents of one collection up to date. ddl is held for reading.
func (w *worker) apply(ctx context.Context, target string, changes []*change) error {
	m := w.a.e.catalog.get(target)
	if m == nil { // dropped since; only parked changes come to this
		for _, c := range changes {
			c.done()
		}
		return nil
	}
	if m.Capped {
		slices.SortFunc(changes, func(a, b *change) int { return cmp.Compare(a.first, b.first) })
	} else {
		slices.SortFunc(changes, func(a, b *change) int { return cmp.Compare(a.last, b.last) })
	}
	for part := range slices.Chunk(changes, w.fetchDocs(m)) {
		intents, gone, err := w.resolve(ctx, m, part)
		if err != nil {
			return fmt.Errorf("fetch from %s: %w", m.Source, err)
		}
		if err := w.write(ctx, m, part, intents); err != nil {
			return fmt.Errorf("write to %s: %w", m.Destination, err)
		}
		if gone {
			if err := w.writeDeltas(ctx, m, part); err != nil {
				return fmt.Errorf("write to %s: %w", m.Destination, err)
			}
		}
		for _, c := range part {
			c.done()
		}
	}
	return nil
}

// fetchDocs is how many documents may be fetched at once, by their size when the collection was listed.
func (w *worker) fetchDocs(m *mapping) int {
	limits := w.a.e.limits()
	n := min(applyDocs, limits.BatchDocs)
	if m.Count > 0 && m.Bytes > m.Count {
		n = int(min(int64(n), int64(limits.BatchBytes)/(m.Bytes/m.Count)))
	}
	return max(1, n)
}

// resolve says what each document becomes; nil where nothing can be said. gone: the source's collection is there no more, so that what the
// events tell must do until the DDL that says why.
func (w *worker) resolve(ctx context.Context, m *mapping, changes []*change) (intents []*Intent, gone bool, err error) {
	e := w.a.e
	byRef := map[Ref][]int{}
	for i, c := range changes {
		if c.fetch {
			byRef[c.ref] = append(byRef[c.ref], i)
		}
	}
	intents = make([]*Intent, len(changes))
	for i, c := range changes {
		if c.base != nil && !(c.fetch && c.maybe) {
			intents[i] = &Intent{Doc: *c.base, New: c.fresh}
		}
	}
	for ref, places := range byRef {
		keys := make([]Key, len(places))
		for i, p := range places {
			keys[i] = changes[p].key
		}
		var docs []Document
		err := e.retries.do(ctx, "fetch documents", func() (err error) {
			defer e.observe(Refetch, time.Now())
			docs, err = e.cfg.Source.Fetch(ctx, ref, keys)
			return err
		})
		if errors.Is(err, ErrGone) {
			gone = true
			continue
		}
		if err != nil {
			return nil, false, err
		}
		e.stats.refetches.Add(int64(len(keys)))
		for i, p := range places {
			c := changes[p]
			doc := docs[i]
			doc.Key, doc.Format, c.deltas = c.key, c.format, nil
			intents[p] = &Intent{Doc: doc, New: c.fresh}
		}
	}
	for _, in := range intents {
		if in != nil && in.Doc.Body != nil && !e.cfg.Plan.Filter.Keeps(in.Doc) {
			in.Doc.Body = nil // it is not, or no longer, one of the sync (spec §11.5)
		}
	}
	return intents, gone, nil
}

// write applies the intents in batches of bounded size and parks what a unique index refuses.
func (w *worker) write(ctx context.Context, m *mapping, changes []*change, intents []*Intent) error {
	limits := w.a.e.limits()
	var batch []Intent
	var of []*change
	bytes := 0
	applied, _, _ := w.a.water.get()
	flush := func() error {
		if err := w.a.e.guardDeletes(ctx, m, batch, applied); err != nil {
			return err
		}
		err := w.writeBatch(ctx, m, of, batch)
		batch, of, bytes = nil, nil, 0
		return err
	}
	for i, in := range intents {
		if in == nil {
			continue
		}
		if len(batch) > 0 && (len(batch) >= limits.BatchDocs || bytes+len(in.Doc.Body) > limits.BatchBytes) {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, of, bytes = append(batch, *in), append(of, changes[i]), bytes+len(in.Doc.Body)
	}
	return flush()
}

func (w *worker) writeBatch(ctx context.Context, m *mapping, of []*change, batch []Intent) error {
	opts := WriteOptions{Ordered: m.Capped || m.collated()}
	for len(batch) > 0 {
		failed, err := w.send(ctx, m, batch, opts)
		if err != nil {
			return err
		}
		for _, f := range failed {
			if err := w.park(m, of[f.Index], f.Err); err != nil {
				return err
			}
		}
		if !opts.Ordered || len(failed) == 0 {
			return nil
		}
		// An ordered batch ends with its first failure.
		next := failed[len(failed)-1].Index + 1
		batch, of = batch[next:], of[next:]
	}
	return nil
}

func (w *worker) send(ctx context.Context, m *mapping, batch []Intent, opts WriteOptions) (failed []Failure, err error) {
	err = w.a.e.retries.do(ctx, "apply changes", func() (err error) {
		defer w.a.e.observe(ApplyWrite, time.Now())
		failed, err = w.a.e.cfg.Destination.Apply(ctx, m.Destination, batch, opts)
		for _, f := range failed {
			if err == nil && errors.Is(f.Err, ErrUnreachable) {
				return f.Err
			}
		}
		return err
	})
	return failed, err
}

// writeDeltas applies updates as the events told them, of documents that cannot be fetched (spec §8.5).
func (w *worker) writeDeltas(ctx context.Context, m *mapping, changes []*change) error {
	for _, c := range changes {
		for _, delta := range c.deltas {
			err := w.a.e.retries.do(ctx, "apply an update", func() error {
				return w.a.e.cfg.Destination.ApplyDelta(ctx, m.Destination, c.key, delta)
			})
			if errors.Is(err, ErrUnsupported) || isDuplicate(err) {
				break // the collection is gone on the source, and will go here
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func isDuplicate(err error) bool {
	_, ok := errors.AsType[*DuplicateKeyError](err)
	return ok
}

// park sets a change aside that a unique index refuses. Any other failure of a document is final.
func (w *worker) park(m *mapping, c *change, why error) error {
	if !isDuplicate(why) {
		return Errorf(NameOf(why), "document %s of %s cannot be written: %w", extendedID(c.key), m.Source, why)
	}
	w.a.e.stats.duplicates.Add(1)
	if len(w.parked) >= maxParked {
		return Errorf(MigrationFailed, "%s: more than %d documents are refused by unique indexes of the destination: %w", m.Destination, maxParked, why)
	}
	k := parkedKey{m.ID, c.key.ID}
	p := &parkedChange{change: &change{
		ref: c.ref, key: c.key, base: c.base, deltas: c.deltas, fetch: true, fresh: false,
		events: c.events, tickets: c.tickets, rounds: c.rounds + 1,
	}, since: time.Now()}
	if old := w.parked[k]; old != nil {
		p.since = old.since
	}
	p.due = time.Now().Add(min(parkedFirst<<min(p.change.rounds, 10), parkedMost))
	c.tickets = nil // now the parked change's
	w.parked[k] = p
	return nil
}

func (w *worker) nextDue() (wait time.Duration, some bool) {
	for _, p := range w.parked {
		if d := time.Until(p.due); !some || d < wait {
			wait, some = d, true
		}
	}
	return max(wait, 0), some
}

// retryParked tries changes again that are due. After some rounds a document is deleted on the destination, so that the others of a circle
// can be written; it is fetched and written again until that succeeds, so nothing is lost.
func (w *worker) retryParked(ctx context.Context) error {
	if len(w.parked) == 0 {
		return nil
	}
	w.a.ddl.RLock()
	defer w.a.ddl.RUnlock()
	now := time.Now()
	for k, p := range w.parked {
		if p.due.After(now) {
			continue
		}
		if now.Sub(p.since) > retryFor {
			return Errorf(MigrationFailed, "document %s of %s has been refused by a unique index of the destination for %s",
				extendedID(p.change.key), p.change.ref.Namespace, retryFor)
		}
		if p.change.rounds > parkedRounds {
			if err := w.makeRoom(ctx, k, p); err != nil {
				return err
			}
		}
		if err := w.retryOne(ctx, k, p); err != nil {
			return err
		}
	}
	return nil
}

// makeRoom deletes a parked document on the destination.
func (w *worker) makeRoom(ctx context.Context, k parkedKey, p *parkedChange) error {
	m := w.a.e.catalog.get(k.target)
	if m == nil {
		return nil
	}
	gone := Intent{Doc: Document{Key: p.change.key, Format: p.change.format}}
	_, err := w.send(ctx, m, []Intent{gone}, WriteOptions{})
	return err
}

func (w *worker) retryOne(ctx context.Context, k parkedKey, p *parkedChange) error {
	since := p.since
	delete(w.parked, k)
	if err := w.apply(ctx, k.target, []*change{p.change}); err != nil {
		return err
	}
	if again := w.parked[k]; again != nil {
		again.since = since
	}
	return nil
}
