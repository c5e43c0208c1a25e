package database

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// clientBook remembers which users have clients that are being reset, since every push asks. Resets begin and end on any node, and each time a
// number in the store is counted up; who decided by what is remembered here compares it in the transaction that the decision is for.
type clientBook struct {
	db *Database
	mu sync.Mutex
	// users with a reset that is running; nil: not read since it last changed.
	users map[string]bool
	// as is the number that users is as of.
	as uint64
}

func (b *clientBook) init(db *Database) { b.db = db }

// resetChanged notes that a client's reset began or ended.
func (b *clientBook) resetChanged() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users = nil
}

// resetting reports whether a client of the user is being reset, and as of which number that is said.
func (b *clientBook) resetting(ctx context.Context, user string) (resetting bool, as uint64, err error) {
	b.mu.Lock()
	known, knownAs := b.users, b.as
	b.mu.Unlock()
	if known != nil && !known[user] {
		return false, knownAs, nil
	}
	// That there is one may end without a commit that would notice it: a write can be refused for it.
	var users map[string]bool
	err = b.db.st.View(ctx, func(r store.Reader) (err error) {
		users = map[string]bool{}
		if as, err = readResets(r, b.db.space); err != nil {
			return err
		}
		if known != nil && as == knownAs {
			users = known
			return nil
		}
		return eachClient(r, b.db.space, func(rec *ClientRecord) bool {
			if rec.Reset == ResetRunning {
				users[rec.User] = true
			}
			return true
		})
	})
	if err != nil {
		return false, 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users == nil || b.as <= as {
		b.users, b.as = users, as
	}
	return users[user], as, nil
}

// resetsKey holds how often a reset of a client has begun or ended.
func resetsKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("client_resets")
}

func readResets(r store.Reader, space store.Space) (uint64, error) {
	stored, err := r.Get(resetsKey(space))
	if err != nil || stored == nil {
		return 0, err
	}
	p := reader{rest: stored}
	n := p.uvarint()
	if p.failed {
		return 0, tidegate.Errorf(tidegate.Corrupt, "the stored number of changes of clients' resets does not make sense")
	}
	return n, nil
}

// countReset notes in a transaction that a client's reset begins or ends.
func countReset(tx store.Tx, space store.Space) error {
	n, err := readResets(tx, space)
	if err != nil {
		return err
	}
	return tx.Put(resetsKey(space), binary.AppendUvarint(nil, n+1))
}

// resetsMoved reports whether a reset has begun or ended since a decision that was made as of a number; nil: none was.
func resetsMoved(r store.Reader, space store.Space, as *uint64) (bool, error) {
	if as == nil {
		return false, nil
	}
	n, err := readResets(r, space)
	return n != *as, err
}

// writeReset stores a client's record, and notes if its reset begins or ends with it.
func writeReset(tx store.Tx, space store.Space, key store.Key, was ResetState, rec *ClientRecord) error {
	if (was == ResetRunning) != (rec.Reset == ResetRunning) {
		if err := countReset(tx, space); err != nil {
			return err
		}
	}
	return writeClient(tx, key, rec)
}

// eachClient calls fn for every client record, in one snapshot, until it says no.
func (db *Database) eachClient(ctx context.Context, fn func(rec *ClientRecord) bool) error {
	return db.st.View(ctx, func(r store.Reader) error { return eachClient(r, db.space, fn) })
}

func eachClient(r store.Reader, space store.Space, fn func(rec *ClientRecord) bool) error {
	it := r.Scan(store.Prefix(store.NewKey(space, store.KindClient)))
	defer it.Close()
	for it.Next() {
		rec, err := parseClient(it.Value())
		if err != nil {
			return err
		}
		if !fn(rec) {
			return nil
		}
	}
	return it.Err()
}

// ClientFilter says which clients are listed.
type ClientFilter struct {
	Reset *ResetState // only those in this state
	After int64       // only those with a greater file_ident
	Limit int         // 0: all
}

// Clients lists clients in order of their file_ident.
func (k *Keeper) Clients(ctx context.Context, f ClientFilter) ([]ClientRecord, error) {
	var found []ClientRecord
	err := k.db.eachClient(ctx, func(rec *ClientRecord) bool {
		if rec.FileIdent > f.After && (f.Reset == nil || *f.Reset == rec.Reset) {
			found = append(found, *rec)
		}
		return true
	})
	slices.SortFunc(found, func(a, b ClientRecord) int { return int(a.FileIdent - b.FileIdent) })
	if f.Limit > 0 && len(found) > f.Limit {
		found = found[:f.Limit]
	}
	return found, err
}

// ForceReset makes one client reset at its next connection. NotFound: no client has the number.
func (k *Keeper) ForceReset(ctx context.Context, fileIdent int64) error {
	db := k.db
	rec, err := db.clientOf(ctx, fileIdent)
	if err != nil {
		return err
	}
	ref := ClientRef{Kind: rec.Kind, ID: rec.Checkpoint}
	key := clientKey(db.space, rec.Collection, ref.localID())
	return db.st.Update(ctx, func(tx store.Tx) error {
		now, err := readClient(tx, key)
		if err != nil {
			return err
		}
		if now == nil || now.FileIdent != fileIdent {
			return errNoClient
		}
		was := now.Reset
		now.Reset, now.Reason, now.ResetEpoch = ResetPending, devicesync.Forced, 0
		return writeReset(tx, db.space, key, was, now)
	})
}

var errNoClient = tidegate.Errorf(tidegate.NotFound, "no client has this file_ident")

func (db *Database) clientOf(ctx context.Context, fileIdent int64) (found *ClientRecord, err error) {
	err = db.eachClient(ctx, func(rec *ClientRecord) bool {
		if rec.FileIdent == fileIdent {
			found = rec
		}
		return found == nil
	})
	if err == nil && found == nil {
		err = errNoClient
	}
	return found, err
}

// JudgeClient is the verdict on a client that asks beforehand what would become of it (GET _sync, §12.5). Nothing is noted. since is
// the position that it holds, if it says one.
func (h *Handle) JudgeClient(ctx context.Context, id string, since tidegate.Since) (devicesync.Verdict, error) {
	if h.db.device == nil {
		return devicesync.Verdict{Kind: devicesync.OK}, nil
	}
	var verdict devicesync.Verdict
	err := h.db.st.View(ctx, func(r store.Reader) error {
		verdict = devicesync.Verdict{}
		row, err := h.db.deviceRow(r)
		if err != nil {
			return err
		}
		for _, kind := range []ClientKind{ClientBLIP, ClientCouch} {
			ref := ClientRef{Kind: kind, ID: id}
			c, err := h.look(r, ref)
			if err != nil {
				return err
			}
			if devicesync.Position(since) > 0 {
				c.claim.Token = since
			}
			v, again := c.judge(row, ref)
			if again {
				v = devicesync.Verdict{Kind: devicesync.ResetRecover, Reason: devicesync.EpochChanged}
			}
			if verdict.Kind == "" || v.Kind.Reset() || verdict.Kind == devicesync.Fresh {
				verdict = v
			}
			if v.Kind.Reset() {
				return nil
			}
		}
		return nil
	})
	return verdict, err
}

func appendIdent(n int64) []byte { return binary.AppendUvarint(nil, uint64(n)) }
