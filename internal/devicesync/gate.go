package devicesync

import (
	"github.com/tidegate/tidegate"
)

// GateCode says why clients are not served (device-sync.md §12.4).
type GateCode string

// The codes.
const (
	SyncPaused     GateCode = "sync_paused"
	SyncTerminated GateCode = "sync_terminated"
	SyncNotReady   GateCode = "sync_not_ready"
	SyncError      GateCode = "sync_error"
)

// words completes the reason that clients are told.
func (c GateCode) words() string {
	switch c {
	case SyncPaused:
		return "device sync is paused for this database"
	case SyncTerminated:
		return "device sync is not enabled for this database"
	case SyncNotReady:
		return "device sync is being prepared for this database"
	default:
		return "device sync of this database has failed and waits for its operator"
	}
}

// What a client of the original is told when sync is not running (§11.2).
const (
	RealmNotEnabled        = 101
	RealmNotEnabledMessage = "sync is not enabled for this app"
)

// RetryAfter is after how many seconds a refused client may come again.
const RetryAfter = 30

// Close codes of a WebSocket (§12.4). 1000 and 1001 are never among them: Couchbase Lite stops for good at those.
const (
	CloseRetry = 4001 // the client comes again by itself
	CloseStop  = 4002 // the client stops
)

// GateError is the refusal of a client while sync does not run. Its cause is a *tidegate.Error.
type GateError struct {
	Code  GateCode
	State State
	Epoch string
	Stop  bool // a refusal for good
}

// Error is the reason as clients see it.
func (e *GateError) Error() string { return string(e.Code) + ": " + e.Code.words() }

// Unwrap returns the *tidegate.Error: Forbidden when the refusal is for good, else Unavailable.
func (e *GateError) Unwrap() error {
	if e.Stop {
		return tidegate.Errorf(tidegate.Forbidden, "%s", e.Error())
	}
	return tidegate.Errorf(tidegate.Unavailable, "%s", e.Error())
}

// Close is the code and the reason that an open socket is closed with.
func (e *GateError) Close() (code int, reason string) {
	if e.Stop {
		return CloseStop, string(e.Code)
	}
	return CloseRetry, string(e.Code)
}

// Access is what somebody wants of replication.
type Access struct {
	Peer            bool // another gateway (client=sgr2)
	AdminFeed       bool // _changes on the admin listener
	CheckpointWrite bool // PUT _local: never refused with 4xx, which makes PouchDB trust its old position
}

// Gate returns why the access is refused; nil if it is not.
func (r *Row) Gate(a Access) *GateError {
	e := &GateError{State: r.Record.State, Epoch: r.Record.Epoch.ID}
	switch {
	case r.Record.State == Terminated:
		e.Code = SyncTerminated
		e.Stop = r.Record.TerminatedClients == ClientsStop && !a.CheckpointWrite
	case a.AdminFeed:
		return nil
	case r.Record.Phase == Faulty:
		e.Code = SyncError
	case r.Record.State == Disabled:
		if a.Peer && !r.Config.PausePeers {
			return nil
		}
		e.Code = SyncPaused
	case r.Record.Phase == Building:
		e.Code = SyncNotReady
	default:
		return nil
	}
	return e
}

// Takes reports whether a push that was let in as access in an epoch, given by its number, is still taken. While sessions are ending what they have
// pushed already is.
func (r *Row) Takes(access Access, epoch uint64) bool {
	rec := &r.Record
	switch {
	case rec.Epoch.No != epoch:
		return false
	case rec.Phase == Pausing:
		return true
	case rec.Phase == Terminating && rec.Termination != nil:
		return rec.Termination.Step == StepSessions
	default:
		return r.Gate(access) == nil
	}
}

// Word is the state as `GET /{db}/` shows it in sync_state (§12.1).
func (r *Record) Word() string {
	if r.Phase == Faulty {
		return "error"
	}
	return r.State.Word()
}
