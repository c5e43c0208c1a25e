package database

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/store"
)

// offline rewrites the routing of documents in place (resync.md §3.4).
func (run *resyncRun) offline(ctx context.Context) error {
	defer run.db.hub.Refresh()
	if err := run.pages(ctx, run.commitOffline); err != nil {
		return err
	}
	if run.o.Regenerate && run.o.Collections == nil {
		if err := run.regeneratePrincipals(ctx); err != nil {
			return err
		}
	}
	end := run.committed()
	end.State, end.EndTime = ResyncCompleted, run.db.opts.Now()
	err := run.try(ctx, func() error {
		return run.db.st.Update(ctx, func(tx store.Tx) error {
			if err := run.owns(tx); err != nil {
				return err
			}
			for _, c := range run.colls {
				if err := run.db.noteRouted(tx, c, run.fns[c.id].Source()); err != nil {
					return err
				}
				if !run.o.Regenerate {
					continue
				}
				if err := tx.Delete(requirePrefix(run.db.space).Collection(c.id)); err != nil {
					return err
				}
			}
			return run.change(tx, &end)
		})
	})
	if err != nil {
		return fmt.Errorf("complete the resync: %w", err)
	}
	run.set(end)
	return nil
}

// computeOffline computes what is to be written of the document.
func (item *rerouteItem) computeOffline(regenerate bool) {
	rec, r := item.rec, item.r
	item.changed = regenerate || r.differs(rec)
	if item.changed || !r.expiry(rec).Equal(rec.expiry) {
		item.next, _, item.begun = r.apply(rec)
	}
}

// commitOffline stores a page. What moved meanwhile, since another node has the database online, is computed again.
func (run *resyncRun) commitOffline(ctx context.Context, page *reroutePage) error {
	for range maxTries {
		b := &offlineBatch{run: run, page: page}
		err := run.try(ctx, func() error { return run.db.st.Update(ctx, b.put) })
		switch {
		case err == nil:
			run.advance(page.c, b.state)
			run.db.access.Invalidate(b.principals)
			run.db.sweeper.due(b.due)
			return nil
		case !errors.Is(err, errPageMoved):
			return fmt.Errorf("store resynced documents: %w", err)
		}
		if err := run.again(ctx, page, b.moved); err != nil {
			return err
		}
	}
	return errBusy
}

// again reads and computes documents of a page once more. One that is gone is left with nothing to be written.
func (run *resyncRun) again(ctx context.Context, page *reroutePage, moved []int) error {
	fresh := &reroutePage{c: page.c, items: make([]rerouteItem, len(moved))}
	var routing *store.Routing
	err := run.db.st.View(ctx, func(r store.Reader) (err error) {
		if routing, err = run.db.routes.Read(r); err != nil {
			return err
		}
		for k, i := range moved {
			d, err := readStored(r, page.c, page.items[i].id)
			if err != nil {
				return err
			}
			if fresh.items[k] = (rerouteItem{known: d == nil}); d != nil {
				fresh.items[k].storedDoc = *d
			}
		}
		return nil
	})
	if err == nil {
		err = run.compute(ctx, routing, fresh)
	}
	if err != nil {
		return err
	}
	for k, i := range moved {
		page.items[i] = fresh.items[k]
	}
	return nil
}

// offlineBatch is a page being stored.
type offlineBatch struct {
	run  *resyncRun
	page *reroutePage

	tx       store.Tx
	physical store.Collection
	grantSeq tidegate.Seq // at which grants begin and end (resync.md §3.6); 0: none was taken yet

	moved      []int
	state      storedRun
	principals []string  // whose grants changed
	due        time.Time // the earliest new expiry
}

