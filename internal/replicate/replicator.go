package replicate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// ActiveOptions say what a Replicator does: the local database is one of its ends, a database of another gateway the other
// (inter-gateway.md §2).
type ActiveOptions struct {
	ID                     string
	DB                     *database.Database
	Remote                 *url.URL // http(s)://host:port/db, without user info
	Username, Password     string   // "" is the guest
	Push, Pull, Continuous bool

	Channels []string // filter sync_gateway/bychannel; nil: none
	// CollectionsChannels are the same by local collection, where each has its own.
	CollectionsChannels map[string][]string
	BatchSize           int  // rows of a changes message; 200 if 0
	PurgeOnRemoval      bool // pull: what leaves the remote user's reach is purged here
	Deltas              bool
	Resolver            database.Resolver // pull: nil is the default policy
	RunAs               string            // the local user that reads and writes; "" is an administrator
	// Collections map local collections ("scope.name") to remote ones; nil: the default collection, and none is named.
	Collections []CollectionPair

	MaxBackoff       time.Duration // of a delay between tries to connect; 0: give up after five minutes
	SkipTLSVerify    bool
	Heartbeat        time.Duration // of WebSocket pings; 300 s if 0
	CheckpointPrefix string        // before the checkpoints' IDs (inter-gateway.md §8)
	UserAgent        string
	Claim            *Claim // where several nodes could run the replication: by what right this one does; nil: there is one node

	Stats    *ReplicatorStats // new ones if nil
	OnChange func()           // is called after each change of state and must not block; the caller then asks Status
	Logger   *slog.Logger     // discards if nil
}

// Claim is the right to run a replication, which one node has at a time. Checkpoints name it, and one that is over is noticed when a
// checkpoint is saved: the run ends then with what Check says.
type Claim struct {
	Node  string
	Epoch uint64 // grows with each claim
	// Check looks in a transaction whether the claim is still the last one, and returns why not. What is written in that transaction is
	// written under the claim.
	Check func(store.Reader) error
}

// CollectionPair maps a local collection to a remote one.
type CollectionPair struct{ Local, Remote string }

// State is what a direction of a replication is doing.
type State uint8

// The states (inter-gateway.md §5).
const (
	Stopped State = iota
	Starting
	Running
	Reconnecting
	Failed // "error"
)

var stateNames = [...]string{"stopped", "starting", "running", "reconnecting", "error"}

// String returns the state's name on the wire.
func (s State) String() string { return stateNames[s] }

// Status is what a replication is doing.
type Status struct{ Push, Pull DirectionStatus }

// DirectionStatus is what one direction of a replication is doing.
type DirectionStatus struct {
	Active  bool // the replication has this direction
	State   State
	Err     error // the last error, until it is running again
	ErrAt   time.Time
	LastSeq string // last safe sequence: of the remote for a pull, of the local database for a push
}

// Replicator drives one replication. Run may be called again after it returned.
type Replicator struct {
	srv  *Server
	o    ActiveOptions
	log  *slog.Logger
	http *http.Client

	mu     sync.Mutex
	status Status
}

