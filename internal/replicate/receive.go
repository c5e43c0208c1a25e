package replicate

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// Bounds of what is stored in one batch. While one batch waits for the disk the next is prepared.
const (
	storeDocs    = 256
	storeBytes   = 4 << 20
	storesAtOnce = 2
)

// incomingRev is a revision that a peer sends, on its way into the database.
type incomingRev struct {
	r       *blip.Request
	id, rev string
	size    int
	came    time.Time
	queued  time.Time // when it last began to wait to be stored
	// throttled: it had to wait for others.
	throttled bool
	w         *database.Write // once it lacks nothing
	done      []func()        // give back what attachments hold
	// Where this side drives the replication: the sequence at the peer, and whether it came as a delta. The message's
	// properties are gone once it is prepared.
	seq     string
	isDelta bool
}

// revQueue stores the revisions of a collection in batches: as many as came while the batches before were stored. It
// holds no goroutine while there are none.
type revQueue struct {
	coll *collection

	mu     sync.Mutex
	queue  []*incomingRev
	stores int // batches being stored
	// prepared is how many bytes of the queue are in writes, which the connection's memory of messages does not
	// count; room is closed when there are less. nil: nobody waits.
	prepared int
	room     chan struct{}
}

func (q *revQueue) init(coll *collection) { q.coll = coll }

// add takes a revision in. It does not wait.
func (q *revQueue) add(in *incomingRev) {
	q.coll.c.stats().StoreQueue.Add(1)
	q.mu.Lock()
	defer q.mu.Unlock()
	in.queued = time.Now()
	in.throttled = q.stores == storesAtOnce
	q.queue = append(q.queue, in)
	if !in.throttled {
		q.stores++
		q.coll.c.crew.send(q.run)
	}
}

// admit waits until what was prepared and is not being stored takes little enough for size more bytes. It gives up when
// ctx ends.
func (q *revQueue) admit(ctx context.Context, size int) {
	q.mu.Lock()
	for q.prepared > storeBytes && ctx.Err() == nil {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
		}
		q.mu.Lock()
	}
	q.prepared += size
	q.mu.Unlock()
}

// leave counts a batch's prepared revisions out; q.mu is held.
func (q *revQueue) leave(batch []*incomingRev) {
	for _, in := range batch {
		if in.w != nil {
			q.prepared -= in.size
		}
	}
	if q.prepared <= storeBytes && q.room != nil {
		close(q.room)
		q.room = nil
	}
}

func (q *revQueue) run() {
	for batch := q.next(); len(batch) > 0; batch = q.next() {
		err := q.coll.c.guard(profileRev, func() error { q.coll.store(batch); return nil })
		for _, in := range batch {
			if err != nil {
				q.coll.c.fail(in.r, err) // those that were answered stay so
			}
			q.coll.c.stats().StoreQueue.Add(-1)
		}
	}
}

// next takes the next batch; none, and one goroutine less, if nothing waits.
func (q *revQueue) next() []*incomingRev {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < len(q.queue) && n < storeDocs {
		size += q.queue[n].size
		if size > storeBytes && n > 0 {
			break
		}
		n++
	}
	if n == 0 {
		q.queue = nil
		q.stores--
		return nil
	}
	batch := q.queue[:n:n]
	q.queue = q.queue[n:]
	q.leave(batch)
	q.coll.c.countThrottled(batch)
	return batch
}

// handleRev takes a revision in (replication.md §5.8). It runs on the goroutine that reads the connection.
func (coll *collection) handleRev(r *blip.Request) error {
	in := &incomingRev{r: r, size: len(r.Body()), came: time.Now()}
	coll.noteOffered()
	var ok, ok2 bool
	in.id, ok = r.Property("id")
	in.rev, ok2 = r.Property("rev")
	switch {
	case !ok || !ok2:
		return coll.refused(errNoRevID)
	case coll.c.peer.ReadOnly:
		return coll.refused(errGuestReadOnly)
	}
	if coll.active != nil {
		if text, ok := r.Property("sequence"); ok {
			in.seq = seqText(text)
		}
		_, in.isDelta = r.Property("deltaSrc")
	}
	coll.puts.add(in)
	return nil
}

