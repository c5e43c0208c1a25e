package devicesync

import (
	"encoding/json"
	"time"

	"github.com/tidegate/tidegate"
)

// What the database keeps for device sync besides the row, as the lifecycle sees it.

// Page is what one page of a paged step did. A step is called again with Cursor until End; called again with the cursor it was
// called with before, after a crash, it does no harm.
type Page struct {
	Done   int64 // items dealt with by this page
	Total  int64 // items there are in all, as far as is known; 0: not known
	Cursor []byte
	End    bool
}

// Reset states of a client (device-sync.md §5.1).
const (
	ResetPending = "pending" // it will be told at its next connection
	ResetRunning = "running" // it has been told
	ResetDone    = "done"
	ResetWiping  = "wipe" // it has been told to discard its database
)

// Client is a client record (§12.2).
type Client struct {
	FileIdent    int64     `json:"file_ident"` // positive, never used again in its database
	Kind         string    `json:"kind"`       // "blip" or "couch"
	User         string    `json:"user"`
	CheckpointID string    `json:"checkpoint_id"`
	Epoch        uint64    `json:"epoch"`
	FirstSeen    time.Time `json:"first_seen"`
	LastSeen     time.Time `json:"last_seen"`
	LastSince    string    `json:"last_since"`
	Reset        *string   `json:"reset"` // nil: none
	Reason       Reason    `json:"reason"`
}

// ClientFilter chooses clients, in order of their FileIdent.
type ClientFilter struct {
	Reset string // of this reset state; "": all
	After int64  // with a greater FileIdent
	Limit int    // at most so many; 0: 100
}

// Quarantined is a body that the server took and did not make current (§12.8).
type Quarantined struct {
	ID         string          `json:"id"`
	Collection string          `json:"collection"` // "scope.collection"
	DocID      string          `json:"doc_id"`
	Rev        string          `json:"rev"`
	History    []string        `json:"history,omitempty"`
	Body       json.RawMessage `json:"body,omitempty"` // only of one that was asked for by itself
	User       string          `json:"user"`
	FileIdent  int64           `json:"file_ident,omitempty"`
	Epoch      uint64          `json:"epoch"`
	Cause      string          `json:"cause"` // "edit_of_deleted", "closed_branch" or "handed_in"
	ReceivedAt time.Time       `json:"received_at"`
}

// Ledger says how much is remembered of deletions whose history is gone (§12.3).
type Ledger struct {
	Rows   int64        `json:"rows"`
	Oldest tidegate.Seq `json:"oldest"` // the lowest sequence among them; 0 if there are none
}

// Session is an open replication of a device or peer.
type Session struct {
	Kind     string    `json:"kind"` // "blip" or "changes"
	User     string    `json:"user"` // "" is the guest, or an administrator if Admin
	Admin    bool      `json:"admin,omitempty"`
	Peer     bool      `json:"peer,omitempty"` // another gateway
	ClientID string    `json:"client_id,omitempty"`
	Since    string    `json:"since,omitempty"` // where its feed began
	Remote   string    `json:"remote"`          // address
	Started  time.Time `json:"started"`
}

// Status is everything about a database's device sync (§5.1, sync/lifecycle).
type Status struct {
	Record
	Sessions            int        `json:"sessions"`
	PendingResetClients int        `json:"pending_reset_clients"`
	Clients             int        `json:"clients"`
	ResumeDeadline      *time.Time `json:"resume_deadline"`
	MustTerminate       bool       `json:"must_terminate"`
	LastSequence        uint64     `json:"last_sequence"`
	Ledger              Ledger     `json:"ledger"`
	Quarantine          struct {
		Rows int64 `json:"rows"`
	} `json:"quarantine"`
}
