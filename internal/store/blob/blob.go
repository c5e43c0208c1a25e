// Package blob keeps attachment bodies: immutable strings of bytes, found by their content, on files or on
// whatever implements Store. It knows nothing of documents. Who refers to a blob is recorded in the ordered
// store (store.KindBlobRef); a sweeper removes blobs that nothing refers to.
//
// The order that keeps an acknowledged attachment from ever missing is: Put (durable, pinned), commit the
// reference, release the pin. A crash between leaves a blob without reference, which is garbage, and never
// a reference without blob.
package blob

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"iter"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Key names a blob: the SHA-256 of its bytes.
type Key [sha256.Size]byte

// String returns the key as 64 lower-case hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// ParseKey reads the form of String and no other; else Invalid.
func ParseKey(s string) (Key, error) {
	var k Key
	if len(s) != hex.EncodedLen(len(k)) {
		return Key{}, errKey
	}
	if _, err := hex.Decode(k[:], []byte(s)); err != nil || k.String() != s {
		return Key{}, errKey
	}
	return k, nil
}

var errKey = tidegate.Errorf(tidegate.Invalid, "not the key of a blob")

// Info describes a blob. MD5 and SHA1 are what clients of the REST API and of replication know it by.
type Info struct {
	Key    Key
	SHA1   [20]byte
	MD5    [16]byte
	Length int64 // bytes
}

// Digest returns the digest of the replication protocol and of attachment metadata: "sha1-" and the SHA-1
// in padded base64.
func (i Info) Digest() string { return "sha1-" + base64.StdEncoding.EncodeToString(i.SHA1[:]) }

// Errors of a Store.
var (
	ErrTooLarge = tidegate.Errorf(tidegate.TooLarge, "Attachment too large")
	ErrPinned   = tidegate.Errorf(tidegate.Conflict, "the blob is in use")
	ErrDamaged  = tidegate.Errorf(tidegate.Corrupt, "the blob is damaged")
)

// Store keeps blobs, separately for each space. Implementations are safe for concurrent use.
type Store interface {
	// Put streams r to durable storage: when it returns without error the blob survives power loss. More
	// than limit bytes are ErrTooLarge, and no more than limit+1 are read. An error of r is returned as it
	// is. The same content put twice is stored once.
	//
	// The blob is pinned: Remove refuses it until release has been called, which may be done more than
	// once. After an error release is nil and there is nothing to release.
	Put(ctx context.Context, space store.Space, r io.Reader, limit int64) (info Info, release func(), err error)

	// Open returns the bytes of a blob and their number; tidegate.ErrMissing if there is none. An open
	// blob can be read to its end even when it is removed meanwhile.
	Open(ctx context.Context, space store.Space, key Key) (io.ReadSeekCloser, int64, error)

	// Remove removes a blob; a missing one is no error, a pinned one is ErrPinned. The removal need not
	// survive a crash.
	Remove(ctx context.Context, space store.Space, key Key) error

	// All yields the keys of a space, in no order that one may rely on. Blobs put or removed meanwhile may
	// or may not be among them. An error ends the sequence.
	All(ctx context.Context, space store.Space) iter.Seq2[Key, error]

	// RemoveSpace removes all blobs of a space, pinned or not.
	RemoveSpace(ctx context.Context, space store.Space) error
}

// Shared is a Store whose blobs are in the ordered store: nodes that share that share the blobs, and what one of them removes another may be
// about to refer to. So both looks are in transactions.
type Shared interface {
	Store

	// RemoveUnless removes a blob, as Remove does, unless used says that something refers to it; one transaction does both. It
	// reports whether the blob was there and was removed.
	RemoveUnless(ctx context.Context, space store.Space, key Key, used func(store.Reader) (bool, error)) (removed bool, err error)

	// Present reports whether the blob is there. A transaction that asks and then puts a reference keeps it.
	Present(r store.Reader, space store.Space, key Key) (bool, error)

	// PresentKey is what Present reads, for who prefetches.
	PresentKey(space store.Space, key Key) store.Key
}

// Verifier is an optional interface of a Store.
type Verifier interface {
	// Verify reads the blob and compares it with its key: tidegate.ErrMissing, ErrDamaged or nil.
	Verify(ctx context.Context, space store.Space, key Key) error
}