// refused counts a revision that is not taken and returns err.
func (coll *collection) refused(err error) error {
	coll.c.stats().Push.DocErrors.Add(1)
	return err
}

// store stores a batch of revisions and answers each.
func (coll *collection) store(batch []*incomingRev) {
	ctx := coll.c.ctx()
	h, err := coll.principal(ctx)
	if err != nil {
		for _, in := range batch {
			coll.refuse(in, err)
		}
		return
	}
	ready, writes := make([]*incomingRev, 0, len(batch)), make([]*database.Write, 0, len(batch))
	for _, in := range batch {
		if in.w == nil {
			later, err := coll.parse(in)
			if err != nil {
				coll.refuse(in, err)
				continue
			}
			if later {
				continue
			}
		}
		ready, writes = append(ready, in), append(writes, in.w)
	}
	for i, res := range h.PutAll(ctx, writes) {
		if errors.Is(res.Err, database.ErrWritesBlocked) {
			res.Err = errBlockedForNow
		}
		if coll.active != nil {
			coll.active.stored(ready[i], &res.Written, res.Err)
		}
		coll.answer(ready[i], res.Err)
	}
}

// refuse answers a revision that was not even tried to be stored.
func (coll *collection) refuse(in *incomingRev, err error) {
	if coll.active != nil {
		coll.active.stored(in, &database.Written{}, err)
	}
	coll.answer(in, err)
}

// answer tells the peer what became of its revision.
func (coll *collection) answer(in *incomingRev, err error) {
	for _, release := range in.done {
		release()
	}
	in.done = nil
	stats := &coll.c.stats().Push
	if err != nil {
		stats.DocErrors.Add(1)
		coll.c.fail(in.r, err)
	} else {
		stats.Docs.Add(1)
		in.r.Respond(&blip.Message{})
	}
	stats.WriteTime.Add(int64(time.Since(in.came)))
	in.r.Release()
}

// parse makes a write of a revision. later: it needs something first, and comes again when it has it.
func (coll *collection) parse(in *incomingRev) (later bool, err error) {
	if _, ok := in.r.Property("deltaSrc"); ok && !truth(in.r, "deleted") {
		coll.c.revs.do(func() { coll.prepare(in, coll.applyDelta) })
		return true, nil
	}
	w, err := coll.write(in, in.r.Body())
	if err != nil {
		return false, err
	}
	if len(w.Attachments) == 0 {
		in.w = w
		in.r.Release() // the write has memory of its own
		return false, nil
	}
	coll.c.revs.do(func() {
		coll.prepare(in, func(context.Context, *database.Handle, *incomingRev) (*database.Write, error) { return w, nil })
	})
	return true, nil
}

// prepare gets what a revision needs from the store and the peer, and hands it over to be stored.
func (coll *collection) prepare(in *incomingRev, write func(context.Context, *database.Handle, *incomingRev) (*database.Write, error)) {
	err := coll.c.guard(profileRev, func() error {
		ctx := coll.c.ctx()
		h, err := coll.principal(ctx)
		if err != nil {
			return err
		}
		w, err := write(ctx, h, in)
		if err != nil {
			return err
		}
		if err := coll.fetchAttachments(ctx, h, in, w); err != nil {
			return err
		}
		in.w, in.size = w, sizeOf(w)
		return nil
	})
	if err != nil {
		coll.refuse(in, err)
		return
	}
	coll.puts.admit(coll.c.ctx(), in.size)
	in.r.Release()
	coll.puts.add(in)
}

// sizeOf is about how much memory a write takes, in bytes: a delta may be far shorter than what it makes.
func sizeOf(w *database.Write) int {
	n := len(w.Body)
	for _, a := range w.Attachments {
		n += len(a.Data)
	}
	return n
}

