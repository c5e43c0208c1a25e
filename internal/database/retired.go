package database

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// A retired client is one whose record and checkpoint are gone: what is left is a salted hash of its checkpoint's name and the position at which it
// was last seen, so that it is recognised when it comes back.

// retiredLen is the length of the hash, in bytes.
const retiredLen = 16

func saltKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("client_salt")
}

// retiredKey is the row of a retired client.
func retiredKey(space store.Space, salt []byte, coll store.Collection, localID string) store.Key {
	h := sha256.New()
	h.Write(salt)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(coll)))
	h.Write([]byte(localID))
	return append(store.NewKey(space, store.KindRetired), h.Sum(nil)[:retiredLen]...)
}

// readRetired returns where a retired client was last. retired is false if it is none.
func readRetired(r store.Reader, space store.Space, coll store.Collection, localID string) (key store.Key, last tidegate.Seq, retired bool, err error) {
	salt, err := r.Get(saltKey(space))
	if err != nil || salt == nil {
		return nil, 0, false, err
	}
	key = retiredKey(space, salt, coll, localID)
	stored, err := r.Get(key)
	if err != nil || stored == nil {
		return nil, 0, false, err
	}
	last, _, err = store.CutSeq(stored)
	return key, last, err == nil, err
}

// retire makes a client a retired one: the checkpoint and the record, if there are such, go.
func (db *Database) retire(tx store.Tx, c *collection, localID string, last tidegate.Seq) error {
	salt, err := tx.Get(saltKey(db.space))
	if err != nil {
		return err
	}
	if salt == nil {
		salt = make([]byte, retiredLen)
		_, _ = rand.Read(salt) // never fails
		if err := tx.Put(saltKey(db.space), salt); err != nil {
			return err
		}
	}
	key := retiredKey(db.space, salt, c.id, localID)
	stored, err := tx.Get(key)
	if err != nil {
		return err
	}
	if stored != nil {
		was, _, err := store.CutSeq(stored)
		if err != nil {
			return err
		}
		last = max(last, was)
	}
	if err := tx.Put(key, binary.BigEndian.AppendUint64(nil, uint64(last))); err != nil {
		return err
	}
	if err := tx.Delete(clientKey(db.space, c.id, localID)); err != nil {
		return err
	}
	return c.dropStoredLocal(tx, localID)
}

// dropStoredLocal removes a local document, if there is one.
func (c *collection) dropStoredLocal(tx store.Tx, localID string) error {
	stored, err := tx.Get(c.localKey(localID))
	if err != nil || stored == nil {
		return err
	}
	l, err := parseLocal(stored)
	if err != nil {
		return fmt.Errorf("read local document %q: %w", localID, err)
	}
	return c.dropLocal(tx, localID, l)
}

// RetireClients retires all clients and removes all checkpoints of replications, those of this server's own replications too. It
// returns how many.
func (k *Keeper) RetireClients(ctx context.Context, p Progress) (n int64, err error) {
	n, err = k.retireRecords(ctx, time.Time{}, p)
	if err != nil {
		return n, err
	}
	db := k.db
	err = db.eachRow(ctx, store.NewKey(db.space, store.KindLocal), func(tx store.Tx, key, value []byte) error {
		coll, rest, err := store.CutCollection(key[store.Header:])
		if err != nil {
			return err
		}
		id, _, err := store.CutName(rest)
		if err != nil {
			return err
		}
		l, err := parseLocal(value)
		if err != nil {
			return fmt.Errorf("read local document %q: %w", id, err)
		}
		if !isCheckpoint(id, l.body) {
			return nil
		}
		kind := ClientCouch
		if len(id) > len(blipCheckpoint) && id[:len(blipCheckpoint)] == blipCheckpoint {
			kind = ClientBLIP
		}
		_, since := tokenOf(kind, l.body)
		n++
		return db.retire(tx, db.anyCollection(coll), id, devicesync.Position(since))
	})
	if err != nil {
		return n, fmt.Errorf("remove checkpoints: %w", err)
	}
	return n, p.tell(n)
}

// RetireIdle retires clients that were last seen before a time.
func (k *Keeper) RetireIdle(ctx context.Context, before time.Time, p Progress) (n int64, err error) {
	return k.retireRecords(ctx, before, p)
}

// retireRecords retires the clients that have records, if before is not zero only those last seen before it.
func (k *Keeper) retireRecords(ctx context.Context, before time.Time, p Progress) (n int64, err error) {
	db := k.db
	defer db.clients.resetChanged()
	err = db.eachRow(ctx, store.NewKey(db.space, store.KindClient), func(tx store.Tx, key, value []byte) error {
		rec, err := parseClient(value)
		if err != nil || !before.IsZero() && !rec.LastSeen.Before(before) {
			return err
		}
		ref := ClientRef{Kind: rec.Kind, ID: rec.Checkpoint}
		if rec.Reset == ResetRunning {
			if err := countReset(tx, db.space); err != nil {
				return err
			}
		}
		n++
		return db.retire(tx, db.anyCollection(rec.Collection), ref.localID(), rec.LastPos)
	})
	if err != nil {
		return n, fmt.Errorf("retire clients: %w", err)
	}
	return n, p.tell(n)
}
