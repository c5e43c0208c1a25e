package database

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// rerouteItem is a document of a page, computed.
type rerouteItem struct {
	storedDoc
	r   *rerouted
	err error // the document cannot be processed; Corrupt

	changed bool // its channels or grants are not what they were

	// Of an offline resync, if something is to be written:
	next  *record     // with pending sequences
	begun []grantSlot // grants that are new

	// Of an online one:
	known bool       // a writer has put it into the next generation
	write *nextWrite // else
	live  liveDoc    // as the live generation has it
}

// reroutePage is a run of documents that are committed together.
type reroutePage struct {
	at    int // of the collection
	c     *collection
	items []rerouteItem
	last  string // the ID of the last one
	end   bool   // the collection ends here
}

// pages reads and computes pages, from where the run stands, and gives each to commit, in order. The next page is read
// while one is being committed.
func (run *resyncRun) pages(ctx context.Context, commit func(context.Context, *reroutePage) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ready := make(chan *reroutePage, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		defer close(ready)
		if err := run.produce(ctx, ready); err != nil {
			cancel(err)
		}
	})
	for page := range ready {
		if err := commit(ctx, page); err != nil {
			return cmp.Or(context.Cause(ctx), err) // what ended the reading of pages is the reason, if that ended first
		}
	}
	return context.Cause(ctx)
}

// produce reads and computes pages until the last collection's end.
func (run *resyncRun) produce(ctx context.Context, ready chan<- *reroutePage) error {
	s := run.committed()
	after := string(s.After)
	for at := s.At; at < len(run.colls); at++ {
		for end := false; !end; {
			page, err := run.page(ctx, at, after)
			if err != nil {
				return err
			}
			select {
			case ready <- page:
			case <-ctx.Done():
				return ctx.Err()
			}
			after, end = page.last, page.end
		}
		after = ""
	}
	return nil
}

// page reads and computes the documents after an ID.
func (run *resyncRun) page(ctx context.Context, at int, after string) (*reroutePage, error) {
	page := &reroutePage{at: at, c: run.colls[at]}
	var routing *store.Routing
	err := run.try(ctx, func() error {
		return run.db.st.View(ctx, func(r store.Reader) (err error) {
			if routing, err = run.db.routes.Read(r); err != nil {
				return err
			}
			docs, err := docReader{run.batchDocs(), resyncBatchBytes}.read(r, page.c, after)
			if err != nil {
				return err
			}
			page.last, page.end = docs.last, !docs.more
			page.items = make([]rerouteItem, len(docs.docs))
			for i := range docs.docs {
				page.items[i].storedDoc = docs.docs[i]
			}
			return run.findKnown(r, routing, page)
		})
	})
	if err != nil {
		return nil, err
	}
	return page, run.compute(ctx, routing, page)
}

// batchDocs is how many documents the next page has.
func (run *resyncRun) batchDocs() int {
	run.mu.Lock()
	defer run.mu.Unlock()
	if run.busy {
		return min(resyncBusyDocs, run.db.resync.batchDocs)
	}
	return run.db.resync.batchDocs
}

// findKnown finds the documents that writers have put into the next generation.
func (run *resyncRun) findKnown(r store.Reader, routing *store.Routing, page *reroutePage) error {
	next, ok := routing.Next(page.c.id)
	if !run.o.Online || !ok || len(page.items) == 0 {
		return nil
	}
	rng := store.Prefix(page.c.docPrefix(next))
	rng.Start = page.c.docKey(next, page.items[0].id)
	it := r.Scan(rng)
	defer it.Close()
	for i, more := 0, it.Next(); more && i < len(page.items); i++ {
		item := &page.items[i]
		key := page.c.docKey(next, item.id)
		if more = it.SeekGE(key); more && string(it.Key()) == string(key) {
			item.known, item.changed = true, recordSeq(it.Value()) != recordSeq(item.record)
		}
	}
	return it.Err()
}

// compute computes the documents of a page, several at once.
func (run *resyncRun) compute(ctx context.Context, routing *store.Routing, page *reroutePage) error {
	now := run.db.opts.Now()
	var next atomic.Int64
	var failed atomic.Pointer[error]
	work := func() {
		for failed.Load() == nil {
			i := int(next.Add(1)) - 1
			if i >= len(page.items) {
				return
			}
			if err := run.computeItem(ctx, routing, page.c, &page.items[i], now); err != nil {
				failed.Store(&err)
			}
		}
	}
	var wg sync.WaitGroup
	for range min(run.o.Concurrency, len(page.items)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (run *resyncRun) computeItem(ctx context.Context, routing *store.Routing, c *collection, item *rerouteItem, now time.Time) error {
	if item.known {
		return nil
	}
	item.r, item.err = c.reroute(ctx, run.fns[c.id], &item.storedDoc, now)
	if item.err == nil && run.o.Online {
		item.err = item.computeOnline(c, routing)
	} else if item.err == nil {
		item.computeOffline(run.o.Regenerate)
	}
	if item.err == nil {
		if err := item.r.failure(); err != nil {
			run.log.warn(ctx, "resync: the sync function fails for a document; what it fails for is in no channel", c, item.id, err)
		}
		item.bodies = nil // they have done their part
		return nil
	}
	if ctx.Err() != nil || tidegate.ErrorCode(item.err) != tidegate.Corrupt {
		return item.err
	}
	run.log.warn(ctx, "resync: a document cannot be processed", c, item.id, item.err)
	return nil
}

// scan returns what finds the page's records in a transaction, in order: one walk instead of many look-ups.
func (page *reroutePage) scan(tx store.Tx, physical store.Collection) near {
	rng := store.Prefix(page.c.docPrefix(physical))
	if len(page.items) > 0 {
		rng.Start = page.c.docKey(physical, page.items[0].id)
		rng.End = append(page.c.docKey(physical, page.last), 0)
	}
	return near{it: tx.Scan(rng)}
}

// account adds a page to the counters and moves the cursor behind it.
func (page *reroutePage) account(s *storedRun) {
	for i := range page.items {
		item := &page.items[i]
		s.Processed++
		if item.changed {
			s.Changed++
		}
		if item.err != nil {
			s.Errored++
		}
		if item.r != nil && item.r.failure() != nil {
			s.Rejected++
		}
	}
	s.Total = max(s.Total, s.Processed)
	s.At, s.After = page.at, []byte(page.last)
	if page.end {
		s.At, s.After = page.at+1, nil
	}
}

// errPageMoved says that documents of a page are not what it was computed from.
var errPageMoved = errors.New("documents of the page moved")
