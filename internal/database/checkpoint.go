package database

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// ResetRequired is the refusal of a client that must discard its local database (reset_wipe, device-sync.md §12.5).
type ResetRequired struct{ Verdict devicesync.Verdict }

// Error is the reason as clients see it.
func (e *ResetRequired) Error() string { return "client_reset_required: " + string(e.Verdict.Reason) }

// Unwrap returns the *tidegate.Error: Forbidden, with status 403. The Couchbase Mobile protocol answers 410 instead.
func (e *ResetRequired) Unwrap() error {
	return &tidegate.Error{Code: tidegate.Forbidden, Reason: e.Error(), Status: http.StatusForbidden}
}

// maxResetTries is on how many connections a client is told to start again where resets are repeated (§12.9).
const maxResetTries = 20

// claimant is what is stored of a client that comes.
type claimant struct {
	key     store.Key // of its record
	rec     *ClientRecord
	retired store.Key // nil: it is none
	local   local     // its checkpoint; n is 0 if there is none
	claim   devicesync.Claim
	last    tidegate.Seq
}

// look reads what is stored of a client.
func (h *Handle) look(r store.Reader, ref ClientRef) (c claimant, err error) {
	id := ref.localID()
	c.key = clientKey(h.db.space, h.coll.id, id)
	if c.rec, err = readClient(r, c.key); err != nil {
		return c, err
	}
	if c.local, err = h.readLocal(r, id); err != nil {
		return c, err
	}
	c.claim.Peer = ref.Peer
	if c.retired, c.claim.RetiredLast, c.claim.Retired, err = readRetired(r, h.db.space, h.coll.id, id); err != nil {
		return c, err
	}
	if c.local.n > 0 {
		c.local.body = bytes.Clone(c.local.body)
		_, c.claim.Token = tokenOf(ref.Kind, c.local.body)
		c.claim.Known = isCheckpoint(id, c.local.body)
	}
	if c.rec != nil {
		c.claim.Known = true
		c.claim.Forced = c.rec.Reset == ResetPending || c.rec.Reset == ResetWiping && c.rec.Reason == devicesync.Forced
	}
	c.last, err = r.LastSequence(h.db.space)
	return c, err
}

// judge is the verdict on the client, and whether it is told once more to start again though it has a checkpoint by now.
func (c *claimant) judge(row *devicesync.Row, ref ClientRef) (v devicesync.Verdict, again bool) {
	v = row.Judge(c.claim, c.last)
	epoch := row.Record.Epoch
	if v.Kind.Reset() || ref.Kind != ClientBLIP || !epoch.Repeats() || c.rec == nil || c.rec.ResetEpoch == epoch.No {
		return v, false
	}
	return v, c.local.n > 0
}

// Checkpoint returns the checkpoint of a client, and what becomes of the client (device-sync.md §12.5), and takes note of it. NotFound
// "missing": there is none, or the client is to start again, and then it is not there any more. A *ResetRequired: it must
// discard its local database.
func (h *Handle) Checkpoint(ctx context.Context, ref ClientRef) (*LocalDocument, devicesync.Verdict, error) {
	id := ref.localID()
	if h.db.device == nil {
		doc, err := h.GetLocal(ctx, id)
		return doc, devicesync.Verdict{Kind: devicesync.OK}, err
	}
	var row *devicesync.Row
	var c claimant
	err := h.db.st.View(ctx, func(r store.Reader) (err error) {
		if row, err = h.db.deviceRow(r); err != nil {
			return err
		}
		c, err = h.look(r, ref)
		return err
	})
	if err != nil {
		return nil, devicesync.Verdict{}, err
	}
	v, again := c.judge(row, ref)
	if ref.Kind == ClientCouch && !c.claim.Known && !v.Kind.Reset() {
		doc, err := h.GetLocal(ctx, id) // an application's own document, or none
		return doc, v, err
	}
	if v.Kind.Reset() || again || h.repeats(row, &c, ref) {
		if v, err = h.tellReset(ctx, ref); err != nil {
			return nil, v, err
		}
		if v.Kind == devicesync.ResetWipe {
			return nil, v, &ResetRequired{v}
		}
		return nil, v, tidegate.ErrMissing
	}
	if err := h.noteClient(ctx, ref, row, &c); err != nil {
		return nil, v, err
	}
	if c.local.n == 0 {
		return nil, v, tidegate.ErrMissing
	}
	doc, err := h.GetLocal(ctx, id)
	return doc, v, err
}

// repeats reports whether the client's reset is counted although it has no checkpoint here: in an epoch that was begun by a
// restore each client has to offer all it has.
func (h *Handle) repeats(row *devicesync.Row, c *claimant, ref ClientRef) bool {
	epoch := row.Record.Epoch
	return ref.Kind == ClientBLIP && epoch.Repeats() && (c.rec == nil || c.rec.ResetEpoch != epoch.No) && c.local.n == 0
}

