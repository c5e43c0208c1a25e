package database

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/store"
)

// ClientKind is which protocol a client speaks.
type ClientKind string

// The kinds.
const (
	ClientBLIP  ClientKind = "blip"  // the Couchbase Mobile protocol
	ClientCouch ClientKind = "couch" // that of CouchDB: PouchDB and others
)

// blipCheckpoint is what the local documents of checkpoints begin with (replication.md §10).
const blipCheckpoint = "checkpoint/"

// ClientRef names a client: one local database that replicates through one checkpoint.
type ClientRef struct {
	Kind ClientKind
	ID   string // of its checkpoint
	// Peer: a gateway or a CouchDB server, which is never told to discard what it has.
	Peer bool
}

// localID is the local document that the checkpoint is kept in.
func (ref ClientRef) localID() string {
	if ref.Kind == ClientBLIP {
		return blipCheckpoint + ref.ID
	}
	return ref.ID
}

// ResetState is how far a client's reset has come (device-sync.md §15, 9).
type ResetState string

// The states.
const (
	ResetNone    ResetState = ""
	ResetPending ResetState = "pending" // it was asked for
	ResetRunning ResetState = "running" // the client was told
	ResetDone    ResetState = "done"    // the client has stored a checkpoint since
	ResetWiping  ResetState = "wipe"    // the client was told to discard its database
)

// ClientRecord is what is known of a client (device-sync.md §12.2).
type ClientRecord struct {
	// FileIdent numbers the client. No other client of the database ever has the same.
	FileIdent  int64            `json:"file_ident"`
	Kind       ClientKind       `json:"kind"`
	Peer       bool             `json:"peer,omitempty"`
	User       string           `json:"user"` // "" is the guest or an administrator
	Checkpoint string           `json:"checkpoint_id"`
	Collection store.Collection `json:"collection,omitempty"`
	Epoch      uint64           `json:"epoch"` // the number of the one that it was last seen in
	FirstSeen  time.Time        `json:"first_seen"`
	LastSeen   time.Time        `json:"last_seen"`
	// LastSince is the last position that the client is known to hold, as it wrote it; "" if none.
	LastSince string `json:"last_since"`
	// LastPos is the position of LastSince, or the last sequence when the client was last seen.
	LastPos tidegate.Seq `json:"last_pos,omitempty"`

	Reset  ResetState        `json:"reset,omitempty"`
	Reason devicesync.Reason `json:"reason,omitempty"`
	// ResetEpoch is the epoch in which the reset was last done, and Tries how many connections it has taken so far.
	ResetEpoch uint64 `json:"reset_epoch,omitempty"`
	Tries      int    `json:"tries,omitempty"`
}

// clientFormat is the first byte of a stored client record, which JSON follows.
const clientFormat = 1

func clientKey(space store.Space, coll store.Collection, localID string) store.Key {
	return store.NewKey(space, store.KindClient).Collection(coll).Name(localID)
}

func readClient(r store.Reader, key store.Key) (*ClientRecord, error) {
	stored, err := r.Get(key)
	if err != nil || stored == nil {
		return nil, err
	}
	return parseClient(stored)
}

func parseClient(stored []byte) (*ClientRecord, error) {
	if len(stored) == 0 || stored[0] != clientFormat {
		return nil, tidegate.Errorf(tidegate.Corrupt, "a stored client record does not make sense")
	}
	rec := new(ClientRecord)
	if err := json.Unmarshal(stored[1:], rec); err != nil {
		return nil, tidegate.Errorf(tidegate.Corrupt, "a stored client record does not make sense: %w", err)
	}
	return rec, nil
}

func writeClient(tx store.Tx, key store.Key, rec *ClientRecord) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode client record: %w", err)
	}
	return tx.Put(key, append([]byte{clientFormat}, b...))
}

// nextFileIdent gives out a number for a client.
func nextFileIdent(tx store.Tx, space store.Space) (int64, error) {
	key := store.NewKey(space, store.KindMeta).Name("client_idents")
	stored, err := tx.Get(key)
	if err != nil {
		return 0, err
	}
	r := reader{rest: stored}
	n := int64(1)
	if stored != nil {
		n = int64(r.uvarint()) + 1
	}
	if r.failed || n <= 0 {
		return 0, tidegate.Errorf(tidegate.Corrupt, "the stored number of clients does not make sense")
	}
	return n, tx.Put(key, appendIdent(n))
}

// isCheckpoint reports whether a local document is a replication's checkpoint (device-sync.md §8.2): those of applications cannot be
// told apart otherwise than by what is in them.
func isCheckpoint(localID string, body []byte) bool {
	if strings.HasPrefix(localID, blipCheckpoint) {
		return true
	}
	if strings.HasPrefix(localID, "_design/") {
		return false // kept beside local documents
	}
	for name := range jsondoc.Members(body) {
		switch name {
		case "last_seq", "local", "remote", "source_last_seq", "session_id", "history":
			return true
		}
	}
	return false
}

// tokenOf is the position that a checkpoint says the client holds; zero if it does not say. Only those of the Couchbase Mobile protocol
// do: in those of CouchDB's, last_seq may be a sequence of the client's own.
func tokenOf(kind ClientKind, body []byte) (text string, since tidegate.Since) {
	if kind != ClientBLIP {
		return "", since
	}
	raw, ok := jsondoc.Get(body, "remote")
	if !ok {
		return "", since
	}
	text = string(raw)
	if s, ok := jsondoc.Unquote(raw); ok {
		text = s
	}
	since, err := tidegate.ParseSince(text)
	if err != nil {
		return "", tidegate.Since{}
	}
	return text, since
}
