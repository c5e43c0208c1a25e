package database

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/store"
)

// tidyBatch is how many rows are looked at, or removed one by one, at once.
const tidyBatch = 1000

// tidyRetry is how long after a failure it is tried again.
const tidyRetry = 10 * time.Second

// tidyPoll is how often a node looks for what a run left whose node did not come to clear up.
const tidyPoll = 10 * time.Minute

// clearUp asks for what is left of a run to be removed in the background.
func (s *resyncs) clearUp() {
	select {
	case s.untidy <- struct{}{}:
	default:
	}
}

// runTidy removes what runs left, whenever there is something, until ctx ends.
func (db *Database) runTidy(ctx context.Context) error {
	if err := db.noteFunctions(ctx); err != nil && ctx.Err() == nil {
		db.log.WarnContext(ctx, "it is not noted by which sync functions documents are routed", "error", err)
	}
	timer := time.NewTimer(tidyRetry)
	defer timer.Stop()
	for {
		again := tidyPoll
		if err := db.tidy(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			db.log.WarnContext(ctx, "clearing up after a resync failed; trying again", "error", err)
			again = tidyRetry
		}
		timer.Reset(again)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-db.resync.untidy:
		case <-timer.C:
		}
	}
}

// tidy removes the rows of generations that nobody reads any more, and moves marks of a run that became visible to the
// ordinary ones. All of it can be broken off and begun again.
func (db *Database) tidy(ctx context.Context) error {
	select {
	case db.resync.tidying <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-db.resync.tidying }()
	var routing *store.Routing
	err := db.st.View(ctx, func(r store.Reader) (err error) {
		routing, err = db.routes.Read(r)
		return err
	})
	if err != nil || routing == nil || (len(routing.Old) == 0 && routing.Marks == 0 && routing.Dropped == 0) {
		return err
	}
	if err := db.tidyMarks(ctx, routing); err != nil {
		return fmt.Errorf("clear up marks: %w", err)
	}
	for _, old := range routing.Old {
		if err := db.tidyDocs(ctx, old); err != nil {
			return fmt.Errorf("remove old records: %w", err)
		}
		if err := db.tidyRange(ctx, store.Prefix(store.NewKey(db.space, store.KindChannel).Collection(old.Physical))); err != nil {
			return fmt.Errorf("remove old index: %w", err)
		}
	}
	if err := db.tidyGrants(ctx, routing.Old); err != nil {
		return fmt.Errorf("remove old grants: %w", err)
	}
	return db.st.Update(ctx, func(tx store.Tx) error { return db.tidied(tx, routing) })
}

// tidied notes that what a routing said is left is there no more.
func (db *Database) tidied(tx store.Tx, done *store.Routing) error {
	now, err := db.routes.Read(tx)
	if err != nil {
		return err
	}
	routing := now.Clone()
	routing.Old = slices.DeleteFunc(routing.Old, func(o store.OldGeneration) bool { return slices.Contains(done.Old, o) })
	if routing.Marks == done.Marks {
		routing.Marks = 0
	}
	if routing.Dropped == done.Dropped {
		routing.Dropped = 0
	}
	return store.WriteRouting(tx, db.space, routing)
}

func (db *Database) tidyMarks(ctx context.Context, routing *store.Routing) (err error) {
	for more := routing.Marks != 0; more; {
		if more, err = access.MoveNextMarks(ctx, db.st, db.space, routing.Marks, tidyBatch); err != nil {
			return err
		}
	}
	for more := routing.Dropped != 0; more; {
		if more, err = access.DropNextMarks(ctx, db.st, db.space, routing.Dropped, tidyBatch); err != nil {
			return err
		}
	}
	return nil
}

func (db *Database) tidyGrants(ctx context.Context, old []store.OldGeneration) (err error) {
	dropped := func(physical store.Collection) bool {
		return slices.ContainsFunc(old, func(o store.OldGeneration) bool { return o.Physical == physical })
	}
	var after []byte
	for more := len(old) > 0; more; more = after != nil {
		if after, err = access.DropGrants(ctx, db.st, db.space, dropped, after, tidyBatch); err != nil {
			return err
		}
	}
	return nil
}

// tidyDocs removes the records of an old generation, and the expiry rows that only they called for.
func (db *Database) tidyDocs(ctx context.Context, old store.OldGeneration) error {
	c := db.anyCollection(old.Collection)
	prefix := c.docPrefix(old.Physical)
	rng := store.Prefix(prefix) // what is left; what is removed is not walked over again
	for {
		var last store.Key
		var expiries []dueRow
		n := 0
		err := db.st.View(ctx, func(r store.Reader) error {
			it := r.Scan(rng)
			defer it.Close()
			for ; n < tidyBatch && it.Next(); n++ {
				last = append(last[:0], it.Key()...)
				rec, err := parseRecord(it.Value())
				if err != nil || rec.expiry.IsZero() {
					continue // what does not decode calls for nothing
				}
				id, _, err := store.CutName(last[len(prefix):])
				if err != nil {
					return err
				}
				expiries = append(expiries, dueRow{at: rec.expiry, id: id})
			}
			return it.Err()
		})
		if err != nil || n == 0 {
			return err
		}
		done := store.Range{Start: rng.Start, End: append(last.Clone(), 0)}
		rng.Start = done.End
		err = db.st.Update(ctx, func(tx store.Tx) error {
			for _, row := range expiries {
				expires, err := c.expires(tx, row.id, row.at)
				if err != nil && tidegate.ErrorCode(err) == tidegate.Corrupt {
					continue // nobody can tell: the row stays
				}
				if err == nil && !expires {
					err = tx.Delete(c.expiryKey(row.at, expireDoc, row.id, tidegate.RevID{}))
				}
				if err != nil {
					return err
				}
			}
			return deleteRange(tx, done)
		})
		if err != nil {
			return err
		}
	}
}

// tidyRange removes all rows of a range: at once if the engine can, else in batches.
func (db *Database) tidyRange(ctx context.Context, rng store.Range) error {
	for more := true; more; {
		err := db.st.Update(ctx, func(tx store.Tx) (err error) {
			if d, ok := tx.(store.RangeDeleter); ok {
				more = false
				return d.DeleteRange(rng)
			}
			more, err = deleteRows(tx, rng, tidyBatch)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteRange removes the rows of a range that has not many.
func deleteRange(tx store.Tx, rng store.Range) error {
	if d, ok := tx.(store.RangeDeleter); ok {
		return d.DeleteRange(rng)
	}
	_, err := deleteRows(tx, rng, tidyBatch)
	return err
}

// deleteRows removes rows one by one, at most max, and reports whether there may be more.
func deleteRows(tx store.Tx, rng store.Range, max int) (more bool, err error) {
	it := tx.Scan(rng)
	defer it.Close()
	var keys []store.Key
	for len(keys) < max && it.Next() {
		keys = append(keys, store.Key(it.Key()).Clone())
	}
	if err := it.Err(); err != nil {
		return false, err
	}
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return false, err
		}
	}
	return len(keys) == max, nil
}
