package access

import (
	"context"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// An online resync writes the grants that documents make under another sync function beside those that count, under
// physical collection numbers that are not live yet (store.Routing). Nobody is to be rebuilt for them before they are: so
// they leave marks of their own, which count once their run has become visible, and are then moved to the ordinary ones.

// allPrincipals is named by an event that may concern any principal.
const allPrincipals = "*"

// WriteNextGrants stores the grants of a document in the generation that a run builds, in the transaction that gives the
// document the sequence seq there. old are the grants that are stored in that generation, new those from now on; live
// are those of the live generation. Nil is none; no sequence in them is 0. Principals that get something else than they
// have now are marked for when the run becomes visible.
func WriteNextGrants(tx store.Tx, space store.Space, run uint32, physical store.Collection, docID string, old, new, live *DocGrants, seq tidegate.Seq) error {
	before, after, now := old.byPrincipal(), new.byPrincipal(), live.byPrincipal()
	for _, principal := range unionKeys(before, after) {
		was, is := before[principal], after[principal]
		if is.equal(was) {
			continue
		}
		key := grantRow(space, principal, physical, docID)
		var err error
		if is.empty() {
			err = tx.Delete(key)
		} else {
			err = tx.Put(key, is.encode())
		}
		if err != nil {
			return err
		}
	}
	for _, principal := range unionKeys(after, now) {
		if after[principal].equal(now[principal]) {
			continue
		}
		if err := markRow(tx, nextMarkRow(space, run, principal), pendingMark{seq, seq}); err != nil {
			return err
		}
	}
	return nil
}

// WriteSwitch notes that what any principal may see may have changed at seq: a run has become visible. After the
// transaction the caller calls InvalidateAll.
func WriteSwitch(tx store.Tx, space store.Space, seq tidegate.Seq) error {
	return writeEvents(tx, space, []string{allPrincipals}, seq)
}

// InvalidateAll is Invalidate of everybody.
func (r *Registry) InvalidateAll() { r.invalidate([]string{allPrincipals}, 0) }

// MoveNextMarks moves marks of a run that has become visible to the ordinary ones, at most max, and reports whether there
// may be more.
func MoveNextMarks(ctx context.Context, st store.Store, space store.Space, run uint32, max int) (more bool, err error) {
	return sweepNextMarks(ctx, st, nextMarkPrefix(space, run), max, func(tx store.Tx, principal string, m pendingMark) error {
		return markRow(tx, invalidRow(space, principal), m)
	})
}

// DropNextMarks removes marks of a run that was given up, at most max, and reports whether there may be more.
func DropNextMarks(ctx context.Context, st store.Store, space store.Space, run uint32, max int) (more bool, err error) {
	return sweepNextMarks(ctx, st, nextMarkPrefix(space, run), max, nil)
}

// sweepNextMarks removes marks and does with each what fn says.
func sweepNextMarks(ctx context.Context, st store.Store, prefix store.Key, max int, fn func(store.Tx, string, pendingMark) error) (bool, error) {
	var keys []store.Key
	err := st.View(ctx, func(rd store.Reader) (err error) {
		keys, err = firstKeys(rd, store.Prefix(prefix), max)
		return err
	})
	if err != nil || len(keys) == 0 {
		return false, err
	}
	err = st.Update(ctx, func(tx store.Tx) error {
		for _, key := range keys {
			b, err := tx.Get(key)
			if err != nil {
				return err
			}
			if b == nil {
				continue // a rebuild took it
			}
			m, err := decodeMark(b)
			if err != nil {
				return err
			}
			principal, _, err := store.CutName(key[len(prefix):])
			if err != nil {
				return err
			}
			if fn != nil {
				if err := fn(tx, principal, m); err != nil {
					return err
				}
			}
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	return len(keys) == max, err
}

// DropGrants removes the grants of documents of a generation that nobody reads any more. It looks at no more than max
// rows behind the row after (nil: from the first), and returns where it stopped; nil: at the end.
func DropGrants(ctx context.Context, st store.Store, space store.Space, dropped func(physical store.Collection) bool, after []byte, max int) (last []byte, err error) {
	prefix := store.NewKey(space, store.KindGrant)
	rng := store.Prefix(prefix)
	if after != nil {
		rng.Start = append(append([]byte{}, after...), 0)
	}
	var keys []store.Key
	n := 0
	err = st.View(ctx, func(rd store.Reader) error {
		it := rd.Scan(rng)
		defer it.Close()
		for ; n < max && it.Next(); n++ {
			last = append(last[:0], it.Key()...)
			_, rest, err := store.CutName(last[len(prefix):])
			if err != nil {
				return err
			}
			physical, _, err := store.CutCollection(rest)
			if err != nil {
				return err
			}
			if dropped(physical) {
				keys = append(keys, store.Key(last).Clone())
			}
		}
		return it.Err()
	})
	if err != nil {
		return nil, err
	}
	if n < max {
		last = nil
	}
	if len(keys) == 0 {
		return last, nil
	}
	return last, st.Update(ctx, func(tx store.Tx) error { return deleteAll(tx, keys) })
}

func nextMarkPrefix(space store.Space, run uint32) store.Key {
	return store.NewKey(space, store.KindNextMark).Collection(store.Collection(run)) // four bytes too
}

func nextMarkRow(space store.Space, run uint32, principal string) store.Key {
	return nextMarkPrefix(space, run).Name(principal)
}

// marks are the rows that say that a principal must be rebuilt, as stored; nil: there is none.
type marks struct{ own, next []byte }

// readMarks reads the marks of a principal.
func readMarks(rd store.Reader, space store.Space, routing *store.Routing, principal string) (m marks, err error) {
	if m.own, err = rd.Get(invalidRow(space, principal)); err != nil {
		return m, err
	}
	if routing != nil && routing.Marks != 0 {
		m.next, err = rd.Get(nextMarkRow(space, routing.Marks, principal))
	}
	return m, err
}

// first returns the sequence as of which the principal must be rebuilt, if there is a mark.
func (m marks) first() (first tidegate.Seq, marked bool, err error) {
	for _, b := range [][]byte{m.own, m.next} {
		if b == nil {
			continue
		}
		mark, err := decodeMark(b)
		if err != nil {
			return 0, false, err
		}
		if !marked || mark.first < first {
			first, marked = mark.first, true
		}
	}
	return first, marked, nil
}
