package replicate

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// Names of properties and profiles (replication.md §5).
const (
	propProfile    = "Profile"
	propCollection = "collection"

	profileGetCheckpoint    = "getCheckpoint"
	profileSetCheckpoint    = "setCheckpoint"
	profileGetCollections   = "getCollections"
	profileSubChanges       = "subChanges"
	profileUnsubChanges     = "unsubChanges"
	profileChanges          = "changes"
	profileProposeChanges   = "proposeChanges"
	profileRev              = "rev"
	profileNoRev            = "norev"
	profileGetAttachment    = "getAttachment"
	profileProveAttachment  = "proveAttachment"
	profileGetRev           = "getRev"
	profilePutRev           = "putRev"
	profilePing             = "PING"
	collectionNotAware      = -1
	attachmentsAtOnce       = 8
	smallestCompressedReply = 256 // bytes; less is not worth it
)

// connection is one BLIP connection with what both ends said on it.
type connection struct {
	srv    *Server
	conn   *blip.Conn
	peer   Peer
	log    *slog.Logger
	active *activeSession // this side drives the replication; nil: the peer does

	// deltas: the peer said that it takes deltas. It says so once (replication.md §5.6).
	deltas atomic.Bool
	offers offers // attachments that the peer may ask for
	// What the peer was sent and has not answered: rows of changes, and revisions.
	owedRows, owedRevs owed

	crew    crew     // everybody who works for the connection
	control executor // messages that are answered in order
	changes executor // lists of changes
	revs    executor // revisions that need something from the peer or the store before they can be stored
	serving executor // attachments being sent

	mu sync.Mutex
	// plain is the default collection of a connection that never asked for collections; collections are those that it
	// asked for, nil where unknown. At most one of the two is set.
	plain       *collection
	collections []*collection
	aware       bool
	answering   atomic.Bool // an answer to getCollections is on its way

	leaving atomic.Pointer[leave] // the connection is being ended from this side; nil: it is not
}

// collection is a collection of a connection.
type collection struct {
	c     *connection
	index int // what messages call it; collectionNotAware: nothing
	id    store.Collection
	// active keeps account of what is replicated, where this side drives it.
	active *activeCollection

	client client

	mu   sync.Mutex
	sub  *subscription
	puts revQueue
}

func newConnection(s *Server, p Peer) *connection {
	c := &connection{srv: s, peer: p, log: s.log}
	c.control.limit, c.changes.limit, c.revs.limit = 1, s.opts.ChangesBatches, s.opts.Revs
	c.serving.limit = attachmentsAtOnce
	for _, e := range []*executor{&c.control, &c.changes, &c.revs, &c.serving} {
		e.crew = &c.crew
	}
	c.owedRows.limit, c.owedRevs.limit = maxOwedRows, maxOwedRevs
	return c
}

// open begins the connection; conn.Run makes it work.
func (c *connection) open(t blip.Transport) {
	o := c.srv.opts.Blip
	o.Handle = c.handle
	if o.OnPanic == nil {
		o.OnPanic = func(v any, stack []byte) {
			c.log.LogAttrs(context.Background(), slog.LevelError, "panic in a replication handler", slog.Any("panic", v), slog.String("stack", string(stack)))
		}
	}
	c.conn = blip.NewConn(t, o)
}

// close gives back what the connection held, after it ended, and waits for those who still work for it. normally: the peer
// closed it in the normal way.
func (c *connection) close(normally bool) {
	c.mu.Lock()
	all := c.all()
	for _, coll := range all {
		coll.unsubscribe()
	}
	c.mu.Unlock()
	c.crew.wait()
	for _, coll := range all {
		coll.noteGone(normally)
	}
}

// all are the collections that the peer may name; c.mu is held.
func (c *connection) all() []*collection {
	all := make([]*collection, 0, len(c.collections)+1)
	for _, coll := range c.collections {
		if coll != nil {
			all = append(all, coll)
		}
	}
	if c.plain != nil {
		all = append(all, c.plain)
	}
	return all
}

// ctx ends with the connection.
func (c *connection) ctx() context.Context { return c.conn.Context() }

// handlerOf is the table of what a peer may ask for.
func (c *connection) handlerOf(profile string) (on *executor, handle func(*collection, *blip.Request) error) {
	if c.active != nil {
		return c.handlerOfActive(profile)
	}
	switch profile {
	case profileRev:
		return nil, (*collection).handleRev
	case profileProposeChanges:
		return &c.changes, (*collection).handleProposeChanges
	case profileChanges:
		return &c.changes, (*collection).handleChanges
	case profileGetAttachment:
		return &c.serving, (*collection).handleGetAttachment
	case profileNoRev:
		return nil, (*collection).handleNoRev
	case profileSubChanges:
		return &c.control, (*collection).handleSubChanges
	case profileUnsubChanges:
		return &c.control, (*collection).handleUnsubChanges
	case profileGetCheckpoint:
		return &c.control, (*collection).handleGetCheckpoint
	case profileSetCheckpoint:
		return &c.control, (*collection).handleSetCheckpoint
	case profileProveAttachment:
		return &c.serving, (*collection).handleProveAttachment
	case profileGetRev:
		return &c.serving, (*collection).handleGetRev
	case profilePutRev:
		return nil, (*collection).handleRev
	}
	return nil, nil
}

// handlerOfActive is the table of what a remote may ask for whose database this side replicates with.
func (c *connection) handlerOfActive(profile string) (on *executor, handle func(*collection, *blip.Request) error) {
	switch profile {
	case profileChanges:
		return nil, func(coll *collection, r *blip.Request) error { return coll.active.takeChanges(r) }
	case profileRev:
		return nil, (*collection).handleRev
	case profileNoRev:
		return nil, (*collection).handleNoRev
	case profileGetAttachment:
		return &c.serving, (*collection).handleGetAttachment
	case profileProveAttachment:
		return &c.serving, (*collection).handleProveAttachment
	}
	return nil, nil
}

