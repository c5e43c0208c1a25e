package blob

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// InStore keeps blobs in the ordered store, in chunks, so that nodes that share a store share the blobs. Rows of KindBlobChunk:
//
//	'm' key            the blob is there: its length and the upload that its chunks are of
//	'c' upload, n      chunk number n
//	'p' key, pin       the blob is pinned until the time in the value; a node that dies leaves pins that expire
//	'u' time, upload   chunks to be removed after that time: an upload under way, or a blob that was removed
//
// A blob comes into being by its 'm' row, after all its chunks.
type InStore struct {
	st  store.Store
	now func() time.Time
}

var (
	_ Shared   = (*InStore)(nil)
	_ Verifier = (*InStore)(nil)
)

// NewInStore returns the blobs of a store. now: time.Now if nil.
func NewInStore(st store.Store, now func() time.Time) *InStore {
	if now == nil {
		now = time.Now
	}
	return &InStore{st: st, now: now}
}

const (
	// chunkBytes is the size of a chunk: small enough for a row, large enough that a 20 MiB attachment is 80 transactions.
	chunkBytes = 256 << 10
	// pinTime is how long a pin counts if nobody releases it: longer than any request lasts from its upload to its commit, and than the clocks of
	// nodes differ. Should it ever be too short, the write finds the blob gone (Present) and does not refer to it.
	pinTime = time.Hour
	// uploadTime is after how long an upload counts as given up.
	uploadTime = 24 * time.Hour
	// readTime is how long an open blob can still be read after it was removed.
	readTime = time.Hour
	// sweepAtOnce is how many chunks are removed in one transaction.
	sweepAtOnce = 64
)

// The sub-kinds of rows.
const (
	rowManifest = 'm'
	rowChunk    = 'c'
	rowPin      = 'p'
	rowUpload   = 'u'
)

type uploadID [16]byte

func rowsOf(space store.Space, what byte) store.Key {
	return append(store.NewKey(space, store.KindBlobChunk), what)
}

func manifestRow(space store.Space, key Key) store.Key {
	return append(rowsOf(space, rowManifest), key[:]...)
}

func chunkRow(space store.Space, id uploadID, n uint64) store.Key {
	return append(rowsOf(space, rowChunk), id[:]...).Uint64(n)
}

func pinRows(space store.Space, key Key) store.Key { return append(rowsOf(space, rowPin), key[:]...) }

func uploadRow(space store.Space, due time.Time, id uploadID) store.Key {
	return append(rowsOf(space, rowUpload).Uint64(uint64(due.UnixMilli())), id[:]...)
}

// manifest is what an 'm' row says.
type manifest struct {
	length int64
	id     uploadID
}

func (m manifest) encode() []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(m.length)), m.id[:]...)
}

func decodeManifest(b []byte) (m manifest, err error) {
	if len(b) != 8+len(m.id) {
		return m, ErrDamaged
	}
	m.length = int64(binary.BigEndian.Uint64(b))
	copy(m.id[:], b[8:])
	return m, nil
}

// Put implements Store.
func (s *InStore) Put(ctx context.Context, space store.Space, r io.Reader, limit int64) (Info, func(), error) {
	var id uploadID
	_, _ = rand.Read(id[:])
	due := s.now().Add(uploadTime)
	info, err := s.receive(ctx, space, id, due, r, min(max(limit, 0), math.MaxInt64-1))
	if err != nil {
		s.giveUp(ctx, space, id, due, info.Length)
		return Info{}, nil, err
	}
	var pin [16]byte
	_, _ = rand.Read(pin[:])
	pinned := append(pinRows(space, info.Key), pin[:]...)
	there := false
	err = s.st.Update(ctx, func(tx store.Tx) error {
		old, err := tx.Get(manifestRow(space, info.Key))
		if err != nil {
			return err
		}
		if there = old != nil; !there {
			if err := tx.Put(manifestRow(space, info.Key), manifest{info.Length, id}.encode()); err != nil {
				return err
			}
			if err := tx.Delete(uploadRow(space, due, id)); err != nil {
				return err
			}
		}
		return tx.Put(pinned, binary.BigEndian.AppendUint64(nil, uint64(s.now().Add(pinTime).UnixMilli())))
	})
	if err != nil {
		s.giveUp(ctx, space, id, due, info.Length)
		return Info{}, nil, fmt.Errorf("keep blob: %w", err)
	}
	if there {
		s.giveUp(ctx, space, id, due, info.Length)
	}
	return info, sync.OnceFunc(func() { s.unpin(ctx, pinned) }), nil
}

