package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// edit is the outcome of changing a principal's record.
type edit struct {
	next *record // nil: the principal goes
	// newSeq: the change is one of what the principal may see. Its sequence takes the place of every 0 among the explicit
	// grants, and of since if that is 0 and the principal a role. Without it the change is quiet: it has a sequence too, by
	// which all nodes hear of it, but readers see no trace of it.
	newSeq bool
	// rebuild: what the principal has must be computed anew.
	rebuild bool

	// idle: nothing but the time of the update changes, of which nobody need hear.
	idle bool
}

// change applies f to a principal's record, which is nil if there is none, and forgets what is cached of the
// principal. f may be called several times and must not change its argument; its errors are returned as they
// are.
func (r *Registry) change(ctx context.Context, principal string, f func(*record) (*edit, error)) error {
	for try := 1; ; try++ {
		var stored []byte
		var e *edit
		read := func(rd store.Reader) error {
			b, err := rd.Get(principalRow(r.cfg.Space, principal))
			if err != nil {
				return fmt.Errorf("read principal: %w", err)
			}
			stored = bytes.Clone(b)
			var rec *record
			if b != nil {
				if rec, err = decodeRecord(b); err != nil {
					return err
				}
			}
			if e, err = f(rec); err == nil {
				e.idle = rec != nil && e.next != nil && !e.newSeq && e.next.sameBut(rec)
			}
			return err
		}
		held := try > rebuildTries // it keeps moving: hold the others up
		if !held {
			if err := r.cfg.Store.View(ctx, read); err != nil {
				return err
			}
		}
		err := r.cfg.Store.Update(ctx, func(tx store.Tx) error {
			if held {
				if err := read(tx); err != nil {
					return err
				}
			}
			return r.apply(tx, principal, stored, e)
		})
		if errors.Is(err, errMoved) && !held {
			continue
		}
		if err == nil {
			r.Invalidate([]string{principal})
		}
		return err
	}
}

// apply stores an edit if the record is still the one it was made from.
func (r *Registry) apply(tx store.Tx, principal string, stored []byte, e *edit) error {
	space, key := r.cfg.Space, principalRow(r.cfg.Space, principal)
	now, err := tx.Get(key)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, stored) {
		return errMoved
	}
	seq, err := e.sequence(tx, space, principal, stored == nil)
	if err != nil {
		return err
	}
	if e.next == nil {
		if err := tx.Delete(invalidRow(space, principal)); err != nil {
			return err
		}
		return tx.Delete(key)
	}
	next := e.next
	if e.newSeq {
		next = next.at(seq, isRole(principal))
	}
	if e.rebuild {
		if seq == 0 { // nothing that is lost now was ever had
			if seq, err = tx.LastSequence(space); err != nil {
				return err
			}
		}
		if err := mark(tx, space, principal, seq); err != nil {
			return err
		}
	}
	return tx.Put(key, next.encode())
}

// sequence takes the sequence of an edit and notes that the principal changed at it, so that all nodes forget what they cached of it: also a new
// password, or the end of all sessions. Of a principal that is made without any access nobody has cached anything, but for the guest, who
// is always there: then, and when the edit changes nothing, it is 0.
func (e *edit) sequence(tx store.Tx, space store.Space, principal string, made bool) (tidegate.Seq, error) {
	if e.idle || made && !e.newSeq && principal != guestKey {
		return 0, nil
	}
	seq, err := tx.NextSequence(space)
	if err != nil {
		return 0, err
	}
	return seq, writeEvents(tx, space, []string{principal}, seq)
}

// sameBut reports whether the record says what old does, the time of the update apart.
func (rec *record) sameBut(old *record) bool {
	same := rec.clone()
	same.updated = old.updated
	return bytes.Equal(same.encode(), old.encode())
}

// at returns a copy in which seq takes the place of every pending sequence.
func (rec *record) at(seq tidegate.Seq, role bool) *record {
	next := rec.clone()
	next.seq = seq
	if role && next.since == 0 {
		next.since = seq
	}
	for coll, g := range next.explicit {
		next.explicit[coll] = replaceZero(g, seq)
	}
	next.explicitRoles = replaceZero(next.explicitRoles, seq)
	return next
}

// replace returns the explicit grants when names take the place of old, and whether that is a change. Names
// that stay keep their sequence, new ones have 0. Nil names leave all as it is.
func replace(old tidegate.Grants, names []string) (g tidegate.Grants, changed bool) {
	if names == nil {
		return old, false
	}
	g = make(tidegate.Grants, len(names))
	for _, name := range names {
		at, ok := old[name]
		g[name] = at
		changed = changed || !ok
	}
	return g, changed || len(g) != len(old)
}
