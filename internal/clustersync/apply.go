package clustersync

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// Times and bounds of change event application.
const (
	nextWait        = time.Second // of one Next on the stream
	checkpointEvery = time.Second
	heartbeatEvery  = 10 * time.Second
	workerQueue     = 2_000 // events waiting for one worker
)

// applier reads the source's changes from the checkpoint on and applies them (spec §8): events of one document by one worker in their order,
// documents in parallel, DDL when nothing else is under way.
type applier struct {
	e       *Engine
	seed    maphash.Seed
	water   *lowWater
	workers []*worker
	budget  *semaphore.Weighted // bytes of events that are read and not applied
	most    int64
	flying  *inFlight
	ddl     sync.RWMutex // held by workers while they apply, and by DDL

	stopping chan struct{} // closed to end reading; what is read is still applied
	once     sync.Once

	mu   sync.Mutex
	at   Position // of the stream, read
	late int      // events of the sync's collections after commit was marked
	tc   Position // mark of the commit
}

func (e *Engine) newApplier() *applier {
	limits := e.limits()
	a := &applier{
		e: e, seed: maphash.MakeSeed(), water: newLowWater(e.journal.Get().CRUD), most: limits.InFlightBytes,
		budget: semaphore.NewWeighted(limits.InFlightBytes), flying: newInFlight(), stopping: make(chan struct{}),
	}
	for i := range max(1, limits.ApplyWorkers) {
		a.workers = append(a.workers, newWorker(a, i))
	}
	e.stats.beginApply(len(a.workers))
	return a
}

// run applies changes until reading ends: because ctx ends with [ErrStopped], or by stopReading. Everything that was read is applied then,
// apart from what unique indexes refuse, and the checkpoint is saved. It returns nil only after stopReading.
func (a *applier) run(ctx context.Context) error {
	write, cancel := outlive(ctx)
	defer cancel()
	read, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	err := a.work(read, write, stop, a.readStream,
		func(read, _ context.Context) error {
			select {
			case <-a.stopping:
				stop(nil)
			case <-read.Done():
			}
			return nil
		},
		a.checkpoints,
		func(read, _ context.Context) error { return a.heartbeats(read) },
	)
	if err != nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, ErrStopped) {
		return cause
	}
	if err := a.saveCheckpoint(write); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// work has the workers apply what feed dispatches, with the rest beside it, until all have ended. read ends, by stop, when one of them fails.
func (a *applier) work(read, write context.Context, stop context.CancelCauseFunc, feed func(read, write context.Context) error,
	beside ...func(read, write context.Context) error) error {
	g, gctx := errgroup.WithContext(write)
	failed := context.AfterFunc(gctx, func() { stop(context.Cause(gctx)) })
	defer failed()
	g.Go(func() error {
		defer func() {
			for _, w := range a.workers {
				close(w.queue)
			}
		}()
		return feed(read, gctx)
	})
	for _, w := range a.workers {
		g.Go(func() error { return w.run(gctx) })
	}
	for _, f := range beside {
		g.Go(func() error { return f(read, gctx) })
	}
	return g.Wait()
}

// readStream reads events and gives them to the workers until read ends.
func (a *applier) readStream(read, write context.Context) error {
	from, _, _ := a.water.get()
	for read.Err() == nil {
		var stream Stream
		err := a.e.retries.always(read, "open the changes of the source", func() (err error) {
			if from, err = a.e.amended(read, from); err != nil {
				return err
			}
			stream, err = a.e.cfg.Source.Changes(read, from)
			return err
		})
		if err != nil {
			return readingOver(read, err)
		}
		from, err = a.drain(read, write, stream, from)
		_ = stream.Close(context.WithoutCancel(read)) // it is only read
		if _, ok := errors.AsType[*streamError](err); !ok || !errors.Is(err, ErrUnreachable) {
			return readingOver(read, err)
		}
		a.e.stats.retries.Add(1)
		if pauseFor(read, retryFirst) != nil {
			return nil
		}
	}
	return nil
}

