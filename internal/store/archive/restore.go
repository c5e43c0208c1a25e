package archive

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// Restore reads an archive into an empty store, and then reads the store and compares it with what the archive says. While it is under way
// the store carries a mark (Unfinished), so that nobody takes half of it for the whole. last is what has to be done before the mark is taken off.
func Restore(ctx context.Context, r io.Reader, st store.Store, blobs blob.Store, progress Progress, last ...func(context.Context) error) (Header, Summary, error) {
	if progress == nil {
		progress = func(Summary) {}
	}
	h, in, err := open(r)
	if err != nil {
		return h, Summary{}, err
	}
	defer in.z.Close()
	if h.Changes {
		return h, Summary{}, ErrNotArchive
	}
	if err := checkEmpty(ctx, st); err != nil {
		return h, Summary{}, err
	}
	err = st.Update(ctx, func(tx store.Tx) error { return tx.Put(restoring(), []byte(markUnderWay)) })
	if err != nil {
		return h, Summary{}, err
	}
	x := &restorer{ctx: ctx, in: in, sink: storeSink{ctx, st, blobs}, progress: progress}
	sum, err := x.all()
	if err != nil {
		return h, sum, err
	}
	found, err := Digest(ctx, st)
	if err == nil && found != sum.Digest {
		err = tidegate.Errorf(tidegate.Corrupt, "the store does not hold what the archive says (digest %s, want %s)", found, sum.Digest)
	}
	for _, f := range last {
		if err == nil {
			err = f(ctx)
		}
	}
	if err == nil {
		err = st.Update(ctx, func(tx store.Tx) error { return tx.Delete(restoring()) })
	}
	return h, sum, err
}

// Check reads an archive to its end and restores nothing.
func Check(ctx context.Context, r io.Reader, progress Progress) (Header, Summary, error) {
	if progress == nil {
		progress = func(Summary) {}
	}
	h, in, err := open(r)
	if err != nil {
		return h, Summary{}, err
	}
	defer in.z.Close()
	if h.Changes {
		return h, Summary{}, ErrNotArchive
	}
	x := &restorer{ctx: ctx, in: in, sink: nowhere{}, progress: progress, digest: newDigest()}
	sum, err := x.all()
	if err == nil && x.digest.sum() != sum.Digest {
		err = ErrDamaged
	}
	return h, sum, err
}

// Unfinished returns ErrUnfinished if a restore into the store has begun and not ended.
func Unfinished(ctx context.Context, st store.Store) error {
	return st.View(ctx, func(r store.Reader) error {
		v, err := r.Get(restoring())
		switch {
		case err == nil && string(v) == markComplete:
			return ErrUnconfirmed
		case err == nil && v != nil:
			return ErrUnfinished
		}
		return err
	})
}

// open reads the header.
func open(r io.Reader) (h Header, in *reader, err error) {
	if in, err = newReader(r); err != nil {
		return h, nil, err
	}
	kind, payload, err := in.frame()
	if err == nil && (kind != frameHeader || json.Unmarshal(payload, &h) != nil) {
		err = ErrDamaged
	}
	if err == nil && h.Format > format {
		err = ErrNewer
	}
	if err != nil {
		in.z.Close()
	}
	return h, in, err
}

// checkEmpty refuses a store that holds anything of its own.
func checkEmpty(ctx context.Context, st store.Store) error {
	return st.View(ctx, func(r store.Reader) error {
		return eachSpace(r, func(space store.Space, last tidegate.Seq) error {
			if last > 0 {
				return ErrNotEmpty
			}
			return eachRow(r, space, func(_, _ []byte) error { return ErrNotEmpty })
		})
	})
}

// sink is where rows and blobs go.
type sink interface {
	begin(space store.Space, last tidegate.Seq) error
	// rows are keys and values in turn; they are good until the call returns.
	rows(rows [][]byte) error
	blob(space store.Space, key blob.Key, r io.Reader, length int64) error
}

// restorer takes an archive apart.
type restorer struct {
	ctx      context.Context
	in       *reader
	sink     sink
	progress Progress
	digest   *digest // of what was read; nil: not computed
	sum      Summary
	space    store.Space
}

// all reads frames to the end and returns the archive's own summary, which must agree with what was there.
func (x *restorer) all() (Summary, error) {
	for {
		if err := x.ctx.Err(); err != nil {
			return x.sum, err
		}
		kind, payload, err := x.in.frame()
		if err != nil {
			return x.sum, err
		}
		switch kind {
		case frameSpace:
			err = x.begin(payload)
		case frameRows:
			err = x.rows(payload)
		case frameBlob:
			err = x.blob(payload)
		case frameEnd:
			return x.end(payload)
		default:
			err = ErrDamaged
		}
		if err != nil {
			return x.sum, err
		}
		x.progress(x.sum)
	}
}

