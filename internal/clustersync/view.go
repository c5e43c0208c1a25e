package clustersync

import (
	"slices"
	"strings"

	"github.com/tidegate/tidegate/internal/job"
)

// Progress says how far the sync is (spec §5.2), from memory. An error is why the job has failed.
func (c *Control) Progress() (Progress, error) {
	v := c.look()
	if v.failed != nil {
		return Progress{}, v.failed
	}
	return v.progress(), nil
}

// NamespaceStatus is how far one namespace is: what GET /api/v1/namespaces answers with, which mongosync does not have.
type NamespaceStatus struct {
	Source         string `json:"source"`      // its name there
	Destination    string `json:"destination"` // its name there
	EstimatedBytes int64  `json:"estimatedBytes"`
	CopiedBytes    int64  `json:"copiedBytes"`
	CopiedDocs     int64  `json:"copiedDocuments"`
	Partitions     int64  `json:"partitions"`
	PartitionsDone int64  `json:"partitionsDone"`
	Copied         bool   `json:"copied"`
}

// Namespaces says how far each namespace is, in the order of names.
func (c *Control) Namespaces() []NamespaceStatus {
	v := c.look()
	out := []NamespaceStatus{} // [] and not null
	for _, n := range v.engine.Namespaces {
		out = append(out, NamespaceStatus{
			Source: n.Source.String(), Destination: n.Destination.String(), EstimatedBytes: max(n.TotalBytes, n.CopiedBytes), CopiedBytes: n.CopiedBytes,
			CopiedDocs: n.CopiedDocuments, Partitions: n.Partitions, PartitionsDone: n.Done, Copied: n.Partitions > 0 && n.Done >= n.Partitions,
		})
	}
	slices.SortStableFunc(out, func(a, b NamespaceStatus) int { return strings.Compare(a.Source, b.Source) })
	return out
}

// view is all that there is to say at one time.
type view struct {
	state   job.SyncState
	failed  error
	plan    *Plan
	swapped bool
	infos   [2]Info
	engine  Snapshot
	working bool
	gauges  gauges
	quiet   bool // no verification in this run
}

func (c *Control) look() view {
	c.mu.Lock()
	v := view{state: c.state, failed: c.failed, plan: c.plan, infos: c.infos, engine: c.last, gauges: c.gauges}
	w, j := c.work, c.journal
	c.mu.Unlock()
	v.quiet = c.cfg.Settings.DisableVerification || v.plan == nil || !v.plan.Verification
	if j != nil {
		v.swapped = j.Get().Swapped
	}
	if w != nil {
		v.engine, v.working = w.engine.Snapshot(), true
	}
	return v
}

// sides are the labels of source and destination as they are now.
func (v *view) sides() (src, dst int) { return direction(v.plan, v.swapped) }

// progress writes the view down as mongosync does.
func (v *view) progress() Progress {
	p := Progress{State: v.state.String()}
	if v.state <= job.SyncIdle {
		return p // everything else is null
	}
	e := v.engine
	src, dst := v.sides()
	id := Coordinator
	p.CanCommit = v.state == job.SyncRunning && e.CanCommit
	p.CanWrite = &e.CanWrite
	p.Info = new(string(e.Phase))
	p.TotalEventsApplied = &e.Events.Applied
	p.CollectionCopy = v.collectionCopy()
	p.DirectionMapping = &DirectionMapping{Source: v.name(src), Destination: v.name(dst)}
	p.MongosyncID, p.CoordinatorID = &id, &id
	p.Source, p.Destination = v.gauges.side(src), v.gauges.side(dst)
	p.Warnings = v.warnings()
	if !v.quiet {
		p.Verification = e.Verification
		if p.Verification == nil {
			p.Verification = &VerificationProgress{Source: VerificationSide{Phase: NotStarted}, Destination: VerificationSide{Phase: NotStarted}}
		}
	}
	switch v.state {
	case job.SyncPaused: // no lag while nothing is done
	case job.SyncCommitted:
		p.CanWrite, p.Info = new(true), new(string(PhaseDone))
		p.LagTimeSeconds, p.Lag = new(int64), &Lag{new(int64), new(int64), new(int64)}
	default:
		v.addWork(&p)
	}
	return p
}

// addWork adds what there is to say only while something is done.
func (v *view) addWork(p *Progress) {
	e := v.engine
	p.LagTimeSeconds = e.LagSeconds
	p.Lag = &Lag{e.LagSeconds, e.LagSeconds, e.LagSeconds}
	p.CEAStage, p.IndexBuilding = e.CEAStage, e.Index
	if e.Phase == PhaseApply {
		p.EstimatedSecondsToCatchUp = e.CatchUpSeconds
	}
	if v.state == job.SyncRunning && !e.CanWrite {
		p.EstimatedOplogTimeRemaining = v.gauges.window
	}
}

// name of a cluster in directionMapping.
func (v *view) name(i int) string { return labelOf(i) + ": " + v.infos[i].Name }

// collectionCopy follows spec §5.2: before the copy 1 and 0; more copied than estimated raises the estimate.
func (v *view) collectionCopy() *CollectionCopy {
	e := v.engine
	copied, total := e.Copy.CopiedBytes, max(e.Copy.TotalBytes, e.Copy.CopiedBytes, 1)
	if v.plan.Filter.FilteringDocuments() {
		return &CollectionCopy{nil, copied}
	}
	return &CollectionCopy{&total, copied}
}

func (v *view) warnings() []string {
	var all []string
	for _, w := range slices.Concat(v.gauges.preflight, v.gauges.told, v.gauges.warnings, v.engine.Warnings) {
		if !slices.Contains(all, w) {
			all = append(all, w)
		}
	}
	return all
}
