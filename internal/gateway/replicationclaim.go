package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/replicate"
	"github.com/tidegate/tidegate/internal/store"
)

// Where several nodes serve, whoever runs or resets a replication holds its lease and has claimed it: the claim's row has the lease's
// epoch, and whatever the run writes in this store is written in a transaction that finds that epoch still there. A node that was held up for longer
// than its lease, and goes on, is refused by that.

// ReplicationRun is a run of a replication on a node.
type ReplicationRun struct {
	Epoch uint64 `json:"epoch"`
	Node  string `json:"node"`
	// Started is when the node had got the replication's lease.
	Started time.Time `json:"started"`
	// Ended is when the run did nothing more but write how it ended; zero: it has not, or could not say so.
	Ended time.Time `json:"ended,omitzero"`
}

// maxRuns is how many runs of a replication are remembered.
const maxRuns = 64

// runClaim is the right of a run.
type runClaim struct {
	lease store.Lease
	runs  []ReplicationRun // the last one is this run's
	key   store.Key        // of the claim's row
	value []byte           // its value while this is the last claim
}

func claimKey(space store.Space, id string) store.Key {
	return store.NewKey(space, store.KindMeta).Name("gateway.replication.claim").Name(id)
}

func runsKey(space store.Space, id string) store.Key {
	return store.NewKey(space, store.KindMeta).Name("gateway.replication.runs").Name(id)
}

// leaseName is the name of a replication's lease.
func (p *replication) leaseName() string { return fmt.Sprintf("replication.%d.%s", p.m.space(), p.id) }

// check returns errMoved if the claim is not the last one.
func (c *runClaim) check(r store.Reader) error {
	now, err := r.Get(c.key)
	if err == nil && !bytes.Equal(now, c.value) {
		err = errMoved
	}
	return err
}

// claim is what the replicator is told; nil: this node is alone.
func (p *replication) claim() *replicate.Claim {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.claimed == nil {
		return nil
	}
	return &replicate.Claim{Node: p.m.r.g.NodeID(), Epoch: p.claimed.lease.Epoch(), Check: p.claimed.check}
}

// claimCheck is the check of the claim under which something runs here; nil: this node is alone.
func (p *replication) claimCheck() func(store.Reader) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.claimed == nil {
		return nil
	}
	return p.claimed.check
}