// unpin removes a pin. If that fails it expires.
func (s *InStore) unpin(ctx context.Context, row store.Key) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = s.st.Update(ctx, func(tx store.Tx) error { return tx.Delete(row) })
}

// receive stores r in chunks and hashes it on the way. Each chunk is durable before the next is read, so an upload takes no more memory
// than one.
func (s *InStore) receive(ctx context.Context, space store.Space, id uploadID, due time.Time, r io.Reader, limit int64) (info Info, err error) {
	h256, h1, h5 := sha256.New(), sha1.New(), md5.New()
	hashes := io.MultiWriter(h256, h1, h5)
	buf := make([]byte, chunkBytes)
	for n := uint64(0); ; n++ {
		if err := ctx.Err(); err != nil {
			return info, err
		}
		// One byte more than is allowed is read, to see that there is more.
		size, err := fill(r, buf[:min(chunkBytes, limit-info.Length+1)])
		ended := err == io.EOF
		if err != nil && !ended {
			return info, err
		}
		if info.Length += int64(size); info.Length > limit {
			return info, ErrTooLarge
		}
		_, _ = hashes.Write(buf[:size])
		if size > 0 {
			err := s.st.Update(ctx, func(tx store.Tx) error {
				if n == 0 {
					if err := tx.Put(uploadRow(space, due, id), []byte{}); err != nil {
						return err
					}
				}
				return tx.Put(chunkRow(space, id, n), buf[:size])
			})
			if err != nil {
				return info, fmt.Errorf("write blob: %w", err)
			}
		}
		if ended {
			break
		}
	}
	h256.Sum(info.Key[:0])
	h1.Sum(info.SHA1[:0])
	h5.Sum(info.MD5[:0])
	return info, nil
}

// fill reads until buf is full or r ends (io.EOF). An error of r is returned as it is.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for idle := 0; n < len(buf) && err == nil; idle++ {
		var got int
		if got, err = r.Read(buf[n:]); got > 0 {
			idle = 0
		}
		if n += got; err == nil && idle >= maxIdleReads {
			err = io.ErrNoProgress
		}
	}
	return n, err
}

// giveUp removes the chunks of an upload; what cannot be removed now is swept later.
func (s *InStore) giveUp(ctx context.Context, space store.Space, id uploadID, due time.Time, length int64) {
	if length > 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_ = s.removeUpload(ctx, space, uploadRow(space, due, id), id)
	}
}

