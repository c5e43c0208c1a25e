package database

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/store"
)

// Quarantine keeps bodies that were taken from clients and not made current (device-sync.md §12.8).

// QuarantineCause is why a body is there.
type QuarantineCause string

// The causes.
const (
	QuarantineDeleted  QuarantineCause = "edit_of_deleted" // an edit, from before its reset, of a document that is deleted
	QuarantineClosed   QuarantineCause = "closed_branch"   // a branch that was closed as it was stored
	QuarantineHandedIn QuarantineCause = "handed_in"       // an app gave it before it discarded its database
)

// Quarantined is one body.
type Quarantined struct {
	ID          string                  `json:"id"`
	Collection  store.Collection        `json:"collection"`
	DocID       string                  `json:"doc_id"`
	Rev         string                  `json:"rev"`
	History     []string                `json:"history,omitempty"`
	Body        json.RawMessage         `json:"body"` // without underscore members
	Attachments []QuarantinedAttachment `json:"attachments,omitempty"`
	User        string                  `json:"user"`
	FileIdent   int64                   `json:"file_ident,omitempty"` // 0: it is not known which client it came from
	Epoch       uint64                  `json:"epoch"`
	Cause       QuarantineCause         `json:"cause"`
	ReceivedAt  time.Time               `json:"received_at"`
	// Deleted: the revision deletes its document.
	Deleted bool `json:"deleted,omitempty"`
	// size is that of the stored form.
	size int
}

// QuarantinedAttachment says what an attachment was. Content is there up to InlineAttachmentBytes, in what was handed in or sent along; the
// content of larger ones is kept as long as the document's closed branch keeps it.
type QuarantinedAttachment struct {
	Name        string `json:"name"`
	ContentType string `json:"content_type,omitempty"`
	Digest      string `json:"digest,omitempty"`
	Length      int64  `json:"length"`
	Data        []byte `json:"data,omitempty"`
}

const quarantineFormat = 1

// quarantineKey is the row of a body: in order of time, and numbered among those of one moment.
func quarantineKey(space store.Space, at time.Time, n uint64) store.Key {
	return store.NewKey(space, store.KindQuarantine).Uint64(uint64(max(at.UnixMilli(), 0))).Uint64(n)
}

// quarantineID is the ID that a row is known by.
func quarantineID(key []byte) string { return base64.RawURLEncoding.EncodeToString(key[store.Header:]) }

func quarantineKeyOf(space store.Space, id string) (store.Key, error) {
	rest, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || len(rest) != 16 {
		return nil, errNoQuarantined
	}
	return append(store.NewKey(space, store.KindQuarantine), rest...), nil
}

var errNoQuarantined = tidegate.Errorf(tidegate.NotFound, "nothing in quarantine has this id")

func (q *Quarantined) encode() ([]byte, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("encode quarantined body: %w", err)
	}
	return append([]byte{quarantineFormat}, b...), nil
}

func parseQuarantined(key, stored []byte) (*Quarantined, error) {
	if len(stored) == 0 || stored[0] != quarantineFormat || len(key) != store.Header+16 {
		return nil, errQuarantined
	}
	q := new(Quarantined)
	if err := json.Unmarshal(stored[1:], q); err != nil {
		return nil, errQuarantined
	}
	q.ID, q.size = quarantineID(key), len(stored)
	return q, nil
}

var errQuarantined = tidegate.Errorf(tidegate.Corrupt, "a stored body in quarantine does not make sense")

// quarantined is a body that a write puts into quarantine.
type quarantined struct {
	at    time.Time
	value []byte
}

// put stores it, under a number that no other of its moment has.
func (q *quarantined) put(tx store.Tx, space store.Space) error {
	for n := uint64(0); ; n++ {
		key := quarantineKey(space, q.at, n)
		stored, err := tx.Get(key)
		if err != nil {
			return err
		}
		if stored == nil {
			if err := tx.Put(key, q.value); err != nil {
				return err
			}
			return countQuarantine(tx, space, 1)
		}
		if bytes.Equal(stored, q.value) {
			return nil // the same, handed in twice
		}
	}
}

func quarantineCountKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("quarantine")
}

