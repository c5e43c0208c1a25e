package pgstore

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A connection may be half-open: the network or something in it forgot it, and what is sent gets no answer and no error. TCP finds that out
// after minutes, and not at all behind a proxy. So whoever waits for a while on a connection asks the server, over a new one, whether it is
// at work for the old one. If it is not, or cannot be asked, the old one is given up, which is a lost connection like any other.

const (
	// silentAfter is how long a read or write takes until the server is asked.
	silentAfter = 3 * time.Second
	// askTimeout bounds the question; answerTimeout is how long what the server has sent may be under way.
	askTimeout    = 3 * time.Second
	answerTimeout = time.Second
)

// watched is a connection to the server.
type watched struct {
	net.Conn
	ask func(ctx context.Context, pid uint32) (busy bool)

	pid      atomic.Uint32 // of the server's process; 0: not known yet
	patient  atomic.Bool   // reads may take any time: who reads looks after the connection
	ended    atomic.Bool
	in, outs clock
}

// watch has all connections of a pool watched.
func watch(cfg *pgxpool.Config) {
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	question := cfg.ConnConfig.Copy()
	question.DialFunc = dialer.DialContext
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		w := &watched{Conn: c, ask: func(ctx context.Context, pid uint32) bool { return atWork(ctx, question, pid) }}
		w.in.doubt, w.outs.doubt = w.doubt, w.doubt
		return w, nil
	}
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		if w := watchedOf(conn); w != nil {
			w.pid.Store(conn.PgConn().PID())
		}
		return nil
	}
}

func watchedOf(conn *pgx.Conn) *watched {
	c := conn.PgConn().Conn()
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	w, _ := c.(*watched)
	return w
}

// atWork asks the server whether a process of it is executing a statement. A server that answers, but not this question, is believed to be; so is
// one that does not know the process that asks: what is between gives connections numbers of its own, as a pooler does.
func atWork(ctx context.Context, cfg *pgx.ConnConfig, pid uint32) bool {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	var pg *pgconn.PgError
	if err != nil {
		return errors.As(err, &pg)
	}
	defer conn.Close(ctx)
	var active, known bool
	err = conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE pid = $1 AND state NOT LIKE 'idle%') > 0, count(*) FILTER (WHERE pid = $2) > 0 FROM pg_stat_activity`,
		int64(pid), int64(conn.PgConn().PID())).Scan(&active, &known)
	if err != nil {
		return errors.As(err, &pg)
	}
	return active || !known
}

// clock measures how long a read, or a write, takes.
type clock struct {
	doubt func(*clock)

	mu    sync.Mutex
	timer *time.Timer
	turn  uint64 // counts them
}

func (c *clock) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil {
		c.timer = time.AfterFunc(silentAfter, func() { c.doubt(c) })
	} else {
		c.timer.Reset(silentAfter)
	}
}

func (c *clock) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn++
	c.timer.Stop()
}

func (c *clock) now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.turn
}

// again gives what is under way another while, if it is still the same.
func (c *clock) again(turn uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn == turn {
		c.timer.Reset(silentAfter)
	}
}

// Read implements net.Conn.
func (w *watched) Read(p []byte) (int, error) {
	if w.patient.Load() {
		return w.Conn.Read(p)
	}
	w.in.begin()
	defer w.in.end()
	return w.Conn.Read(p)
}

// writePart is how much is written at once, so that a large message over a slow link is seen to move.
const writePart = 64 << 10

// Write implements net.Conn.
func (w *watched) Write(p []byte) (n int, err error) {
	for {
		part := p[n:min(len(p), n+writePart)]
		w.outs.begin()
		m, err := w.Conn.Write(part)
		w.outs.end()
		if n += m; err != nil || n == len(p) {
			return n, err
		}
	}
}

// Close implements net.Conn.
func (w *watched) Close() error {
	w.ended.Store(true)
	return w.Conn.Close()
}

// doubt asks about a connection on which nothing has moved for a while, and closes it if the server does nothing for it.
func (w *watched) doubt(c *clock) {
	turn, busy := c.now(), false
	if pid := w.pid.Load(); pid != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		busy = w.ask(ctx, pid)
		cancel()
	}
	if busy {
		c.again(turn)
		return
	}
	// What the server has sent may be under way; and a process that was stopped finds all its clocks run down.
	_ = pause(context.Background(), answerTimeout)
	if !w.ended.Load() && c.now() == turn {
		_ = w.Close()
	}
}
