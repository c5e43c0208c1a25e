package clustersync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tidegate/tidegate/internal/job"
)

// Control is in charge of a cluster sync: it owns the state (spec §4), the lease, and the engine that works while there is work. One call
// changes the state at a time; what [Control.Progress] says comes from memory.
type Control struct {
	cfg     ControlConfig
	log     *slog.Logger
	metrics *metrics

	calling sync.Mutex // held by the call in progress
	fatal   chan error // why the job has ended for good; the first one counts

	mu      sync.Mutex
	life    context.Context // that of Run; nil before it
	state   job.SyncState
	failed  error
	infos   [2]Info  // as inspected last
	plan    *Plan    // nil before /start
	journal *Journal // likewise; on the destination
	leases  [2]*lease
	work    *work         // nil while no engine runs
	turning chan struct{} // of the last reverse: closed when it is over; nil if there was none
	last    Snapshot
	gauges  gauges
}

// ControlConfig is what a Control works with.
type ControlConfig struct {
	Clusters    [2]Cluster // cluster0 and cluster1
	Settings    Settings
	PreExisting Limits // instead of Settings.Limits with preExistingDestinationData; zero: the same
	Environment Environment
	Compare     Comparison // of documents, if the clusters are of different kinds
	Log         *slog.Logger

	newEngine   func(EngineConfig) (engine, error) // of tests
	newReversal func(Reversal) reversal            // likewise
}

// engine is what Control needs of an [Engine].
type engine interface {
	Begin(ctx context.Context) error
	Run(ctx context.Context) error
	Commit(ctx context.Context) error
	Snapshot() Snapshot
}

// reversal is what Control needs of a [Reversal].
type reversal interface {
	Check(ctx context.Context) error
	Run(ctx context.Context) (*Journal, error)
}

// Bounds of what is waited for.
const (
	callTimeout     = 30 * time.Minute // a call; pre-flight checks of many collections take their time
	persistPatience = 2 * time.Minute  // a write of a record, while the cluster cannot be reached
	connectPatience = 30 * time.Minute // the first connection (spec §8.8)
	stopTimeout     = time.Minute      // of what ends with the process
	firstBackoff    = 100 * time.Millisecond
	lastBackoff     = 30 * time.Second
)

// NewControl returns a Control that is INITIALIZING until Run has found out what there is to do.
func NewControl(cfg ControlConfig) *Control {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.newEngine == nil {
		cfg.newEngine = func(ec EngineConfig) (engine, error) { return NewEngine(ec) }
	}
	if cfg.newReversal == nil {
		cfg.newReversal = func(r Reversal) reversal { return r }
	}
	c := &Control{cfg: cfg, log: cfg.Log, metrics: newMetrics(), state: job.SyncInitializing, fatal: make(chan error, 1)}
	for i, cluster := range cfg.Clusters {
		c.leases[i] = &lease{on: cluster.Metadata(), owner: newUUID()}
	}
	return c
}

// Run starts up (spec §2.2) and keeps the sync going until ctx ends, when in-flight writes are finished and it returns nil, or until the job
// fails for good. Progress and calls may be used before, during and after it.
func (c *Control) Run(ctx context.Context) error {
	life, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	c.life = life
	c.mu.Unlock()

	var background sync.WaitGroup
	background.Go(func() { c.measure(life) })
	if err := c.startUp(life); err != nil && ctx.Err() == nil {
		c.fail(err)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-c.fatal:
		c.log.Log(ctx, LevelFatal, "Got a fatal error running Mongosync", "error", err.Error(), "errorName", string(NameOf(err)))
	}
	cancel(ErrStopped)
	c.stop()
	background.Wait()
	return err
}

// stop ends the engine in order, waits for it a while and gives the leases back.
func (c *Control) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	c.mu.Lock()
	w, turning := c.work, c.turning
	c.mu.Unlock()
	var ends []chan struct{}
	if turning != nil {
		ends = append(ends, turning)
	}
	if w != nil {
		w.cancel(ErrStopped)
		ends = append(ends, w.done)
	}
	for _, end := range ends {
		select {
		case <-end:
		case <-ctx.Done():
			c.log.Warn("The engine did not stop in time")
			return // the leases must expire: there may still be writes
		}
	}
	for _, l := range c.leases {
		l.release(ctx)
	}
}

// fail ends the job for good: every call answers with err until the process is started again.
func (c *Control) fail(err error) {
	c.mu.Lock()
	first := c.failed == nil
	if first {
		c.failed = err
	}
	c.mu.Unlock()
	if first {
		c.fatal <- err
	}
}

// call carries out one call of the API. It goes on when its client is gone: half a call is no state.
func (c *Control) call(ctx context.Context, ev job.SyncEvent, do func(context.Context, job.SyncState) error) error {
	if !c.calling.TryLock() {
		return Errorf(APIError, "another request is in progress")
	}
	defer c.calling.Unlock()
	c.mu.Lock()
	state, failed, life := c.state, c.failed, c.life
	c.mu.Unlock()
	if failed != nil {
		return failed
	}
	next, err := job.NextSync(state, ev)
	if err != nil {
		return Errorf(InvalidStateTransition, "%s is not allowed in state %s", ev, state)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	err = do(ctx, next)
	if err != nil && life.Err() != nil && c.failure() == nil {
		return Errorf(APIError, "the service is stopping")
	}
	return named(err)
}

// named gives an error of a call the generic name if it has none of its own: MigrationFailed is for what ends the job.
func named(err error) error {
	if err == nil || NameOf(err) != MigrationFailed {
		return err
	}
	if _, own := errors.AsType[*Error](err); own {
		return err
	}
	return Errorf(APIError, "%w", err)
}

// patiently repeats what cannot reach a cluster.
func patiently(ctx context.Context, patience time.Duration, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for backoff := firstBackoff; ; backoff = min(2*backoff, lastBackoff) {
		err := do()
		if err == nil || !errors.Is(err, ErrUnreachable) || pauseFor(ctx, backoff) != nil {
			return err
		}
	}
}

// inspect looks at both clusters.
func (c *Control) inspect(ctx context.Context) (infos [2]Info, err error) {
	for i, cluster := range c.cfg.Clusters {
		if infos[i], err = cluster.Inspect(ctx); err != nil {
			return infos, fmt.Errorf("look at %s: %w", labelOf(i), err)
		}
	}
	return infos, nil
}

func (c *Control) setState(s job.SyncState) {
	c.mu.Lock()
	c.state = s
	c.mu.Unlock()
}

// persist writes a state down, then it counts.
func (c *Control) persist(ctx context.Context, s job.SyncState) error {
	c.mu.Lock()
	j := c.journal
	c.mu.Unlock()
	err := patiently(ctx, persistPatience, func() error { return j.SetState(ctx, s.String()) })
	if errors.Is(err, ErrFenced) {
		c.fail(err)
	}
	if err == nil {
		c.setState(s)
	}
	return err
}

func (c *Control) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

func (c *Control) working() *work {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.work
}

// direction gives the places of source and destination, as they are now.
func direction(p *Plan, swapped bool) (src, dst int) {
	src, dst = indexOf(p.Source), indexOf(p.Destination)
	if swapped {
		src, dst = dst, src
	}
	return src, dst
}

func indexOf(label string) int {
	if label == cluster1 {
		return 1
	}
	return 0
}

func labelOf(i int) string {
	if i == 1 {
		return cluster1
	}
	return cluster0
}