// countQuarantine counts rows in or out.
func countQuarantine(tx store.Tx, space store.Space, n int64) error {
	rows, err := readQuarantineCount(tx, space)
	if err != nil {
		return err
	}
	return tx.Put(quarantineCountKey(space), binary.AppendUvarint(nil, uint64(max(rows+n, 0))))
}

func readQuarantineCount(r store.Reader, space store.Space) (int64, error) {
	stored, err := r.Get(quarantineCountKey(space))
	if err != nil || stored == nil {
		return 0, err
	}
	p := reader{rest: stored}
	n := int64(p.uvarint())
	if p.failed || n < 0 {
		return 0, tidegate.Errorf(tidegate.Corrupt, "the stored number of bodies in quarantine does not make sense")
	}
	return n, nil
}

// QuarantineRows returns how many bodies are in quarantine.
func (k *Keeper) QuarantineRows(ctx context.Context) (n int64, err error) {
	err = k.db.st.View(ctx, func(r store.Reader) error {
		n, err = readQuarantineCount(r, k.db.space)
		return err
	})
	return n, err
}

// quarantinePage bounds one answer of Quarantine, in bytes.
const quarantinePage = 8 << 20

// Quarantine lists bodies in the order in which they came, those after an ID ("": from the first), at most limit.
func (k *Keeper) Quarantine(ctx context.Context, after string, limit int) ([]Quarantined, error) {
	rng := store.Prefix(store.NewKey(k.db.space, store.KindQuarantine))
	if after != "" {
		key, err := quarantineKeyOf(k.db.space, after)
		if err != nil {
			return nil, err
		}
		rng.Start = append(key, 0)
	}
	var found []Quarantined
	size := 0
	err := k.db.st.View(ctx, func(r store.Reader) error {
		it := r.Scan(rng)
		defer it.Close()
		for len(found) < limit && size < quarantinePage && it.Next() {
			q, err := parseQuarantined(it.Key(), it.Value())
			if err != nil {
				return err
			}
			size += q.size
			found = append(found, *q)
		}
		return it.Err()
	})
	return found, err
}

// Quarantined returns one body. NotFound: there is none with the ID.
func (k *Keeper) Quarantined(ctx context.Context, id string) (*Quarantined, error) {
	key, err := quarantineKeyOf(k.db.space, id)
	if err != nil {
		return nil, err
	}
	var q *Quarantined
	err = k.db.st.View(ctx, func(r store.Reader) error {
		stored, err := r.Get(key)
		if err != nil {
			return err
		}
		if stored == nil {
			return errNoQuarantined
		}
		q, err = parseQuarantined(key, stored)
		return err
	})
	return q, err
}

// DropQuarantined removes one body. NotFound: there is none with the ID.
func (k *Keeper) DropQuarantined(ctx context.Context, id string) error {
	key, err := quarantineKeyOf(k.db.space, id)
	if err != nil {
		return err
	}
	return k.db.st.Update(ctx, func(tx store.Tx) error {
		stored, err := tx.Get(key)
		if err != nil {
			return err
		}
		if stored == nil {
			return errNoQuarantined
		}
		if err := tx.Delete(key); err != nil {
			return err
		}
		return countQuarantine(tx, k.db.space, -1)
	})
}

// ExpireQuarantine removes the bodies that came before a time, and returns how many.
func (k *Keeper) ExpireQuarantine(ctx context.Context, before time.Time) (n int64, err error) {
	limit := quarantineKey(k.db.space, before, 0)
	err = k.db.eachRow(ctx, store.NewKey(k.db.space, store.KindQuarantine), func(tx store.Tx, key, _ []byte) error {
		if bytes.Compare(key, limit) >= 0 {
			return nil
		}
		n++
		if err := tx.Delete(key); err != nil {
			return err
		}
		return countQuarantine(tx, k.db.space, -1)
	})
	return n, err
}