// tellReset notes that a client is told to reset: its checkpoint goes, unless it must discard its database anyway.
func (h *Handle) tellReset(ctx context.Context, ref ClientRef) (v devicesync.Verdict, err error) {
	now := h.db.opts.Now()
	var given bool
	err = h.db.st.Update(ctx, func(tx store.Tx) error {
		given = false
		row, c, rec, err := h.meet(tx, ref, now)
		if err != nil {
			return err
		}
		was := rec.Reset
		var again bool
		v, again = c.judge(row, ref)
		epoch := row.Record.Epoch
		switch {
		case v.Kind == devicesync.ResetWipe:
			rec.Reset, rec.Reason = ResetWiping, v.Reason
			return writeReset(tx, h.db.space, c.key, was, rec)
		case v.Kind == devicesync.ResetRecover:
			rec.Reset, rec.Reason = ResetRunning, v.Reason
		case again || h.repeats(row, &c, ref):
			if rec.Reset != ResetRunning {
				rec.Reset = ResetRunning
				if rec.Reason == "" {
					rec.Reason = devicesync.EpochChanged
				}
			}
		default:
			return writeClient(tx, c.key, rec) // it was done meanwhile
		}
		if epoch.Repeats() && ref.Kind == ClientBLIP {
			if rec.Tries++; rec.Tries > maxResetTries {
				given = true
				rec.Reset, rec.ResetEpoch, rec.Tries = ResetDone, epoch.No, 0
			}
		}
		if err := writeReset(tx, h.db.space, c.key, was, rec); err != nil {
			return err
		}
		return h.coll.dropStoredLocal(tx, ref.localID())
	})
	if err != nil {
		return v, err
	}
	if !v.Kind.Reset() {
		v = devicesync.Verdict{Kind: devicesync.ResetRecover, Reason: devicesync.EpochChanged}
	}
	h.db.clients.resetChanged()
	if given {
		h.db.log.WarnContext(ctx, "device sync: a client never came to the end of its reset; it goes on all the same", "checkpoint", ref.ID, "user", h.userName())
	}
	h.db.stats.Resets.told(ref.Kind, v)
	realm, name := v.Reason.RealmCode()
	h.db.log.InfoContext(ctx, "device sync: a client is told to reset", "verdict", string(v.Kind), "reason", string(v.Reason), "kind", string(ref.Kind),
		"checkpoint", ref.ID, "user", h.userName(), "realm_code", realm, "realm_name", name)
	return v, nil
}

// meet looks at a client that has come, and returns the row that is in force, and the client's record as sighted does.
func (h *Handle) meet(tx store.Tx, ref ClientRef, now time.Time) (row *devicesync.Row, c claimant, rec *ClientRecord, err error) {
	if row, err = h.db.deviceRow(tx); err != nil {
		return row, c, nil, err
	}
	if c, err = h.look(tx, ref); err != nil {
		return row, c, nil, err
	}
	rec, err = h.sighted(tx, ref, row, &c, now)
	return row, c, rec, err
}

// sighted returns the client's record as it is after it was seen now; a new one if it has none.
func (h *Handle) sighted(tx store.Tx, ref ClientRef, row *devicesync.Row, c *claimant, now time.Time) (*ClientRecord, error) {
	rec := new(ClientRecord)
	if c.rec != nil {
		*rec = *c.rec
	} else {
		ident, err := nextFileIdent(tx, h.db.space)
		if err != nil {
			return nil, err
		}
		*rec = ClientRecord{FileIdent: ident, FirstSeen: now, Checkpoint: ref.ID, Kind: ref.Kind, Collection: h.coll.id}
	}
	rec.Peer, rec.User, rec.Epoch, rec.LastSeen = ref.Peer, h.userName(), row.Record.Epoch.No, now
	if ref.Kind == ClientCouch {
		rec.LastPos = c.last
	}
	return rec, nil
}

// userName is the principal's name, "" for an administrator.
func (h *Handle) userName() string {
	if h.user == nil {
		return ""
	}
	return h.user.PrincipalName()
}

// noteEvery is how often a client that is only seen is noted.
const noteEvery = time.Minute

// noteClient notes that a client was seen, at most once a minute.
func (h *Handle) noteClient(ctx context.Context, ref ClientRef, row *devicesync.Row, c *claimant) error {
	now := h.db.opts.Now()
	if c.rec != nil && c.rec.Epoch == row.Record.Epoch.No && now.Sub(c.rec.LastSeen) < noteEvery && c.rec.User == h.userName() {
		return nil
	}
	return h.db.st.Update(ctx, func(tx store.Tx) error {
		_, c, rec, err := h.meet(tx, ref, now)
		if err != nil {
			return err
		}
		return writeClient(tx, c.key, rec)
	})
}

