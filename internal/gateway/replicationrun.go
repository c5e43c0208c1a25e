package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/replicate"
)

// Causes that end the run of a replication, besides those of its database.
var (
	errStoppedByUser = tidegate.Errorf(tidegate.Canceled, "the replication was stopped")
	errUpdating      = tidegate.Errorf(tidegate.Canceled, "the definition of the replication is being changed")
	errMoved         = tidegate.Errorf(tidegate.Canceled, "another node runs the replication")
)

// replicationRun is one run of a replication, from its start to its end, or a reset.
type replicationRun struct {
	cancel     context.CancelCauseFunc
	ended      chan struct{} // closed when nothing of it goes on any more
	ending     bool          // it was asked to end; guarded by replication.mu
	replicator Replicator    // nil until it is made; guarded by replication.mu
	resets     bool          // it is a reset
	asked      uint64        // as of which definition it runs, where several nodes serve; guarded by replication.mu
}

// begin starts a run, after delay. p.op is held and nothing runs.
func (p *replication) begin(delay time.Duration) {
	p.launch(job.Start, func(ctx context.Context, run *replicationRun) {
		err := p.replicate(ctx, run, delay)
		p.finish(ctx, run, err)
	})
}

// reset deletes checkpoints, status and counters in the background. p.op is held and nothing runs.
func (p *replication) reset() error {
	p.mu.Lock()
	resetting := p.state == job.Resetting
	p.mu.Unlock()
	if resetting {
		return nil
	}
	p.launch(job.Reset, func(ctx context.Context, run *replicationRun) {
		err := p.forgetCheckpoints(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.run = nil
		if err != nil {
			p.failed(err)
			return
		}
		p.before, p.stats = nil, &replicate.ReplicatorStats{}
		p.err, p.errAt, p.lastPull, p.lastPush = "", time.Time{}, "", ""
		p.apply(job.ResetDone)
		p.m.r.g.log.Info("replication reset", "database", p.m.r.name, "replication", p.id)
	})
	return nil
}

// launch runs f in the background after ev, and after all that went before it: a run may still have to write how it ended when p.run is nil. f clears p.run when it is done.
func (p *replication) launch(ev job.Event, f func(context.Context, *replicationRun)) {
	ctx, cancel := context.WithCancelCause(p.m.r.g.ctx)
	run := &replicationRun{cancel: cancel, ended: make(chan struct{}), resets: ev == job.Reset}
	p.mu.Lock()
	former := p.former
	p.run, p.former = run, run.ended
	p.apply(ev)
	p.mu.Unlock()
	started := p.m.r.g.spawn(func() {
		defer close(run.ended)
		defer cancel(nil)
		if former != nil {
			<-former
		}
		if p.m.shared() {
			p.underClaim(ctx, run, f)
		} else {
			f(ctx, run)
		}
	})
	if !started { // all is closing
		cancel(errClosed)
		p.mu.Lock()
		p.run = nil
		p.apply(job.Stop)
		p.mu.Unlock()
		close(run.ended)
	}
}

// apply is move for an event that cannot be refused. p.mu is held.
func (p *replication) apply(ev job.Event) {
	if err := p.move(ev); err != nil {
		p.m.r.g.log.Error("replication state", "database", p.m.r.name, "replication", p.id, "error", err)
	}
}

// replicate makes the replicator and runs it.
func (p *replication) replicate(ctx context.Context, run *replicationRun, delay time.Duration) error {
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	replicator, release, err := p.replicator(ctx, func() { p.observe(run) })
	if err != nil {
		return err
	}
	defer release()
	p.mu.Lock()
	run.replicator = replicator
	p.mu.Unlock()
	p.m.r.g.log.Info("replication starts", "database", p.m.r.name, "replication", p.id)
	return p.runGated(ctx, replicator)
}

// runGated runs the replicator while the database's device sync lets peers in (device-sync.md §8.1): in between the replication is
// reconnecting, with what clients are told as its error.
func (p *replication) runGated(ctx context.Context, replicator Replicator) error {
	sync := p.m.r.deviceSync
	for {
		_, changed := sync.live.Watch()
		session, err := sync.Join(ctx, devicesync.Session{Kind: "replication", Connection: p.id}, devicesync.Access{Peer: true})
		if err == nil {
			err = replicator.Run(session.Context())
			refused, closed := errors.AsType[*devicesync.GateError](context.Cause(session.Context()))
			session.Leave()
			if !closed || ctx.Err() != nil {
				return err
			}
			err = refused
		}
		p.mu.Lock()
		p.err, p.errAt = err.Error(), p.m.r.g.opts.Now().UTC().Truncate(time.Millisecond)
		p.apply(job.Lost)
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// observe takes over what the replicator of a run is doing.
func (p *replication) observe(run *replicationRun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != run || run.replicator == nil {
		return
	}
	st := run.replicator.Status()
	p.noteErrors(st)
	switch job.Combine(stateOf(st.Push), stateOf(st.Pull)) {
	case job.Running:
		p.err, p.errAt = "", time.Time{}
		p.apply(job.Connected)
	case job.Reconnecting:
		p.apply(job.Lost)
	case job.Error:
		p.apply(job.Failed)
	}
}

// noteErrors notes the last error: the pull's, or else the push's. p.mu is held.
func (p *replication) noteErrors(st replicate.Status) {
	for _, d := range []replicate.DirectionStatus{st.Pull, st.Push} {
		if d.Active && d.Err != nil {
			p.err, p.errAt = d.Err.Error(), d.ErrAt.UTC()
			return
		}
	}
}

// stateOf is a direction's state in the words of package job; 0 for a direction that there is not.
func stateOf(d replicate.DirectionStatus) job.State {
	if !d.Active {
		return 0
	}
	switch d.State {
	case replicate.Starting:
		return job.Starting
	case replicate.Running:
		return job.Running
	case replicate.Reconnecting:
		return job.Reconnecting
	case replicate.Failed:
		return job.Error
	default:
		return job.Stopped
	}
}

// finish is the end of a run: err is nil if a one-shot has completed.
func (p *replication) finish(ctx context.Context, run *replicationRun, err error) {
	if err == nil {
		p.completed(ctx, run)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookAtSequences()
	p.run = nil
	if ctx.Err() != nil || errors.Is(err, errMoved) {
		p.apply(job.Stop)
		return
	}
	p.failed(err)
}

// failed notes why it has given up. p.mu is held.
func (p *replication) failed(err error) {
	p.err, p.errAt = reasonOf(err), p.m.r.g.opts.Now().UTC().Truncate(time.Millisecond)
	p.apply(job.Failed)
	p.m.r.g.log.Error("replication failed", "database", p.m.r.name, "replication", p.id, "error", err)
}

// reasonOf is what a status says of an error. It is for administrators, who may see more than clients.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*tidegate.Error](err); ok && e.Code != tidegate.Internal {
		return e.Reason
	}
	return err.Error()
}

// completed is the end of a one-shot: it is not wanted any more, and one that is ad hoc is gone. No error of the store can
// undo that the documents are there; the next start copies nothing again.
func (p *replication) completed(ctx context.Context, run *replicationRun) {
	log := p.m.r.g.log.With("database", p.m.r.name, "replication", p.id)
	var err error
	switch {
	case p.definition().Config.IsAdhoc():
		p.noteEnded(job.Stopped)
		err = p.erase(ctx, p.claimCheck())
	case p.m.shared():
		err = p.completedShared(ctx, run)
	default:
		err = p.want(ctx, false, whyCompleted)
	}
	if err != nil {
		log.Error("the end of a replication could not be stored", "error", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookAtSequences()
	p.run = nil
	p.err, p.errAt = "", time.Time{}
	p.apply(job.Completed)
	log.Info("replication completed")
}

// interrupt ends the run, or the reset, that is under way, if there is one.
func (p *replication) interrupt(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil {
		p.run.ending = true
		p.run.cancel(cause)
	}
}

// interruptRun ends a run, but no reset.
func (p *replication) interruptRun(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil && p.state != job.Resetting {
		p.run.ending = true
		p.run.cancel(cause)
	}
}

// idle waits until nothing runs, or ctx ends, and reports whether nothing does.
func (p *replication) idle(ctx context.Context) bool {
	p.mu.Lock()
	run := p.run
	p.mu.Unlock()
	if run == nil {
		return true
	}
	select {
	case <-run.ended:
		return true
	case <-ctx.Done():
		return false
	}
}
