package rest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/websocket"
)

// A Replication is what is known of a connection of /{db}/_blipsync when its handshake is over.
type Replication struct {
	DB   *database.Database
	User *access.User // nil: an administrator, who sees and may write everything

	Version int    // of the replication protocol: N of CBMobile_N, 2, 3 or 4
	Peer    string // "sgr2" for a gateway, "" for anything else
	ID      string // of the connection in logs, hex digits; the client was told it

	// ReadOnly: every revision that the client sends is refused with 403 (unsupported.guest_read_only).
	ReadOnly bool
	// HideMissing: the client must not learn what exists (unsupported.force_api_forbidden_errors).
	HideMissing bool
	// DeltaSync: deltas are sent and taken.
	DeltaSync bool
	// Needs, if not nil, is told the lowest position whose history the client still needs; 0: it has caught up.
	Needs func(tidegate.Seq)
	// Admit says to a Handle as what device sync let the connection in.
	Admit func(*database.Handle) *database.Handle
	// Limits bound the connection.
	Limits config.BLIPSettings
}

// A ReplicateFunc speaks the replication protocol on a connection that has become a WebSocket: what is read and
// written are WebSocket frames. It returns when the connection is over, and may leave it open: it is closed then.
//
// ctx ends, with a cause, when the connection must end: the database leaves Online, device sync is paused or terminated, or the login has
// ended. The client is told by the code of a CLOSE frame whether to come back; the connection is closed endGrace later in any case.
//
// The error says why the connection ended, for the log; nil if the client closed it.
type ReplicateFunc func(ctx context.Context, conn net.Conn, r Replication) error

// errLoginEnded ends connections whose login has ended.
var errLoginEnded = tidegate.Errorf(tidegate.Unauthorized, "the login has ended")

// endGrace is how long a connection may still take once it must end.
const endGrace = 12 * time.Second

// A probe for clients that have gone without a word is sent after keepAliveIdle of silence. Pings of the WebSocket find
// those that still have a TCP connection and nobody behind it.
const (
	keepAliveIdle     = 2 * time.Minute
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 9
)

// replication is an open connection of /{db}/_blipsync.
type replication struct {
	s     *Server
	what  Replication
	stats *database.ReplicationStats
	ctx   context.Context // ends when the connection must
	end   context.CancelCauseFunc
	held  []func() // give back what the connection holds
}

// newReplication makes the connection on a context of its own: the request's ends with its handler. What it acquires,
// counted included, is given back by release.
func (s *Server) newReplication(r *request, version int, counted func()) (*replication, error) {
	db, leaving, release, err := r.running.Acquire(context.Background())
	if err != nil {
		counted()
		return nil, err
	}
	id, what := newCorrelationID(), r.sessionInfo("blip", "")
	what.Connection = id
	session, err := r.running.DeviceSync().Join(leaving, what, r.syncAccess())
	if err != nil {
		counted()
		release()
		return nil, err
	}
	settings := r.running.Settings()
	c := &replication{s: s, stats: &r.running.Stats().Replication, held: []func(){counted, session.Leave, release}}
	c.what = Replication{
		DB: db, User: r.user, Version: version, ID: id,
		ReadOnly:    r.isGuest() && settings.GuestReadOnly,
		HideMissing: r.listener == public && settings.ForceAPIForbidden,
		DeltaSync:   settings.DeltaSync,
		Needs:       session.Needs,
		Admit:       session.Admit,
		Limits:      s.settings.BLIP,
	}
	if r.q.text("client") == peerGateway {
		c.what.Peer = peerGateway
	}
	c.ctx, c.end = context.WithCancelCause(session.Context())
	if r.admin {
		return c, nil
	}
	forget, err := s.logins.add(r.ctx, db.Access(), r.user, r.session, func() {
		c.stats.LoginsEnded.Add(1)
		c.end(errLoginEnded)
	})
	if err != nil {
		c.release()
		return nil, err
	}
	c.held = append(c.held, forget)
	return c, nil
}

// release gives back what the connection holds.
func (c *replication) release() {
	c.end(context.Canceled)
	for _, done := range c.held {
		done()
	}
}

// run serves the connection and returns when it is over.
func (c *replication) run(conn *websocket.Stream) {
	// The time that the handshake had to be written in is over.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		_ = conn.Close() // it is broken, as who reads from it will find
	}
	keepAlive(conn)
	c.stats.Total.Add(1)
	c.stats.Active.Add(1)
	cut := context.AfterFunc(c.ctx, func() { time.AfterFunc(endGrace, func() { _ = conn.Close() }) })
	defer func() {
		if v := recover(); v != nil {
			c.s.logPanic(v)
		}
		cut()
		_ = conn.Close() // most often it is closed already
		c.stats.Active.Add(-1)
		c.log(slog.LevelDebug, "replication ended", slog.Any("cause", context.Cause(c.ctx)))
		c.release()
	}()
	c.log(slog.LevelDebug, "replication began", slog.String("database", c.what.DB.Name()),
		slog.Int("version", c.what.Version), slog.String("peer", c.what.Peer))
	if err := c.s.replicate(c.ctx, &countedConn{conn, c.stats}, c.what); err != nil && c.ctx.Err() == nil {
		c.noteEnd(err)
	}
}

// log logs something about the connection. A logger of its own would be part of what an idle connection costs.
func (c *replication) log(level slog.Level, message string, attrs ...slog.Attr) {
	c.s.log.LogAttrs(context.Background(), level, message, append(attrs, slog.String("replication", c.what.ID))...)
}

// noteEnd counts and logs why a connection ended that nobody meant to end.
func (c *replication) noteEnd(err error) {
	var net net.Error
	switch {
	case isProtocolError(err):
		c.stats.ProtocolErrors.Add(1)
		c.log(slog.LevelWarn, "a replication client broke the protocol", slog.Any("error", err))
	case errors.As(err, &net) && net.Timeout():
		c.stats.SlowReaders.Add(1)
		c.log(slog.LevelInfo, "a replication client did not read, or has gone", slog.Any("error", err))
	default:
		c.log(slog.LevelDebug, "replication broke off", slog.Any("error", err))
	}
}

// isProtocolError reports whether a connection ended because the client broke the rules of WebSocket or BLIP.
func isProtocolError(err error) bool {
	if _, ok := errors.AsType[*blip.ProtocolError](err); ok {
		return true
	}
	_, ok := errors.AsType[*websocket.ProtocolError](err)
	return ok
}

// keepAlive has the system look after clients that are gone.
func keepAlive(conn *websocket.Stream) {
	if tcp, ok := tcpConn(conn.Conn); ok {
		// Best effort: pings find them too.
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
		})
	}
}

// countedConn counts the bytes of a connection.
type countedConn struct {
	*websocket.Stream
	stats *database.ReplicationStats
}

// Read implements net.Conn.
func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	add(&c.stats.BytesReceived, n)
	return n, err
}

// Write implements net.Conn.
func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Stream.Write(p)
	add(&c.stats.BytesSent, n)
	return n, err
}

func add(counter *atomic.Int64, n int) {
	if n > 0 {
		counter.Add(int64(n))
	}
}
