package clustersync

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/zeebo/xxh3"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// spoolOf is the collection of the metadata with the records of a generation. There are never more than two of these.
func spoolOf(generation int64) string { return spoolCollection + strconv.FormatInt(generation%2, 10) }

// spoolRecord is a change that is kept: a document that was touched, or all that is told of a collection.
type spoolRecord struct {
	ID     string         `bson:"_id"`    // of a document a hash, so that it is kept once
	Number int64          `bson:"number"` // in the order of the stream
	Op     Op             `bson:"op"`     // OpTouched for all documents
	Time   bson.Timestamp `bson:"time"`

	Database   string `bson:"database"`
	Collection string `bson:"collection"`
	UUID       string `bson:"uuid"`

	Key    []byte   `bson:"key,omitempty"` // of a document: Key.ID
	Raw    bson.Raw `bson:"raw,omitempty"`
	Format Kind     `bson:"format,omitempty"`
	Capped bool     `bson:"capped,omitempty"`

	Made    *spoolCollectionRecord `bson:"made,omitempty"`
	To      *Namespace             `bson:"to,omitempty"`
	Dropped string                 `bson:"dropped,omitempty"`
	Indexes []bson.Raw             `bson:"indexes,omitempty"`
	Change  bson.Raw               `bson:"change,omitempty"`
	Reason  string                 `bson:"reason,omitempty"`
}

// spoolCollectionRecord is what OpCreate tells of a collection besides its name.
type spoolCollectionRecord struct {
	Type    CollectionType `bson:"type"`
	Options bson.Raw       `bson:"options,omitempty"`
	Indexes []bson.Raw     `bson:"indexes,omitempty"`
	Capped  bool           `bson:"capped"`
	Count   int64          `bson:"count"`
	Bytes   int64          `bson:"bytes"`
}

// newSpoolRecord makes the record of an event; number is larger than those of all before.
func newSpoolRecord(ev Event, number int64, capped bool) (*spoolRecord, error) {
	r := &spoolRecord{
		ID: fmt.Sprintf("n%019d", number), Number: number, Op: ev.Op, Time: ev.Time,
		Database: ev.Ref.Database, Collection: ev.Ref.Collection, UUID: ev.Ref.UUID,
	}
	if !ev.DDL() {
		if len(ev.Doc.Key.Raw) == 0 {
			return nil, fmt.Errorf("the event has no key")
		}
		r.Op, r.Key, r.Raw, r.Format, r.Capped = OpTouched, []byte(ev.Doc.Key.ID), ev.Doc.Key.Raw, ev.Doc.Format, capped
		if !capped {
			sum := xxh3.HashString128(refKey(ev.Ref) + "\x00" + ev.Doc.Key.ID)
			r.ID = fmt.Sprintf("d%016x%016x", sum.Hi, sum.Lo)
		}
		return r, nil
	}
	if c := ev.Collection; ev.Op == OpCreate {
		r.Made = &spoolCollectionRecord{c.Type, c.Options, c.Indexes, c.Capped, c.Count, c.Bytes}
	}
	if ev.Op == OpRename {
		r.To = &ev.To
	}
	r.Dropped, r.Indexes, r.Change, r.Reason = ev.Dropped, ev.Indexes, ev.Change, ev.Reason
	return r, nil
}

// event is what the record is applied as. Of a document it only says that it must be fetched.
func (r *spoolRecord) event() Event {
	ev := Event{
		Op: r.Op, Time: r.Time, Ref: Ref{Namespace{r.Database, r.Collection}, r.UUID}, Bytes: len(r.Raw),
		Dropped: r.Dropped, Indexes: r.Indexes, Change: r.Change, Reason: r.Reason,
	}
	if r.Raw != nil {
		ev.Doc = Document{Key: Key{ID: string(r.Key), Raw: r.Raw}, Format: r.Format}
	}
	if c := r.Made; c != nil {
		ev.Collection = Collection{Ref: ev.Ref, Type: c.Type, Options: c.Options, Indexes: c.Indexes, Capped: c.Capped, Count: c.Count, Bytes: c.Bytes}
	}
	if r.To != nil {
		ev.To = *r.To
	}
	return ev
}

// ordered reports whether the record is applied in its place, and not whenever it comes.
func (r *spoolRecord) ordered() bool { return r.Op != OpTouched || r.Capped }

// spooled gives the records of a generation, in any order.
func (e *Engine) spooled(ctx context.Context, generation int64, fn func(*spoolRecord) error) error {
	return e.retries.do(ctx, "read what was kept", func() error {
		return e.journal.meta.All(ctx, spoolOf(generation), func(raw bson.Raw) error {
			r := &spoolRecord{}
			if err := bson.Unmarshal(slices.Clone(raw), r); err != nil {
				return fmt.Errorf("decode a kept change: %w", err)
			}
			return fn(r)
		})
	})
}

// eraseSpool removes the records of a generation.
func (e *Engine) eraseSpool(ctx context.Context, generation int64) error {
	const chunk = 5_000
	for {
		var ids []any
		err := e.spooled(ctx, generation, func(r *spoolRecord) error {
			if len(ids) == chunk {
				return errEnough
			}
			ids = append(ids, r.ID)
			return nil
		})
		if err != nil && !isEnough(err) {
			return err
		}
		for part := range slices.Chunk(ids, maxRecords) {
			err := e.retries.do(ctx, "remove what was kept", func() error {
				return e.journal.meta.Delete(ctx, e.journal.fence(), spoolOf(generation), part...)
			})
			if err != nil {
				return err
			}
		}
		if len(ids) < chunk {
			return nil
		}
	}
}
