package database

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/store"
)

// Sequences of an online run lie above all that others take while it lasts. If it lasts so long that they come near, it
// begins again with more room.
const (
	firstMargin  = tidegate.Seq(1 << 20)
	marginGrowth = 64
	maxMargin    = tidegate.Seq(1 << 44) // JSON numbers are exact up to 2^53
)

// errNoRoom says that sequences came near those of the run.
var errNoRoom = errors.New("the sequences of the database came near those of the resync")

// errGivenUp says that somebody else gave the run's generation up.
var errGivenUp = tidegate.Errorf(tidegate.Conflict, "the resync was given up by another one")

// online builds the next generation and makes it the live one.
func (run *resyncRun) online(ctx context.Context) error {
	for {
		err := run.pages(ctx, run.commitOnline)
		if err == nil {
			err = run.switchOver(ctx)
		}
		if !errors.Is(err, errNoRoom) {
			return err
		}
		s := run.committed()
		s.Margin = min(s.Margin*marginGrowth, maxMargin)
		s.Processed, s.Changed, s.Total, s.Errored, s.Rejected, s.At, s.After = 0, 0, 0, 0, 0, 0, nil
		run.db.log.WarnContext(ctx, "resync begins again with more room for sequences", "id", s.ID, "room", s.Margin)
		if err := run.startAfresh(ctx, &s); err != nil {
			return err
		}
		run.mu.Lock()
		run.state, run.began, run.before = s, time.Now(), 0
		run.mu.Unlock()
	}
}

// announce makes a next generation known: from now on every write goes into it, too.
func (run *resyncRun) announce(tx store.Tx, s *storedRun) error {
	db := run.db
	was, err := db.routes.Read(tx)
	if err != nil {
		return err
	}
	routing := was.Clone()
	if routing.Run != 0 || len(routing.Old) > 0 || routing.Marks != 0 || routing.Dropped != 0 {
		return errResyncBusy // another process began one meanwhile
	}
	last, err := tx.LastSequence(db.space)
	if err != nil {
		return err
	}
	routing.Runs++
	routing.Run, routing.Base = routing.Runs, last+s.Margin
	sources := make(map[store.Collection]string, len(run.colls))
	for _, c := range run.colls {
		next := routing.NewPhysical()
		g := routing.Generation(c.id)
		g.Next, g.HasNext = next, true
		sources[c.id] = run.fns[c.id].Source()
	}
	s.Run = routing.Run
	db.functions.set(s.Run, run.fns) // before anybody can read of the run
	if err := db.forgetFunctions(tx, routing); err != nil {
		return err
	}
	if err := writeRunFunctions(tx, db.space, s.Run, sources); err != nil {
		return err
	}
	if err := tx.Delete(runSequenceKey(db.space)); err != nil {
		return err
	}
	return store.WriteRouting(tx, db.space, routing)
}

