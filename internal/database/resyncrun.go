package database

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
)

// Bounds of a resync.
const (
	resyncBatchDocs  = 256                    // documents of one transaction: a longer commit section makes writers wait
	resyncBusyDocs   = 48                     // … while others write, online
	resyncBatchBytes = 4 << 20                // … and of their bodies in memory
	countPage        = 10_000                 // records that are counted in one snapshot
	resyncReport     = time.Second            // between two reports of progress
	resyncLog        = 10                     // … of which one in so many goes to the log
	resyncWarnings   = 100                    // warnings of a run that are logged one by one
	storeTries       = 6                      // of what the store cannot do now
	storeWait        = 100 * time.Millisecond // before the second try; doubles
)

// resyncs is the resync of a database that runs in this process, if any, and what clears up behind it.
type resyncs struct {
	mu      sync.Mutex
	running *resyncRun

	tidying chan struct{} // cap 1: held by who tidies
	untidy  chan struct{} // cap 1: there may be something to tidy

	batchDocs int             // of one transaction; less in tests
	margin    tidegate.Seq    // of a run that begins; less in tests
	atBatch   func(batch int) // for tests: called after each batch; nil: not
}

func (s *resyncs) init() {
	s.tidying, s.untidy, s.batchDocs = make(chan struct{}, 1), make(chan struct{}, 1), resyncBatchDocs
	s.margin = firstMargin
}

func (s *resyncs) begin(run *resyncRun) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return errResyncBusy
	}
	s.running = run
	return nil
}

func (s *resyncs) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = nil
}

func (s *resyncs) current() *resyncRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// resyncRun is a resync under way.
type resyncRun struct {
	db    *Database
	o     ResyncOptions
	colls []*collection
	fns   map[store.Collection]script.SyncFunction
	log   *warnLog

	last tidegate.Seq // of the database when the last batch was stored; online
	seen []byte       // what was stored of the last run when this one was begun
	ours bool         // it has stored its own state since

	telling sync.Mutex // Progress is called by one at a time

	mu       sync.Mutex
	state    storedRun // as committed last
	stopping bool
	began    time.Time // in this process
	before   int64     // documents that were processed before
	busy     bool      // others wrote beside the last batch
	batches  int
}

// newRun checks the options.
func (db *Database) newRun(o ResyncOptions) (*resyncRun, error) {
	if o.Online && o.Regenerate {
		return nil, tidegate.Errorf(tidegate.Invalid, "an online resync gives new sequences where they are needed: regenerate_sequences is for an offline one")
	}
	run := &resyncRun{db: db, o: o, log: &warnLog{db: db, left: resyncWarnings}}
	for _, c := range db.collections {
		if o.Collections == nil || slices.Contains(o.Collections, c.id) {
			run.colls = append(run.colls, c)
		}
	}
	for _, id := range append(slices.Clone(o.Collections), slices.Collect(maps.Keys(o.Functions))...) {
		if !slices.ContainsFunc(run.colls, func(c *collection) bool { return c.id == id }) {
			return nil, tidegate.Errorf(tidegate.Invalid, "collection %d is none to be resynced", id)
		}
	}
	if run.o.Concurrency <= 0 {
		run.o.Concurrency = runtime.GOMAXPROCS(0)
	}
	sources := make(map[store.Collection]string, len(run.colls))
	for _, c := range run.colls {
		source, ok := o.Functions[c.id]
		if !ok {
			source = c.source()
		}
		sources[c.id] = source
	}
	var err error
	run.fns, err = db.compile(sources)
	return run, err
}

// do runs the resync and stores how it ended.
func (run *resyncRun) do(ctx context.Context) error {
	err := run.work(ctx)
	stopped := errors.Is(context.Cause(ctx), ErrResyncStopped)
	switch {
	case err == nil:
		return nil // the last batch said so
	case ctx.Err() != nil && !stopped:
		return ctx.Err() // as after a crash: it can be gone on with
	}
	end := run.committed()
	end.State, end.EndTime = ResyncError, run.db.opts.Now()
	if stopped {
		end.State, err = ResyncStopped, ErrResyncStopped
	} else {
		end.LastError = err.Error()
	}
	if end.ID == "" {
		return err // it never began
	}
	ctx = context.WithoutCancel(ctx)
	abort := run.db.st.Update(ctx, func(tx store.Tx) error {
		if err := run.owns(tx); err != nil {
			return err
		}
		if _, err := run.routing(tx, &end); run.o.Online && err == nil {
			if err := run.db.dropNext(tx); err != nil {
				return err
			}
		}
		return run.change(tx, &end)
	})
	if abort != nil {
		return errors.Join(err, fmt.Errorf("store how the resync ended: %w", abort))
	}
	run.set(end)
	run.db.resync.clearUp()
	run.db.log.WarnContext(ctx, "resync ended early", "id", end.ID, "state", end.State, "error", err, "processed", end.Processed, "changed", end.Changed)
	return err
}

