package database

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
)

// The bounds of a dry run. What it holds in memory does not grow with the number of documents or principals beyond them;
// PlanReport says where that made it count less than exactly.
const (
	planChannelBytes = 16 << 20 // what the counts of channels take, about
	planSetBytes     = 32 << 20 // … the sets of channels that documents are in
	planGrantBytes   = 32 << 20 // … the grants that change
	maxPlanSamples   = 100      // of each list of samples
	maxPlanChannels  = 1000     // channels that are listed, those with most documents gained and lost
	maxPlanNames     = 20       // channels or roles named with one sample
	maxPlanVisits    = 1 << 27  // sets of channels compared with what principals have, in all
	planPageDocs     = 256
	planPageBytes    = 4 << 20
	planCheckEvery   = 1024 // rows between two looks at the context
	planProgressWait = time.Second
)

// PlanOptions of Plan.
type PlanOptions struct {
	// Collections to work on; nil: all.
	Collections []store.Collection
	// Functions are sources of sync functions that are tried in the place of those in force.
	Functions map[store.Collection]string
	// Concurrency is how many documents are computed at once; 0: as many as there are processors.
	Concurrency int
	// Progress, if not nil, is called after each page of documents, and once each second at least. It must not block.
	Progress func(ResyncStatus)
}

// Plan tells what a resync would change, and changes nothing (resync.md §3.9). It reads one snapshot: the report is about
// one moment, whatever is written meanwhile. Run need not run.
//
// Invalid: a function does not compile, or a collection is not there. Otherwise the error is ctx's, or the store's.
func (db *Database) Plan(ctx context.Context, o PlanOptions) (*PlanReport, error) {
	p, err := db.newPlan(o)
	if err != nil {
		return nil, err
	}
	defer p.close()
	err = db.st.View(ctx, func(r store.Reader) error {
		pinned, err := db.routes.Pin(r)
		if err != nil {
			return err
		}
		return p.run(ctx, pinned)
	})
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("plan resync: %w", err)
	}
	return p.report(), nil
}

// planned is a collection that is worked on, and the function that is tried.
type planned struct {
	*collection
	fn   script.SyncFunction
	mine bool // fn was compiled for the plan
}

// newPlan finds the collections and compiles what must be.
func (db *Database) newPlan(o PlanOptions) (*plan, error) {
	chosen := o.Collections
	if chosen == nil {
		chosen = slices.Collect(maps.Keys(db.byID))
	}
	p := newPlanTables(db, o)
	for _, id := range slices.Sorted(slices.Values(chosen)) {
		c := db.byID[id]
		if c == nil {
			p.close()
			return nil, tidegate.Errorf(tidegate.Invalid, "there is no collection with the number %d", id)
		}
		source, ok := o.Functions[id]
		if !ok {
			source = c.source()
		}
		pc := planned{collection: c.uncounted(), fn: c.sync}
		if source != c.sync.Source() {
			fn, err := script.CompileSync(source, c.defaultChannel(), script.Options{Limits: db.opts.Script, Logger: db.log})
			if err != nil {
				p.close()
				return nil, err
			}
			pc.fn, pc.mine = fn, true
		}
		p.collections = append(p.collections, pc)
	}
	return p, nil
}

// uncounted returns the collection for a trial: what a function does there is not counted among the runs of the database's.
func (c *collection) uncounted() *collection {
	return &collection{
		space: c.space, id: c.id, scope: c.scope, name: c.name, routes: c.routes, stats: &CollectionStats{}, total: NewStats(),
	}
}

// close frees the functions that were compiled for the plan.
func (p *plan) close() {
	for _, c := range p.collections {
		if c.mine {
			c.fn.Close()
		}
	}
}

// run does the work.
func (p *plan) run(ctx context.Context, r store.Reader) (err error) {
	if p.sequence, err = r.LastSequence(p.db.space); err != nil {
		return err
	}
	for _, c := range p.collections {
		n, err := c.countDocs(ctx, r)
		if err != nil {
			return err
		}
		p.status.DocsTotal += n
	}
	p.tell()
	for i := range p.collections {
		if err := p.walk(ctx, r, &p.collections[i]); err != nil {
			return err
		}
	}
	if p.grants.Roles() { // users may gain or lose channels of other collections by roles
		for _, c := range p.db.collections {
			if err := p.walkOther(ctx, r, c); err != nil {
				return err
			}
		}
	}
	return p.walkPrincipals(ctx, r)
}