// NewReplicator makes a Replicator. Invalid: the options make no sense.
func NewReplicator(s *Server, o ActiveOptions) (*Replicator, error) {
	switch {
	case o.ID == "" || o.DB == nil:
		return nil, tidegate.Errorf(tidegate.Invalid, "a replication needs an ID and a database")
	case o.Remote == nil || o.Remote.Host == "" || o.Remote.Scheme != "http" && o.Remote.Scheme != "https":
		return nil, tidegate.Errorf(tidegate.Invalid, "Replication remote URL is invalid")
	case !o.Push && !o.Pull:
		return nil, tidegate.Errorf(tidegate.Invalid, "Replication direction must be specified")
	}
	if o.BatchSize <= 0 {
		o.BatchSize = defaultBatch
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = defaultHeartbeat
	}
	if o.Resolver == nil {
		o.Resolver = database.DefaultPolicy
	}
	if o.Stats == nil {
		o.Stats = &ReplicatorStats{}
	}
	if o.OnChange == nil {
		o.OnChange = func() {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.UserAgent == "" {
		o.UserAgent = "tidegate (ISGR)"
	}
	r := &Replicator{srv: s, o: o, log: o.Logger.With("replication", o.ID)}
	r.http = r.newHTTPClient()
	r.status.Push.Active, r.status.Pull.Active = o.Push, o.Pull
	return r, nil
}

// Run replicates until a one-shot has caught up (nil), ctx ends (its cause; what was done is saved then) or something
// happens that no further try will mend (the error).
func (r *Replicator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, half := range []*half{r.newHalf(true), r.newHalf(false)} {
		if half == nil {
			continue
		}
		half.set(Starting, nil)
		wg.Go(func() {
			errs[i] = half.run(ctx)
			if errs[i] != nil && ctx.Err() == nil {
				cancel(errStoppedByOther) // the other direction stops with it
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, errStoppedByOther) {
			return err
		}
	}
	return nil
}

// errStoppedByOther ends a direction because the other one failed.
var errStoppedByOther = tidegate.Errorf(tidegate.Canceled, "the other direction of the replication failed")

// Status is what the replication is doing.
func (r *Replicator) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Stats are the replication's counters.
func (r *Replicator) Stats() *ReplicatorStats { return r.o.Stats }

// Reset forgets how far the replication has come: the local checkpoints are deleted, and the next Run begins at the
// beginning. Call it while Run is not running.
func (r *Replicator) Reset(ctx context.Context) error {
	pairs, err := r.collections()
	if err != nil {
		return err
	}
	for _, push := range []bool{true, false} {
		for _, pair := range pairs {
			h := r.o.DB.Admin(pair.id)
			id := checkpointPrefix + r.checkpointID(push)
			doc, err := h.GetLocal(ctx, id)
			if tidegate.ErrorCode(err) == tidegate.NotFound && err != nil {
				continue
			}
			if err == nil {
				err = h.DeleteLocal(ctx, id, doc.Rev)
			}
			if err != nil {
				return fmt.Errorf("reset replication: %w", err)
			}
		}
	}
	r.mu.Lock()
	r.status.Push.LastSeq, r.status.Pull.LastSeq = "", ""
	r.mu.Unlock()
	return nil
}

// fatalError is an error that no further try will mend.
type fatalError struct{ error }

func (e fatalError) Unwrap() error { return e.error }

// fatal says that err is not worth another try.
func fatal(err error) error { return fatalError{err} }

// loginError is a refusal of the credentials.
type loginError struct{ error }

func (e loginError) Unwrap() error { return e.error }

// half is one direction of a replication while it runs.
type half struct {
	r       *Replicator
	push    bool
	log     *slog.Logger
	backoff backoff
}

// newHalf returns a direction; nil if the replication does not have it.
func (r *Replicator) newHalf(push bool) *half {
	name := "pull"
	if push {
		name = "push"
	}
	if push && !r.o.Push || !push && !r.o.Pull {
		return nil
	}
	return &half{r: r, push: push, log: r.log.With("direction", name), backoff: backoff{max: r.o.MaxBackoff}}
}

// direction is the half's part of the status; r.mu is held.
func (h *half) direction() *DirectionStatus {
	if h.push {
		return &h.r.status.Push
	}
	return &h.r.status.Pull
}

// set changes the state.
func (h *half) set(s State, err error) {
	h.r.mu.Lock()
	d := h.direction()
	d.State = s
	switch {
	case err != nil:
		d.Err, d.ErrAt = err, time.Now()
	case s == Running || s == Starting:
		d.Err = nil
	}
	h.r.mu.Unlock()
	h.r.o.OnChange()
}

// reached notes how far the direction has come.
func (h *half) reached(seq string) {
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	h.direction().LastSeq = seq
}

// run connects, and connects again when the connection is lost.
func (h *half) run(ctx context.Context) error {
	for {
		err := h.session(ctx)
		if err == nil {
			h.set(Stopped, nil)
			return nil
		}
		if ctx.Err() != nil {
			h.set(Stopped, nil)
			return context.Cause(ctx)
		}
		if f, ok := errors.AsType[fatalError](err); ok {
			return h.giveUp(f.error)
		}
		_, login := errors.AsType[loginError](err)
		wait, ok := h.backoff.failed(time.Now(), login)
		if !ok {
			h.countAborted()
			return h.giveUp(err)
		}
		h.set(Reconnecting, err)
		h.log.LogAttrs(ctx, slog.LevelWarn, "replication is not connected", slog.Any("error", err), slog.Duration("retry_in", wait))
		timer := time.NewTimer(jittered(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// giveUp ends the direction in error.
func (h *half) giveUp(err error) error {
	h.set(Failed, err)
	h.log.LogAttrs(context.Background(), slog.LevelError, "replication failed", slog.Any("error", err))
	return err
}

func (h *half) countAborted() {
	if h.push {
		h.r.o.Stats.Push.Aborted.Add(1)
	} else {
		h.r.o.Stats.Pull.Aborted.Add(1)
	}
}

func (h *half) countConnect() {
	if h.push {
		h.r.o.Stats.Push.Connects.Add(1)
	} else {
		h.r.o.Stats.Pull.Connects.Add(1)
	}
}
