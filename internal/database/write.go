package database

import (
	"io"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// Write is one document write as it comes from a client, a peer or ourselves.
type Write struct {
	ID      string
	Body    []byte // a checked JSON object without underscore members (jsondoc.Doc.Body); nil counts as {}
	Deleted bool   // the new revision is a tombstone

	// NewEdits: the revision is made here, as a child of Parent; zero: no revision was named.
	NewEdits bool
	Parent   tidegate.RevID
	// History, without NewEdits, is the revision's history, newest first, itself included.
	History []tidegate.RevID

	// Vector, without NewEdits, is the revision's version vector: the write comes from a peer that keeps these
	// (CBMobile_4). It becomes the document's current revision or is refused (tidegate.CheckNewVersion). Its place in
	// the tree is below the revision that is current, with an ID as of an interactive write; or where History,
	// which may be empty then, puts it below that one (the revTree of gateways).
	Vector tidegate.VersionVector
	// Legacy, with Vector, are the rev-tree IDs that followed the vector in history.
	Legacy []tidegate.RevID

	// DeletedBranch, with a History, is the history of a tombstone, newest first, itself included, by which the writer
	// closes another branch: that of the current revision, which lost to the new one where the writer resolved the
	// conflict (deleted_branch of Couchbase Lite 3.3 and later). The new revision then takes the current one's
	// place, for the sync function too. A deletion may be what lost. It is ignored if the tombstone's parent is no leaf here.
	DeletedBranch []tidegate.RevID

	// Resolver, without NewEdits, is asked if the document's current revision is no ancestor of this one, whatever
	// AllowConflicts, NoConflicts and Gateway say (a pull between gateways, inter-gateway.md §10). What it decides is stored
	// with this revision, in one write, and no other branch stays live.
	Resolver Resolver

	// KeepBranches, without NewEdits, stores a branch as it is even if AllowConflicts is not set: the writer copies a database, and what
	// its revision trees are was decided where they grew (cluster sync).
	KeepBranches bool
	// NoConflicts: no branch may be made even if AllowConflicts is set (noconflicts of BLIP).
	NoConflicts bool
	// Gateway: the writer is a gateway. Its tombstone is accepted on a deleted document whatever its history
	// (replication.md §7).
	Gateway bool

	// Attachments is the complete set of the new revision.
	Attachments map[string]AttachmentInput
	// KeepAttachments keeps the parent's attachments as they are; Attachments must be nil.
	KeepAttachments bool

	// Exp is the raw JSON value of _exp; nil if absent.
	Exp []byte
	// BulkPush marks a revision of _bulk_docs with new_edits=false: where it may not make a branch it is
	// stored and closed instead of refused (gateway-rest.md §11.2).
	BulkPush bool
}

// AttachmentInput is one entry of a written document's _attachments.
type AttachmentInput struct {
	ContentType string
	Encoding    string // "gzip" if the content is gzip already
	Digest      string // as the client gave it; "" if it did not
	// Length is the decoded length the client gave; -1 if it gave none.
	Length int64
	// EncodedLength is the length of the encoded content that the client gave; -1 if it gave none.
	EncodedLength int64
	RevPos        uint64

	Stub    bool // the content is stored already
	Follows bool // the content comes in a MIME part: the caller fills in one of the below before Put

	Data []byte                        // content in memory
	Open func() (io.ReadCloser, error) // or to be read
	Blob *blob.Info                    // or in the blob store already, pinned by Upload
}

// Written is what a successful write answers.
type Written struct {
	ID  string
	Rev tidegate.RevID // of the revision written; with Existed and Vector, the current one; with Resolved, the outcome's
	// Version is the document's current version after the write. It is the revision's own if that is current now;
	// zero for a document that was last written before it had a vector.
	Version tidegate.Version
	Seq     tidegate.Seq // sequence of the document after the write
	// Existed: the revision was known before; nothing changed.
	Existed bool
	// Closed: the revision was stored on a branch that was closed at once (BulkPush).
	Closed bool
	// Resolved tells how a conflict was resolved; Unresolved if there was none.
	Resolved Outcome
	// Created: there was no document, or only a tombstone.
	Created bool
}

// PutResult is the outcome of one document of a batch.
type PutResult struct {
	Written
	Err error
}
