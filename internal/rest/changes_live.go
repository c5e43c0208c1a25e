package rest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/websocket"
)

// A live feed stays open: continuous and websocket. There may be thousands, nearly all of them idle at any
// moment, so what each one keeps is small: its connection, taken over from the HTTP server whose buffers and
// request are dropped, and one goroutine that waits for the feed and writes. Reading entries and making JSON of
// them, which needs deep stacks and buffers, is done by a few workers that all feeds share (feedWorkers); so is
// noticing that a client has gone (connWatch).

// errClientGone ends a feed whose connection broke or was closed by the client.
var errClientGone = errors.New("the client is gone")

// feedConn is where a live feed writes to.
type feedConn interface {
	// write sends b to the client, all of it within d.
	write(b []byte, d time.Duration) error
	// watch returns when the client is gone. It answers what a client may still say.
	watch(d time.Duration)
	// netConn is the connection, for watching it without a call of watch; nil if there is none to be had.
	netConn() net.Conn
	// end says goodbye if the client is thought to listen still, and closes the connection. cause is why it ends; nil: by itself.
	end(polite bool, cause error, d time.Duration)
}

// feedWire is how a live feed's entries look to the client.
type feedWire interface {
	// encode appends entries to b, which begins with wireRoom bytes for frame; more calls may follow.
	encode(b []byte, entries []tidegate.Change) []byte
	// frame makes what encode made ready to be written.
	frame(b []byte) []byte
	// heartbeat and caughtUp are whole frames; nil: nothing is sent.
	heartbeat() []byte
	caughtUp() []byte
}

// wireRoom is how many bytes feedWire.encode leaves free for feedWire.frame.
const wireRoom = 10

// liveFeed is one live feed.
type liveFeed struct {
	s    *Server
	feed *database.Feed
	conn feedConn
	wire feedWire

	session *gateway.Session
	leaving context.Context // ends when the database leaves Online, or device sync is paused or ended
	ctx     *feedContext    // set by run
	done    []func()        // give back what the feed holds

	heartbeat, timeout time.Duration
	told               bool // caughtUp was sent
	pace               pacer

	// The answer of a worker:
	out      *output // entries, encoded; empty if there are none
	caughtUp bool    // there is nothing beyond
	err      error
	ready    chan struct{}
}

// run runs the feed and returns when it has ended.
func (f *liveFeed) run() {
	polite := false
	f.ctx = newFeedContext(f.leaving, max(f.heartbeat, f.timeout))
	f.s.workers.join()
	forget := f.watch()
	defer func() {
		if v := recover(); v != nil {
			f.s.logPanic(v)
		}
		forget()
		cause := f.ctx.cause()
		f.ctx.stop()
		f.conn.end(polite, cause, f.s.limits.WriteTimeout)
		f.feed.Close()
		f.s.workers.leave()
		for _, done := range f.done {
			done()
		}
	}()
	for f.deliver() && f.idle() {
	}
	polite = f.ctx.cause() != errClientGone
}

// watch begins to watch for the client to go.
func (f *liveFeed) watch() (forget func()) {
	gone := func() { f.ctx.end(errClientGone) }
	listen := func() {
		go func() {
			f.conn.watch(f.s.limits.WriteTimeout)
			gone()
		}()
	}
	if conn := f.conn.netConn(); conn != nil {
		if w, ok := f.s.watch.add(conn, listen, gone); ok {
			return func() { f.s.watch.remove(w) }
		}
	}
	listen()
	return func() {}
}

// deliver sends all there is. false: the feed has ended.
func (f *liveFeed) deliver() bool {
	for {
		if !f.s.workers.do(f) {
			return false
		}
		ok := f.flush()
		switch {
		case !ok || f.err != nil || f.feed.Done():
			return false
		case !f.caughtUp:
			f.session.Needs(devicesync.Position(f.feed.Since()))
			continue
		case !f.told:
			f.told = true
			f.session.Needs(0)
			return f.send(f.wire.caughtUp())
		}
		return true
	}
}