// put stores the page and the run's state. It runs in the commit section, perhaps more than once.
func (b *offlineBatch) put(tx store.Tx) error {
	*b = offlineBatch{run: b.run, page: b.page, tx: tx, state: b.run.committed()}
	err := b.run.owns(tx)
	if err != nil {
		return err
	}
	if b.physical, err = b.page.c.physical(tx); err != nil {
		return err
	}
	records := b.page.scan(tx, b.physical)
	defer records.it.Close()
	for i := range b.page.items {
		item := &b.page.items[i]
		if item.next == nil || item.err != nil {
			continue
		}
		key := b.page.c.docKey(b.physical, item.id)
		stored, err := records.get(key)
		if err != nil {
			return err
		}
		if !bytes.Equal(stored, item.record) {
			b.moved = append(b.moved, i)
			continue
		}
		if err := b.putItem(item, key); err != nil {
			return fmt.Errorf("document %q: %w", item.id, err)
		}
	}
	if len(b.moved) > 0 {
		return errPageMoved
	}
	b.page.account(&b.state)
	return writeRun(tx, b.run.db.space, &b.state)
}

// putItem stores one document's new routing.
func (b *offlineBatch) putItem(item *rerouteItem, key store.Key) error {
	seq := item.rec.seq
	if b.run.o.Regenerate {
		var err error
		if seq, err = b.tx.NextSequence(b.run.db.space); err != nil {
			return err
		}
	}
	if err := b.beginGrants(item, seq); err != nil {
		return err
	}
	next := item.next.resolved(seq, 0)
	next.seq = seq
	if err := b.tx.Put(key, next.appendBinary(make([]byte, 0, len(item.record)+64))); err != nil {
		return err
	}
	c := b.page.c
	if err := changes.WriteIndex(b.tx, c.space, b.physical, item.id, item.rec.docState(), next.docState()); err != nil {
		return err
	}
	if old, now := grantsOf(item.rec), grantsOf(next); old != nil || now != nil {
		changed, err := access.WriteGrants(b.tx, c.space, b.physical, item.id, old, now, b.grantSeq)
		if err != nil {
			return err
		}
		b.principals = append(b.principals, changed...)
	}
	return b.moveExpiry(item.id, item.rec.expiry, next.expiry)
}

// beginGrants gives new grants their sequence: with new sequences the document's, else one of the run, so that those
// whom they concern get the backfill.
func (b *offlineBatch) beginGrants(item *rerouteItem, seq tidegate.Seq) error {
	if b.run.o.Regenerate {
		b.grantSeq = seq
	} else if b.grantSeq == 0 && !(sameAccess(item.rec.grants.Access, item.r.out.access) && sameRoles(item.rec.grants.Roles, item.r.out.roles)) {
		var err error
		if b.grantSeq, err = b.tx.NextSequence(b.run.db.space); err != nil {
			return err
		}
	}
	for _, g := range item.begun {
		g.grants[g.name] = b.grantSeq
	}
	return nil
}

// moveExpiry moves a document's expiry row.
func (b *offlineBatch) moveExpiry(id string, from, to time.Time) error {
	if from.Equal(to) {
		return nil
	}
	c := b.page.c
	if !from.IsZero() {
		if err := b.tx.Delete(c.expiryKey(from, expireDoc, id, tidegate.RevID{})); err != nil {
			return err
		}
	}
	if to.IsZero() {
		return nil
	}
	if b.due.IsZero() || to.Before(b.due) {
		b.due = to
	}
	return b.tx.Put(c.expiryKey(to, expireDoc, id, tidegate.RevID{}), nothing)
}

// regeneratePrincipals gives users and roles new sequences, too (resync.md §3.6).
func (run *resyncRun) regeneratePrincipals(ctx context.Context) error {
	for more := true; more; {
		s := run.committed()
		var changed []string
		err := run.try(ctx, func() (err error) {
			var last string
			changed, last, err = access.Regenerate(ctx, run.db.st, run.db.space, string(s.After), resyncBatchDocs, func(tx store.Tx, last string) error {
				s.After = []byte(last)
				if err := run.owns(tx); err != nil {
					return err
				}
				return writeRun(tx, run.db.space, &s)
			})
			more = last != ""
			return err
		})
		if err != nil {
			return fmt.Errorf("give principals new sequences: %w", err)
		}
		run.set(s)
		run.db.access.Invalidate(changed)
	}
	return nil
}
