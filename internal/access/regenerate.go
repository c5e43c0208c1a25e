package access

import (
	"context"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Regenerate gives explicit grants of principals new sequences, as if an administrator had just made them (resync.md
// §3.6): of at most max principals behind the one named after ("": from the first). also runs in the same transaction
// with the last of them. It returns those that changed, for Registry.Invalidate, and the last; "": there are no more.
func Regenerate(ctx context.Context, st store.Store, space store.Space, after string, max int, also func(tx store.Tx, last string) error) (changed []string, last string, err error) {
	var principals []string
	err = st.View(ctx, func(rd store.Reader) error {
		prefix := store.NewKey(space, store.KindPrincipal)
		rng := store.Prefix(prefix)
		if after != "" {
			rng.Start = store.PrefixEnd(prefix.Clone().Name(after))
		}
		it := rd.Scan(rng)
		defer it.Close()
		for len(principals) < max && it.Next() {
			name, _, err := store.CutName(it.Key()[len(prefix):])
			if err != nil {
				return err
			}
			principals = append(principals, name)
		}
		return it.Err()
	})
	if err != nil || len(principals) == 0 {
		return nil, "", err
	}
	last = principals[len(principals)-1]
	err = st.Update(ctx, func(tx store.Tx) error {
		changed = changed[:0]
		for _, principal := range principals {
			did, err := regenerate(tx, space, principal)
			if err != nil {
				return err
			}
			if did {
				changed = append(changed, principal)
			}
		}
		return also(tx, last)
	})
	if err != nil {
		return nil, "", err
	}
	return changed, last, nil
}

// regenerate does it for one principal; one that was removed meanwhile, or has nothing of its own, stays as it is.
func regenerate(tx store.Tx, space store.Space, principal string) (changed bool, err error) {
	key := principalRow(space, principal)
	stored, err := tx.Get(key)
	if err != nil || stored == nil {
		return false, err
	}
	rec, err := decodeRecord(stored)
	if err != nil {
		return false, err
	}
	n := len(rec.explicitRoles)
	for _, g := range rec.explicit {
		n += len(g)
	}
	if rec.deleted || n == 0 {
		return false, nil
	}
	seq, err := tx.NextSequence(space)
	if err != nil {
		return false, err
	}
	next := rec.clone()
	next.seq = seq
	for coll, g := range next.explicit {
		next.explicit[coll] = allAt(g, seq)
	}
	next.explicitRoles = allAt(next.explicitRoles, seq)
	if err := tx.Put(key, next.encode()); err != nil {
		return false, err
	}
	return true, markAll(tx, space, []string{principal}, seq)
}

// allAt returns the grants with one sequence for all.
func allAt(g tidegate.Grants, seq tidegate.Seq) tidegate.Grants {
	out := make(tidegate.Grants, len(g))
	for name := range g {
		out[name] = seq
	}
	return out
}
