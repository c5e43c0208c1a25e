package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/replicate"
)

// replication is one replication: its definition, what it is doing and, while there is one, its run.
type replication struct {
	m  *Replications
	id string
	op chan struct{} // held by whoever changes the definition, or starts, stops or resets the replication

	mu      sync.Mutex // guards what follows
	def     *replicationDefinition
	state   job.State
	moved   chan struct{} // closed and replaced at every change of state
	run     *replicationRun
	former  <-chan struct{} // closed when nothing of the last run, or of the one under way, goes on any more; nil: there was none
	deleted bool

	err                string // the last error, until it is running again
	errAt              time.Time
	lastPull, lastPush string

	before map[string]int64           // counters of earlier processes
	stats  *replicate.ReplicatorStats // those of this one
	saved  replicationProgress        // the status that was stored last

	// Where several nodes serve from one store:
	claimed *runClaim           // of what runs here
	tried   uint64              // what was asked for, and tried by the last run here, plus 1; 0: none since this node is to run it
	stored  replicationProgress // what the node says that ran it last
	rows    rows                // that def and stored were read from
}

// newReplication makes a replication of what is stored about it. Nothing of it runs yet.
func (m *Replications) newReplication(s storedReplication) *replication {
	p := &replication{
		m: m, id: s.id, op: make(chan struct{}, 1), def: s.def, state: job.Stopped, moved: make(chan struct{}),
		err: s.progress.Error, errAt: s.progress.ErrorAt, lastPull: s.progress.LastSeqPull, lastPush: s.progress.LastSeqPush,
		before: s.progress.Counters, stats: &replicate.ReplicatorStats{}, saved: s.progress,
	}
	if !s.def.Wanted && job.ParseState(s.progress.State) == job.Error {
		p.state = job.Error
	}
	return p
}

// lock takes the right to change the replication. NotFound: it was deleted meanwhile.
func (p *replication) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case p.op <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deleted {
		<-p.op
		return nil, tidegate.ErrMissing
	}
	return func() {
		<-p.op
		if p.m.shared() {
			p.m.wakeFollower()
		}
	}, nil
}

func (p *replication) definition() *replicationDefinition {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.def
}

// adopt puts a definition in force.
func (p *replication) adopt(def *replicationDefinition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.def = def
}

// want stores whether the replication is meant to run.
func (p *replication) want(ctx context.Context, wanted bool, why string) error {
	return p.change(ctx, func(d *replicationDefinition) bool {
		if d.Wanted == wanted && (wanted || d.Why != "") {
			return false
		}
		d.Wanted, d.Why = wanted, why
		return true
	})
}

// assign looks at who is to run the replication: it starts after delay if it is this node and it is meant to run, and
// stops if it is not this node any more.
func (p *replication) assign(delay time.Duration) {
	unlock, err := p.lock(p.m.r.g.ctx)
	if err != nil {
		return // deleted, or all is closing
	}
	defer unlock()
	node := p.m.nodeOf(p.id)
	here := node != "" && node == p.m.r.g.NodeID()
	p.mu.Lock()
	wanted, active := p.def.Wanted, p.state.Active()
	p.mu.Unlock()
	if !here {
		if active {
			p.interrupt(errMoved)
			p.idle(p.m.r.g.ctx)
		}
		p.happened(job.Unassign)
		return
	}
	p.happened(job.Assign)
	if wanted && !active {
		p.begin(delay)
	}
}

// happened applies an event that nobody asked for and that cannot be refused.
func (p *replication) happened(ev job.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.move(ev); err != nil {
		p.m.r.g.log.Error("replication state", "database", p.m.r.name, "replication", p.id, "error", err)
	}
}

// settlePatience is how long an answer waits for what was asked for to come about (inter-gateway.md §5).
const settlePatience = 500 * time.Millisecond

