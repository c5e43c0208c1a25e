package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
)

// Running is one database of the set, in whatever state. It stays the same over reloads.
type Running struct {
	g     *Gateway
	name  string
	op    chan struct{} // held by whoever changes the database's state or definition
	stats *database.Stats
	http  HTTPStats

	replications *Replications
	deviceSync   *DeviceSync

	mu         sync.Mutex // guards what follows
	state      State
	moved      chan struct{} // closed and replaced at every move
	err        error         // why it is not online, if it failed
	def        *definition
	settings   config.Settings
	inst       *instance     // the open database; nil unless Online or Stopping
	reloading  bool          // it goes to Offline only to come back at once
	byHand     bool          // taken offline over the API
	unfinished bool          // what another node has changed was adopted, and could not be opened yet
	resync     *resyncRun    // that runs here; nil: none does
	resyncOver chan struct{} // woken when it ends
	onlineNext bool          // a config that came during an offline resync says that it comes online afterwards
	deleted    bool
	auth       access.Stats // of the instances that are closed
}

// instance is a database that is open: one run from Starting to Offline.
type instance struct {
	db      *database.Database
	leaving context.Context // ends when the database begins to leave Online
	leave   context.CancelCauseFunc
	cut     context.Context // ends when running requests are cut off, DrainTimeout later
	cutOff  context.CancelCauseFunc
	stop    context.CancelFunc // ends Run
	stopped chan struct{}      // closed when Run has returned

	// Guarded by Running.mu:
	requests int           // being served
	draining bool          // no more are let in
	idle     chan struct{} // closed when draining and requests is 0
}

// Causes that end the context of feeds.
var (
	errGoingOffline = tidegate.Errorf(tidegate.Unavailable, "DB is currently under maintenance")
	errReloading    = tidegate.Errorf(tidegate.Unavailable, "DB is Starting - try again later")
)

// Name is the database's name.
func (r *Running) Name() string { return r.name }

// State is what the database is doing now.
func (r *Running) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Err is why the database is not online, if it failed; nil otherwise.
func (r *Running) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// DB is the open database; nil unless it is loaded. Requests use Acquire.
func (r *Running) DB() *database.Database {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inst == nil {
		return nil
	}
	return r.inst.db
}

// Stats are the database's counters; they go on counting over reloads.
func (r *Running) Stats() *database.Stats { return r.stats }

// Config is the config as it was given, without defaults, and its version, the ETag without quotes. The
// config must not be changed.
func (r *Running) Config() (cfg *config.Database, version string) {
	d := r.definition()
	return d.Config, d.version()
}

// Settings are the values in force.
func (r *Running) Settings() config.Settings {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settings
}

// InstanceStart is the start of the sync epoch: it does not change with restarts.
func (r *Running) InstanceStart() time.Time { return r.deviceSync.live.Row().Record.Epoch.StartedAt }

// ServerUUID is the id of the database's data, 32 hex digits.
func (r *Running) ServerUUID() string { return r.definition().ServerUUID }

// SyncEpoch is the id of the sync epoch, a UUID.
func (r *Running) SyncEpoch() string { return r.deviceSync.live.Row().Record.Epoch.ID }

// Created and Updated are when the config was made and last changed.
func (r *Running) Created() time.Time { return r.definition().Created }

// Updated is when the config was last changed.
func (r *Running) Updated() time.Time { return r.definition().Updated }

// ResyncDue lists the collections, as "scope.collection", whose sync function has changed since all of their documents
// were last routed by one (resync.md §2).
func (r *Running) ResyncDue() []string { return r.definition().ResyncDue }

// StorageID is what the data are found by, besides the name, when the database is deleted and made again.
func (r *Running) StorageID() string { return r.definition().StorageID }

func (r *Running) definition() *definition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.def
}

// reloadPatience is how long requests wait for a reload before they are told to come back.
const reloadPatience = 5 * time.Second

// An Admission is a request that is counted in: the database does not close before it is released, or cut off.
type Admission struct {
	DB *database.Database

	r           *Running
	inst        *instance
	feed, short leaving
}

// Leaving ends, with a cause, as soon as the database begins to leave Online or is reloaded, and when the request
// ends: a feed ends with it.
func (a *Admission) Leaving() context.Context { return &a.feed }

// Context is for requests that are no feeds, so that they can finish: it ends with the request or, with a cause, when
// the database has waited DrainTimeout for it (resync.md §1.1).
func (a *Admission) Context() context.Context { return &a.short }