// write makes a write of a revision's properties and body.
func (coll *collection) write(in *incomingRev, body []byte) (*database.Write, error) {
	doc, err := jsondoc.Split(body, coll.c.peer.DB.JSONLimits(), true)
	if err != nil {
		return nil, bodyError(err)
	}
	if err := checkMembers(doc); err != nil {
		return nil, err
	}
	w := &database.Write{ID: in.id, Body: doc.Body, Deleted: truth(in.r, "deleted"), Exp: doc.Exp, Gateway: coll.c.peer.Gateway}
	if err := coll.setHistory(w, in); err != nil {
		return nil, err
	}
	if text, ok := in.r.Property("noconflicts"); ok {
		if w.NoConflicts, err = parseTruth(text); err != nil {
			return nil, err
		}
	}
	if coll.active != nil {
		w.NoConflicts, w.Resolver = true, coll.active.s.h.r.o.Resolver
	}
	w.Attachments, err = database.ParseAttachments(doc.Attachments)
	return w, err
}

// errVector is the answer to a version vector that makes no sense.
var errVector = statusError(tidegate.Invalid, http.StatusUnprocessableEntity, "Invalid version vector")

// setHistory reads the properties that say which revision it is, and what came before it (replication.md §4).
func (coll *collection) setHistory(w *database.Write, in *incomingRev) (err error) {
	history, _ := in.r.Property("history")
	if coll.c.peer.Version < V4 || tidegate.IsTreeRev(in.rev) {
		rev, err := tidegate.ParseRevID(in.rev)
		if err != nil {
			return err
		}
		if w.History, err = tidegate.ParseRevHistory(rev, history); err != nil {
			return err
		}
		w.DeletedBranch, err = deletedBranch(in.r)
		return err
	}
	current, err := tidegate.ParseVersion(in.rev)
	if err != nil {
		return errVector
	}
	if w.Vector, w.Legacy, err = tidegate.ParseVersionHistory(current, history); err != nil {
		return errVector
	}
	if tree, ok := in.r.Property("revTree"); ok {
		own, older, _ := strings.Cut(tree, ",")
		rev, err := tidegate.ParseRevID(strings.TrimSpace(own))
		if err != nil {
			return err
		}
		w.History, err = tidegate.ParseRevHistory(rev, older)
		return err
	}
	return nil
}

// checkMembers refuses bodies with members that are the server's (replication.md §5.8).
func checkMembers(doc *jsondoc.Doc) error {
	switch {
	case doc.HasID || doc.HasRev || doc.HasDeleted || doc.Revisions != nil:
		return errReserved
	case doc.Removed:
		return errRemoved
	case doc.Purged:
		return errPurged
	}
	for _, name := range doc.Unknown {
		if name == "_sync" {
			return errReserved
		}
		if strings.HasPrefix(name, "_sync_") {
			return errSyncPrefix
		}
	}
	return nil
}

// deletedBranch reads the history of the tombstone by which a peer closed the branch that lost to its revision.
func deletedBranch(r *blip.Request) ([]tidegate.RevID, error) {
	text, ok := r.Property("deleted_branch")
	if !ok {
		return nil, nil
	}
	own, older, _ := strings.Cut(text, ",")
	rev, err := tidegate.ParseRevID(strings.TrimSpace(own))
	if err != nil {
		return nil, err
	}
	return tidegate.ParseRevHistory(rev, older)
}

// parseTruth reads a boolean that must be one.
func parseTruth(text string) (bool, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n != 0, nil
	}
	b, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		return false, errBadNoConflicts
	}
	return b, nil
}

// truthOf is truth for a property that was read already.
func truthOf(text string, ok bool) bool {
	if !ok {
		return false
	}
	b, err := parseTruth(text)
	return err == nil && b
}

// positive reads a number that is not negative; anything else is 0.
func positive(text string) int {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// handleNoRev takes note that a revision will not come. The peer drives the replication and keeps its own account.
func (coll *collection) handleNoRev(r *blip.Request) error {
	if coll.active != nil {
		coll.active.norev(r)
	}
	r.Release()
	return nil
}
