package clustersync

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// copyRun is one pass over partitions: readers take partitions and give batches to writers, with so many bytes on the way at most
// (spec §7.4). Documents may be newer than T0, and some are deleted meanwhile: all changes since T0 are applied afterwards.
type copyRun struct {
	e         *Engine
	batches   chan copyBatch
	budget    *semaphore.Weighted
	most      int64 // of the budget
	batchSize int
}

type copyBatch struct {
	of     *partitionCopy
	docs   []Document
	bytes  int64
	ticket *ticket // of a read that may be gone on with; nil otherwise
}

// partitionCopy is a partition that is being copied.
type partitionCopy struct {
	part   *partition
	target Namespace
	place  *placeKeeper // of a read in natural order; nil otherwise

	mu       sync.Mutex
	left     int // batches on their way, and one until reading is over
	finished chan struct{}
}

// copyAll copies what is not copied yet.
func (e *Engine) copyAll(ctx context.Context) error {
	parts, err := e.loadPartitions(ctx)
	if err != nil {
		return err
	}
	e.stats.beginCopy(parts, e.catalog)
	todo := parts[:0]
	for _, p := range parts {
		if p.Phase != PartitionDone {
			todo = append(todo, p)
		}
	}
	if err := e.copyPartitions(ctx, todo); err != nil {
		return err
	}
	e.stats.endCopy()
	return e.retries.do(ctx, "store the statistics", func() error {
		return e.journal.meta.Put(ctx, e.journal.fence(), statsCollection, e.stats.record(e.journal.Get().ID))
	})
}

// copyPartitions copies partitions and marks them done. If ctx ends with [ErrStopped], what is read is still written.
func (e *Engine) copyPartitions(ctx context.Context, parts []*partition) error {
	interleave(parts)
	write, cancel := outlive(ctx)
	defer cancel()
	limits := e.limits()
	r := &copyRun{e: e, batches: make(chan copyBatch), most: limits.InFlightBytes, budget: semaphore.NewWeighted(limits.InFlightBytes)}
	// A batch is in memory while it is read, while it waits and while it is written.
	r.batchSize = int(min(int64(limits.BatchBytes), max(1, limits.InFlightBytes/int64(2*(limits.CopyReaders+limits.CopyWriters)))))

	queue := make(chan *partition)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(queue)
		for _, p := range parts {
			select {
			case queue <- p:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
		}
		return nil
	})
	var readers sync.WaitGroup
	for range limits.CopyReaders {
		readers.Add(1)
		g.Go(func() error {
			defer readers.Done()
			for p := range queue {
				if err := r.copyPartition(gctx, write, p); err != nil {
					return fmt.Errorf("copy %s: %w", p.Namespace, err)
				}
			}
			return nil
		})
	}
	for range limits.CopyWriters {
		g.Go(func() error { return r.write(write) })
	}
	g.Go(func() error {
		readers.Wait()
		close(r.batches)
		return nil
	})
	stop := context.AfterFunc(gctx, func() {
		if !errors.Is(context.Cause(gctx), ErrStopped) {
			cancel()
		}
	})
	defer stop()
	return g.Wait()
}

// stopWithin bounds how long writes may go on once the sync is to stop.
const stopWithin = 30 * time.Second

// outlive gives a context for writes that goes on for a while after ctx when that ends with [ErrStopped], and ends with it otherwise.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if !errors.Is(cause, ErrStopped) {
			cancel(cause)
			return
		}
		t := time.AfterFunc(stopWithin, func() { cancel(cause) })
		context.AfterFunc(out, func() { t.Stop() })
	})
	return out, func() { stop(); cancel(context.Canceled) }
}