// Act starts, stops or resets a replication (job.Start, job.Stop, job.Reset) and returns its status: as asked for, if it
// has not come about within half a second. NotFound. Invalid: job.ErrMustStop, job.ErrResetting.
func (m *Replications) Act(ctx context.Context, id string, ev job.Event) (ReplicationStatus, error) {
	m.catchUp()
	p, err := m.find(id)
	if err != nil {
		return ReplicationStatus{}, err
	}
	adhoc, err := p.act(ctx, ev)
	if err != nil {
		return ReplicationStatus{}, err
	}
	if ev == job.Stop && adhoc {
		return ReplicationStatus{ReplicationInfo: ReplicationInfo{ID: id}, State: job.Removed}, nil
	}
	if m.shared() {
		p.settleShared(ctx, ev)
	} else {
		p.settle(ctx, ev)
	}
	s := p.status()
	s.State = job.Answer(ev, s.State, false)
	return s, nil
}

// act does what was asked for and tells whether the replication is ad hoc.
func (p *replication) act(ctx context.Context, ev job.Event) (adhoc bool, err error) {
	unlock, err := p.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	adhoc = p.definition().Config.IsAdhoc()
	if p.m.shared() {
		return adhoc, p.actShared(ctx, ev)
	}
	if ev == job.Reset && p.definition().Wanted {
		ev = job.ResetActive
	}
	p.mu.Lock()
	_, err = job.Next(p.state, ev)
	p.mu.Unlock()
	if err != nil {
		return false, err
	}
	switch ev {
	case job.Start:
		return adhoc, p.start(ctx)
	case job.Stop:
		if adhoc {
			return true, p.remove(ctx)
		}
		return false, p.stop(ctx)
	default:
		return adhoc, p.reset()
	}
}

// settle waits until what was asked for has come about, but not long.
func (p *replication) settle(ctx context.Context, ev job.Event) {
	timer := time.NewTimer(settlePatience)
	defer timer.Stop()
	for {
		p.mu.Lock()
		state, moved := p.state, p.moved
		p.mu.Unlock()
		if job.Settled(ev, state) {
			return
		}
		select {
		case <-moved:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// start runs the replication, if it does not. p.op is held.
func (p *replication) start(ctx context.Context) error {
	if err := p.want(ctx, true, ""); err != nil {
		return err
	}
	p.mu.Lock()
	runs := p.state.Active() && !(p.run != nil && p.run.ending)
	unassigned := p.state == job.Unassigned
	p.mu.Unlock()
	if runs || unassigned {
		return nil
	}
	if !p.idle(ctx) { // an earlier run is ending
		return ctx.Err()
	}
	if p.gone() {
		return tidegate.ErrMissing
	}
	p.begin(0)
	return nil
}

// gone reports whether the replication was deleted.
func (p *replication) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deleted
}

// stop stops the replication for good and does not wait for that. p.op is held.
func (p *replication) stop(ctx context.Context) error {
	if err := p.want(ctx, false, whyUser); err != nil {
		return err
	}
	p.mu.Lock()
	runs := p.run != nil
	p.mu.Unlock()
	if runs {
		p.interruptRun(errStoppedByUser)
		return nil
	}
	p.happened(job.Stop)
	return nil
}

// remove stops the replication and deletes it with everything that belongs to it. p.op is held.
func (p *replication) remove(ctx context.Context) error {
	if p.m.shared() {
		return p.removeShared(ctx)
	}
	p.interrupt(errStoppedByUser)
	if !p.idle(ctx) {
		return ctx.Err()
	}
	if err := p.forgetCheckpoints(ctx); err != nil {
		return err
	}
	p.noteEnded(job.Removed)
	return p.erase(ctx, nil)
}

// Delete stops a replication and deletes its definition, its local checkpoints and its status. NotFound.
func (m *Replications) Delete(ctx context.Context, id string) error {
	m.catchUp()
	p, err := m.find(id)
	if err != nil {
		return err
	}
	unlock, err := p.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := p.remove(ctx); err != nil {
		return err
	}
	m.r.g.log.Info("replication deleted", "database", m.r.name, "replication", id)
	return nil
}
