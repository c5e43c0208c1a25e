package access

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Every change of a principal leaves a KindEvent row at its sequence, and the last such sequence in one row of KindMeta. So does
// the end of a session. Whoever holds a snapshot of the store can thus see with one read whether cached principals are as new as
// the snapshot, and if not which are not; also when another node made the change.
//
// Rows are named after the principal; "*" is everybody, and "session:" with the hash of its id a session that was ended. There are others,
// which the changes feed puts there for its own caches: they are passed over.

// sessionPrefix begins the name of an event that ends a session.
const sessionPrefix = "session:"

// believeFor is how long cached principals are believed without a look at the store. The follower of the store tells of changes within
// milliseconds; this bounds how late a node learns of them that is cut off from the store, or whose notifications are lost.
const believeFor = 2 * time.Second

// current makes sure that what is cached is not older than believeFor.
func (r *Registry) current(ctx context.Context) error {
	r.mu.Lock()
	age := r.cfg.Now().Sub(r.looked)
	r.mu.Unlock()
	if 0 <= age && age < believeFor {
		return nil
	}
	// Many may find it out at once: where the store is far away they share a round trip.
	keys := func() [][]byte { return [][]byte{lastEventRow(r.cfg.Space)} }
	if err := store.ViewReading(ctx, r.cfg.Store, keys, r.catchUp); err != nil {
		return fmt.Errorf("look for changed users: %w", err)
	}
	return nil
}

// keptEvents is how many sequences back events are kept. A registry that is further behind forgets all it
// has cached.
const keptEvents = 100_000

func lastEventRow(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("access.event")
}

func eventRow(space store.Space, seq tidegate.Seq, principal string) store.Key {
	return store.NewKey(space, store.KindEvent).Seq(seq).Name(principal)
}

// WriteEvents notes that what the names stand for changed at seq: principals, sessions, or what other packages keep in memory.
// No names are no event.
func WriteEvents(tx store.Tx, space store.Space, names []string, seq tidegate.Seq) error {
	return writeEvents(tx, space, names, seq)
}

// writeEvents notes that the principals changed at seq.
func writeEvents(tx store.Tx, space store.Space, principals []string, seq tidegate.Seq) error {
	if len(principals) == 0 {
		return nil
	}
	for _, principal := range principals {
		if err := tx.Put(eventRow(space, seq, principal), []byte{}); err != nil {
			return err
		}
	}
	last, err := lastEvent(tx, space)
	if err != nil || seq <= last {
		return err
	}
	return tx.Put(lastEventRow(space), binary.BigEndian.AppendUint64(nil, uint64(seq)))
}

// lastEvent returns the sequence of the last event in r; 0 if there is none.
func lastEvent(r store.Reader, space store.Space) (tidegate.Seq, error) {
	b, err := r.Get(lastEventRow(space))
	if err != nil || b == nil {
		return 0, err
	}
	seq, _, err := store.CutSeq(b)
	return seq, err
}

// catchUp applies to the cache what the snapshot knows and the cache does not.
func (r *Registry) catchUp(rd store.Reader) error {
	now := r.cfg.Now() // a little late: the snapshot is older by what it took to get here
	last, err := lastEvent(rd, r.cfg.Space)
	if err != nil {
		return err
	}
	since := r.seen()
	if last > since {
		if err := r.follow(rd, since, last); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked = now
	return nil
}

// follow applies the events after since, up to last.
func (r *Registry) follow(rd store.Reader, since, last tidegate.Seq) error {
	if last-since > keptEvents/2 {
		r.forgetAll(last)
		return nil
	}
	it := rd.Scan(store.Range{
		Start: store.NewKey(r.cfg.Space, store.KindEvent).Seq(since + 1),
		End:   store.NewKey(r.cfg.Space, store.KindEvent).Seq(last + 1),
	})
	defer it.Close()
	var changed []string
	for it.Next() {
		_, rest, err := store.CutSeq(it.Key()[store.Header:])
		if err != nil {
			return err
		}
		principal, _, err := store.CutName(rest)
		if err != nil {
			return err
		}
		changed = append(changed, principal)
	}
	if err := it.Err(); err != nil {
		return err
	}
	r.invalidate(changed, last)
	return nil
}

// sweepEvents removes events that nobody needs any more, at most max of them, and reports whether there may
// be more. Those of the feed go with the others: a follower that is so far behind keeps nothing.
func (r *Registry) sweepEvents(ctx context.Context, max int) (more bool, err error) {
	var keys []store.Key
	err = r.cfg.Store.View(ctx, func(rd store.Reader) error {
		last, err := lastEvent(rd, r.cfg.Space)
		if err != nil || last <= keptEvents {
			return err
		}
		keys, err = firstKeys(rd, store.Range{
			Start: store.NewKey(r.cfg.Space, store.KindEvent),
			End:   store.NewKey(r.cfg.Space, store.KindEvent).Seq(last - keptEvents),
		}, max)
		return err
	})
	if err != nil || len(keys) == 0 {
		return false, err
	}
	return len(keys) == max, r.cfg.Store.Update(ctx, func(tx store.Tx) error { return deleteAll(tx, keys) })
}

// firstKeys returns copies of the first keys of a range, at most max.
func firstKeys(rd store.Reader, rng store.Range, max int) ([]store.Key, error) {
	it := rd.Scan(rng)
	defer it.Close()
	var keys []store.Key
	for len(keys) < max && it.Next() {
		keys = append(keys, store.Key(it.Key()).Clone())
	}
	return keys, it.Err()
}

func deleteAll(tx store.Tx, keys []store.Key) error {
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}