// copyPartition reads one partition. It returns when all of it is written and it is marked done, or with an error.
func (r *copyRun) copyPartition(ctx, write context.Context, p *partition) error {
	m := r.e.catalog.get(p.ID.Collection)
	if m == nil {
		return nil
	}
	again := p.Phase == PartitionCopying
	p.Phase = PartitionCopying
	if p.Place == nil {
		p.Copied, p.Documents = 0, 0
	}
	if err := r.e.putPartitions(ctx, p); err != nil {
		return err
	}
	if again && p.Capped {
		// What is there cannot be told from what is missing, and the order counts (spec §10).
		if err := r.e.remake(ctx, m); err != nil {
			return err
		}
	}
	c := &partitionCopy{part: p, target: m.Destination, left: 1, finished: make(chan struct{})}
	if p.Natural && !p.Capped {
		c.place = newPlaceKeeper(p.Place)
	}
	err := r.read(ctx, write, c, m)
	if err != nil && !errors.Is(err, ErrGone) { // gone: the drop comes with the changes
		return err
	}
	c.batchDone()
	select {
	case <-c.finished:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.Phase, p.Place = PartitionDone, nil
	if err := r.e.putPartitions(write, p); err != nil {
		return err
	}
	done, of := r.e.stats.partitionDone(p)
	r.e.cfg.Log.InfoContext(ctx, fmt.Sprintf("Completed writing %d / %d partitions to destination cluster", done, of))
	return nil
}

// read gives the batches of a partition to the writers, or writes them itself where the order counts.
func (r *copyRun) read(ctx, write context.Context, c *partitionCopy, m *mapping) error {
	limits := r.e.limits()
	opts := ReadOptions{Natural: c.part.Natural, BatchDocs: limits.BatchDocs, BatchBytes: r.batchSize}
	return r.e.retries.do(ctx, "read", func() error {
		began := time.Now()
		c.place.prepare(&opts)
		err := r.e.cfg.Source.Read(ctx, m.ref(), c.part.Range, opts, func(docs []Document) error {
			r.e.observe(CopyRead, began)
			defer func() { began = time.Now() }()
			return r.give(ctx, write, c, docs)
		})
		if errors.Is(err, ErrPlaceLost) {
			c.place.lose()
			err = fmt.Errorf("begin again: %w", errors.Join(err, ErrUnreachable)) // what is there already is passed over
		}
		if err != nil && c.part.Capped && errors.Is(err, ErrUnreachable) {
			if err := r.e.remake(ctx, m); err != nil {
				return err
			}
		}
		return err
	})
}

// give passes a batch on, without the documents that do not belong to the sync.
func (r *copyRun) give(ctx, write context.Context, c *partitionCopy, docs []Document) error {
	b := copyBatch{of: c}
	for _, d := range docs {
		if r.e.cfg.Plan.Filter.Keeps(d) {
			b.docs = append(b.docs, d)
			b.bytes += int64(len(d.Body))
		}
	}
	if len(b.docs) == 0 {
		return nil
	}
	if err := r.budget.Acquire(ctx, min(b.bytes, r.most)); err != nil {
		return context.Cause(ctx)
	}
	c.mu.Lock()
	c.left++
	c.mu.Unlock()
	b.ticket = c.place.batch()
	if c.part.Capped {
		return r.insert(write, b)
	}
	select {
	case r.batches <- b:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *copyRun) write(ctx context.Context) error {
	for b := range r.batches {
		if err := r.insert(ctx, b); err != nil {
			return fmt.Errorf("copy to %s: %w", b.of.target, err)
		}
	}
	return nil
}

// insert writes one batch. Documents that are there already are at least as new as T0, so they stay (spec §7.4).
func (r *copyRun) insert(ctx context.Context, b copyBatch) error {
	defer r.budget.Release(min(b.bytes, r.most))
	err := r.e.retries.do(ctx, "insert documents", func() error {
		defer r.e.observe(CopyWrite, time.Now())
		_, err := r.e.cfg.Destination.Insert(ctx, b.of.target, b.docs, WriteOptions{Ordered: b.of.part.Capped})
		return err
	})
	if err != nil {
		return err
	}
	r.e.stats.copied(b.of.part, b.bytes, int64(len(b.docs)))
	if r.e.cfg.Observer.Batch != nil {
		r.e.cfg.Observer.Batch(len(b.docs))
	}
	return r.arrived(ctx, b)
}

// arrived counts a batch as written, and notes now and then up to where a natural read is on the destination.
func (r *copyRun) arrived(ctx context.Context, b copyBatch) error {
	c := b.of
	c.mu.Lock()
	c.part.Copied += b.bytes
	c.part.Documents += int64(len(b.docs))
	record := *c.part
	c.mu.Unlock()
	defer c.batchDone() // last: the partition is done after it, and must not be overwritten
	if !c.place.reached(b.ticket, &record) {
		return nil
	}
	defer c.place.noted()
	return r.e.putPartitions(ctx, &record)
}

// batchDone counts a batch as written, or reading as over.
func (c *partitionCopy) batchDone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		close(c.finished)
	}
}

