// Package script runs the JavaScript that users configure: the sync function, the import filter and the conflict
// resolver. It is the only importer of a JavaScript engine.
//
// A function is compiled once for each source and called on pooled runtimes. A runtime has caps on time,
// stack and memory, no I/O, and globals that no call can change for the next.
package script

import (
	"context"
	"log/slog"
	"time"

	"github.com/tidegate/tidegate"
)

// Limits fence one call (hardening.md, Limits).
type Limits struct {
	Time   time.Duration // wall clock of one call; 5 s if 0
	Memory int64         // bytes of one runtime; 32 MiB if 0, at least 2 MiB
	Stack  int64         // bytes of JavaScript stack; 256 KiB if 0
	// Runtimes is how many calls may run at once, and so how many runtimes are kept; GOMAXPROCS+2 if 0. More callers wait
	// under their context.
	Runtimes int
}

// User is the writer as the sync function's require… helpers see it (sync-function.md §4).
type User struct {
	// Admin is true for the admin context: no require… fails. Then the rest is empty.
	Admin bool
	Name  string   // "" is the guest
	Roles []string // names without "role:"
	// Channels are all channels the writer has, own and inherited.
	Channels []string
}

// SyncInput is one call's input. Bodies are JSON objects without underscore members.
type SyncInput struct {
	DocID   string
	Rev     tidegate.RevID // the new revision
	Deleted bool           // the new revision is a tombstone
	Body    []byte         // the new revision's body
	// OldBody is the body of the nearest ancestor that is available, nil for none (oldDoc is null then).
	OldBody    []byte
	OldDeleted bool // that ancestor is a tombstone
	// Attachments, if not nil, is the JSON object shown as doc._attachments (only in re-evaluation).
	Attachments []byte
	// Meta is the JSON object passed as meta; {"xattrs":{}} if nil.
	Meta []byte
	User User
	Now  time.Time // for relative expiry() values
}

// SyncOutput is what a run computed (sync-function.md §4).
type SyncOutput struct {
	Channels tidegate.ChannelSet
	// Access maps a user name, or "role:NAME", to channels granted; Roles maps a user name to role names
	// without prefix. Both are nil when empty.
	Access map[string]tidegate.ChannelSet
	Roles  map[string][]string
	// Expiry, if HasExpiry, is when the document expires; a zero Expiry with HasExpiry means "never".
	Expiry    time.Time
	HasExpiry bool
	// Warnings counts ignored arguments; each was logged.
	Warnings int
}

// SyncFunction is a compiled sync function. It is safe for concurrent use.
type SyncFunction interface {
	// Sync runs the function. A rejection or failure is a *tidegate.Error with the exact reasons and codes
	// of sync-function.md §4: Forbidden or Unauthorized with the script's message, a Status for reject(n),
	// Internal-like failures as Code Internal with Status 500 and the documented Reason. Use Classify to
	// tell the kinds apart.
	Sync(ctx context.Context, in *SyncInput) (*SyncOutput, error)
	// Source returns the source as configured ("" for a default).
	Source() string
	// Close frees the runtimes once running calls have ended.
	Close()
}

// Failure says why a Sync call returned an error, for statistics.
type Failure uint8

// The kinds of failure.
const (
	FailureNone      Failure = iota
	FailureRejected          // throw({forbidden|unauthorized}) or reject()
	FailureAccess            // one of the four require… helpers
	FailureException         // any other exception, memory or stack exhaustion, bad role or channel names
	FailureTimeout
	FailureCanceled // the caller's context ended
)

// Options configure compilation.
type Options struct {
	Limits Limits
	// Logger gets console.log and console.error of the scripts, cut to a bound.
	Logger *slog.Logger
}