// flush sends what the worker encoded and gives the memory back.
func (f *liveFeed) flush() bool {
	out := f.out
	if out == nil {
		return true
	}
	f.out = nil
	defer out.close()
	return f.send(f.wire.frame(out.b))
}

// send writes to the client. false: it is gone.
func (f *liveFeed) send(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if err := f.conn.write(b, f.s.limits.WriteTimeout); err != nil {
		f.ctx.end(errClientGone)
		return false
	}
	f.ctx.sent()
	return true
}

// idle waits until there may be something new, sending heartbeats. false: the feed has ended.
func (f *liveFeed) idle() bool {
	for {
		err := f.feed.Wait(f.ctx)
		switch {
		case err == nil:
			return true
		case f.ctx.Err() != errFeedTimer || f.heartbeat == 0:
			return false
		case !f.ctx.resume() || !f.send(f.wire.heartbeat()):
			return false
		}
	}
}

// load reads and encodes what comes next, up to about one chunk. Workers call it.
func (f *liveFeed) load() {
	defer func() {
		if v := recover(); v != nil {
			f.s.logPanic(v)
			f.err = errPanic
		}
	}()
	f.caughtUp, f.err = false, nil
	for f.out == nil || len(f.out.b) < outputChunk {
		entries, err := f.feed.Next(f.leaving, f.pace.next())
		if err != nil || len(entries) == 0 {
			f.caughtUp, f.err = err == nil, err
			f.noteEnd(err)
			return
		}
		if f.out == nil {
			f.out = f.s.newOutputTo(nil)
			f.out.b = f.out.b[:wireRoom]
		}
		f.pace.note(entries)
		f.out.b = f.wire.encode(f.out.b, entries)
		if f.feed.Done() {
			return
		}
	}
}

// noteEnd logs an error that ends a feed, unless it is a way that feeds are meant to end.
func (f *liveFeed) noteEnd(err error) {
	if err == nil || f.leaving.Err() != nil || errors.Is(err, changes.ErrFeedEnded) {
		return
	}
	switch tidegate.ErrorCode(err) {
	case tidegate.NotFound, tidegate.Unauthorized, tidegate.Forbidden, tidegate.Canceled:
		return
	}
	f.s.log.LogAttrs(f.leaving, slog.LevelError, "changes feed failed", slog.Any("error", err))
}

