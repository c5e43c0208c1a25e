package database

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
)

// Defaults of Options (gateway-rest.md §23.2, hardening.md).
const (
	DefaultRevsLimit          = 50
	DefaultRevsLimitConflicts = 100
	minRevsLimitConflicts     = 20

	DefaultOldRevExpiry     = 5 * time.Minute
	DefaultLocalDocExpiry   = 90 * 24 * time.Hour
	DefaultTombstoneAge     = 3 * 24 * time.Hour
	DefaultCompactInterval  = 24 * time.Hour
	DefaultDocumentBytes    = 20 << 20
	DefaultAttachmentBytes  = 20 << 20
	DefaultInlineAttachment = 16 << 10
	DefaultJSONDepth        = 128
)

// Options configure a database. Zero values mean the defaults, unless said otherwise.
type Options struct {
	Name  string      // for logs
	Space store.Space // its storage id
	// Source names the database in the version vectors of documents: 22 characters, made by tidegate.NewSource of a
	// number that the database keeps for ever and shares with no other. "": one made of Name and Space,
	// which is good for a database that never meets another server's.
	Source string

	AllowConflicts bool
	// RevsLimit is how many generations are kept in a branch: 50, or 100 with AllowConflicts; at least 1, or 20
	// with AllowConflicts.
	RevsLimit int
	// OldRevExpiry is how long bodies of old revisions stay; negative: not at all.
	OldRevExpiry time.Duration
	// LocalDocExpiry is how long a local document stays after its last use; negative: for ever.
	LocalDocExpiry time.Duration
	// TombstoneAge is the age at which tombstones are purged.
	TombstoneAge time.Duration
	// CompactInterval is how often old tombstones are looked for; negative: only when asked.
	CompactInterval time.Duration

	MaxDocumentBytes   int64
	MaxAttachmentBytes int64
	// InlineAttachmentBytes is the size up to which an attachment is kept in the store; negative: none is.
	InlineAttachmentBytes int64
	JSONDepth             int

	// Collections, the default one (ID 0) first if there is one.
	Collections []CollectionOptions
	Script      script.Limits
	// Access configures the principals; Store, Space, Now and Logger are filled in from here.
	Access access.Config

	ReadOnly bool // every document write is refused (resync.md §1.4)

	// DeviceSync is the lifecycle of the database's device sync, which decides what becomes of clients that come and what is done with
	// what they push (device-sync.md §12). nil: there is none, and every client goes on where it was.
	DeviceSync *devicesync.Live

	// Nodes are those that have the database open on the store; nil: this process is the only one.
	Nodes Nodes

	Now    func() time.Time // time.Now if nil
	Logger *slog.Logger     // discards if nil
	Stats  *Stats           // a new one if nil
}

// CollectionOptions name a collection and its sync function.
type CollectionOptions struct {
	Scope, Name string
	ID          store.Collection
	Sync        string // source; "" for the default of sync-function.md §1
	// Function, if not nil, is a compiled sync function to be used instead of Sync. It stays the caller's, who closes it
	// after the database; so one function can serve several databases, or the same one opened again.
	Function script.SyncFunction
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() Options {
	if o.RevsLimit <= 0 {
		o.RevsLimit = DefaultRevsLimit
		if o.AllowConflicts {
			o.RevsLimit = DefaultRevsLimitConflicts
		}
	}
	if o.AllowConflicts {
		o.RevsLimit = max(o.RevsLimit, minRevsLimitConflicts)
	}
	o.OldRevExpiry = orDefault(o.OldRevExpiry, DefaultOldRevExpiry)
	o.LocalDocExpiry = orDefault(o.LocalDocExpiry, DefaultLocalDocExpiry)
	o.TombstoneAge = orDefault(o.TombstoneAge, DefaultTombstoneAge)
	o.CompactInterval = orDefault(o.CompactInterval, DefaultCompactInterval)
	o.MaxDocumentBytes = orDefault(o.MaxDocumentBytes, DefaultDocumentBytes)
	o.MaxAttachmentBytes = orDefault(o.MaxAttachmentBytes, DefaultAttachmentBytes)
	o.InlineAttachmentBytes = orDefault(o.InlineAttachmentBytes, DefaultInlineAttachment)
	o.JSONDepth = orDefault(o.JSONDepth, DefaultJSONDepth)
	if o.Source == "" {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", o.Name, o.Space))
		o.Source = tidegate.NewSource([16]byte(sum[:16]))
	}
	if o.Nodes != nil && o.Nodes.Alone() {
		o.Nodes = nil
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Stats == nil {
		o.Stats = NewStats()
	}
	o.Access.Store, o.Access.Space, o.Access.Now, o.Access.Logger = nil, o.Space, o.Now, o.Logger
	return o
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// farWorkers is how many documents of a batch are prepared at once when each waits for a store that is far away.
const farWorkers = 16

// workers is how many documents of one batch are prepared at once.
func (db *Database) workers() int {
	if _, far := db.st.(store.Prefetcher); far {
		return max(farWorkers, runtime.GOMAXPROCS(0))
	}
	return runtime.GOMAXPROCS(0)
}