// take makes the claim of a run whose lease is held, and was got at a time. NotFound: the replication was deleted meanwhile. errMoved: somebody has a later lease.
func (p *replication) take(ctx context.Context, lease store.Lease, got time.Time) (*runClaim, error) {
	g, space := p.m.r.g, p.m.space()
	c := &runClaim{lease: lease, key: claimKey(space, p.id), value: binary.BigEndian.AppendUint64(nil, lease.Epoch())}
	err := g.opts.Store.View(ctx, func(r store.Reader) (err error) {
		c.runs, err = readRuns(r, space, p.id)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.runs = append(c.runs, ReplicationRun{Epoch: lease.Epoch(), Node: g.NodeID(), Started: got.UTC().Truncate(time.Millisecond)})
	if over := len(c.runs) - maxRuns; over > 0 {
		c.runs = c.runs[over:]
	}
	runs, err := json.Marshal(c.runs)
	if err != nil {
		return nil, err
	}
	err = g.opts.Store.Update(ctx, func(tx store.Tx) error {
		before, err := tx.Get(c.key)
		if err != nil {
			return err
		}
		if len(before) == 8 && binary.BigEndian.Uint64(before) >= lease.Epoch() {
			return errMoved
		}
		if def, err := tx.Get(replicationKey(space, p.id)); err != nil || def == nil {
			return errors.Join(err, tidegate.ErrMissing)
		}
		return errors.Join(tx.Put(c.key, c.value), tx.Put(runsKey(space, p.id), runs))
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// readRuns reads the runs of a replication, the latest last.
func readRuns(r store.Reader, space store.Space, id string) (runs []ReplicationRun, err error) {
	value, err := r.Get(runsKey(space, id))
	if err != nil || value == nil {
		return nil, err
	}
	if err := json.Unmarshal(value, &runs); err != nil {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the runs of a replication do not make sense: %w", err)
	}
	return runs, nil
}

// Runs returns the last runs of a replication, on whatever node, the latest last; none where one node has the store for itself. NotFound.
func (m *Replications) Runs(ctx context.Context, id string) (runs []ReplicationRun, err error) {
	if _, err := m.find(id); err != nil {
		return nil, err
	}
	err = m.r.g.opts.Store.View(ctx, func(r store.Reader) (err error) {
		runs, err = readRuns(r, m.space(), id)
		return err
	})
	return runs, err
}

// claimRetry is the pause after a claim failed.
const claimRetry = time.Second

// underClaim runs f once this node has the replication's lease and has claimed it, and gives both up afterwards. f's context ends,
// because of errMoved, when the lease is lost.
func (p *replication) underClaim(ctx context.Context, run *replicationRun, f func(context.Context, *replicationRun)) {
	log := p.m.r.g.log.With("database", p.m.r.name, "replication", p.id)
	lease, err := p.m.r.g.nodes.Lease(ctx, p.leaseName())
	if err == nil {
		defer lease.Release()
		err = p.enter(ctx, run, lease, p.m.r.g.opts.Now())
	}
	if err != nil {
		p.mu.Lock()
		p.run = nil
		if run.resets {
			p.apply(job.ResetDone)
		} else {
			p.apply(job.Stop)
		}
		p.mu.Unlock()
		if ctx.Err() == nil && !errors.Is(err, errMoved) && tidegate.ErrorCode(err) != tidegate.NotFound {
			log.Warn("the replication could not be claimed, and that is tried again", "error", err)
			time.AfterFunc(claimRetry, p.m.wakeFollower)
		}
		return
	}
	held, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(lease.Context(), func() { cancel(errMoved) })()
	log.Info("replication claimed", "epoch", lease.Epoch())
	f(held, run)
	p.leave(p.m.r.g.opts.Now())
}

// enter claims the replication for a run and takes over where the last run has come to. A run, other than a reset, is only entered while this node is
// the one that is to run it.
func (p *replication) enter(ctx context.Context, run *replicationRun, lease store.Lease, got time.Time) error {
	if err := p.m.refresh(ctx); err != nil {
		return err
	}
	if !run.resets && !p.due() {
		return errMoved
	}
	c, err := p.take(ctx, lease, got)
	if err != nil {
		return err
	}
	if err := p.m.refresh(ctx); err != nil { // the last status of whoever had it before
		ending, cancel := p.leaving()
		defer cancel()
		return errors.Join(err, p.endRun(ending, c, p.m.r.g.opts.Now()))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stored
	p.before = map[string]int64{}
	for name, n := range s.Counters {
		p.before[name] = n
	}
	for _, k := range counters(p.stats) { // they count on, for the statistics of this process
		if k.status != "" {
			p.before[k.status] -= k.v.Load()
		}
	}
	p.err, p.errAt, p.lastPull, p.lastPush = s.Error, s.ErrorAt, s.LastSeqPull, s.LastSeqPush
	p.claimed, run.asked, p.tried = c, p.def.Asked, p.def.Asked+1
	p.saved = replicationProgress{}
	p.m.noteChange(p)
	return nil
}

// leaveTime bounds what the end of a claim may take. What could not be written then is found by whoever claims next.
const leaveTime = 5 * time.Second

// leaving is the context of what is written at the end of a claim: also if everything ends.
func (p *replication) leaving() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(p.m.r.g.ctx), leaveTime)
}

// leave writes how the run, which has ended, did so, and ends the claim.
func (p *replication) leave(ended time.Time) {
	ctx, cancel := p.leaving()
	defer cancel()
	p.mu.Lock()
	c, gone := p.claimed, p.deleted
	p.mu.Unlock()
	defer p.m.wakeFollower()
	defer func() {
		p.mu.Lock()
		p.claimed = nil
		p.mu.Unlock()
	}()
	if gone {
		return
	}
	err := p.m.saveProgress(ctx, []*replication{p})
	if err == nil {
		err = p.endRun(ctx, c, ended)
	}
	if err != nil && !errors.Is(err, errMoved) {
		p.m.r.g.log.Warn("the end of a run could not be written", "database", p.m.r.name, "replication", p.id, "error", err)
	}
}

// endRun notes when the run ended.
func (p *replication) endRun(ctx context.Context, c *runClaim, ended time.Time) error {
	space := p.m.space()
	c.runs[len(c.runs)-1].Ended = ended.UTC().Truncate(time.Millisecond)
	runs, err := json.Marshal(c.runs)
	if err != nil {
		return err
	}
	return p.m.r.g.opts.Store.Update(ctx, func(tx store.Tx) error {
		if err := c.check(tx); err != nil {
			return err
		}
		return tx.Put(runsKey(space, p.id), runs)
	})
}
