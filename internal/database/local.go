package database

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/store"
)

// A local document is not replicated and has no channels; peers keep their checkpoints in them
// (gateway-rest.md §13.5).

// localFormat is the first byte of a stored local document.
const localFormat = 1

// MaxLocalIDLen is the longest ID of a local document, without "_local/", in bytes.
const MaxLocalIDLen = 512

// LocalDocument is a local document.
type LocalDocument struct {
	ID   string // without "_local/"
	Rev  string // "0-N"
	Body []byte // JSON object without _id and _rev
}

// Errors of local documents, with the reasons of gateway-rest.md §13.5.
var (
	errLocalConflict = tidegate.Errorf(tidegate.Conflict, "Document update conflict")
	errLocalMissing  = tidegate.Errorf(tidegate.NotFound, "No previous revision to replace")
	errLocal         = tidegate.Errorf(tidegate.Corrupt, "a stored local document does not make sense")
)

// local is a stored local document.
type local struct {
	n      uint64
	expiry time.Time // zero: never
	body   []byte
}

func (l *local) appendBinary(b []byte) []byte {
	b = append(b, localFormat)
	b = binary.AppendUvarint(b, l.n)
	b = appendTime(b, l.expiry)
	return append(b, l.body...)
}

func parseLocal(b []byte) (local, error) {
	r := reader{rest: b}
	if v := r.byte(); v > localFormat {
		return local{}, errNewer
	} else if v != localFormat {
		return local{}, errLocal
	}
	l := local{n: r.uvarint(), expiry: r.time()}
	l.body = r.rest
	if r.failed || l.n == 0 || len(l.body) < 2 || l.body[0] != '{' {
		return local{}, errLocal
	}
	return l, nil
}

func (l *local) rev() string { return "0-" + strconv.FormatUint(l.n, 10) }

// GetLocal returns a local document; id is without "_local/". NotFound "missing". Reading one puts off its
// expiry, once a tenth of its time has passed.
func (h *Handle) GetLocal(ctx context.Context, id string) (*LocalDocument, error) {
	var l local
	err := h.db.st.View(ctx, func(r store.Reader) (err error) {
		l, err = h.readLocal(r, id)
		l.body = bytes.Clone(l.body)
		return err
	})
	if err != nil {
		return nil, err
	}
	if l.n == 0 {
		return nil, tidegate.ErrMissing
	}
	if life := h.db.opts.LocalDocExpiry; life > 0 && l.expiry.Sub(h.db.opts.Now()) < life-life/10 {
		if err := h.touchLocal(ctx, id, l.n); err != nil {
			return nil, err
		}
	}
	return &LocalDocument{ID: id, Rev: l.rev(), Body: l.body}, nil
}

// readLocal reads a local document; n is 0 if there is none or it has expired. body is valid with r.
func (h *Handle) readLocal(r store.Reader, id string) (local, error) {
	stored, err := r.Get(h.coll.localKey(id))
	if err != nil || stored == nil {
		return local{}, err
	}
	l, err := parseLocal(stored)
	if err != nil {
		return local{}, fmt.Errorf("read local document %q: %w", id, err)
	}
	if !l.expiry.IsZero() && !l.expiry.After(h.db.opts.Now()) {
		return local{expiry: l.expiry}, nil
	}
	return l, nil
}

// touchLocal puts off the expiry of revision n.
func (h *Handle) touchLocal(ctx context.Context, id string, n uint64) error {
	return h.db.st.Update(ctx, func(tx store.Tx) error {
		l, err := h.readLocal(tx, id)
		if err != nil || l.n != n {
			return err
		}
		return h.putLocal(tx, id, l, n, l.body)
	})
}

// putLocal stores a local document in place of old.
func (h *Handle) putLocal(tx store.Tx, id string, old local, n uint64, body []byte) error {
	l := local{n: n, body: body}
	if life := h.db.opts.LocalDocExpiry; life > 0 {
		l.expiry = h.db.opts.Now().Add(life)
	}
	if !old.expiry.IsZero() {
		if err := tx.Delete(h.coll.expiryKey(old.expiry, expireLocal, id, tidegate.RevID{})); err != nil {
			return err
		}
	}
	if !l.expiry.IsZero() {
		if err := tx.Put(h.coll.expiryKey(l.expiry, expireLocal, id, tidegate.RevID{}), nothing); err != nil {
			return err
		}
	}
	return tx.Put(h.coll.localKey(id), l.appendBinary(nil))
}

