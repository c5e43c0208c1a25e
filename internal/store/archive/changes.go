package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// What has changed in a store since an archive of it was written can be brought to where that was restored: WriteChanges reads the values of keys
// that somebody has kept account of from one snapshot, and ApplyChanges makes the other store what that snapshot is. The stream is that of an archive
// (archive.go) with these frames between the first and the last:
//
//	X  a range was deleted: start and end, each with its length before it (uvarint)
//	P  rows that there are: keys and values
//	K  rows that there are not: keys
//	Q  last sequences: space and sequence (uvarints), again and again
//	B  and D, as in an archive
const (
	frameRange     = 'X'
	frameGone      = 'K'
	framePut       = 'P'
	frameSequences = 'Q'
)

// Changed is what may have changed in a store: keys, and ranges that were deleted at once.
type Changed struct {
	Keys   map[string]struct{}
	Ranges []store.Range
}

// Changes says what was brought.
type Changes struct {
	Rows  int64 `json:"rows"` // put or deleted
	Blobs int64 `json:"blobs"`
}

// WriteChanges writes what a snapshot holds of what may have changed.
func WriteChanges(ctx context.Context, w io.Writer, h Header, r store.Reader, blobs blob.Store, changed Changed) (Changes, error) {
	out, err := newWriter(w)
	if err != nil {
		return Changes{}, err
	}
	h.Format, h.Changes = format, true
	if err := out.json(frameHeader, h); err != nil {
		return Changes{}, err
	}
	c := &changesWriter{archiver: archiver{ctx: ctx, out: out, blobs: blobs, digest: newDigest(), progress: func(Summary) {}}, r: r}
	if err := c.all(changed); err != nil {
		return c.done, fmt.Errorf("write changes: %w", err)
	}
	if err := out.json(frameEnd, c.done); err != nil {
		return c.done, err
	}
	return c.done, out.z.Close()
}

type changesWriter struct {
	archiver
	r    store.Reader
	puts []byte
	gone []byte
	done Changes
}

func (c *changesWriter) all(changed Changed) error {
	for _, rng := range changed.Ranges {
		if err := c.out.frame(frameRange, appendBytes(appendBytes(nil, rng.Start), rng.End)); err != nil {
			return err
		}
	}
	// What is there again in a range that was deleted may have been written before it or after: nobody knows in what order both were noted.
	for _, rng := range changed.Ranges {
		it := c.r.Scan(store.Range{Start: rng.Start, End: rng.End})
		for it.Next() {
			if err := c.row(it.Key(), it.Value()); err != nil {
				_ = it.Close()
				return err
			}
		}
		if err := it.Err(); err != nil {
			_ = it.Close()
			return err
		}
		if err := it.Close(); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(changed.Keys)) {
		value, err := c.r.Get([]byte(key))
		if err == nil {
			err = c.row([]byte(key), value)
		}
		if err != nil {
			return err
		}
	}
	if err := c.flushChanges(); err != nil {
		return err
	}
	return c.sequences()
}

// row adds one row; a nil value: there is none.
func (c *changesWriter) row(key, value []byte) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if engines(key) {
		return nil
	}
	c.done.Rows++
	if value == nil {
		c.gone = appendBytes(c.gone, key)
	} else {
		if store.Kind(key[store.Header-1]) == store.KindBlobRef {
			if err := c.reference(key); err != nil {
				return err
			}
		}
		c.puts = appendBytes(appendBytes(c.puts, key), value)
	}
	if len(c.puts)+len(c.gone) >= rowsBytes {
		return c.flushChanges()
	}
	return nil
}

// reference writes the blob that a row refers to, before that row, unless it is a row itself.
func (c *changesWriter) reference(row []byte) error {
	rest := row[store.Header:]
	if len(rest) < sha256.Size {
		return ErrDamaged
	}
	space, key := store.Space(binary.BigEndian.Uint32(row)), blob.Key(rest[:sha256.Size])
	inline, err := c.r.Get(append(store.NewKey(space, store.KindBlob), key[:]...))
	if err != nil || inline != nil {
		return err
	}
	if err := c.blob(space, key); err != nil {
		return err
	}
	c.done.Blobs = c.sum.Blobs
	return nil
}

func (c *changesWriter) flushChanges() error {
	if len(c.puts) > 0 {
		if err := c.out.frame(framePut, c.puts); err != nil {
			return err
		}
	}
	if len(c.gone) > 0 {
		if err := c.out.frame(frameGone, c.gone); err != nil {
			return err
		}
	}
	c.puts, c.gone = c.puts[:0], c.gone[:0]
	return nil
}