// amended has a source that looks for collections compare what it finds with what is mapped.
func (e *Engine) amended(ctx context.Context, from Position) (Position, error) {
	source, ok := e.cfg.Source.(Amender)
	if !ok {
		return from, nil
	}
	var known []Known
	for _, m := range e.catalog.all() {
		if m.Made || m.Copying { // otherwise the event must come again, to have it made
			known = append(known, Known{m.ref(), m.Told})
		}
	}
	return source.Amend(ctx, from, known, e.cfg.Plan.Filter.Includes)
}

// streamError is one of the stream itself, after which another may be opened. Errors of applying are final.
type streamError struct{ err error }

func (e *streamError) Error() string { return "read the changes of the source: " + e.err.Error() }
func (e *streamError) Unwrap() error { return e.err }

// stopReading has run come to its end.
func (a *applier) stopReading() { a.once.Do(func() { close(a.stopping) }) }

// readingOver is nil if an error only says that reading is over.
func readingOver(read context.Context, err error) error {
	if read.Err() != nil && (endedByContext(err) || errors.Is(err, context.Cause(read))) {
		return nil
	}
	return err
}

// drain reads one stream until it fails, and returns where another one may be opened.
func (a *applier) drain(read, write context.Context, stream Stream, from Position) (Position, error) {
	for {
		events, at, err := stream.Next(read, nextWait)
		if err != nil {
			return from, &streamError{err}
		}
		a.e.stats.read.Add(int64(len(events)))
		if err := a.dispatch(read, write, events, at); err != nil {
			return from, err
		}
		from = at
		a.mu.Lock()
		a.at = at
		a.mu.Unlock()
	}
}

// dispatch gives the events of one batch to the workers. DDL is applied here, once everything before it is (spec §8.3).
func (a *applier) dispatch(read, write context.Context, events []Event, at Position) error {
	t := a.water.begin()
	for _, ev := range events {
		if err := context.Cause(read); err != nil {
			return err // what is left of the batch is read again
		}
		a.e.stats.readBytes.Add(int64(ev.Bytes))
		if !ev.DDL() {
			if err := a.dispatchDocument(write, ev, t); err != nil {
				return err
			}
			continue
		}
		if err := a.barrier(read, write, ev); err != nil {
			return err
		}
		t.seal(ev.At)
		t = a.water.begin()
		if err := a.saveCheckpoint(write); err != nil {
			return err
		}
	}
	t.seal(at)
	return nil
}

// barrier applies a DDL event once all workers are idle.
func (a *applier) barrier(read, write context.Context, ev Event) error {
	if err := a.flying.wait(write); err != nil {
		return err
	}
	a.ddl.Lock()
	defer a.ddl.Unlock()
	a.noteLate(ev)
	ctx := write
	if ev.Op == OpRename {
		ctx = read // a collection may have to be copied, which takes its time
	}
	if err := a.e.applyDDL(ctx, ev); err != nil {
		return err
	}
	return a.e.observeEvent(write, ev)
}

// dispatchDocument gives an event of a document to its worker, if it is one of the sync.
func (a *applier) dispatchDocument(write context.Context, ev Event, t *ticket) error {
	m, err := a.mappingFor(write, ev)
	if err != nil || m == nil {
		return err
	}
	a.noteLate(ev)
	if a.e.hot.has(m.Origin, ev.Doc.Key) {
		return a.e.noteHot(write, m, ev.Doc.Key)
	}
	if err := a.e.observeEvent(write, ev); err != nil {
		return err
	}
	if err := a.budget.Acquire(write, min(int64(ev.Bytes), a.most)); err != nil {
		return context.Cause(write)
	}
	t.add()
	a.flying.add(1)
	select {
	case a.workers[a.route(m, ev.Doc.Key)].queue <- queued{ev, t, m.ID}:
		return nil
	case <-write.Done():
		return context.Cause(write)
	}
}