// forgetFunctions removes the stored functions of runs that are nobody's any more.
func (db *Database) forgetFunctions(tx store.Tx, routing *store.Routing) error {
	used := map[uint32]bool{}
	for _, g := range routing.Generations {
		used[g.Function] = true
	}
	prefix := store.NewKey(db.space, store.KindMeta).Name("resync.functions")
	it := tx.Scan(store.Prefix(prefix))
	defer it.Close()
	var gone []store.Key
	for it.Next() {
		run, _, err := store.CutSeq(it.Key()[len(prefix):])
		if err != nil {
			return err
		}
		if !used[uint32(run)] {
			gone = append(gone, store.Key(it.Key()).Clone())
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	for _, key := range gone {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// computeOnline computes what becomes of the document in the next generation.
func (item *rerouteItem) computeOnline(c *collection, routing *store.Routing) error {
	next, ok := routing.Next(c.id)
	if !ok {
		return errGivenUp
	}
	item.changed = item.r.differs(item.rec)
	item.live = liveDoc{seq: item.rec.seq, record: item.record, state: item.rec.docState(), grants: grantsOf(item.rec)}
	var err error
	item.write, err = newNextWrite(c, routing, &nextBase{physical: next}, item.id, item.rec, item.r)
	return err
}

// commitOnline stores a page of the next generation.
func (run *resyncRun) commitOnline(ctx context.Context, page *reroutePage) error {
	b := &onlineBatch{run: run, page: page}
	start := time.Now()
	if err := run.try(ctx, func() error { return run.db.st.Update(ctx, b.put) }); err != nil {
		return fmt.Errorf("store resynced documents: %w", err)
	}
	run.advance(page.c, b.state)
	run.db.sweeper.due(b.due)
	return run.giveWay(ctx, b.last, time.Since(start))
}

// giveWay lets writers have their turn: if somebody wrote beside the last batch the run waits as long as that took, and
// makes the next ones smaller. So it takes half of the store's time at most, and holds up nobody for long.
func (run *resyncRun) giveWay(ctx context.Context, last tidegate.Seq, took time.Duration) error {
	busy := run.last != 0 && last != run.last
	run.last = last
	run.mu.Lock()
	run.busy = busy
	run.mu.Unlock()
	if !busy {
		return nil
	}
	timer := time.NewTimer(min(took, maxPause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maxPause bounds how long a run waits between two batches because others write.
const maxPause = 50 * time.Millisecond

// onlineBatch is a page being stored.
type onlineBatch struct {
	run  *resyncRun
	page *reroutePage

	tx      store.Tx
	routing *store.Routing
	records near
	last    tidegate.Seq // of the live generation
	state   storedRun
	due     time.Time
}

// put stores the page and the run's state. It runs in the commit section, perhaps more than once.
func (b *onlineBatch) put(tx store.Tx) error {
	*b = onlineBatch{run: b.run, page: b.page, tx: tx, state: b.run.committed()}
	var err error
	if b.routing, err = b.run.routing(tx, &b.state); err != nil {
		return err
	}
	if b.last, err = tx.LastSequence(b.run.db.space); err != nil {
		return err
	}
	if b.last+b.state.Margin/2 >= b.routing.Base {
		return errNoRoom
	}
	b.records = b.page.scan(tx, b.routing.Live(b.page.c.id))
	defer b.records.it.Close()
	for i := range b.page.items {
		if err := b.putItem(&b.page.items[i]); err != nil {
			return fmt.Errorf("document %q: %w", b.page.items[i].id, err)
		}
	}
	b.page.account(&b.state)
	return writeRun(tx, b.run.db.space, &b.state)
}

// routing returns the routing of a transaction, if the run is still the one that builds the next generation.
func (run *resyncRun) routing(tx store.Tx, s *storedRun) (*store.Routing, error) {
	routing, err := run.db.routes.Read(tx)
	if err == nil && (routing == nil || routing.Run != s.Run) {
		err = errGivenUp
	}
	if err == nil {
		err = run.owns(tx)
	}
	return routing, err
}

// putItem stores one document, unless a writer did: from the announcement on each write of a document writes both
// generations, so a document that is as it was read has no record in the next one, and any other is as it must be.
func (b *onlineBatch) putItem(item *rerouteItem) error {
	if item.known {
		return nil
	}
	c := b.page.c
	stored, err := b.records.get(c.docKey(b.routing.Live(c.id), item.id))
	if err != nil {
		return err
	}
	next, _ := b.routing.Next(c.id)
	key := c.docKey(next, item.id)
	switch {
	case !bytes.Equal(stored, item.record):
		written, err := b.tx.Get(key)
		item.changed = recordSeq(written) != recordSeq(stored)
		return err
	case item.err != nil:
		return b.tx.Put(key, stored) // as damaged as it is
	}
	if err := item.write.put(b.tx, b.routing, item.live); err != nil {
		return err
	}
	due := item.write.expiry
	if due.IsZero() || due.Equal(item.rec.expiry) {
		return nil
	}
	if b.due.IsZero() || due.Before(b.due) {
		b.due = due
	}
	return b.tx.Put(c.expiryKey(due, expireDoc, item.id, tidegate.RevID{}), nothing)
}

// switchOver makes the next generation the live one.
func (run *resyncRun) switchOver(ctx context.Context) error {
	db := run.db
	var end storedRun
	err := run.try(ctx, func() error {
		return db.st.Update(ctx, func(tx store.Tx) error {
			end = run.committed()
			end.State, end.EndTime = ResyncCompleted, db.opts.Now()
			return run.putSwitch(tx, &end)
		})
	})
	if err != nil {
		return fmt.Errorf("make the new routing visible: %w", err)
	}
	for _, c := range run.colls {
		fn := run.fns[c.id]
		c.latest.Store(&fn)
	}
	db.access.InvalidateAll()
	db.sweeper.due(db.opts.Now())
	run.set(end)
	db.resync.clearUp()
	return nil
}

// putSwitch is the one transaction by which everybody sees the next generation, and everything that changed in it at
// sequences above all that was read.
func (run *resyncRun) putSwitch(tx store.Tx, end *storedRun) error {
	db := run.db
	was, err := run.routing(tx, end)
	if err != nil {
		return err
	}
	last, err := tx.LastSequence(db.space)
	if err != nil {
		return err
	}
	if last >= was.Base {
		return errNoRoom
	}
	seq, err := nextRunSequence(tx, db.space, was)
	if err != nil {
		return err
	}
	routing := was.Clone()
	for _, c := range run.colls {
		g := routing.Generation(c.id)
		routing.Old = append(routing.Old, store.OldGeneration{Collection: c.id, Physical: g.Live})
		g.Live, g.Next, g.HasNext = g.Next, 0, false
		if _, ok := run.o.Functions[c.id]; ok {
			g.Function = routing.Run
		}
		if err := db.noteRouted(tx, c, run.fns[c.id].Source()); err != nil {
			return err
		}
	}
	routing.Marks, routing.Switched, routing.Run, routing.Base = routing.Run, routing.Run, 0, 0
	if err := store.WriteRouting(tx, db.space, routing); err != nil {
		return err
	}
	if err := store.AdvanceSequence(tx, db.space, seq); err != nil {
		return err
	}
	if err := access.WriteSwitch(tx, db.space, seq); err != nil {
		return err
	}
	if err := tx.Delete(runSequenceKey(db.space)); err != nil {
		return err
	}
	if run.o.OnSwitch != nil {
		if err := run.o.OnSwitch(tx); err != nil {
			return err
		}
	}
	return run.change(tx, end)
}

// dropNext gives up the generation that a run builds, if there is one: for readers it never was.
func (db *Database) dropNext(tx store.Tx) error {
	was, err := db.routes.Read(tx)
	if err != nil || was == nil || was.Run == 0 {
		return err
	}
	routing := was.Clone()
	for i := range routing.Generations {
		g := &routing.Generations[i]
		if g.HasNext {
			routing.Old = append(routing.Old, store.OldGeneration{Collection: g.Collection, Physical: g.Next})
			g.Next, g.HasNext = 0, false
		}
	}
	routing.Dropped, routing.Run, routing.Base = routing.Run, 0, 0
	return store.WriteRouting(tx, db.space, routing)
}