// end compares the archive's summary with what was read, and makes sure that nothing follows.
func (x *restorer) end(payload []byte) (Summary, error) {
	var said Summary
	if json.Unmarshal(payload, &said) != nil {
		return x.sum, ErrDamaged
	}
	found := x.sum
	found.Digest, found.Missing = said.Digest, said.Missing
	if found != said {
		return x.sum, ErrDamaged
	}
	if _, err := x.in.r.ReadByte(); !errors.Is(err, io.EOF) {
		return x.sum, ErrDamaged
	}
	return said, nil
}

func (x *restorer) begin(payload []byte) error {
	p := parser{rest: payload}
	space, last := p.uvarint(), p.uvarint()
	if p.bad || len(p.rest) > 0 || space > uint64(^store.Space(0)) || x.sum.Spaces > 0 && store.Space(space) <= x.space {
		return ErrDamaged
	}
	x.space = store.Space(space)
	x.sum.Spaces++
	if x.digest != nil {
		x.digest.space(x.space, tidegate.Seq(last))
	}
	return x.sink.begin(x.space, tidegate.Seq(last))
}

func (x *restorer) rows(payload []byte) error {
	p := parser{rest: payload}
	var rows [][]byte
	for len(p.rest) > 0 && !p.bad {
		key, value := p.bytes(), p.bytes()
		if p.bad || engines(key) || x.sum.Spaces == 0 || store.Space(binary.BigEndian.Uint32(key)) != x.space {
			return ErrDamaged
		}
		rows = append(rows, key, value)
		x.sum.Rows++
		x.sum.Bytes += int64(len(key) + len(value))
		if x.digest != nil {
			x.digest.row(key, value)
		}
	}
	if p.bad {
		return ErrDamaged
	}
	return x.sink.rows(rows)
}

func (x *restorer) blob(payload []byte) error {
	p := parser{rest: payload}
	space := p.uvarint()
	var key blob.Key
	if n := copy(key[:], p.rest); n < len(key) {
		return ErrDamaged
	}
	p.rest = p.rest[len(key):]
	length := p.uvarint()
	if p.bad || len(p.rest) > 0 || store.Space(space) != x.space || length > 1<<62 {
		return ErrDamaged
	}
	data := &blobData{in: x.in, left: int64(length)}
	if err := x.sink.blob(x.space, key, data, int64(length)); err != nil {
		return err
	}
	if data.left > 0 || len(data.have) > 0 {
		return ErrDamaged
	}
	x.sum.Blobs++
	x.sum.Bytes += int64(length)
	return nil
}

// blobData reads the frames of a blob.
type blobData struct {
	in   *reader
	left int64
	have []byte
}

func (b *blobData) Read(p []byte) (int, error) {
	if len(b.have) == 0 {
		if b.left == 0 {
			return 0, io.EOF
		}
		kind, payload, err := b.in.frame()
		if err != nil {
			return 0, err
		}
		if kind != frameData || len(payload) == 0 || int64(len(payload)) > b.left {
			return 0, ErrDamaged
		}
		b.have, b.left = payload, b.left-int64(len(payload))
	}
	n := copy(p, b.have)
	b.have = b.have[n:]
	return n, nil
}

// parser takes a payload apart.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 {
		p.bad, p.rest = true, nil
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

func (p *parser) bytes() []byte {
	n := p.uvarint()
	if n > uint64(len(p.rest)) {
		p.bad, p.rest = true, nil
		return nil
	}
	b := p.rest[:n:n]
	p.rest = p.rest[n:]
	return b
}

// storeSink puts everything into a store.
type storeSink struct {
	ctx   context.Context
	st    store.Store
	blobs blob.Store
}

func (s storeSink) begin(space store.Space, last tidegate.Seq) error {
	if last == 0 {
		return nil
	}
	return s.st.Update(s.ctx, func(tx store.Tx) error { return store.AdvanceSequence(tx, space, last) })
}

func (s storeSink) rows(rows [][]byte) error {
	return s.st.Update(s.ctx, func(tx store.Tx) error {
		for i := 0; i < len(rows); i += 2 {
			if err := tx.Put(rows[i], rows[i+1]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s storeSink) blob(space store.Space, key blob.Key, r io.Reader, length int64) error {
	info, release, err := s.blobs.Put(s.ctx, space, r, length)
	if err != nil {
		return fmt.Errorf("restore attachment %s: %w", key, err)
	}
	release()
	if info.Key != key || info.Length != length {
		return ErrDamaged
	}
	return nil
}

// nowhere is a sink that only looks.
type nowhere struct{}

func (nowhere) begin(store.Space, tidegate.Seq) error { return nil }
func (nowhere) rows([][]byte) error                   { return nil }

func (nowhere) blob(_ store.Space, key blob.Key, r io.Reader, _ int64) error {
	h := sha256.New()
	_, err := io.Copy(h, r)
	if err == nil && blob.Key(h.Sum(nil)) != key {
		err = ErrDamaged
	}
	return err
}
