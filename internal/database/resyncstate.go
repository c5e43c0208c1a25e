package database

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
)

// storedRun is what is stored of the last resync: its status, and where to go on. It is written with each batch, in the
// batch's transaction, so counters and cursor are never ahead of what was done, nor behind.
type storedRun struct {
	State     ResyncState `json:"state"`
	Mode      ResyncMode  `json:"mode"`
	ID        string      `json:"id"`
	StartTime time.Time   `json:"start"`
	EndTime   time.Time   `json:"end,omitzero"`
	LastError string      `json:"error,omitempty"`
	Node      string      `json:"node,omitempty"`
	Fence     uint64      `json:"fence,omitempty"` // the epoch of the lease that Node runs it under

	Processed int64 `json:"processed"`
	Changed   int64 `json:"changed"`
	Total     int64 `json:"total"`
	Errored   int64 `json:"errored,omitempty"`
	Rejected  int64 `json:"rejected,omitempty"`

	Collections []store.Collection          `json:"collections"`
	All         bool                        `json:"all,omitempty"` // no collections were named
	Regenerate  bool                        `json:"regenerate,omitempty"`
	Functions   string                      `json:"functions"` // digest of the functions that it began with
	Candidates  map[store.Collection]string `json:"candidates,omitempty"`

	Run    uint32       `json:"run,omitempty"`    // of store.Routing, online
	Margin tidegate.Seq `json:"margin,omitempty"` // between the last sequence at the start and those of the run

	// The cursor: collections before Collections[At] are done, and in that one documents up to After. Behind the last
	// collection it is about principals.
	At    int    `json:"at"`
	After []byte `json:"after,omitempty"`
}

func (s *storedRun) status() ResyncStatus {
	return ResyncStatus{
		State: s.State, Mode: s.Mode, ID: s.ID, Node: s.Node, StartTime: s.StartTime, EndTime: s.EndTime, LastError: s.LastError,
		DocsProcessed: s.Processed, DocsChanged: s.Changed, DocsTotal: s.Total, DocsErrored: s.Errored, DocsRejected: s.Rejected,
		Collections: slices.Clone(s.Collections), Regenerate: s.Regenerate,
	}
}

// unfinished reports whether the run can be gone on with (resync.md §3.5). What an online one did is gone once it was stopped.
func (s *storedRun) unfinished() bool {
	switch s.State {
	case ResyncRunning, ResyncStopping:
		return true
	case ResyncStopped, ResyncError:
		return s.Mode == ResyncOffline
	}
	return false
}

// sameAs reports whether s is the same work as o, so that o can go on where s stands.
func (s *storedRun) sameAs(o *storedRun) bool {
	return s.Mode == o.Mode && s.Regenerate == o.Regenerate && s.Functions == o.Functions && s.All == o.All &&
		slices.Equal(s.Collections, o.Collections)
}

func runKey(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("resync.status")
}

func writeRun(tx store.Tx, space store.Space, s *storedRun) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode status of resync: %w", err)
	}
	return tx.Put(runKey(space), b)
}

// readRun reads what is stored of the last resync; nil if there never was one, or it cannot be read (resync.md §3.5).
func readRun(r store.Reader, space store.Space) (*storedRun, error) {
	b, err := r.Get(runKey(space))
	if err != nil || b == nil {
		return nil, err
	}
	s := new(storedRun)
	if json.Unmarshal(b, s) != nil || s.ID == "" || s.At < 0 || s.At > len(s.Collections) {
		return nil, nil
	}
	return s, nil
}

// StoredResync is the status of the last resync of a database as of a snapshot; its ID is "" if there was none.
func StoredResync(r store.Reader, space store.Space) (ResyncStatus, error) {
	s, err := readRun(r, space)
	if err != nil || s == nil {
		return ResyncStatus{State: ResyncCompleted, Mode: ResyncOffline}, err
	}
	return s.status(), nil
}

// GiveUpResync notes in a transaction that a resync, which nobody runs any more, is not gone on with by itself. Nothing happens if it has
// ended, or is another one.
func GiveUpResync(tx store.Tx, space store.Space, id string, now time.Time) error {
	s, err := readRun(tx, space)
	if err != nil || s == nil || s.ID != id || s.State != ResyncRunning && s.State != ResyncStopping {
		return err
	}
	s.State, s.EndTime, s.Fence = ResyncStopped, now, 0
	return writeRun(tx, space, s)
}

// ReadResyncStatus returns what is stored of the last resync of a database, which need not be open.
func ReadResyncStatus(ctx context.Context, st store.Store, space store.Space) (ResyncStatus, error) {
	var status ResyncStatus
	err := st.View(ctx, func(r store.Reader) (err error) {
		status, err = StoredResync(r, space)
		return err
	})
	if err != nil {
		return ResyncStatus{}, fmt.Errorf("read status of resync: %w", err)
	}
	return status, nil
}

