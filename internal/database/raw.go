package database

import (
	"context"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/store"
)

// RawDocument is everything that is stored about a document (gateway-rest.md §17, _raw and _revtree).
type RawDocument struct {
	ID       string
	Seq      tidegate.Seq
	Saved    time.Time // milliseconds
	Deleted  bool
	Rev      tidegate.RevID // current
	Tree     *tidegate.RevTree
	Vector   tidegate.VersionVector
	Channels map[string]RawChannel
	Access   map[string]tidegate.Grants // "bob" or "role:r" → channel → sequence
	Roles    map[string]tidegate.Grants // user → role → sequence
	Expiry   time.Time                  // zero: never
	Bodies   map[tidegate.RevID]RawBody // those that are kept
}

// RawChannel is what a document has been to a channel.
type RawChannel struct {
	// Removed is the removal; Removed.Removed is false while the document is in the channel.
	Removed changes.Membership
	Latest  changes.Period   // End 0: it goes on
	Past    []changes.Period // earlier ones, oldest first
}

// RawBody is a stored revision.
type RawBody struct {
	Body        []byte
	Attachments map[string]tidegate.Attachment
}

// Raw returns what is stored about a document, tombstones included. For administrators: Forbidden to all others.
// NotFound "missing".
func (h *Handle) Raw(ctx context.Context, id string) (*RawDocument, error) {
	if !h.IsAdmin() {
		return nil, tidegate.ErrForbidden
	}
	var raw *RawDocument
	err := h.db.st.View(ctx, func(r store.Reader) error {
		rec, err := readRecord(r, h.coll, id)
		if err != nil {
			return err
		}
		if rec == nil {
			return tidegate.ErrMissing
		}
		raw = newRaw(id, rec)
		return eachBody(r, h.coll, id, func(text string, y *body) error {
			rev, err := tidegate.ParseRevID(text)
			if err != nil {
				return errBody
			}
			raw.Bodies[rev] = RawBody{Body: append([]byte(nil), y.json...), Attachments: y.attachments}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return raw, nil
}

func newRaw(id string, rec *record) *RawDocument {
	i, _ := rec.tree.Winner()
	winner := rec.tree.At(i)
	raw := &RawDocument{
		ID: id, Seq: rec.seq, Saved: rec.saved, Deleted: winner.Deleted(), Rev: winner.ID, Tree: rec.tree,
		Vector: rec.vector, Access: rec.grants.Access, Roles: rec.grants.Roles, Expiry: rec.expiry,
		Channels: make(map[string]RawChannel, len(rec.channels)), Bodies: map[tidegate.RevID]RawBody{},
	}
	for _, c := range rec.channels {
		last := len(c.periods) - 1
		raw.Channels[c.name] = RawChannel{Removed: c.membership(), Latest: c.periods[last], Past: c.periods[:last]}
	}
	return raw
}