// logPanic notes a panic that was caught.
func (s *Server) logPanic(v any) {
	s.log.LogAttrs(context.Background(), slog.LevelError, "panic in a handler",
		slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
}

// newLiveFeed makes a live feed on a context of its own: the request's ends with its handler, the feed does
// not. What it acquires is in done, for run or abandon to give back.
func (s *Server) newLiveFeed(r *request, counted func()) (*liveFeed, *database.Handle, error) {
	db, leaving, release, err := r.running.Acquire(context.Background())
	if err != nil {
		counted()
		return nil, nil, err
	}
	session, err := r.running.DeviceSync().Join(leaving, r.sessionInfo("changes", ""), r.syncAccess())
	if err != nil {
		counted()
		release()
		return nil, nil, err
	}
	f := &liveFeed{
		s: s, session: session, leaving: session.Context(), done: []func(){counted, session.Leave, release}, ready: make(chan struct{}, 1),
	}
	if r.admin {
		return f, db.Admin(r.coll), nil
	}
	return f, db.As(r.user, r.coll), nil
}

// tune sets what the options say about the feed's pace.
func (f *liveFeed) tune(o feedOptions) {
	f.session.Needs(devicesync.Position(f.feed.Since()))
	f.heartbeat, f.timeout = o.heartbeat, o.timeout
	f.pace = pacer{target: outputChunk, most: f.s.limits.FeedBatch, docs: o.IncludeDocs}
}

// abandon gives back what a feed holds that was never run.
func (f *liveFeed) abandon() {
	if f.feed != nil {
		f.feed.Close()
	}
	for _, done := range f.done {
		done()
	}
}

// continuousChanges begins a continuous feed.
func (s *Server) continuousChanges(r *request, o feedOptions, counted func()) error {
	f, handle, err := s.newLiveFeed(r, counted)
	if err != nil {
		return err
	}
	if f.feed, err = s.openFeed(f.leaving, r, handle, o); err != nil {
		f.abandon()
		return err
	}
	f.tune(o)
	h := r.answer.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", feedNoCaches)
	r.answer.noGzip()
	conn, ok, err := hijack(r.answer, feedBuffers())
	if err != nil {
		f.abandon()
		return err
	}
	if !ok {
		return f.runInHandler(r)
	}
	chunked := r.ProtoAtLeast(1, 1)
	if chunked {
		h.Set("Transfer-Encoding", "chunked")
	}
	h.Set("Connection", "close")
	if err := writeHead(conn, r.Proto, "200 OK", h, s.limits.WriteTimeout); err != nil {
		_ = conn.Close()
		f.abandon()
		return nil
	}
	f.conn, f.wire = &lineFeedConn{Stream: conn, chunked: chunked}, lineWire{chunked: chunked}
	go f.run()
	return nil
}

// runInHandler runs a continuous feed whose connection could not be taken over.
func (f *liveFeed) runInHandler(r *request) error {
	f.conn, f.wire = &plainFeedConn{w: r.answer, gone: r.ctx.Done()}, lineWire{}
	if err := r.answer.FlushError(); err != nil {
		f.abandon()
		return nil // the client is gone
	}
	f.run()
	return nil
}

// plainFeedConn is a client whose connection could not be taken over: the feed runs inside its handler.
type plainFeedConn struct {
	w    *response
	gone <-chan struct{}
}

func (c *plainFeedConn) write(b []byte, _ time.Duration) error {
	if _, err := c.w.Write(b); err != nil {
		return err
	}
	return c.w.FlushError()
}
func (c *plainFeedConn) watch(time.Duration)            { <-c.gone }
func (c *plainFeedConn) netConn() net.Conn              { return nil }
func (c *plainFeedConn) end(bool, error, time.Duration) {}

// lineFeedConn is the client of a continuous feed.
type lineFeedConn struct {
	*websocket.Stream
	chunked bool
}

func (c *lineFeedConn) write(b []byte, d time.Duration) error { return c.WriteWithin(b, d) }

// watch reads over whatever the client sends until it closes.
func (c *lineFeedConn) watch(time.Duration) {
	var b [64]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return
		}
	}
}

func (c *lineFeedConn) netConn() net.Conn { return c.Conn }

func (c *lineFeedConn) end(polite bool, _ error, d time.Duration) {
	if polite && c.chunked {
		_ = c.WriteWithin([]byte("0\r\n\r\n"), d) // the connection is closed in either case
	}
	_ = c.Close()
}

// lineWire is one entry a line, in chunks of the HTTP transfer coding if chunked is set.
type lineWire struct{ chunked bool }

func (lineWire) encode(b []byte, entries []tidegate.Change) []byte {
	for i := range entries {
		b = append(entries[i].AppendJSON(b), '\n')
	}
	return b
}

func (l lineWire) frame(b []byte) []byte {
	if !l.chunked {
		return b[wireRoom:]
	}
	n := len(b) - wireRoom
	const hex = "0123456789abcdef"
	b[wireRoom-2], b[wireRoom-1] = '\r', '\n'
	start := wireRoom - 2
	for ; n > 0; n >>= 4 {
		start--
		b[start] = hex[n&15]
	}
	return append(b, '\r', '\n')[start:]
}

func (l lineWire) heartbeat() []byte {
	if l.chunked {
		return []byte("1\r\n\n\r\n")
	}
	return []byte{'\n'}
}

func (lineWire) caughtUp() []byte { return nil }