// handle takes a request in. It runs on the goroutine that reads the connection and must not wait.
func (c *connection) handle(r *blip.Request) {
	if c.late(r) {
		return
	}
	profile := r.Profile()
	switch profile {
	case profilePing:
		r.Respond(&blip.Message{})
		r.Release()
		return
	case profileGetCollections: // at once: what comes after it relies on it
		if c.active == nil {
			c.finish(r, c.handleGetCollections(r))
			return
		}
	}
	on, handle := c.handlerOf(profile)
	if handle == nil {
		r.NoHandler()
		r.Release()
		return
	}
	coll, err := c.collectionOf(r)
	if err != nil {
		c.finish(r, err)
		return
	}
	if on == nil {
		if err := handle(coll, r); err != nil {
			c.finish(r, err)
		}
		return
	}
	on.do(func() {
		if c.ctx().Err() != nil { // it ended while the message waited
			r.Release()
			return
		}
		if c.late(r) {
			return
		}
		c.finish(r, c.guard(profile, func() error { return handle(coll, r) }))
	})
}

// errPanicked is what a peer is told of a panic that was caught.
var errPanicked = tidegate.Errorf(tidegate.Internal, "a handler panicked")

// guard runs f and turns a panic into an error, so that one message does not take the process with it.
func (c *connection) guard(what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			c.srv.logPanic(what, v)
			if c.active != nil {
				c.active.h.r.o.Stats.Panics.Add(1)
			}
			err = errPanicked
		}
	}()
	return f()
}

// finish releases a request that was dealt with, and answers it with err if that is not nil.
func (c *connection) finish(r *blip.Request, err error) {
	if err != nil {
		c.fail(r, err)
	}
	r.Release()
}

// respond answers a request and waits until the answer is handed to the transport: a peer that asks and does not read
// makes its own requests wait, not a heap of answers. It must not be called on the goroutine that reads.
func (c *connection) respond(r *blip.Request, m *blip.Message) {
	sent, done := make(chan struct{}), m.Done
	m.Done = func() {
		if done != nil {
			done()
		}
		close(sent)
	}
	r.Respond(m)
	<-sent
}

// fail answers a request with an error.
func (c *connection) fail(r *blip.Request, err error) {
	status, text := wireError(err)
	if status == 500 && c.ctx().Err() == nil && tidegate.ErrorCode(err) == tidegate.Internal {
		c.log.LogAttrs(c.ctx(), slog.LevelError, "replication message failed", slog.String("profile", r.Profile()), slog.Any("error", err))
	}
	if tidegate.ErrorCode(err) == tidegate.Canceled {
		text = errWentAway.Reason
	}
	r.Fail(domainHTTP, status, text)
}

// collectionOf finds the collection that a request is about (replication.md §3).
func (c *connection) collectionOf(r *blip.Request) (*collection, error) {
	text, given := r.Property(propCollection)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !given && c.aware:
		return nil, errCollectionMissing
	case !given:
		return c.defaultCollection()
	case !c.aware:
		return nil, errCollectionUnset
	}
	i, err := strconv.Atoi(text)
	if err != nil || i < 0 || i >= len(c.collections) || c.collections[i] == nil {
		return nil, errCollectionIndex
	}
	return c.collections[i], nil
}

// defaultCollection is the collection of a connection that knows of none; c.mu is held.
func (c *connection) defaultCollection() (*collection, error) {
	if c.plain == nil {
		id, err := c.peer.DB.Collection("", "")
		if err != nil {
			return nil, errNoCollection
		}
		c.plain = c.newCollection(collectionNotAware, id)
	}
	return c.plain, nil
}

func (c *connection) newCollection(index int, id store.Collection) *collection {
	coll := &collection{c: c, index: index, id: id}
	coll.puts.init(coll)
	return coll
}

// principal is the collection as the peer's principal may see it now. An error (the user is gone) ends the connection.
func (coll *collection) principal(ctx context.Context) (*database.Handle, error) {
	h, err := coll.handle(ctx)
	if admit := coll.c.peer.Admit; err == nil && admit != nil {
		h = admit(h)
	}
	return h, err
}

func (coll *collection) handle(ctx context.Context) (*database.Handle, error) {
	p := &coll.c.peer
	if p.Admin {
		return p.DB.Admin(coll.id).ForBLIP(), nil
	}
	user, err := p.DB.Access().User(ctx, p.User)
	if err != nil {
		err = fmt.Errorf("look up user: %w", err)
		if code := tidegate.ErrorCode(err); code == tidegate.NotFound || code == tidegate.Unauthorized {
			coll.c.conn.Drop(err)
		}
		return nil, err
	}
	return p.DB.As(user, coll.id).ForBLIP(), nil
}

// message begins a message about the collection.
func (coll *collection) message(profile string) *blip.Message {
	m := &blip.Message{}
	m.Properties.Add(propProfile, profile)
	if coll.index >= 0 {
		m.Properties.Add(propCollection, strconv.Itoa(coll.index))
	}
	return m
}

// truth reads a boolean property: true and any number but 0 (replication.md §1); absent is false.
func truth(r *blip.Request, name string) bool {
	switch v, ok := r.Property(name); {
	case !ok:
		return false
	case v == "true":
		return true
	default:
		n, err := strconv.ParseInt(v, 10, 64)
		return err == nil && n != 0
	}
}