// removeUpload removes the chunks of an upload, and its row last. What has no row is no upload: its manifest was stored, also if whoever stored it was
// told that the store is away.
func (s *InStore) removeUpload(ctx context.Context, space store.Space, row store.Key, id uploadID) error {
	chunks := append(rowsOf(space, rowChunk), id[:]...)
	for {
		n := 0
		err := s.st.Update(ctx, func(tx store.Tx) error {
			n = 0
			if there, err := tx.Get(row); err != nil || there == nil {
				return err
			}
			it := tx.Scan(store.Prefix(chunks))
			defer it.Close()
			var keys []store.Key
			for n < sweepAtOnce && it.Next() {
				keys = append(keys, store.Key(it.Key()).Clone())
				n++
			}
			if err := it.Err(); err != nil {
				return err
			}
			for _, key := range keys {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			if n < sweepAtOnce {
				return tx.Delete(row)
			}
			return nil
		})
		if err != nil || n < sweepAtOnce {
			return err
		}
	}
}

// Open implements Store.
func (s *InStore) Open(ctx context.Context, space store.Space, key Key) (io.ReadSeekCloser, int64, error) {
	m, err := s.manifest(ctx, space, key)
	if err != nil {
		return nil, 0, err
	}
	return &blobReader{ctx: ctx, s: s, space: space, manifest: m, have: -1}, m.length, nil
}

func (s *InStore) manifest(ctx context.Context, space store.Space, key Key) (m manifest, err error) {
	err = s.st.View(ctx, func(r store.Reader) error {
		b, err := r.Get(manifestRow(space, key))
		if err != nil {
			return err
		}
		if b == nil {
			return tidegate.ErrMissing
		}
		m, err = decodeManifest(b)
		return err
	})
	return m, err
}

// Remove implements Store. The chunks stay for readTime, for those who read them now.
func (s *InStore) Remove(ctx context.Context, space store.Space, key Key) error {
	_, err := s.RemoveUnless(ctx, space, key, func(store.Reader) (bool, error) { return false, nil })
	return err
}

// RemoveUnless implements Shared.
func (s *InStore) RemoveUnless(ctx context.Context, space store.Space, key Key, used func(store.Reader) (bool, error)) (removed bool, err error) {
	err = s.st.Update(ctx, func(tx store.Tx) error {
		removed = false
		row := manifestRow(space, key)
		b, err := tx.Get(row)
		if err != nil || b == nil {
			return err
		}
		if yes, err := used(tx); yes || err != nil {
			return err
		}
		m, err := decodeManifest(b)
		if err != nil {
			return err
		}
		if err := s.checkPins(tx, space, key); err != nil {
			return err
		}
		if err := tx.Delete(row); err != nil {
			return err
		}
		removed = true
		return tx.Put(uploadRow(space, s.now().Add(readTime), m.id), []byte{})
	})
	return removed && err == nil, err
}

// Present implements Shared.
func (s *InStore) Present(r store.Reader, space store.Space, key Key) (bool, error) {
	b, err := r.Get(manifestRow(space, key))
	return b != nil, err
}

// PresentKey implements Shared.
func (s *InStore) PresentKey(space store.Space, key Key) store.Key { return manifestRow(space, key) }

// checkPins returns ErrPinned if there is a pin that counts, and removes those that have expired.
func (s *InStore) checkPins(tx store.Tx, space store.Space, key Key) error {
	it := tx.Scan(store.Prefix(pinRows(space, key)))
	defer it.Close()
	var expired []store.Key
	for it.Next() {
		if v := it.Value(); len(v) == 8 && int64(binary.BigEndian.Uint64(v)) > s.now().UnixMilli() {
			return ErrPinned
		}
		expired = append(expired, store.Key(it.Key()).Clone())
	}
	if err := it.Err(); err != nil {
		return err
	}
	for _, row := range expired {
		if err := tx.Delete(row); err != nil {
			return err
		}
	}
	return nil
}

// allAtOnce is how many keys All reads under one snapshot.
const allAtOnce = 256

// All implements Store. It sweeps what is due first: whoever asks is collecting garbage.
func (s *InStore) All(ctx context.Context, space store.Space) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		if err := s.sweep(ctx, space); err != nil && tidegate.ErrorCode(err) != tidegate.Unavailable {
			yield(Key{}, err)
			return
		}
		prefix := rowsOf(space, rowManifest)
		rng := store.Prefix(prefix)
		for {
			var keys []Key
			err := s.st.View(ctx, func(r store.Reader) error {
				it := r.Scan(rng)
				defer it.Close()
				for len(keys) < allAtOnce && it.Next() {
					rest := it.Key()[len(prefix):]
					if len(rest) != sha256.Size {
						return ErrDamaged
					}
					keys = append(keys, Key(rest))
				}
				return it.Err()
			})
			if err != nil {
				yield(Key{}, err)
				return
			}
			for _, key := range keys {
				if !yield(key, nil) {
					return
				}
			}
			if len(keys) < allAtOnce {
				return
			}
			rng.Start = append(manifestRow(space, keys[len(keys)-1]), 0)
		}
	}
}

