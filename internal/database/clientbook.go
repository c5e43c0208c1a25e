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

// clientBook remembers which users have clients that are being reset, since every push asks.
type clientBook struct {
	db *Database
	mu sync.Mutex
	// users with a reset that is running; nil: not read since it last changed.
	users map[string]bool
	// version counts the changes, so that what was read meanwhile is not kept.
	version uint64
}

func (b *clientBook) init(db *Database) { b.db = db }

// resetChanged notes that a client's reset began or ended.
func (b *clientBook) resetChanged() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users = nil
	b.version++
}

func (b *clientBook) forgetAll() { b.resetChanged() }

// resetting reports whether a client of the user is being reset.
func (b *clientBook) resetting(ctx context.Context, user string) (bool, error) {
	b.mu.Lock()
	users, version := b.users, b.version
	b.mu.Unlock()
	if users != nil {
		return users[user], nil
	}
	users = map[string]bool{}
	err := b.db.eachClient(ctx, func(rec *ClientRecord) bool {
		if rec.Reset == ResetRunning {
			users[rec.User] = true
		}
		return true
	})
	if err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.version == version {
		b.users = users
	}
	return users[user], nil
}

// eachClient calls fn for every client record, in one snapshot, until it says no.
func (db *Database) eachClient(ctx context.Context, fn func(rec *ClientRecord) bool) error {
	return db.st.View(ctx, func(r store.Reader) error {
		it := r.Scan(store.Prefix(store.NewKey(db.space, store.KindClient)))
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
	})
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
		now.Reset, now.Reason, now.ResetEpoch = ResetPending, devicesync.Forced, 0
		return writeClient(tx, key, now)
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
		for _, kind := range []ClientKind{ClientBLIP, ClientCouch} {
			ref := ClientRef{Kind: kind, ID: id}
			c, err := h.look(r, ref)
			if err != nil {
				return err
			}
			if devicesync.Position(since) > 0 {
				c.claim.Token = since
			}
			v, again := c.judge(h.db.device.Row(), ref)
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
