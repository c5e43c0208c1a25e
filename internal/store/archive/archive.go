// Package archive writes everything that a store and its attachments hold into one stream, and reads it back into an empty store of any
// engine. It knows keys and values and nothing of documents.
//
// The stream is zstd around a line that names it and frames:
//
//	length (4 bytes, big endian) ‖ CRC-32C of the payload (4 bytes) ‖ payload
//
// The first byte of a payload says what it is:
//
//	H  header: JSON of Header; the first frame
//	S  a space begins: its number and its last sequence (uvarints); its rows follow, in order of keys
//	R  rows: key and value, each with its length before it (uvarint), again and again
//	B  a blob begins: space (uvarint), key (32 bytes), length (uvarint); its bytes follow
//	D  bytes of the blob
//	E  the end: JSON of Summary; what has no end is not an archive
//
// What has changed since (changes.go) is a stream of the same form, with frames that archives do not have.
package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Header says where an archive is from.
type Header struct {
	Format  int       `json:"format"`
	Created time.Time `json:"created"`
	Version string    `json:"version,omitempty"` // of the program that wrote it
	Node    string    `json:"node,omitempty"`
	// Changes: the stream is no archive but what has changed since one.
	Changes bool `json:"changes,omitempty"`
}

// Summary says what is in an archive.
type Summary struct {
	Spaces int   `json:"spaces"`
	Rows   int64 `json:"rows"`
	Blobs  int64 `json:"blobs"`
	Bytes  int64 `json:"bytes"` // of keys, values and blobs
	// Missing is how many attachments were purged while the archive was written: their documents are in it as they were before.
	Missing int64 `json:"missing,omitempty"`
	// Digest is the SHA-256, in hexadecimal digits, of all rows and sequences.
	Digest string `json:"digest"`
}

// Progress is told now and then how far it is.
type Progress func(Summary)

const (
	format = 1
	magic  = "tidegate archive\n"

	frameHeader = 'H'
	frameSpace  = 'S'
	frameRows   = 'R'
	frameBlob   = 'B'
	frameData   = 'D'
	frameEnd    = 'E'

	rowsBytes = 1 << 20   // rows are gathered up to that
	dataBytes = 256 << 10 // of a blob in one frame
	// maxFrame bounds what a reader believes: rows may hold one document of any size that is allowed.
	maxFrame = 1<<30 + 1<<20
	// maxWindow bounds the memory that a hostile archive makes zstd take.
	maxWindow = 64 << 20
)

// Errors of reading.
var (
	ErrNotArchive = tidegate.Errorf(tidegate.Invalid, "this is not an archive of tidegate")
	ErrNewer      = tidegate.Errorf(tidegate.Invalid, "the archive was written by a newer version of tidegate")
	ErrDamaged    = tidegate.Errorf(tidegate.Corrupt, "the archive is damaged or was cut off")
	ErrNotEmpty   = tidegate.Errorf(tidegate.Conflict, "the store is not empty")
	ErrUnfinished = tidegate.Errorf(tidegate.Corrupt, "a restore or a move into this store did not finish: do it again, into an empty store")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// writer writes frames.
type writer struct {
	z   *zstd.Encoder
	buf []byte
}

func newWriter(w io.Writer) (*writer, error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(z, magic)
	return &writer{z: z}, err
}

func (w *writer) frame(kind byte, parts ...[]byte) error {
	sum, n := crc32.Update(0, castagnoli, []byte{kind}), 1
	for _, p := range parts {
		sum, n = crc32.Update(sum, castagnoli, p), n+len(p)
	}
	if n > maxFrame {
		return tidegate.Errorf(tidegate.TooLarge, "a row is too large for an archive")
	}
	w.buf = binary.BigEndian.AppendUint32(w.buf[:0], uint32(n))
	w.buf = binary.BigEndian.AppendUint32(w.buf, sum)
	if _, err := w.z.Write(append(w.buf, kind)); err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := w.z.Write(p); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) json(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.frame(kind, b)
}

// reader reads frames.
type reader struct {
	z   *zstd.Decoder
	r   *bufio.Reader
	buf []byte
}

func newReader(r io.Reader) (*reader, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, ErrNotArchive
	}
	rd := &reader{z: z, r: bufio.NewReaderSize(z, 64<<10)}
	begin := make([]byte, len(magic))
	if _, err := io.ReadFull(rd.r, begin); err != nil || string(begin) != magic {
		z.Close()
		return nil, ErrNotArchive
	}
	return rd, nil
}

// frame returns the next frame. Its payload is good until the next call.
func (r *reader) frame() (kind byte, payload []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return 0, nil, damaged(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxFrame {
		return 0, nil, ErrDamaged
	}
	// The length may lie: memory is taken as the bytes come.
	r.buf = r.buf[:0]
	for uint32(len(r.buf)) < n {
		more := min(int(n)-len(r.buf), 1<<20)
		at := len(r.buf)
		r.buf = append(r.buf, make([]byte, more)...)
		if _, err := io.ReadFull(r.r, r.buf[at:]); err != nil {
			return 0, nil, damaged(err)
		}
	}
	if crc32.Checksum(r.buf, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return 0, nil, ErrDamaged
	}
	return r.buf[0], r.buf[1:], nil
}

// damaged makes ends and faults of the compression ErrDamaged; errors of the source stay what they are.
func damaged(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrDamaged
	}
	for _, fault := range []error{
		zstd.ErrMagicMismatch, zstd.ErrWindowSizeExceeded, zstd.ErrDecoderSizeExceeded, zstd.ErrCRCMismatch, zstd.ErrReservedBlockType,
		zstd.ErrCompressedSizeTooBig, zstd.ErrBlockTooSmall, zstd.ErrUnexpectedBlockSize, zstd.ErrUnknownDictionary,
	} {
		if errors.Is(err, fault) {
			return ErrDamaged
		}
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// digest hashes rows and sequences in the order of an archive.
type digest struct {
	h   hash.Hash
	buf []byte
}

func newDigest() *digest { return &digest{h: sha256.New()} }

func (d *digest) space(space store.Space, last tidegate.Seq) {
	d.buf = append(d.buf[:0], frameSpace)
	d.buf = binary.AppendUvarint(binary.AppendUvarint(d.buf, uint64(space)), uint64(last))
	d.h.Write(d.buf)
}

func (d *digest) row(key, value []byte) {
	d.buf = append(d.buf[:0], frameRows)
	d.buf = binary.AppendUvarint(d.buf, uint64(len(key)))
	d.h.Write(append(d.buf, key...))
	d.buf = binary.AppendUvarint(d.buf[:0], uint64(len(value)))
	d.h.Write(d.buf)
	d.h.Write(value)
}

func (d *digest) sum() string { return hex.EncodeToString(d.h.Sum(nil)) }

// leases is the beginning of the rows in which the embedded engine counts epochs of leases: they are the engine's, not the data's.
func leaseRows() []byte {
	name := store.NewKey(0, store.KindMeta).Name("lease:")
	return name[:len(name)-2] // without the end of the name
}

// restoring is the row that stands while a restore is under way.
func restoring() store.Key { return store.NewKey(0, store.KindMeta).Name("restoring") }

// engines reports whether a row belongs to the engine, or to blobs that are kept in the store, which travel as blobs.
func engines(key []byte) bool {
	if len(key) < store.Header {
		return true
	}
	switch store.Kind(key[store.Header-1]) {
	case store.KindSequence, store.KindBlobChunk:
		return true
	}
	return bytes.HasPrefix(key, leaseRows()) || bytes.Equal(key, restoring()) || bytes.Equal(key, movedRow())
}