// work does all of a run, from where it stands.
func (run *resyncRun) work(ctx context.Context) error {
	resumed, err := run.start(ctx)
	if err != nil {
		return err
	}
	s := run.committed()
	run.db.log.InfoContext(ctx, "resync begins", "id", s.ID, "mode", s.Mode, "collections", s.Collections, "regenerate", s.Regenerate,
		"resumed", resumed, "total", s.Total, "processed", s.Processed)
	run.tell(ctx, false)
	if run.o.Online {
		err = run.online(ctx)
	} else {
		err = run.offline(ctx)
	}
	if err != nil {
		return err
	}
	s = run.committed()
	run.db.log.InfoContext(ctx, "resync is complete", "id", s.ID, "processed", s.Processed, "changed", s.Changed,
		"errored", s.Errored, "rejected", s.Rejected, "took", time.Since(run.began))
	return nil
}

// start begins a run, or finds the one to go on with (resync.md §3.5).
func (run *resyncRun) start(ctx context.Context) (resumed bool, err error) {
	db := run.db
	fresh := storedRun{
		State: ResyncRunning, Mode: ResyncOffline, ID: newRunID(), StartTime: db.opts.Now(), Regenerate: run.o.Regenerate,
		Node: run.o.Node, Fence: run.o.Fence,
		All: run.o.Collections == nil, Functions: functionsDigest(run.colls, run.fns), Candidates: run.o.Functions, Margin: db.resync.margin,
	}
	if run.o.Online {
		fresh.Mode = ResyncOnline
	}
	for _, c := range run.colls {
		fresh.Collections = append(fresh.Collections, c.id)
	}
	var stored *storedRun
	var routing *store.Routing
	err = run.try(ctx, func() error {
		return db.st.View(ctx, func(r store.Reader) (err error) {
			raw, err := r.Get(runKey(db.space))
			if err != nil {
				return err
			}
			run.seen = bytes.Clone(raw)
			if stored, err = readRun(r, db.space); err != nil {
				return err
			}
			routing, err = db.routes.Read(r)
			return err
		})
	})
	if err != nil {
		return false, err
	}
	resumed = stored != nil && !run.o.Reset && stored.unfinished() && stored.sameAs(&fresh) &&
		(!run.o.Online || (routing != nil && routing.Run != 0 && routing.Run == stored.Run))
	if resumed {
		fresh = *stored
		fresh.Node, fresh.Fence = run.o.Node, run.o.Fence
		fresh.State, fresh.LastError, fresh.EndTime = ResyncRunning, "", time.Time{}
		err = run.try(ctx, func() error {
			return db.st.Update(ctx, func(tx store.Tx) error {
				if err := run.mayBegin(tx); err != nil {
					return err
				}
				return run.change(tx, &fresh)
			})
		})
	} else {
		err = run.startAfresh(ctx, &fresh)
	}
	if err != nil {
		return false, err
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	run.state, run.began, run.before, run.ours = fresh, time.Now(), fresh.Processed, true
	return resumed, nil
}

// mayBegin is errGivenUp if another run has begun since this one looked, or has taken its place.
func (run *resyncRun) mayBegin(r store.Reader) error {
	if run.ours {
		return run.owns(r)
	}
	raw, err := r.Get(runKey(run.db.space))
	if err == nil && !bytes.Equal(raw, run.seen) {
		err = errGivenUp
	}
	return err
}

// owns is errGivenUp if what is stored is not of this run under this lease: it was held up, and another node has gone on with it.
func (run *resyncRun) owns(r store.Reader) error {
	s, err := readRun(r, run.db.space)
	if err == nil && (s == nil || s.ID != run.committed().ID || s.Node != run.o.Node || s.Fence != run.o.Fence) {
		err = errGivenUp
	}
	return err
}

// change stores a state with which the run begins, goes on or ends.
func (run *resyncRun) change(tx store.Tx, s *storedRun) error {
	if run.o.OnChange != nil {
		if err := run.o.OnChange(tx, s.status()); err != nil {
			return err
		}
	}
	return writeRun(tx, run.db.space, s)
}

// startAfresh gives up what an earlier run left, and begins.
func (run *resyncRun) startAfresh(ctx context.Context, s *storedRun) error {
	db := run.db
	err := run.try(ctx, func() error {
		return db.st.Update(ctx, func(tx store.Tx) error {
			if err := run.mayBegin(tx); err != nil {
				return err
			}
			return db.dropNext(tx)
		})
	})
	if err != nil {
		return err
	}
	if err := db.tidy(ctx); err != nil {
		return fmt.Errorf("clear up after the last resync: %w", err)
	}
	for _, c := range run.colls {
		n, err := db.countDocs(ctx, c)
		if err != nil {
			return fmt.Errorf("count documents: %w", err)
		}
		s.Total += n
	}
	return run.try(ctx, func() error {
		return db.st.Update(ctx, func(tx store.Tx) error {
			if err := run.mayBegin(tx); err != nil {
				return err
			}
			if run.o.Online {
				if err := run.announce(tx, s); err != nil {
					return err
				}
			}
			return run.change(tx, s)
		})
	})
}

// committed returns a copy of the state as it was committed last.
func (run *resyncRun) committed() storedRun {
	run.mu.Lock()
	defer run.mu.Unlock()
	return run.state
}

func (run *resyncRun) set(s storedRun) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.state = s
}