// countDocs counts the documents of a collection.
func (c *collection) countDocs(ctx context.Context, r store.Reader) (n int64, err error) {
	err = c.eachDoc(ctx, r, func(string, []byte) error { n++; return nil })
	return n, err
}

// eachDoc calls fn with every document's ID and record, which is valid during the call.
func (c *collection) eachDoc(ctx context.Context, r store.Reader, fn func(id string, record []byte) error) error {
	physical, err := c.physical(r)
	if err != nil {
		return err
	}
	prefix := c.docPrefix(physical)
	it := r.Scan(store.Prefix(prefix))
	defer it.Close()
	for n := 0; it.Next(); n++ {
		if n%planCheckEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		id, _, err := store.CutName(it.Key()[len(prefix):])
		if err != nil {
			return err
		}
		if err := fn(id, it.Value()); err != nil {
			return err
		}
	}
	return it.Err()
}

// walkOther notes in which channels the documents of a collection are that is not worked on: they stay there.
func (p *plan) walkOther(ctx context.Context, r store.Reader, c *collection) error {
	if slices.ContainsFunc(p.collections, func(pc planned) bool { return pc.id == c.id }) {
		return nil
	}
	return c.eachDoc(ctx, r, func(id string, record []byte) error {
		_, winner, err := parseCurrent(id, record)
		if err == nil && !winner.Deleted() {
			p.sets.add(c.id, winner.Channels, winner.Channels)
		}
		return nil // one that makes no sense is seen by nobody
	})
}

// walk computes every document of a collection: one page is computed while the next is read.
func (p *plan) walk(ctx context.Context, r store.Reader, c *planned) error {
	reader := docReader{maxDocs: planPageDocs, maxBytes: planPageBytes}
	page, err := reader.read(r, c.collection, "")
	for err == nil && len(page.docs) > 0 {
		results := p.compute(ctx, c, page.docs)
		next := &docPage{}
		if page.more {
			next, err = reader.read(r, c.collection, page.last)
		}
		computed := <-results
		if err != nil {
			return err
		}
		for i := range page.docs {
			if err := p.count(ctx, c, &page.docs[i], &computed[i]); err != nil {
				return err
			}
		}
		p.tell()
		page = next
	}
	return err
}

// computed is what came of one document.
type computed struct {
	routes *rerouted
	err    error
}

// compute computes documents in the background and sends all results at once.
func (p *plan) compute(ctx context.Context, c *planned, docs []storedDoc) <-chan []computed {
	done := make(chan []computed, 1)
	results := make([]computed, len(docs))
	go func() {
		p.workers.each(len(docs), func(i int) {
			if err := ctx.Err(); err != nil {
				results[i].err = err
				return
			}
			results[i].routes, results[i].err = c.reroute(ctx, c.fn, &docs[i], p.now)
		})
		done <- results
	}()
	return done
}

// count takes the result of one document in.
func (p *plan) count(ctx context.Context, c *planned, d *storedDoc, res *computed) error {
	p.status.DocsProcessed++
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case res.err != nil && (errors.Is(res.err, context.Canceled) || errors.Is(res.err, context.DeadlineExceeded)):
		return res.err
	case res.err != nil:
		p.status.DocsErrored++
		p.addFailure(PlanFailure{Collection: c.fullName(), Doc: d.id, Kind: PlanUnreadable, Error: tidegate.ErrorReason(res.err)})
		return nil
	}
	if res.routes.failure() != nil {
		p.status.DocsRejected++
		p.countFailures(ctx, c, d, res.routes)
	}
	before, after := d.rec.memberSet(), res.routes.leaves[0].channels
	if res.routes.differs(d.rec) {
		p.status.DocsChanged++
		p.addDocument(c, d, before, after, res.routes)
	}
	p.channels.add(c.id, before, after)
	p.countGrants(c, d, res.routes)
	if i, _ := d.rec.tree.Winner(); !d.rec.tree.At(i).Deleted() {
		p.sets.add(c.id, before, after)
	}
	return nil
}