// PutLocal writes a local document, a JSON object without underscore members, and returns its revision. rev is the
// revision to replace, "" for none. Conflict "Document update conflict"; NotFound "No previous revision to
// replace": rev is given and there is no such document. Invalid: a bad ID.
func (h *Handle) PutLocal(ctx context.Context, id, rev string, body []byte) (string, error) {
	return h.putLocalWith(ctx, id, rev, body, nil)
}

// PutLocalIf is PutLocal, if may, which looks at the same transaction, says so: else nothing is written and may's error is returned.
func (h *Handle) PutLocalIf(ctx context.Context, id, rev string, body []byte, may func(store.Reader) error) (string, error) {
	return h.putLocalWith(ctx, id, rev, body, func(tx store.Tx, _ local) error { return may(tx) })
}

// putLocalWith is PutLocal; also, if not nil, does what belongs to the same transaction, before the document is there.
func (h *Handle) putLocalWith(ctx context.Context, id, rev string, body []byte, also func(tx store.Tx, old local) error) (string, error) {
	if id == "" || len(id) > MaxLocalIDLen {
		return "", tidegate.ErrInvalidDocID
	}
	if int64(len(body)) > h.db.opts.MaxDocumentBytes {
		return "", jsondoc.ErrTooLarge
	}
	var written local
	keys := func() [][]byte {
		keys := [][]byte{h.coll.localKey(id)}
		if also != nil { // a checkpoint
			keys = append(append(keys, clientKey(h.db.space, h.coll.id, id), saltKey(h.db.space)), h.db.deviceKeys()...)
		}
		return keys
	}
	err := store.UpdateReading(ctx, h.db.st, keys, func(tx store.Tx) error {
		old, err := h.readLocal(tx, id)
		if err != nil {
			return err
		}
		if err := checkLocalRev(old, rev); err != nil {
			return err
		}
		if also != nil {
			if err := also(tx, old); err != nil {
				return err
			}
		}
		written = local{n: old.n + 1}
		return h.putLocal(tx, id, old, written.n, body)
	})
	if err != nil {
		return "", err
	}
	if life := h.db.opts.LocalDocExpiry; life > 0 {
		h.db.sweeper.due(h.db.opts.Now().Add(life))
	}
	return written.rev(), nil
}

// checkLocalRev compares the revision that a client names with the one that is there.
func checkLocalRev(old local, rev string) error {
	switch {
	case old.n == 0 && rev == "":
		return nil
	case old.n == 0:
		return errLocalMissing
	case rev != old.rev():
		return errLocalConflict
	}
	return nil
}

// DeleteLocal removes a local document. NotFound "missing"; Conflict: rev is not the current one.
func (h *Handle) DeleteLocal(ctx context.Context, id, rev string) error {
	return h.db.st.Update(ctx, func(tx store.Tx) error {
		old, err := h.readLocal(tx, id)
		if err != nil {
			return err
		}
		if old.n == 0 {
			return tidegate.ErrMissing
		}
		if err := checkLocalRev(old, rev); err != nil {
			return err
		}
		return h.coll.dropLocal(tx, id, old)
	})
}

func (c *collection) dropLocal(tx store.Tx, id string, old local) error {
	if !old.expiry.IsZero() {
		if err := tx.Delete(c.expiryKey(old.expiry, expireLocal, id, tidegate.RevID{})); err != nil {
			return err
		}
	}
	return tx.Delete(c.localKey(id))
}

// LocalDocs lists local documents in order of their IDs, those after startAfter, at most limit.
func (h *Handle) LocalDocs(ctx context.Context, startAfter string, limit int) ([]LocalDocument, error) {
	var docs []LocalDocument
	err := h.db.st.View(ctx, func(r store.Reader) error {
		prefix := store.NewKey(h.db.space, store.KindLocal).Collection(h.coll.id)
		rng := store.Prefix(prefix)
		if startAfter != "" {
			rng.Start = store.PrefixEnd(prefix.Clone().Name(startAfter))
		}
		it := r.Scan(rng)
		defer it.Close()
		for len(docs) < limit && it.Next() {
			id, _, err := store.CutName(it.Key()[len(prefix):])
			if err != nil {
				return err
			}
			l, err := h.readLocal(r, id)
			if err != nil {
				return err
			}
			if l.n > 0 {
				docs = append(docs, LocalDocument{ID: strings.Clone(id), Rev: l.rev(), Body: bytes.Clone(l.body)})
			}
		}
		return it.Err()
	})
	return docs, err
}