// advance notes a state that was committed, and counts.
func (run *resyncRun) advance(c *collection, s storedRun) {
	was := run.committed()
	run.set(s)
	processed, changed := s.Processed-was.Processed, s.Changed-was.Changed
	c.stats.ResyncProcessed.Add(processed)
	c.stats.ResyncChanged.Add(changed)
	c.total.ResyncProcessed.Add(processed)
	c.total.ResyncChanged.Add(changed)
	if run.batches++; run.db.resync.atBatch != nil {
		run.db.resync.atBatch(run.batches)
	}
}

// view is the status as of now.
func (run *resyncRun) view() ResyncStatus {
	run.mu.Lock()
	defer run.mu.Unlock()
	s := run.state.status()
	if s.State != ResyncRunning {
		return s
	}
	if run.stopping {
		s.State = ResyncStopping
	}
	if took := time.Since(run.began); took > 0 && s.DocsProcessed > run.before {
		s.DocsPerSecond = float64(s.DocsProcessed-run.before) / took.Seconds()
		s.TimeLeft = time.Duration(float64(max(s.DocsTotal-s.DocsProcessed, 0)) / s.DocsPerSecond * float64(time.Second))
	}
	return s
}

// report tells of progress until stop.
func (run *resyncRun) report(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(resyncReport)
		defer ticker.Stop()
		ended := ctx.Done()
		for n := 1; ; n++ {
			select {
			case <-done:
				return
			case <-ended:
				ended = nil
				run.mu.Lock()
				run.stopping = true
				run.mu.Unlock()
				continue
			case <-ticker.C:
			}
			run.tell(ctx, n%resyncLog == 0)
		}
	})
	return func() {
		close(done)
		wg.Wait()
		run.tell(ctx, false)
	}
}

func (run *resyncRun) tell(ctx context.Context, log bool) {
	s := run.view()
	if s.ID == "" {
		return
	}
	if run.o.Progress != nil {
		run.telling.Lock()
		run.o.Progress(s)
		run.telling.Unlock()
	}
	if log {
		run.db.log.InfoContext(ctx, "resync goes on", "id", s.ID, "processed", s.DocsProcessed, "of", s.DocsTotal,
			"changed", s.DocsChanged, "documents_per_second", int64(s.DocsPerSecond))
	}
}

// try does something with the store, again if it is not available just now.
func (run *resyncRun) try(ctx context.Context, fn func() error) error {
	wait := storeWait
	for n := 1; ; n++ {
		err := fn()
		if err == nil || n == storeTries || tidegate.ErrorCode(err) != tidegate.Unavailable || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		wait *= 2
	}
}

// countDocs counts the documents of a collection.
func (db *Database) countDocs(ctx context.Context, c *collection) (n int64, err error) {
	after := ""
	for more := true; more; {
		err := db.st.View(ctx, func(r store.Reader) error {
			physical, err := c.physical(r)
			if err != nil {
				return err
			}
			prefix := c.docPrefix(physical)
			rng := store.Prefix(prefix)
			if after != "" {
				rng.Start = store.PrefixEnd(prefix.Clone().Name(after))
			}
			it := r.Scan(rng)
			defer it.Close()
			for range countPage {
				if more = it.Next(); !more {
					return it.Err()
				}
				n++
			}
			after, _, err = store.CutName(it.Key()[len(prefix):])
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// newRunID makes a random UUID.
func newRunID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// warnLog logs a bounded number of warnings.
type warnLog struct {
	db   *Database
	mu   sync.Mutex
	left int
}

func (l *warnLog) warn(ctx context.Context, what string, c *collection, id string, err error) {
	l.mu.Lock()
	left := l.left
	l.left--
	l.mu.Unlock()
	switch {
	case left > 0:
		l.db.log.WarnContext(ctx, what, "collection", c.scope+"."+c.name, "document", id, "error", err)
	case left == 0:
		l.db.log.WarnContext(ctx, "resync: further documents with errors are counted and not logged")
	}
}
