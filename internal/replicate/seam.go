package replicate

import (
	"log/slog"
	"net/url"
	"time"

	"github.com/tidegate/tidegate/internal/database"
)

// ActiveOptions say what a Replicator does: the local database is one of its ends, a database of another gateway the other
// (inter-gateway.md §2).
type ActiveOptions struct {
	ID                     string
	DB                     *database.Database
	Remote                 *url.URL // http(s)://host:port/db, without user info
	Username, Password     string   // "" is the guest
	Push, Pull, Continuous bool

	Channels       []string // filter sync_gateway/bychannel; nil: none
	BatchSize      int      // rows of a changes message; 200 if 0
	PurgeOnRemoval bool     // pull: what leaves the remote user's reach is purged here
	Deltas         bool
	Resolver       database.Resolver // pull: nil is the default policy
	RunAs          string            // the local user that reads and writes; "" is an administrator
	// Collections map local collections ("scope.name") to remote ones; nil: the default collection, and none is named.
	Collections []CollectionPair

	MaxBackoff       time.Duration // of a delay between tries to connect; 0: give up after five minutes
	SkipTLSVerify    bool
	Heartbeat        time.Duration // of WebSocket pings; 300 s if 0
	CheckpointPrefix string        // before the checkpoints' IDs (inter-gateway.md §8)
	UserAgent        string

	Stats    *ReplicatorStats // new ones if nil
	OnChange func()           // is called after each change of state and must not block; the caller then asks Status
	Logger   *slog.Logger     // discards if nil
}

// CollectionPair maps a local collection to a remote one.
type CollectionPair struct{ Local, Remote string }

// State is what a direction of a replication is doing.
type State uint8

// The states (inter-gateway.md §5).
const (
	Stopped State = iota
	Starting
	Running
	Reconnecting
	Failed // "error"
)

var stateNames = [...]string{"stopped", "starting", "running", "reconnecting", "error"}

// String returns the state's name on the wire.
func (s State) String() string { return stateNames[s] }

// Status is what a replication is doing.
type Status struct{ Push, Pull DirectionStatus }

// DirectionStatus is what one direction of a replication is doing.
type DirectionStatus struct {
	Active  bool // the replication has this direction
	State   State
	Err     error // the last error, until it is running again
	ErrAt   time.Time
	LastSeq string // last safe sequence: of the remote for a pull, of the local database for a push
}
