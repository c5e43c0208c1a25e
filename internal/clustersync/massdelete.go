package clustersync

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tidegate/tidegate/internal/job"
)

// MassDelete says when deletions of documents are so many that the sync pauses before it makes the rest of them (hardening.md): somebody may have
// emptied a collection by mistake, and the destination still has it. The zero value never pauses.
type MassDelete struct {
	Percent   int   // of the documents of a collection, within ten minutes; 0: never
	Documents int64 // fewer deletions are never too many
}

// Defaults of MassDelete.
const (
	DefaultMassPercent   = 50
	DefaultMassDocuments = 10_000

	massWindow = 10 * time.Minute
)

// massState is what the records hold of it.
type massState struct {
	Asked   bool     `bson:"asked"` // the sync was paused; whoever resumes it says that all of it is meant
	Warning string   `bson:"warning,omitempty"`
	Until   Position `bson:"until"` // deletions up to here are meant
}

// MassDeleteError ends a run of an engine that has paused by itself: the journal says PAUSED.
type MassDeleteError struct{ Warning string }

func (e *MassDeleteError) Error() string { return e.Warning }

// massGuard counts deletions.
type massGuard struct {
	mu     sync.Mutex
	began  time.Time
	counts map[string]int64 // by mapping, since began
	look   map[string]int64 // when to ask the source next
}

// count adds deletions of a collection, and returns how many there are now if that is enough to ask how many documents there were.
func (g *massGuard) count(id string, n, least int64) (deleted int64, ask bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.counts == nil || time.Since(g.began) > massWindow {
		g.began, g.counts, g.look = time.Now(), map[string]int64{}, map[string]int64{}
	}
	g.counts[id] += n
	deleted = g.counts[id]
	if deleted < max(least, g.look[id]) {
		return deleted, false
	}
	return deleted, true
}

// askAt has the source asked again once there are so many deletions: to list it takes its time.
func (g *massGuard) askAt(id string, deleted int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.look[id] = deleted
}

// deletion reports whether an intent deletes a document. tidegate's tombstones are documents all of whose leaves are deleted.
func deletion(in Intent) bool {
	if in.Doc.Body == nil {
		return true
	}
	if in.Doc.Format != Tidegate || !bytes.Contains(in.Doc.Body, []byte(`"_deleted"`)) {
		return false
	}
	var leaves []struct {
		Deleted bool `json:"_deleted"`
	}
	if err := json.Unmarshal(in.Doc.Body, &leaves); err != nil || len(leaves) == 0 {
		return false
	}
	for _, l := range leaves {
		if !l.Deleted {
			return false
		}
	}
	return true
}

// guardDeletes pauses the sync before a batch is written that makes the deletions of a collection too many. applied is up to where everything is.
func (e *Engine) guardDeletes(ctx context.Context, m *mapping, batch []Intent, applied Position) error {
	limit := e.cfg.Settings.MassDelete
	if limit.Percent <= 0 {
		return nil
	}
	var n int64
	for _, in := range batch {
		if deletion(in) {
			n++
		}
	}
	if n == 0 || e.deletesMeant(applied) {
		return nil
	}
	deleted, ask := e.mass.count(m.ID, n, limit.Documents)
	if !ask {
		return nil
	}
	now, _, err := e.findOnSource(ctx, m.ref())
	if err != nil {
		return err
	}
	before := max(now.Count, m.Count)
	if e.cfg.Source.Kind() == MongoDB { // what is deleted is not counted there any more
		before = max(now.Count+deleted, m.Count)
	}
	if deleted*100 < before*int64(limit.Percent) {
		e.mass.askAt(m.ID, before*int64(limit.Percent)/100)
		return nil
	}
	return e.pauseForDeletes(ctx, fmt.Sprintf("the sync has paused by itself: about %d of %d documents of %s were deleted on the source within %s, and most of the deletions may be on the destination "+
		"already; if they are meant, call /resume, and if not, the destination can be saved from the rest", deleted, before, m.Source, massWindow))
}

// deletesMeant reports whether deletions are not counted: a commit is under way, which has somebody looking on, or they were asked about.
func (e *Engine) deletesMeant(applied Position) bool {
	rec := e.journal.Get()
	return rec.CommitStep != CommitNone || !rec.Mass.Until.Zero() && (applied.Zero() || !e.cfg.Source.Reached(applied, rec.Mass.Until))
}

// pauseForDeletes writes down that the sync is paused, unless a commit has begun meanwhile. Of several workers that come to it the first says why.
func (e *Engine) pauseForDeletes(ctx context.Context, why string) error {
	var paused bool
	err := e.update(ctx, func(r *Resume) {
		if paused = r.CommitStep == CommitNone; paused && r.Mass.Asked {
			why = r.Mass.Warning
		} else if paused {
			r.State, r.Mass = job.SyncPaused.String(), massState{Asked: true, Warning: why}
			r.Warnings = append(slices.DeleteFunc(r.Warnings, func(w string) bool { return w == why }), why)
		}
	})
	if err != nil || !paused {
		return err
	}
	e.cfg.Log.WarnContext(ctx, why)
	return &MassDeleteError{why}
}

// answerDeletes: a sync that had paused because of deletions runs, so they are meant, up to now.
func (e *Engine) answerDeletes(ctx context.Context) error {
	asked := e.journal.Get().Mass
	if !asked.Asked {
		return nil
	}
	var until Position
	err := e.retries.do(ctx, "mark the source", func() (err error) { until, err = e.cfg.Source.Mark(ctx); return err })
	if err != nil {
		return err
	}
	return e.update(ctx, func(r *Resume) {
		r.Mass = massState{Until: until}
		r.Warnings = slices.DeleteFunc(r.Warnings, func(w string) bool { return w == asked.Warning })
	})
}
