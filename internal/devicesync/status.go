package devicesync

import (
	"time"

	"github.com/tidegate/tidegate"
)

// Ledger says how much is remembered of deletions whose history is gone (§12.3).
type Ledger struct {
	Rows   int64      `json:"rows"`
	Oldest *time.Time `json:"oldest"` // of the oldest deletion among them, or earlier; nil if there are none
}

// Session is an open replication of a device or peer.
type Session struct {
	Kind       string    `json:"kind"` // "blip", "changes", or "replication" for one that this gateway runs
	User       string    `json:"user"` // "" is the guest, or an administrator if Admin
	Admin      bool      `json:"admin,omitempty"`
	Peer       bool      `json:"peer,omitempty"`       // another gateway
	Connection string    `json:"connection,omitempty"` // what logs call it
	Since      string    `json:"since,omitempty"`      // where its feed began
	Remote     string    `json:"remote"`               // address
	Started    time.Time `json:"started"`
}

// Status is everything about a database's device sync (§5.1, sync/lifecycle).
type Status struct {
	Record
	Sessions            int          `json:"sessions"`
	PendingResetClients int          `json:"pending_reset_clients"`
	Clients             int          `json:"clients"`
	ResumeDeadline      *time.Time   `json:"resume_deadline"`
	MustTerminate       bool         `json:"must_terminate"`
	LastSequence        tidegate.Seq `json:"last_sequence"`
	Ledger              Ledger       `json:"ledger"`
	Quarantine          struct {
		Rows int64 `json:"rows"`
	} `json:"quarantine"`
}