// Release counts the request out. It is called once.
func (a *Admission) Release() {
	a.feed.free()
	a.short.free()
	a.r.exit(a.inst)
}

// Admit counts a request in, whose context is ctx. While a config change is being applied it waits; when the database
// is not online the error is Unavailable with the reason of gateway-rest.md §6.
func (r *Running) Admit(ctx context.Context) (*Admission, error) {
	inst, err := r.await(ctx)
	if err != nil {
		return nil, err
	}
	return &Admission{
		DB: inst.db, r: r, inst: inst,
		feed: leaving{Context: ctx, instance: inst.leaving}, short: leaving{Context: ctx, instance: inst.cut},
	}, nil
}

// Acquire is Admit for what is no request, or outlives the one that it began as. The caller calls release, once, when
// it is done.
func (r *Running) Acquire(ctx context.Context) (db *database.Database, leavingCtx context.Context, release func(), err error) {
	inst, err := r.await(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	if ctx == context.Background() {
		return inst.db, inst.leaving, func() { r.exit(inst) }, nil // nothing to join
	}
	l := &leaving{Context: ctx, instance: inst.leaving}
	return inst.db, l, func() { l.free(); r.exit(inst) }, nil
}

// await counts a request in, after a reload that is under way.
func (r *Running) await(ctx context.Context) (*instance, error) {
	var patience <-chan time.Time
	for {
		inst, wait, err := r.enter()
		if inst != nil || err != nil {
			return inst, err
		}
		if patience == nil {
			timer := time.NewTimer(reloadPatience)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-patience:
			return nil, errReloading
		}
	}
}

// enter counts a request in and returns the instance; or, during a reload, what to wait for.
func (r *Running) enter() (*instance, <-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.state == Online:
		r.inst.requests++
		return r.inst, nil, nil
	case r.reloading:
		return nil, r.moved, nil
	default:
		return nil, nil, stateError(r.state)
	}
}

// exit counts a request out.
func (r *Running) exit(inst *instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	inst.requests--
	if inst.requests == 0 && inst.draining {
		close(inst.idle)
	}
}

// AwaitState waits until the database is in a state, or ctx ends.
func (r *Running) AwaitState(ctx context.Context, state State) error {
	for {
		r.mu.Lock()
		now, moved := r.state, r.moved
		r.mu.Unlock()
		if now == state {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Requests is how many requests are being served, feeds and connections included.
func (r *Running) Requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inst == nil {
		return 0
	}
	return r.inst.requests
}

// Gate is what a request that comes now is told, if the database does not serve it; nil if it does.
func (r *Running) Gate() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == Online || r.reloading {
		return nil
	}
	return stateError(r.state)
}

// stateError is what a request is told in a state other than Online (gateway-rest.md §6).
func stateError(s State) error {
	if s == Offline {
		return errGoingOffline
	}
	return tidegate.Errorf(tidegate.Unavailable, "DB is %s - try again later", s)
}

// move applies an event by the table; r.mu is held. An illegal move is a mistake of ours and changes nothing.
func (r *Running) move(ev event) error {
	to, err := next(r.state, ev)
	if err != nil {
		return err
	}
	r.g.log.Debug("database state", "database", r.name, "from", r.state.String(), "to", to.String())
	r.state = to
	close(r.moved)
	r.moved = make(chan struct{})
	wake(r.g.statesChanged)
	return nil
}

// transition is move with the lock taken; also, if not nil, is done with it held when the move is legal.
func (r *Running) transition(ev event, also func()) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.move(ev); err != nil {
		return err
	}
	if also != nil {
		also()
	}
	return nil
}

// lock takes the right to change the database's state or definition. NotFound: it was deleted meanwhile.
// Unavailable: the gateway is closing, and has taken the database offline for good or is about to.
func (r *Running) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case r.op <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.g.mu.Lock()
	closed := r.g.closed
	r.g.mu.Unlock()
	r.mu.Lock()
	deleted := r.deleted
	r.mu.Unlock()
	switch {
	case deleted:
		<-r.op
		return nil, notFound(r.name)
	case closed:
		<-r.op
		return nil, errClosed
	}
	return func() { <-r.op }, nil
}

func notFound(name string) error {
	return tidegate.Errorf(tidegate.NotFound, "no such database %q", name)
}
