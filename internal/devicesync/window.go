package devicesync

import (
	"slices"
	"time"

	"github.com/tidegate/tidegate"
)

const day = 24 * time.Hour

// ResumeDeadline is until when a paused sync can be resumed (device-sync.md §8.5); nil: it is not paused, or the window has no end.
func (r *Row) ResumeDeadline() *time.Time {
	if r.Record.State != Disabled || r.Config.ChangeHistoryHours == 0 {
		return nil
	}
	return new(time.Unix(r.Record.LastDisabled, 0).Add(time.Duration(r.Config.ChangeHistoryHours) * time.Hour).UTC())
}

// MustTerminate reports whether a termination is the only way on: the history has rolled past the pause, or is lost at its source.
func (r *Row) MustTerminate(now time.Time) bool {
	if e := r.Record.Error; e != nil && r.Record.Phase == Faulty {
		return true
	}
	deadline := r.ResumeDeadline()
	return deadline != nil && now.After(*deadline)
}

// AutoPauseAt is when sync pauses by itself if nothing happens until then (§8.4); ok is false if it does not. activity is the last
// one known, if it is later than the recorded one.
func (r *Row) AutoPauseAt(activity time.Time) (at time.Time, ok bool) {
	if r.Record.State != Enabled || r.Config.AutoPauseDays == 0 {
		return time.Time{}, false
	}
	last := r.Record.EnabledAt
	for _, t := range []time.Time{r.Record.LastActivity, activity} {
		if t.After(last) {
			last = t
		}
	}
	return last.Add(time.Duration(r.Config.AutoPauseDays) * day), true
}

// Warnings.
const (
	WarnAutoPause      = "auto_pause"      // less than autoPauseWarning is left
	WarnResumeDeadline = "resume_deadline" // most of the window is over
	WarnMustTerminate  = "must_terminate"  // all of it is
)

const (
	autoPauseWarning = 3 * day
	deadlineWarning  = 0.8 // of the window
)

// Warnings are the warnings that are due now, whether or not they were given already.
func (r *Row) Warnings(activity, now time.Time) []string {
	var due []string
	if at, ok := r.AutoPauseAt(activity); ok && !now.Before(at.Add(-autoPauseWarning)) && r.Config.AutoPauseDays > int(autoPauseWarning/day) {
		due = append(due, WarnAutoPause)
	}
	if deadline := r.ResumeDeadline(); deadline != nil {
		window := time.Duration(r.Config.ChangeHistoryHours) * time.Hour
		over := window - deadline.Sub(now)
		switch {
		case now.After(*deadline):
			due = append(due, WarnMustTerminate)
		case float64(over) >= deadlineWarning*float64(window):
			due = append(due, WarnResumeDeadline)
		}
	}
	return due
}

// Samples are taken hourly; of those older than samplesDense one a day is kept.
const (
	SampleEvery  = time.Hour
	samplesDense = 2 * day
)

// Sampled returns the samples with one more, less those that no window reaches back to; unchanged if one was taken within SampleEvery,
// or nothing is trimmed.
func (r *Row) Sampled(now time.Time, last tidegate.Seq) []Sample {
	days := r.windowDays()
	old := r.Record.Samples
	if days == 0 || len(old) > 0 && now.Sub(time.Unix(old[len(old)-1].At, 0)) < SampleEvery {
		return old
	}
	oldest := now.Add(-time.Duration(days+1) * day)
	var kept []Sample
	for i, s := range old {
		at := time.Unix(s.At, 0)
		// The newest of those that are too old stays until the next one is too old as well: it says what was current then.
		if at.Before(oldest) && i+1 < len(old) && !time.Unix(old[i+1].At, 0).After(oldest) {
			continue
		}
		if n := len(kept); n > 0 && now.Sub(at) > samplesDense && at.Sub(time.Unix(kept[n-1].At, 0)) < day {
			continue
		}
		kept = append(kept, s)
	}
	return append(kept, Sample{now.Unix(), last})
}

// windowDays is how far back samples are needed, in days; 0: nothing is trimmed.
func (r *Row) windowDays() int {
	days := 0
	for _, d := range []*int{r.Config.ClientMaxOfflineDays, r.Config.LedgerRetentionDays} {
		if d != nil {
			days = max(days, *d)
		}
	}
	return days
}

