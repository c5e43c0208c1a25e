package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// WriteBlock refuses document writes of everybody but who bypasses it: what setUserWriteBlockMode is for MongoDB (cluster-sync.md §12).
// It is kept with the database's data, so it survives restarts, is the same on all nodes, and is read in the transaction of every write: one
// that commits after the block was set is refused, however long it was under way.
//
// Reads, feeds, local documents, sessions and changes of principals go on. Documents do not expire while it lasts, since that is a write,
// too; tombstones are compacted, which nobody notices.
type WriteBlock struct {
	Blocked bool
	// BypassRole is a role whose users may write all the same; "" is none.
	BypassRole string
}

// ErrWritesBlocked is answered to document writes while they are blocked. A peer that would give a refused revision up for good must be told
// something that passes instead.
var ErrWritesBlocked = tidegate.Errorf(tidegate.Forbidden, "Database writes are blocked")

// maxBypassRole is the longest name of a role (gateway-rest.md §16.1), in bytes.
const maxBypassRole = 239

// blockFormat is the version of the stored form: format, 1 if blocked, role.
const blockFormat = 1

// writeBlock is what the process remembers of the block.
type writeBlock struct {
	// open: when it was last looked at there was none, so that a write need not look before its transaction does.
	open atomic.Bool
}

func (db *Database) blockKey() store.Key {
	return store.NewKey(db.space, store.KindMeta).Name("writeBlock")
}

// WriteBlock returns the block that is in force.
func (db *Database) WriteBlock(ctx context.Context) (b WriteBlock, err error) {
	err = db.st.View(ctx, func(r store.Reader) error {
		b, err = db.readBlock(r)
		return err
	})
	return b, err
}

// SetWriteBlock changes it. When it returns, no write that the block refuses can be acknowledged any more.
func (db *Database) SetWriteBlock(ctx context.Context, b WriteBlock) error {
	if len(b.BypassRole) > maxBypassRole {
		return tidegate.Errorf(tidegate.Invalid, "the name of the role is longer than %d bytes", maxBypassRole)
	}
	value := []byte{blockFormat, 0}
	if b.Blocked {
		value[1] = 1
	}
	value = append(value, b.BypassRole...)
	err := db.st.Update(ctx, func(tx store.Tx) error { return tx.Put(db.blockKey(), value) })
	if err != nil {
		return fmt.Errorf("set the write block: %w", err)
	}
	db.block.open.Store(!b.Blocked)
	if !b.Blocked {
		db.sweeper.due(db.opts.Now()) // documents that could not expire
	}
	return nil
}

func (db *Database) readBlock(r store.Reader) (WriteBlock, error) {
	stored, err := r.Get(db.blockKey())
	switch {
	case err != nil:
		return WriteBlock{}, fmt.Errorf("read the write block: %w", err)
	case stored == nil:
		return WriteBlock{}, nil
	case len(stored) < 2 || stored[0] != blockFormat || stored[1] > 1:
		return WriteBlock{}, tidegate.Errorf(tidegate.Corrupt, "the stored write block does not make sense")
	}
	return WriteBlock{Blocked: stored[1] == 1, BypassRole: string(stored[2:])}, nil
}

// BypassWriteBlock returns the Handle of an administrator whose writes the block lets through; any other Handle is returned as it is.
func (h *Handle) BypassWriteBlock() *Handle {
	if h.user != nil {
		return h
	}
	bypass := *h
	bypass.bypass = true
	return &bypass
}

// MayWrite is ErrWritesBlocked if a document write by this principal would be refused now.
func (h *Handle) MayWrite(ctx context.Context) error {
	if h.bypass || h.db.block.open.Load() {
		return nil
	}
	return h.db.st.View(ctx, func(r store.Reader) error { return h.passes(r) })
}

// passes is ErrWritesBlocked unless the block lets the principal write. It is asked in every transaction that writes documents.
func (h *Handle) passes(r store.Reader) error {
	if h.bypass {
		return nil
	}
	b, err := h.db.readBlock(r)
	if err != nil {
		return err
	}
	h.db.block.open.Store(!b.Blocked)
	if b.Blocked && (b.BypassRole == "" || h.user == nil || !slices.Contains(h.user.RoleNames(), b.BypassRole)) {
		return ErrWritesBlocked
	}
	return nil
}

// update is a transaction that writes documents. docs are keys of records that it will read, for engines that read better beforehand.
func (h *Handle) update(ctx context.Context, docs func() [][]byte, fn func(store.Tx) error) error {
	keys := func() [][]byte {
		keys := append(docs(), h.db.routes.Key(), h.db.blockKey())
		if h.db.device != nil {
			keys = append(keys, resetsKey(h.db.space))
		}
		if h.admitted != nil {
			keys = append(keys, h.db.deviceKeys()...)
		}
		return keys
	}
	return store.UpdateReading(ctx, h.db.st, keys, func(tx store.Tx) error {
		if err := h.passes(tx); err != nil {
			return err
		}
		if err := h.stillAdmitted(tx); err != nil {
			return err
		}
		return fn(tx)
	})
}

// heldBack reports whether a document could not expire because writes are blocked; it is tried again when they are not.
func heldBack(err error) bool { return errors.Is(err, ErrWritesBlocked) }