func (c *changesWriter) sequences() error {
	var all []byte
	err := eachSpace(c.r, func(space store.Space, last tidegate.Seq) error {
		all = binary.AppendUvarint(binary.AppendUvarint(all, uint64(space)), uint64(last))
		return nil
	})
	if err != nil {
		return err
	}
	return c.out.frame(frameSequences, all)
}

func appendBytes(to, b []byte) []byte {
	return append(binary.AppendUvarint(to, uint64(len(b))), b...)
}

// ApplyChanges reads what WriteChanges wrote into a store, and reads every row back that it puts or deletes.
func ApplyChanges(ctx context.Context, r io.Reader, st store.Store, blobs blob.Store) (Changes, error) {
	h, in, err := open(r)
	if err != nil {
		return Changes{}, err
	}
	defer in.z.Close()
	if !h.Changes {
		return Changes{}, ErrNotArchive
	}
	a := &applier{ctx: ctx, in: in, st: st, sink: storeSink{ctx, st, blobs}}
	for {
		if err := ctx.Err(); err != nil {
			return a.done, err
		}
		kind, payload, err := in.frame()
		if err != nil {
			return a.done, err
		}
		if kind == frameEnd {
			var said Changes
			if json.Unmarshal(payload, &said) != nil || said != a.done {
				return a.done, ErrDamaged
			}
			return a.done, nil
		}
		if err := a.frame(kind, payload); err != nil {
			return a.done, err
		}
	}
}

type applier struct {
	ctx  context.Context
	in   *reader
	st   store.Store
	sink storeSink
	done Changes
}

func (a *applier) frame(kind byte, payload []byte) error {
	p := parser{rest: payload}
	switch kind {
	case frameRange:
		rng := store.Range{Start: p.bytes(), End: p.bytes()}
		if p.bad || len(p.rest) > 0 {
			return ErrDamaged
		}
		return a.st.Update(a.ctx, func(tx store.Tx) error { return deleteRange(tx, rng) })
	case framePut, frameGone:
		return a.rows(&p, kind == framePut)
	case frameBlob:
		return a.blob(payload)
	case frameSequences:
		return a.sequences(&p)
	}
	return ErrDamaged
}

// deleteRange deletes rows the way that the engine can.
func deleteRange(tx store.Tx, rng store.Range) error {
	if d, ok := tx.(store.RangeDeleter); ok {
		return d.DeleteRange(rng)
	}
	it := tx.Scan(store.Range{Start: rng.Start, End: rng.End})
	defer it.Close()
	for it.Next() {
		if err := tx.Delete(bytes.Clone(it.Key())); err != nil {
			return err
		}
	}
	return it.Err()
}

// rows puts or deletes rows, and looks whether it has.
func (a *applier) rows(p *parser, put bool) error {
	var keys, values [][]byte
	for len(p.rest) > 0 && !p.bad {
		key, value := p.bytes(), []byte(nil)
		if put {
			value = p.bytes()
		}
		if p.bad || engines(key) {
			return ErrDamaged
		}
		keys, values = append(keys, key), append(values, value)
	}
	if p.bad {
		return ErrDamaged
	}
	a.done.Rows += int64(len(keys))
	err := a.st.Update(a.ctx, func(tx store.Tx) error {
		for i, key := range keys {
			change := func() error { return tx.Delete(key) }
			if put {
				change = func() error { return tx.Put(key, values[i]) }
			}
			if err := change(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return store.ViewReading(a.ctx, a.st, func() [][]byte { return keys }, func(r store.Reader) error {
		for i, key := range keys {
			found, err := r.Get(key)
			if err != nil {
				return err
			}
			if put != (found != nil) || !bytes.Equal(found, values[i]) {
				return tidegate.Errorf(tidegate.Corrupt, "the store does not hold the row that was put into it")
			}
		}
		return nil
	})
}

func (a *applier) blob(payload []byte) error {
	x := &restorer{in: a.in, sink: a.sink}
	if len(payload) > 0 {
		p := parser{rest: payload}
		x.space = store.Space(p.uvarint())
	}
	if err := x.blob(payload); err != nil {
		return err
	}
	a.done.Blobs++
	return nil
}

// sequences moves sequences forward. One that is behind is not the source's any more: its space was emptied.
func (a *applier) sequences(p *parser) error {
	for len(p.rest) > 0 && !p.bad {
		space, last := p.uvarint(), p.uvarint()
		if p.bad || space > uint64(^store.Space(0)) {
			return ErrDamaged
		}
		if last == 0 {
			continue
		}
		err := a.st.Update(a.ctx, func(tx store.Tx) error { return store.AdvanceSequence(tx, store.Space(space), tidegate.Seq(last)) })
		if err != nil {
			return err
		}
	}
	if p.bad {
		return ErrDamaged
	}
	return nil
}
