package replicate

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// What becomes of a client that comes (device-sync.md §12.5): it goes on, starts again and offers what it has, or is told to discard its
// local database.

// Times of a reset.
const (
	wipeGrace  = time.Second      // from the refusal of a client that must discard its database to the close of its connection
	resetQuiet = 60 * time.Second // with nothing offered, once everything is pulled: a repeated reset is over
)

// errReconnect is the answer to a position that is not honoured and came without its checkpoint having been read.
var errReconnect = tidegate.Errorf(tidegate.Unavailable, "client_reset: reconnect")

// client is what a collection's connection knows of its client.
type client struct {
	mu      sync.Mutex
	ref     database.ClientRef
	known   bool // its checkpoint was asked for
	rewound bool // it was told to start again, and may hold documents from before
	// repeated: its reset goes on until it has pulled everything and offered all it has.
	repeated bool
	pulled   bool
	quiet    *time.Timer
}

// refOf names a client of the connection.
func (coll *collection) refOf(id string) database.ClientRef {
	return database.ClientRef{Kind: database.ClientBLIP, ID: id, Peer: coll.c.peer.Gateway}
}

// readCheckpoint reads a client's checkpoint and notes who is at the other end.
func (coll *collection) readCheckpoint(ctx context.Context, id string) (*database.LocalDocument, error) {
	h, err := coll.principal(ctx)
	if err != nil {
		return nil, err
	}
	ref := coll.refOf(id)
	doc, verdict, err := h.Checkpoint(ctx, ref)
	if err != nil && tidegate.ErrorCode(err) != tidegate.NotFound {
		return nil, coll.c.refuseClient(err)
	}
	coll.client.met(ref, verdict.Kind.Reset(), coll.c.peer.DB.RepeatsResets())
	return doc, err
}

func (cl *client) met(ref database.ClientRef, reset, repeats bool) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.ref, cl.known, cl.rewound, cl.repeated = ref, true, reset, reset && repeats
}

// refuseClient makes the answer to a client that must discard its local database, and has the connection closed soon after it. Other
// errors are returned as they are.
func (c *connection) refuseClient(err error) error {
	refusal, ok := errors.AsType[*database.ResetRequired](err)
	if !ok {
		return err
	}
	c.partAfter(wipeGrace, &leave{code: devicesync.CloseStop, reason: refusal.Error()})
	return statusError(tidegate.Gone, http.StatusGone, refusal.Error())
}

// partAfter ends the connection after a time.
func (c *connection) partAfter(d time.Duration, l *leave) {
	timer := time.AfterFunc(d, func() { c.part(l) })
	context.AfterFunc(c.ctx(), func() { timer.Stop() })
}

// judgeSince decides what becomes of a peer that asks for changes from a position. It may change the position.
func (coll *collection) judgeSince(ctx context.Context, h *database.Handle, o *subscriptionOptions) error {
	peer := coll.c.peer.Gateway
	ref, known, rewound := coll.client.who()
	o.rewound = rewound
	verdict, err := coll.c.peer.DB.JudgeSince(ctx, o.since, peer)
	if err != nil || !verdict.Kind.Reset() {
		return err
	}
	coll.c.log.LogAttrs(ctx, slog.LevelInfo, "a client asks for changes from a position that is not honoured",
		slog.String("verdict", string(verdict.Kind)), slog.String("reason", string(verdict.Reason)), slog.String("since", o.since.String()))
	if verdict.Kind == devicesync.ResetWipe {
		return coll.c.refuseClient(&database.ResetRequired{Verdict: verdict})
	}
	if peer {
		o.since, o.rewound = tidegate.Since{}, true
		return nil
	}
	if known {
		if err := h.ForgetCheckpoint(ctx, ref, verdict.Reason); err != nil {
			return err
		}
	}
	coll.c.partAfter(0, &leave{code: devicesync.CloseRetry, reason: errReconnect.Reason})
	return errReconnect
}

func (cl *client) who() (ref database.ClientRef, known, rewound bool) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.ref, cl.known, cl.rewound
}

// notePulled notes that the peer has everything. From now on a repeated reset ends when nothing has been offered for a while.
func (coll *collection) notePulled() {
	cl := &coll.client
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if !cl.repeated || cl.pulled {
		return
	}
	cl.pulled = true
	cl.quiet = time.AfterFunc(resetQuiet, coll.resetOver)
}

// noteOffered notes that the peer offers something.
func (coll *collection) noteOffered() {
	cl := &coll.client
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.quiet != nil && cl.quiet.Stop() {
		cl.quiet.Reset(resetQuiet)
	}
}

// noteGone notes that the connection has ended. In the normal way, when it had pulled everything: it has offered all it has, too.
func (coll *collection) noteGone(normally bool) {
	cl := &coll.client
	cl.mu.Lock()
	over := cl.repeated && cl.pulled && normally
	if cl.quiet != nil {
		cl.quiet.Stop()
	}
	cl.mu.Unlock()
	if over {
		coll.finishReset(context.Background())
	}
}

// resetOver ends a repeated reset, in time of the crew's.
func (coll *collection) resetOver() {
	coll.c.control.do(func() {
		if coll.c.ctx().Err() == nil {
			coll.finishReset(coll.c.ctx())
		}
	})
}

func (coll *collection) finishReset(ctx context.Context) {
	cl := &coll.client
	cl.mu.Lock()
	ref := cl.ref
	cl.repeated = false
	cl.mu.Unlock()
	err := coll.c.peer.DB.Admin(coll.id).FinishReset(ctx, ref)
	if err != nil {
		coll.c.log.LogAttrs(ctx, slog.LevelWarn, "the end of a client's reset could not be noted; it starts again", slog.Any("error", err))
	}
}

// noteNeeds tells how much history the connection's subscriptions still need.
func (c *connection) noteNeeds() {
	if c.peer.Needs == nil {
		return
	}
	c.mu.Lock()
	all := c.all()
	c.mu.Unlock()
	lowest := tidegate.Seq(0)
	for _, coll := range all {
		coll.mu.Lock()
		sub := coll.sub
		coll.mu.Unlock()
		if sub == nil {
			continue
		}
		if at := tidegate.Seq(sub.needs.Load()); at > 0 && (lowest == 0 || at < lowest) {
			lowest = at
		}
	}
	c.peer.Needs(lowest)
}

// noteNeeds notes how far the subscription has come; caughtUp: it needs no history any more.
func (s *subscription) noteNeeds(caughtUp bool) {
	if s.coll.c.peer.Needs == nil {
		return
	}
	at := tidegate.Seq(0)
	if !caughtUp {
		at = max(devicesync.Position(s.feed.Since()), 1)
	}
	if tidegate.Seq(s.needs.Swap(uint64(at))) != at {
		s.coll.c.noteNeeds()
	}
}
