package database

import (
	"context"
	"errors"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// maxTries bounds how often one write is computed again because its document moved. Writers of one document take
// turns after their first try, so this many others got their word in.
const maxTries = 100

// errMoved ends a commit whose documents all moved; it never leaves the package.
var errMoved = errors.New("the document moved")

// errBusy is answered when a document moved maxTries times.
var errBusy = tidegate.Errorf(tidegate.Unavailable, "the document is changing too fast")

// errReadOnly is answered to document writes of a read-only database (resync.md §1.4).
var errReadOnly = tidegate.Errorf(tidegate.Forbidden, "Database is read-only")

// Put writes one revision and returns once it is durable and visible to every reader. Errors: those of
// gateway-rest.md §11 and §12, those of the sync function, Forbidden if the database is read-only.
func (h *Handle) Put(ctx context.Context, w *Write) (Written, error) {
	return h.put(ctx, &job{h: h, w: w})
}

func (h *Handle) put(ctx context.Context, j *job) (Written, error) {
	defer j.close()
	w := j.w
	for range maxTries {
		p, err := j.prepare(ctx)
		if err != nil {
			return Written{ID: w.ID}, h.countFailure(err)
		}
		if p.nothing {
			return p.result, nil
		}
		err = h.update(ctx, p.reads, func(tx store.Tx) error {
			routing, err := h.db.routes.Read(tx)
			if err != nil {
				return err
			}
			moved, err := p.commit(tx, routing)
			if moved {
				return errMoved
			}
			return err
		})
		if err == nil {
			h.committed(p)
			return p.result, nil
		}
		if !errors.Is(err, errMoved) {
			return Written{ID: w.ID}, err
		}
		j.moved(p)
		if err := j.takeTurn(ctx); err != nil {
			return Written{ID: w.ID}, err
		}
	}
	return Written{ID: w.ID}, errBusy
}

// job is one write on its way, over all its tries.
type job struct {
	h       *Handle
	w       *Write
	res     PutResult
	content map[string]content // of attachments that are new, once they are in
	pins    []func()           // to be released at the end
	unlock  func()             // gives back the turn, if taken
	exp     time.Time          // what w.Exp says; zero: nothing
	ahead   *readAhead         // what was read for the next try, with others; nil: nothing

	// expires makes the write conditional: nothing is written unless the document is due to expire then.
	expires expiryCheck
	// force stores the revision with empty outputs if the sync function refuses it.
	force bool
}

// takeTurn counts a try in vain and waits for the document's turn.
func (j *job) takeTurn(ctx context.Context) error {
	j.h.db.stats.Moved.Add(1)
	if j.unlock != nil {
		return nil
	}
	var err error
	j.unlock, err = j.h.db.locks.lock(ctx, string(j.h.coll.bodyPrefix(j.w.ID)))
	return err
}

// close releases what the job holds.
func (j *job) close() {
	if j.unlock != nil {
		j.unlock()
		j.unlock = nil
	}
	for _, release := range j.pins {
		release()
	}
	j.pins = nil
}

// committed does what follows a durable write: caches forget, feeds of principals wake, counters move.
func (h *Handle) committed(p *prepared) {
	if len(p.changed) > 0 {
		h.db.access.Invalidate(p.changed)
	}
	h.db.sweeper.due(p.due)
	s, c := h.db.stats, h.coll.stats
	n := int64(len(p.w.Body))
	s.DocWrites.Add(1)
	s.DocWritesBytes.Add(n)
	if h.blip {
		s.Replication.DocWritesBytes.Add(n)
	}
	c.DocWrites.Add(1)
	c.DocWritesBytes.Add(n)
	s.SequenceAssigned.Add(1)
	storeMax(&s.LastSequenceAssigned, int64(p.result.Seq))
	if p.new.Others != nil && p.conflict {
		s.ConflictWrites.Add(1)
	}
}

// countFailure counts a refused write and returns err.
func (h *Handle) countFailure(err error) error {
	if tidegate.ErrorCode(err) == tidegate.Conflict {
		h.db.stats.DocWritesRejected.Add(1)
	}
	return err
}