// StoreCheckpoint writes the checkpoint of a client, in place of revision rev of it ("": none), and returns the new revision. A reset
// of the client is done by it, unless it has to be repeated. Errors: those of PutLocal.
func (h *Handle) StoreCheckpoint(ctx context.Context, ref ClientRef, rev string, body []byte) (string, error) {
	id := ref.localID()
	if h.db.device == nil {
		return h.PutLocal(ctx, id, rev, body)
	}
	now := h.db.opts.Now()
	done := false
	note := func(tx store.Tx, _ local) error {
		done = false
		row, err := h.db.deviceRow(tx)
		if err != nil {
			return err
		}
		c, err := h.look(tx, ref)
		if err != nil {
			return err
		}
		if ref.Kind == ClientCouch && c.rec == nil && !isCheckpoint(id, body) {
			return nil
		}
		rec, err := h.sighted(tx, ref, row, &c, now)
		if err != nil {
			return err
		}
		if text, since := tokenOf(ref.Kind, body); text != "" {
			rec.LastSince, rec.LastPos = text, devicesync.Position(since)
		}
		was := rec.Reset
		v, _ := c.judge(row, ref)
		repeated := ref.Kind == ClientBLIP && row.Record.Epoch.Repeats() && rec.ResetEpoch != row.Record.Epoch.No
		if !repeated && v.Kind != devicesync.ResetWipe {
			if done, err = h.resetDone(tx, rec, &c, row); err != nil {
				return err
			}
		}
		return writeReset(tx, h.db.space, c.key, was, rec)
	}
	written, err := h.putLocalWith(ctx, id, rev, body, note)
	if err == nil && done {
		h.db.clients.resetChanged()
	}
	return written, err
}

// resetDone notes that the client's reset, if there was one, is over.
func (h *Handle) resetDone(tx store.Tx, rec *ClientRecord, c *claimant, row *devicesync.Row) (done bool, err error) {
	rec.ResetEpoch, rec.Tries = row.Record.Epoch.No, 0
	if rec.Reset == ResetRunning || rec.Reset == ResetWiping {
		rec.Reset, done = ResetDone, true
	}
	if c.retired != nil {
		return true, tx.Delete(c.retired)
	}
	return done, nil
}

// FinishReset notes that a client whose reset is repeated has come to its end: it has pulled everything and offered all it has
// (§12.9). Nothing happens if there is no such client, or its reset is over.
func (h *Handle) FinishReset(ctx context.Context, ref ClientRef) error {
	if h.db.device == nil {
		return nil
	}
	err := h.db.st.Update(ctx, func(tx store.Tx) error {
		row, err := h.db.deviceRow(tx)
		if err != nil {
			return err
		}
		c, err := h.look(tx, ref)
		if err != nil || c.rec == nil || c.rec.Reset != ResetRunning && c.rec.ResetEpoch == row.Record.Epoch.No {
			return err
		}
		was := c.rec.Reset
		if _, err := h.resetDone(tx, c.rec, &c, row); err != nil {
			return err
		}
		return writeReset(tx, h.db.space, c.key, was, c.rec)
	})
	h.db.clients.resetChanged()
	return err
}

// RepeatsResets reports whether resets of clients go on, in this epoch, until a client has offered all it has (§12.9).
func (db *Database) RepeatsResets() bool {
	return db.device != nil && db.device.Row().Record.Epoch.Repeats()
}

// JudgeSince is the verdict on a position that a client asks for changes from, of which nothing else is known.
func (db *Database) JudgeSince(ctx context.Context, since tidegate.Since, peer bool) (devicesync.Verdict, error) {
	if db.device == nil || devicesync.Position(since) == 0 {
		return devicesync.Verdict{Kind: devicesync.OK}, nil
	}
	var verdict devicesync.Verdict
	err := db.st.View(ctx, func(r store.Reader) error {
		row, err := db.deviceRow(r)
		if err != nil {
			return err
		}
		last, err := r.LastSequence(db.space)
		if err == nil {
			verdict = row.Judge(devicesync.Claim{Token: since, Known: true, Peer: peer}, last)
		}
		return err
	})
	return verdict, err
}

// ForgetCheckpoint removes the checkpoint of a client that holds a position which is not honoured, so that it starts again when it
// comes back.
func (h *Handle) ForgetCheckpoint(ctx context.Context, ref ClientRef, reason devicesync.Reason) error {
	if h.db.device == nil {
		return nil
	}
	now := h.db.opts.Now()
	err := h.db.st.Update(ctx, func(tx store.Tx) error {
		_, c, rec, err := h.meet(tx, ref, now)
		if err != nil {
			return err
		}
		was := rec.Reset
		rec.Reset, rec.Reason = ResetRunning, reason
		if err := writeReset(tx, h.db.space, c.key, was, rec); err != nil {
			return err
		}
		return h.coll.dropStoredLocal(tx, ref.localID())
	})
	h.db.clients.resetChanged()
	return err
}
