package database

import (
	"context"
	"time"

	"github.com/tidegate/tidegate"
)

// Resolver decides between a document's current revision and a pulled one that does not descend from it
// (inter-gateway.md §10). It is safe for concurrent use, and may be asked again about the same document if that changed
// meanwhile.
type Resolver interface {
	// Resolve answers which of the two stays, or what takes the place of both. An error leaves the document as it is.
	Resolve(ctx context.Context, c *Conflict) (Resolution, error)
}

// Conflict is what a Resolver is asked. Nothing in it may be changed.
type Conflict struct {
	ID            string
	Local, Remote ConflictSide
}

// ConflictSide is one of the two revisions.
type ConflictSide struct {
	// Rev is the revision's ID. That of a remote revision which came without one, with a version vector, is the ID that it
	// would get in the tree here.
	Rev tidegate.RevID
	// Vector is the revision's version vector if the remote one came with one, else zero. Then it is zero only for
	// a local revision from before there were vectors.
	Vector      tidegate.VersionVector
	Deleted     bool
	Body        []byte                         // a JSON object without underscore members
	Attachments map[string]tidegate.Attachment // nil if there are none
	Expiry      time.Time                      // of the local document; zero: none
}

// Outcome tells how a conflict was resolved.
type Outcome uint8

// The outcomes. The zero one is no conflict.
const (
	Unresolved Outcome = iota
	ResolvedLocal
	ResolvedRemote
	ResolvedMerge
)

// Resolution is a Resolver's answer.
type Resolution struct {
	Outcome Outcome // one of the Resolved…

	// What takes the place of both, with ResolvedMerge: as in Write. Stubs stand for attachments of either side, by
	// their digests or else names.
	Body        []byte
	Deleted     bool
	Attachments map[string]AttachmentInput
}

// ErrResolver is in every error of Put that says that a conflict could not be resolved: the Resolver failed, or what it
// answered is no document. Nothing was stored. The next errors in the chain say what was wrong.
var ErrResolver = tidegate.Errorf(tidegate.Invalid, "the conflict could not be resolved")

// Policy is a Resolver that needs nobody's word.
type Policy uint8

// The policies.
const (
	// DefaultPolicy keeps the deleted one of two of which one is; else, by version vectors, the later one, and by
	// revisions the one with the higher generation, then the higher digest. All databases that use it come to the
	// same end.
	DefaultPolicy Policy = iota
	// LocalWins and RemoteWins keep that side, deletions included.
	LocalWins
	RemoteWins
)

// Resolve applies the policy.
func (p Policy) Resolve(_ context.Context, c *Conflict) (Resolution, error) {
	if p == LocalWins || p == DefaultPolicy && c.localByDefault() {
		return Resolution{Outcome: ResolvedLocal}, nil
	}
	return Resolution{Outcome: ResolvedRemote}, nil
}

// localByDefault reports whether DefaultPolicy keeps the local revision.
func (c *Conflict) localByDefault() bool {
	if c.Local.Deleted != c.Remote.Deleted {
		return c.Local.Deleted
	}
	return c.localLater()
}

// localLater reports whether the local revision is the later one, or the higher.
func (c *Conflict) localLater() bool {
	if c.Remote.Vector.IsZero() {
		return c.Local.Rev.Compare(c.Remote.Rev) >= 0
	}
	local := c.Local.Vector.Current
	if local.IsZero() {
		local = tidegate.LegacyVersion(c.Local.Rev)
	}
	return local.Compare(c.Remote.Vector.Current) >= 0
}