// SequenceAt is the last sequence at a time, as far as the samples know; 0 if they do not reach back so far.
func (r *Record) SequenceAt(t time.Time) tidegate.Seq {
	i, _ := slices.BinarySearchFunc(r.Samples, t.Unix()+1, func(s Sample, at int64) int {
		return int(s.At - at)
	})
	if i == 0 {
		return 0
	}
	return r.Samples[i-1].Seq
}

// floorAt is the highest floor at which a client that had caught up at a time is not stale: below the last sequence of then, and below
// the last one that a client can hold if that was a marker. A database that nobody writes to so keeps its clients.
func (r *Record) floorAt(t time.Time) tidegate.Seq {
	last := r.SequenceAt(t)
	if last > 0 && (slices.Contains(r.Markers, last) || last == r.Epoch.Base) {
		last--
	}
	if last == 0 {
		return 0
	}
	return last - 1
}

// TrimPlan is what a trim is to do (§8.6).
type TrimPlan struct {
	Marker bool         // allocate a floor marker
	Floor  tidegate.Seq // raise the floor to this; 0: leave it
	// Forget: deletions from before a time are forgotten; zero: none are. Ledger is the highest sequence among those, which whoever
	// carries the plan out fills in.
	Forget time.Time
	Ledger tidegate.Seq
	// Held: a session that still needs history holds the floor back. Evict: it has done so for too long, and is to be ended.
	Held, Evict bool
}

// PlanTrim plans the trim that is due now. last is the last sequence, lowest the lowest position that an open session still needs, 0
// for none. A pause suspends trimming until its window is over.
func (r *Row) PlanTrim(last, lowest tidegate.Seq, now time.Time) TrimPlan {
	rec := &r.Record
	suspended := rec.State == Terminated || rec.Phase == Faulty || rec.State == Disabled && !r.MustTerminate(now)
	if suspended || r.windowDays() == 0 {
		return TrimPlan{}
	}
	p := TrimPlan{Marker: last > max(rec.Marker(), rec.Epoch.Base)}
	if days := r.Config.LedgerRetentionDays; days != nil {
		p.Forget = now.Add(-time.Duration(*days) * day)
	}
	days := r.Config.ClientMaxOfflineDays
	if days == nil {
		return p
	}
	window := time.Duration(*days) * day
	floor := rec.floorAt(now.Add(-window))
	if lowest > 0 && lowest <= floor {
		p.Held = true
		p.Evict = !rec.HeldSince.IsZero() && now.Sub(rec.HeldSince) > window
		if !p.Evict {
			floor = lowest - 1
		}
	}
	if floor > rec.HistoryFloor {
		p.Floor = floor
	}
	return p
}

// TrimRun is a trim whose floor is in force and that may not have been carried out to its end.
type TrimRun struct {
	After   tidegate.Seq `json:"after"` // what is not above was trimmed before
	Through tidegate.Seq `json:"through"`
}

// Trimmed puts the floors of a plan in force; what is below them is then destroyed, until [Record.TrimEnded]. Where even deletions are
// forgotten no history is honoured either.
func (r *Record) Trimmed(p TrimPlan, now time.Time) {
	before := r.HistoryFloor
	r.LedgerFloor = max(r.LedgerFloor, p.Ledger)
	r.HistoryFloor = max(r.HistoryFloor, p.Floor, r.LedgerFloor)
	if r.HistoryFloor > before {
		run := TrimRun{before, r.HistoryFloor}
		if r.Trim != nil {
			run.After = min(run.After, r.Trim.After)
		}
		r.Trim = &run
	}
	markers := r.Markers
	for len(markers) > 0 && markers[0] <= r.HistoryFloor {
		markers = markers[1:]
	}
	r.Markers = slices.Clone(markers)
	r.LastTrim = now.UTC()
	switch {
	case !p.Held || p.Evict:
		r.HeldSince = time.Time{}
	case r.HeldSince.IsZero():
		r.HeldSince = now.UTC()
	}
}

// TrimEnded notes that what is below the floor is destroyed.
func (r *Record) TrimEnded() { r.Trim = nil }