// RestoreQuarantined makes a body the document's new current revision, on top of the current one, tombstone or not, and takes it out of quarantine.
// Attachments whose content is not kept with it are taken from the document if it still has them, and left out otherwise. Errors:
// NotFound, those of Put.
func (db *Database) RestoreQuarantined(ctx context.Context, id string) (Written, error) {
	k := db.Keeper()
	q, err := k.Quarantined(ctx, id)
	if err != nil {
		return Written{}, err
	}
	if db.byID[q.Collection] == nil {
		return Written{}, tidegate.Errorf(tidegate.NotFound, "the collection of the document is not configured")
	}
	h := db.Admin(q.Collection)
	for range maxTries {
		w := &Write{ID: q.DocID, Body: q.Body, Deleted: q.Deleted, NewEdits: true, Attachments: map[string]AttachmentInput{}}
		current, err := h.currentRev(ctx, q.DocID)
		if err != nil {
			return Written{}, err
		}
		w.Parent = current
		for _, a := range q.Attachments {
			if a.Data != nil {
				w.Attachments[a.Name] = AttachmentInput{ContentType: a.ContentType, Data: a.Data, Length: -1, EncodedLength: -1}
			}
		}
		res, err := h.Put(ctx, w)
		if tidegate.ErrorCode(err) == tidegate.Conflict {
			continue // it moved
		}
		if err != nil {
			return res, err
		}
		return res, k.DropQuarantined(ctx, id)
	}
	return Written{}, errBusy
}

// currentRev returns the current revision, a tombstone too; zero if there is no document.
func (h *Handle) currentRev(ctx context.Context, id string) (rev tidegate.RevID, err error) {
	err = h.db.st.View(ctx, func(r store.Reader) error {
		stored, err := h.coll.stored(r, id)
		if err != nil || stored == nil {
			return err
		}
		_, winner, err := parseCurrent(id, stored)
		rev = winner.ID
		return err
	})
	return rev, err
}

// HandIn is a document that an app gives in before it discards its database.
type HandIn struct {
	ID          string
	Rev         string
	History     []tidegate.RevID
	Body        []byte
	Deleted     bool
	Attachments []QuarantinedAttachment
}

// HandIn puts documents of a client into quarantine; nothing is written to documents. client is its checkpoint id.
func (h *Handle) HandIn(ctx context.Context, client string, docs []HandIn) error {
	now := h.db.opts.Now()
	rows := make([]quarantined, 0, len(docs))
	for i := range docs {
		d := &docs[i]
		if err := tidegate.ValidDocID(d.ID); err != nil {
			return err
		}
		q := Quarantined{
			Collection: h.coll.id, DocID: d.ID, Rev: d.Rev, Body: d.Body, User: h.userName(), Cause: QuarantineHandedIn,
			ReceivedAt: now, Deleted: d.Deleted, Attachments: d.Attachments, Epoch: h.db.epochNo(),
		}
		for _, rev := range d.History {
			q.History = append(q.History, rev.String())
		}
		if len(q.Body) == 0 {
			q.Body = emptyBody
		}
		if err := jsondoc.Check(q.Body, h.db.JSONLimits()); err != nil {
			return err
		}
		for _, kind := range []ClientKind{ClientBLIP, ClientCouch} {
			if rec := h.clientRecord(ctx, ClientRef{Kind: kind, ID: client}); rec != nil {
				q.FileIdent = rec.FileIdent
			}
		}
		value, err := q.encode()
		if err != nil {
			return err
		}
		rows = append(rows, quarantined{now, value})
	}
	err := h.db.st.Update(ctx, func(tx store.Tx) error {
		for i := range rows {
			if err := rows[i].put(tx, h.db.space); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(rows) > 0 {
		h.db.log.InfoContext(ctx, "documents were handed in", "documents", len(rows), "user", h.userName(), "checkpoint", client)
	}
	return err
}

// clientRecord returns what is known of a client; nil if nothing is.
func (h *Handle) clientRecord(ctx context.Context, ref ClientRef) (rec *ClientRecord) {
	_ = h.db.st.View(ctx, func(r store.Reader) (err error) {
		rec, err = readClient(r, clientKey(h.db.space, h.coll.id, ref.localID()))
		return err
	})
	return rec
}

// epochNo is the number of the present epoch.
func (db *Database) epochNo() uint64 {
	if db.device == nil {
		return 0
	}
	return db.device.Row().Record.Epoch.No
}
