package archive

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// Write writes an archive of one snapshot of the store and of the blobs that it refers to. The store may be in use: the snapshot is
// what was acknowledged when Write began. An attachment that is purged meanwhile may be missing (Summary.Missing).
func Write(ctx context.Context, w io.Writer, h Header, st store.Store, blobs blob.Store, progress Progress) (sum Summary, err error) {
	err = st.View(ctx, func(r store.Reader) error {
		sum, err = WriteSnapshot(ctx, w, h, r, blobs, progress)
		return err
	})
	return sum, err
}

// WriteSnapshot is Write for who has a snapshot.
func WriteSnapshot(ctx context.Context, w io.Writer, h Header, r store.Reader, blobs blob.Store, progress Progress) (Summary, error) {
	out, err := newWriter(w)
	if err != nil {
		return Summary{}, err
	}
	h.Format = format
	a := &archiver{ctx: ctx, out: out, blobs: blobs, digest: newDigest(), progress: progress}
	if a.progress == nil {
		a.progress = func(Summary) {}
	}
	if err := out.json(frameHeader, h); err != nil {
		return Summary{}, err
	}
	if err := a.all(r); err != nil {
		return a.sum, fmt.Errorf("archive store: %w", err)
	}
	a.sum.Digest = a.digest.sum()
	if err := out.json(frameEnd, a.sum); err != nil {
		return a.sum, err
	}
	return a.sum, out.z.Close()
}

type archiver struct {
	ctx      context.Context
	out      *writer
	blobs    blob.Store
	digest   *digest
	progress Progress
	sum      Summary
	rows     []byte
}

// all writes every space with its rows, and then its blobs.
func (a *archiver) all(r store.Reader) error {
	return eachSpace(r, func(space store.Space, last tidegate.Seq) error {
		a.sum.Spaces++
		a.digest.space(space, last)
		head := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(space)), uint64(last))
		if err := a.out.frame(frameSpace, head); err != nil {
			return err
		}
		if err := a.space(r, space); err != nil {
			return err
		}
		return a.spaceBlobs(r, space)
	})
}

// space writes the rows of a space.
func (a *archiver) space(r store.Reader, space store.Space) error {
	err := eachRow(r, space, func(key, value []byte) error {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		a.digest.row(key, value)
		a.sum.Rows++
		a.sum.Bytes += int64(len(key) + len(value))
		a.rows = binary.AppendUvarint(a.rows, uint64(len(key)))
		a.rows = append(a.rows, key...)
		a.rows = binary.AppendUvarint(a.rows, uint64(len(value)))
		a.rows = append(a.rows, value...)
		if len(a.rows) >= rowsBytes {
			return a.flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.flush()
}

func (a *archiver) flush() error {
	if len(a.rows) == 0 {
		return nil
	}
	err := a.out.frame(frameRows, a.rows)
	a.rows = a.rows[:0]
	a.progress(a.sum)
	return err
}

// spaceBlobs writes the blobs that rows of the space refer to, apart from those that are rows themselves.
func (a *archiver) spaceBlobs(r store.Reader, space store.Space) error {
	prefix := store.NewKey(space, store.KindBlobRef)
	it := r.Scan(store.Prefix(prefix))
	defer it.Close()
	for ok := it.Next(); ok; {
		rest := it.Key()[len(prefix):]
		if len(rest) < sha256.Size {
			return ErrDamaged
		}
		key := blob.Key(rest[:sha256.Size])
		inline, err := r.Get(append(store.NewKey(space, store.KindBlob), key[:]...))
		if err != nil {
			return err
		}
		if inline == nil {
			if err := a.blob(space, key); err != nil {
				return err
			}
		}
		next := store.PrefixEnd(append(prefix.Clone(), key[:]...))
		ok = next != nil && it.SeekGE(next)
	}
	return it.Err()
}

// blob writes one blob.
func (a *archiver) blob(space store.Space, key blob.Key) error {
	b, length, err := a.blobs.Open(a.ctx, space, key)
	if errors.Is(err, tidegate.ErrMissing) {
		a.sum.Missing++
		return nil
	}
	if err != nil {
		return err
	}
	defer b.Close()
	head := binary.AppendUvarint(nil, uint64(space))
	head = binary.AppendUvarint(append(head, key[:]...), uint64(length))
	if err := a.out.frame(frameBlob, head); err != nil {
		return err
	}
	buf := make([]byte, dataBytes)
	h := sha256.New()
	for left := length; left > 0; {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(b, buf[:min(left, dataBytes)])
		if err != nil {
			return fmt.Errorf("read attachment %s: %w", key, err)
		}
		h.Write(buf[:n])
		if err := a.out.frame(frameData, buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	if blob.Key(h.Sum(nil)) != key {
		return fmt.Errorf("read attachment %s: %w", key, blob.ErrDamaged)
	}
	a.sum.Blobs++
	a.sum.Bytes += length
	a.progress(a.sum)
	return nil
}

// eachSpace calls fn for every space that has rows or a sequence, in order.
func eachSpace(r store.Reader, fn func(store.Space, tidegate.Seq) error) error {
	spaces, err := listSpaces(r)
	if err != nil {
		return err
	}
	for _, space := range spaces {
		last, err := r.LastSequence(space)
		if err != nil {
			return err
		}
		if err := fn(space, last); err != nil {
			return err
		}
	}
	return nil
}

// listSpaces returns the spaces in order. An engine that does not keep sequences among its rows says where there are any.
func listSpaces(r store.Reader) (spaces []store.Space, err error) {
	if l, ok := r.(interface {
		SequenceSpaces() ([]store.Space, error)
	}); ok {
		if spaces, err = l.SequenceSpaces(); err != nil {
			return nil, err
		}
	}
	for next := store.Space(0); ; next++ {
		it := r.Scan(store.Range{Start: store.SpaceKey(next)})
		more := it.Next()
		if more {
			next = store.Space(binary.BigEndian.Uint32(it.Key()))
			spaces = append(spaces, next)
		}
		if err := errors.Join(it.Err(), it.Close()); err != nil {
			return nil, err
		}
		if !more || next == ^store.Space(0) {
			slices.Sort(spaces)
			return slices.Compact(spaces), nil
		}
	}
}

// eachRow calls fn for every row of a space that is not the engine's own.
func eachRow(r store.Reader, space store.Space, fn func(key, value []byte) error) error {
	it := r.Scan(store.Prefix(store.SpaceKey(space)))
	defer it.Close()
	for it.Next() {
		if engines(it.Key()) {
			continue
		}
		if err := fn(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return it.Err()
}

// Digest computes what Summary.Digest says of a store.
func Digest(ctx context.Context, st store.Store) (string, error) {
	d := newDigest()
	err := st.View(ctx, func(r store.Reader) error {
		return eachSpace(r, func(space store.Space, last tidegate.Seq) error {
			d.space(space, last)
			return eachRow(r, space, func(key, value []byte) error {
				d.row(key, value)
				return ctx.Err()
			})
		})
	})
	return d.sum(), err
}