// sweep removes the chunks that are due.
func (s *InStore) sweep(ctx context.Context, space store.Space) error {
	prefix := rowsOf(space, rowUpload)
	rng := store.Range{Start: prefix, End: prefix.Clone().Uint64(uint64(s.now().UnixMilli()))}
	var due []store.Key
	err := s.st.View(ctx, func(r store.Reader) error {
		it := r.Scan(rng)
		defer it.Close()
		for it.Next() {
			due = append(due, store.Key(it.Key()).Clone())
		}
		return it.Err()
	})
	for _, row := range due {
		if err != nil {
			return err
		}
		rest := row[len(prefix)+8:]
		if len(rest) != len(uploadID{}) {
			return ErrDamaged
		}
		err = s.removeUpload(ctx, space, row, uploadID(rest))
	}
	return err
}

// RemoveSpace implements Store.
func (s *InStore) RemoveSpace(ctx context.Context, space store.Space) error {
	all := store.Prefix(store.NewKey(space, store.KindBlobChunk))
	for more := true; more; {
		err := s.st.Update(ctx, func(tx store.Tx) error {
			if d, ok := tx.(store.RangeDeleter); ok {
				more = false
				return d.DeleteRange(all)
			}
			it := tx.Scan(all)
			defer it.Close()
			var keys []store.Key
			for len(keys) < sweepAtOnce && it.Next() {
				keys = append(keys, store.Key(it.Key()).Clone())
			}
			more = len(keys) == sweepAtOnce
			for _, key := range keys {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return it.Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Verify implements Verifier.
func (s *InStore) Verify(ctx context.Context, space store.Space, key Key) error {
	r, length, err := s.Open(ctx, space, key)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(h, r)
	switch {
	case errors.Is(err, ErrDamaged), err == nil && (n != length || Key(h.Sum(nil)) != key):
		return ErrDamaged
	default:
		return err
	}
}

// blobReader reads a blob chunk by chunk.
type blobReader struct {
	ctx   context.Context
	s     *InStore
	space store.Space
	manifest
	at    int64
	have  int64 // the number of the chunk in chunk; -1: none
	chunk []byte
}

// Read implements io.Reader.
func (r *blobReader) Read(p []byte) (int, error) {
	if r.at >= r.length {
		return 0, io.EOF
	}
	if n := r.at / chunkBytes; n != r.have {
		if err := r.load(n); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.chunk[r.at%chunkBytes:])
	r.at += int64(n)
	return n, nil
}

func (r *blobReader) load(n int64) error {
	want := min(chunkBytes, r.length-n*chunkBytes)
	return r.s.st.View(r.ctx, func(rd store.Reader) error {
		b, err := rd.Get(chunkRow(r.space, r.id, uint64(n)))
		if err != nil {
			return err
		}
		if int64(len(b)) != want {
			return fmt.Errorf("chunk %d of upload %s: %w", n, hex.EncodeToString(r.id[:]), ErrDamaged)
		}
		r.chunk, r.have = append(r.chunk[:0], b...), n
		return nil
	})
}

var errSeek = tidegate.Errorf(tidegate.Invalid, "seek to before the beginning of a blob")

// Seek implements io.Seeker.
func (r *blobReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.length
	}
	if offset < 0 {
		return 0, errSeek
	}
	r.at = offset
	return offset, nil
}

// Close implements io.Closer.
func (r *blobReader) Close() error {
	r.chunk, r.have = nil, -1
	return nil
}