// remake empties a collection on the destination that is to be copied from the beginning.
func (e *Engine) remake(ctx context.Context, m *mapping) error {
	err := e.retries.do(ctx, "drop "+m.Destination.String(), func() error { return e.cfg.Destination.Drop(ctx, m.Destination) })
	if err != nil {
		return err
	}
	unmade := *m
	unmade.Made = false
	if err := e.catalog.put(ctx, &unmade); err != nil {
		return err
	}
	if err := e.make(ctx, &unmade); err != nil {
		return err
	}
	// Indexes that were there are gone with it.
	lock := e.catalog.build(m.ID)
	if err := lock.lock(ctx); err != nil {
		return err
	}
	defer lock.unlock()
	var built []*indexRecord
	for _, x := range e.catalog.indexesOf(m.ID) {
		if x.built() {
			built = append(built, x)
		}
	}
	return e.createIndexes(ctx, &unmade, built)
}

// copyIn copies a collection that came into the filter by a rename (spec §11.3), or of which only the name is known: a small initial sync, with
// change event application waiting. Should it be interrupted it is done again, from the same event.
func (e *Engine) copyIn(ctx context.Context, ev Event) error {
	coll, found, err := e.findOnSource(ctx, ev.Ref)
	if err != nil {
		return err
	}
	m := e.catalog.of(ev.Ref)
	if !found {
		return e.applyDrop(ctx, m) // it is gone since; what is to come of it is of no interest
	}
	indexes := coll.Indexes
	coll.Namespace = ev.To
	if err := e.dropForCopy(ctx, m); err != nil {
		return err
	}
	m = e.catalog.newMapping(coll)
	m.Copying = true
	if err := e.catalog.put(ctx, m); err != nil {
		return err
	}
	if err := e.make(ctx, m); err != nil {
		return err
	}
	parts, err := e.partition(ctx, m)
	if err != nil {
		return err
	}
	if err := e.putPartitions(ctx, parts...); err != nil {
		return err
	}
	if err := e.copyPartitions(ctx, parts); err != nil {
		return err
	}
	// Until the mapping says that it is done all of it is done again after a crash, so its indexes come before.
	if err := e.applyCreateIndexes(ctx, Event{Op: OpCreateIndexes, Ref: coll.Ref, Indexes: indexes}); err != nil {
		return err
	}
	done := *m
	done.Made, done.Copying = true, false
	return e.catalog.put(ctx, &done)
}

// dropForCopy drops what an interrupted copy left on the destination, or what has the old name there. The mapping stays until the new one takes its
// place, for it says that the copy is under way.
func (e *Engine) dropForCopy(ctx context.Context, m *mapping) error {
	if m == nil {
		return nil
	}
	lock := e.catalog.build(m.ID)
	if err := lock.lock(ctx); err != nil {
		return err
	}
	defer lock.unlock()
	err := e.retries.do(ctx, "drop "+m.Destination.String(), func() error { return e.cfg.Destination.Drop(ctx, m.Destination) })
	if err != nil {
		return err
	}
	var names []string
	for _, x := range e.catalog.indexesOf(m.ID) {
		names = append(names, x.ID.Name)
	}
	return e.catalog.removeIndexes(ctx, m.ID, names...)
}

// findOnSource looks a collection up as it is now.
func (e *Engine) findOnSource(ctx context.Context, ref Ref) (coll Collection, found bool, err error) {
	err = e.retries.do(ctx, "list the source", func() error {
		listed, err := e.cfg.Source.List(ctx)
		if err != nil {
			return err
		}
		found = false
		for _, c := range listed {
			if c.Type == Plain && refKey(c.Ref) == refKey(ref) {
				coll, found = c, true
			}
		}
		return nil
	})
	return coll, found, err
}
