package clustertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Call is a call to the cluster, as a fault sees it before it is carried out.
type Call struct {
	Name      string // the method's: "Read", "Insert", "Next", "Metadata.Put" …
	Namespace clustersync.Namespace
	Items     int // documents of a batch
	N         int // the how manieth call of this connection, from 1
}

// Fault is what happens to a call. The zero Fault is nothing.
type Fault struct {
	// Wait, if set, is called first: a slow cluster. It should end with ctx.
	Wait func(ctx context.Context)
	// Err is what the call returns. Wrapped clustersync.ErrUnreachable is one that passes ([Passing]).
	Err error
	// After is how many documents of a batch have their effect before Err; -1: the whole call has its effect, and only the answer is lost.
	After int
}

// Passing is an error that may pass.
func Passing() error { return fmt.Errorf("connection reset by peer: %w", clustersync.ErrUnreachable) }

// faults of one connection.
type faults struct {
	mu     sync.Mutex
	inject func(Call) Fault
	calls  int
	killed error
}

// Inject has f asked about every later call of this connection; nil ends that. f must be safe for concurrent use only if it keeps state
// that others use: its calls are one after another.
func (m *Memory) Inject(f func(Call) Fault) {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	m.inject = f
}

// Kill has every later call of this connection fail, also of streams that are open, as for a process that is no more.
func (m *Memory) Kill() {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	m.killed = fmt.Errorf("the connection was killed")
	// Streams that wait must see it.
	m.server.wake()
}

// Restart ends what Kill began.
func (m *Memory) Restart() {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	m.killed = nil
}

// Calls is how many calls were made by this connection.
func (m *Memory) Calls() int {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	return m.calls
}

// Flaky returns an injector after which each call fails with that probability, in a way that may pass: before its effect, in the middle
// of a batch, or with only the answer lost.
func Flaky(seed uint64, probability float64) func(Call) Fault {
	random := rand.New(rand.NewPCG(seed, 1))
	return func(c Call) Fault {
		if random.Float64() >= probability {
			return Fault{}
		}
		switch random.IntN(3) {
		case 0:
			return Fault{Err: Passing()}
		case 1:
			return Fault{Err: Passing(), After: -1}
		default:
			return Fault{Err: Passing(), After: random.IntN(c.Items + 1)}
		}
	}
}

// NthCall returns an injector that gives the n-th call this fault, and no other.
func NthCall(n int, f Fault) func(Call) Fault {
	return func(c Call) Fault {
		if c.N == n {
			return f
		}
		return Fault{}
	}
}

// effect is what is left to do of a call, and what it then answers.
type effect struct {
	lost  error // the answer in place of the true one
	items int   // how many documents have their effect; all if lost is nil
}

// cut says how many of n documents have their effect.
func (e effect) cut(n int) int {
	if e.lost == nil || e.items < 0 {
		return n
	}
	return min(n, e.items)
}

// begin is called first by each call. An error ends it without effect; an effect's error is to be returned after it.
func (m *Memory) begin(ctx context.Context, c Call) (effect, error) {
	if err := ctx.Err(); err != nil {
		return effect{}, err
	}
	f, err := m.faults.next(c)
	if err != nil {
		return effect{}, err
	}
	if f.Wait != nil {
		f.Wait(ctx)
		if err := ctx.Err(); err != nil {
			return effect{}, err
		}
		if err := m.alive(); err != nil {
			return effect{}, err
		}
	}
	if f.Err == nil {
		return effect{}, nil
	}
	err = fmt.Errorf("%s on %s: %w", c.Name, m.server.opts.Name, f.Err)
	if f.After == 0 {
		return effect{}, err
	}
	return effect{lost: err, items: f.After}, nil
}

func (f *faults) next(c Call) (Fault, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	c.N = f.calls
	if f.killed != nil {
		return Fault{}, f.killed
	}
	if f.inject == nil {
		return Fault{}, nil
	}
	return f.inject(c), nil
}

func (m *Memory) alive() error {
	m.faults.mu.Lock()
	defer m.faults.mu.Unlock()
	return m.killed
}

// wake wakes all streams.
func (s *server) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}