// InterruptedResync returns the options of a resync that did not come to its end, so that Resync with them goes on with
// it; ok is false if there is none.
func (db *Database) InterruptedResync(ctx context.Context) (o ResyncOptions, ok bool, err error) {
	return InterruptedResync(ctx, db.st, db.space)
}

// InterruptedResync is that of a database that need not be open.
func InterruptedResync(ctx context.Context, st store.Store, space store.Space) (o ResyncOptions, ok bool, err error) {
	err = st.View(ctx, func(r store.Reader) error {
		s, err := readRun(r, space)
		if err != nil || s == nil || !s.unfinished() {
			return err
		}
		o = ResyncOptions{Online: s.Mode == ResyncOnline, Regenerate: s.Regenerate, Functions: maps.Clone(s.Candidates)}
		if !s.All {
			o.Collections = slices.Clone(s.Collections)
		}
		ok = s.Mode != ResyncDryRun
		return nil
	})
	return o, ok, err
}

// functionsDigest names a set of functions.
func functionsDigest(colls []*collection, fns map[store.Collection]script.SyncFunction) string {
	h := sha256.New()
	for _, c := range colls {
		d := c.digest(fns[c.id].Source())
		h.Write(d[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// digest names a sync function of the collection.
func (c *collection) digest(source string) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%d %q %q", c.id, c.defaultChannel(), source))
}

// digestKey holds the digest of the function that a collection's documents are routed by.
func digestKey(space store.Space, coll store.Collection) store.Key {
	return store.NewKey(space, store.KindMeta).Name("resync.routed").Collection(coll)
}

// noteFunctions notes by which function the documents of collections of which nothing is noted are routed: the present
// one. That is right for new databases; of older ones nobody knows better.
func (db *Database) noteFunctions(ctx context.Context) error {
	missing := func(r store.Reader) (colls []*collection, err error) {
		for _, c := range db.collections {
			b, err := r.Get(digestKey(db.space, c.id))
			if err != nil {
				return nil, err
			}
			if b == nil {
				colls = append(colls, c)
			}
		}
		return colls, nil
	}
	n := 0
	err := db.st.View(ctx, func(r store.Reader) error {
		colls, err := missing(r)
		n = len(colls)
		return err
	})
	if err != nil || n == 0 {
		return err
	}
	return db.st.Update(ctx, func(tx store.Tx) error {
		colls, err := missing(tx)
		if err != nil {
			return err
		}
		for _, c := range colls {
			if err := db.noteRouted(tx, c, c.sync.Source()); err != nil {
				return err
			}
		}
		return nil
	})
}

// noteRouted notes that the documents of a collection are routed by a function.
func (db *Database) noteRouted(tx store.Tx, c *collection, source string) error {
	d := c.digest(source)
	return tx.Put(digestKey(db.space, c.id), d[:])
}

// SyncFunctionChanged returns the collections whose documents were routed by another function than is configured
// now: a resync is due (resync.md §2).
func (db *Database) SyncFunctionChanged(ctx context.Context) (changed []store.Collection, err error) {
	err = db.st.View(ctx, func(r store.Reader) error {
		for _, c := range db.collections {
			b, err := r.Get(digestKey(db.space, c.id))
			if err != nil {
				return err
			}
			if d := c.digest(c.source()); b != nil && string(b) != string(d[:]) {
				changed = append(changed, c.id)
			}
		}
		return nil
	})
	return changed, err
}

// requireKey holds that a collection must be resynced with Regenerate before it is served.
func requirePrefix(space store.Space) store.Key {
	return store.NewKey(space, store.KindMeta).Name("resync.required")
}

// RequireResync returns the collections that must not be served before a resync with Regenerate has completed
// (resync.md §3.7).
func (db *Database) RequireResync(ctx context.Context) ([]store.Collection, error) {
	return ReadRequireResync(ctx, db.st, db.space)
}

// ReadRequireResync is RequireResync of a database that need not be open.
func ReadRequireResync(ctx context.Context, st store.Store, space store.Space) (colls []store.Collection, err error) {
	prefix := requirePrefix(space)
	err = st.View(ctx, func(r store.Reader) error {
		it := r.Scan(store.Prefix(prefix))
		defer it.Close()
		for it.Next() {
			coll, _, err := store.CutCollection(it.Key()[len(prefix):])
			if err != nil {
				return err
			}
			colls = append(colls, coll)
		}
		return it.Err()
	})
	return colls, err
}

// MarkRequireResync notes that a collection's metadata is of another database.
func MarkRequireResync(tx store.Tx, space store.Space, coll store.Collection) error {
	return tx.Put(requirePrefix(space).Collection(coll), nothing)
}
