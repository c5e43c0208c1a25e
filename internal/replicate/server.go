package replicate

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/websocket"
)

// Options configure a Server; zero values mean the defaults.
type Options struct {
	// Blip are the limits of each connection and what connections share; Handle and Panicked are filled in here.
	Blip blip.Options
	// ChangesBatches is how many lists of proposed changes of one connection are looked at at once
	// (replicator.max_concurrent_changes_batches); 2.
	ChangesBatches int
	// Revs is how many incoming revisions of one connection are prepared at once, which is to say: have their
	// attachments fetched or their delta applied (replicator.max_concurrent_revs); 5. What is prepared is stored in
	// batches.
	Revs int
	// Logger; discards if nil.
	Logger *slog.Logger
}

const (
	defaultChangesBatches = 2
	defaultRevs           = 5
)

// Server is what all connections of a process share. It is safe for concurrent use.
type Server struct {
	opts Options
	log  *slog.Logger
	// reads bounds how many subscriptions read the store and encode at one time, so that a write which wakes
	// thousands does not make thousands of buffers.
	reads chan struct{}
	made  *deltaCache
}

// readsPerProcessor is how many subscriptions may read at one time, for each processor.
const readsPerProcessor = 2

// NewServer makes a Server.
func NewServer(o Options) *Server {
	if o.ChangesBatches <= 0 {
		o.ChangesBatches = defaultChangesBatches
	}
	if o.Revs <= 0 {
		o.Revs = defaultRevs
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{opts: o, log: o.Logger, reads: make(chan struct{}, readsPerProcessor*runtime.GOMAXPROCS(0)), made: newDeltaCache(deltaCacheBytes)}
}

// reading waits for the right to read; the caller calls done. It returns ctx's cause if that ends first.
func (s *Server) reading(ctx context.Context) (done func(), err error) {
	done = func() { <-s.reads }
	select {
	case s.reads <- struct{}{}:
		return done, nil
	default: // only who has to wait needs to know when that is in vain
	}
	select {
	case s.reads <- struct{}{}:
		return done, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// logPanic notes a panic that was caught.
func (s *Server) logPanic(what string, v any) {
	s.log.LogAttrs(context.Background(), slog.LevelError, "panic in a replication handler",
		slog.String("profile", what), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
}

// Peer is who is at the other end of a connection, and what it is served.
type Peer struct {
	DB *database.Database
	// User is the name of the principal, "" for the guest. Admin: there is none, and everything may be seen and done.
	User  string
	Admin bool
	// ReadOnly refuses every revision: the guest, if it is configured so.
	ReadOnly bool
	// HideMissing: the peer must not learn what exists: what is missing looks like what is forbidden.
	HideMissing bool
	Version     Version
	// Gateway: the peer is a gateway (?client=sgr2), not a Couchbase Lite app.
	Gateway bool
	// Deltas: delta_sync.enabled of the database.
	Deltas bool
	// Needs, if not nil, is told the lowest position whose history the peer still needs; 0: none, it has caught up.
	Needs func(pos tidegate.Seq)
	// Admit, if not nil, says to a Handle as what the peer was let in by device sync.
	Admit func(*database.Handle) *database.Handle
}

// Serve answers the peer until the connection ends, and returns why; nil if the peer closed it in the normal way. When ctx
// ends, what the peer pushed is answered and the connection closed with a code that says whether the peer is to come back (goodbye.go).
// When Serve has returned nothing uses the database any more.
func (s *Server) Serve(ctx context.Context, t blip.Transport, p Peer) error {
	c := newConnection(s, p)
	c.open(t)
	stop := c.whenEnded(ctx)
	err := c.conn.Run()
	if closed, ok := errors.AsType[*websocket.CloseError](err); ok && closed.Code == websocket.CloseNormal {
		err = nil
	}
	c.close(err == nil)
	stop()
	return err
}