// mappingFor returns the mapping of an event's collection; nil if it is not synced. Where collections have only names, some come into being
// without a word.
func (a *applier) mappingFor(ctx context.Context, ev Event) (*mapping, error) {
	m := a.e.catalog.of(ev.Ref)
	switch {
	case m != nil && m.Type == View:
		return nil, nil
	case m != nil, ev.Ref.UUID != "", !a.e.cfg.Plan.Filter.Includes(ev.Ref.Namespace):
		return m, nil
	}
	created := Event{Op: OpCreate, Ref: ev.Ref, Time: ev.Time}
	if err := a.barrier(ctx, ctx, created); err != nil {
		return nil, err
	}
	return a.e.catalog.of(ev.Ref), nil
}

// route chooses the worker of a document. Collections whose order counts, and those whose keys are equal by a collation, have one.
func (a *applier) route(m *mapping, k Key) int {
	var h maphash.Hash
	h.SetSeed(a.seed)
	h.WriteString(m.ID)
	if !m.Capped && !m.collated() {
		h.WriteByte(0)
		h.WriteString(k.ID)
	}
	return int(h.Sum64() % uint64(len(a.workers)))
}

// noteLate counts events of the sync that happened after the commit was marked.
func (a *applier) noteLate(ev Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ours := !ev.DDL() || a.e.catalog.of(ev.Ref) != nil || a.e.cfg.Plan.Filter.Includes(ev.Ref.Namespace)
	if ours && !a.tc.Zero() && !a.at.Zero() && a.e.cfg.Source.Reached(a.at, a.tc) {
		a.late++
	}
}

// checkpoints saves the mark every second.
func (a *applier) checkpoints(read, write context.Context) error {
	for pauseFor(read, checkpointEvery) == nil {
		if err := a.saveCheckpoint(write); err != nil {
			return err
		}
	}
	return nil
}

// saveCheckpoint persists how far everything is applied.
func (a *applier) saveCheckpoint(ctx context.Context) error {
	mark, _, _ := a.water.get()
	if mark.Zero() {
		return nil // what is applied is no stream's
	}
	rec := a.e.journal.Get()
	drained := rec.Drained || a.e.cfg.Source.Reached(mark, rec.CopyEnd)
	a.e.lag.applied(mark)
	if samePosition(mark, rec.CRUD) && drained == rec.Drained {
		return nil
	}
	return a.e.update(ctx, func(r *Resume) { r.CRUD, r.CRUDTime, r.DDLTime, r.Drained = mark, mark.Time, mark.Time, drained })
}

func samePosition(a, b Position) bool {
	return a.Time.Equal(b.Time) && string(a.Token) == string(b.Token)
}

// heartbeats marks the source, so that an idle stream moves on and the lag is known (spec §17).
func (a *applier) heartbeats(read context.Context) error {
	for {
		var mark Position
		err := a.e.retries.always(read, "mark the source", func() (err error) { mark, err = a.e.cfg.Source.Mark(read); return err })
		if err != nil {
			return readingOver(read, err)
		}
		a.e.lag.beat(mark)
		if pauseFor(read, heartbeatEvery) != nil {
			return nil
		}
	}
}

// reached waits until everything up to a mark is applied.
func (a *applier) reached(ctx context.Context, mark Position) error {
	for {
		at, _, moved := a.water.get()
		if a.e.cfg.Source.Reached(at, mark) {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// markCommit begins to look for events after a mark, and forgets those of an earlier one.
func (a *applier) markCommit(mark Position) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tc, a.late = mark, 0
}

func (a *applier) lateEvents() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.late
}

// inFlight counts events that workers have and have not applied.
type inFlight struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed while n is 0
}

func newInFlight() *inFlight {
	f := &inFlight{none: make(chan struct{})}
	close(f.none)
	return f
}

func (f *inFlight) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 && n > 0 {
		f.none = make(chan struct{})
	}
	if f.n += n; f.n == 0 && n < 0 {
		close(f.none)
	}
}

func (f *inFlight) wait(ctx context.Context) error {
	f.mu.Lock()
	none := f.none
	f.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// observeEvent tells the verifier.
func (e *Engine) observeEvent(ctx context.Context, ev Event) error {
	if e.verifier == nil {
		return nil
	}
	return e.retries.do(ctx, "note a change", func() error { return e.verifier.Observe(ctx, ev) })
}
