package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/store/pgstore/pgtest"
)

// blow is one thing that goes wrong.
type blow struct {
	kind string
	node int // whom it hits; of no meaning for those that hit PostgreSQL
}

// kinds of blows.
const (
	blowKill      = "kill"      // SIGKILL; started again at the end
	blowStop      = "stop"      // SIGSTOP, for longer than a lease; SIGCONT at the end
	blowCut       = "cut"       // connections to PostgreSQL are reset, new ones refused
	blowDeaf      = "deaf"      // connections to PostgreSQL are half-open
	blowFast      = "fast"      // PostgreSQL restarts
	blowImmediate = "immediate" // PostgreSQL is killed and recovers
)

// round is what happens at the same time, and for how long it lasts.
type round struct {
	blows []blow
	holds time.Duration
}

func (r round) String() string {
	var parts []string
	for _, b := range r.blows {
		if b.kind == blowFast || b.kind == blowImmediate {
			parts = append(parts, "postgres "+b.kind)
		} else {
			parts = append(parts, fmt.Sprintf("%s %c", b.kind, 'a'+b.node))
		}
	}
	return fmt.Sprintf("%s for %v", strings.Join(parts, ", "), r.holds)
}

// storeRetries is for how long a node tries again to reach the database before it refuses a request.
const storeRetries = 5 * time.Second

// planFaults makes a schedule from a seed: first each kind once, in some order, then combinations. A node that is stopped is so for longer
// than lease.
func planFaults(seed uint64, rounds, nodes int, lease time.Duration) []round {
	rnd := rand.New(rand.NewPCG(seed, 0xfa17))
	kinds := []string{blowKill, blowStop, blowCut, blowDeaf, blowFast, blowImmediate}
	first := slices.Clone(kinds)
	rnd.Shuffle(len(first), func(i, j int) { first[i], first[j] = first[j], first[i] })
	plan := make([]round, rounds)
	for i := range plan {
		kind := kinds[rnd.IntN(len(kinds))]
		if i < len(first) {
			kind = first[i]
		}
		hit := rnd.IntN(nodes)
		r := round{blows: []blow{{kind, hit}}, holds: time.Duration(500+rnd.IntN(3000)) * time.Millisecond}
		if rnd.IntN(4) == 0 {
			r.holds += storeRetries // the nodes give up trying and refuse
		}
		if i >= len(first) || rnd.IntN(3) == 0 {
			other := blow{kinds[rnd.IntN(len(kinds))], (hit + 1 + rnd.IntN(max(1, nodes-1))) % nodes}
			// Starting a node needs the database, which comes back first.
			if other.node != hit && other.kind != kind && !(postgres(other.kind) && postgres(kind)) {
				r.blows = append(r.blows, other)
			}
		}
		if slices.ContainsFunc(r.blows, func(b blow) bool { return b.kind == blowStop }) {
			r.holds = lease + lease/2 + time.Duration(rnd.IntN(2000))*time.Millisecond
		}
		plan[i] = r
	}
	return plan
}

func postgres(kind string) bool { return kind == blowFast || kind == blowImmediate }

// faults carries out a plan.
type faults struct {
	nodes  []*node
	server *pgtest.Server
}

// strike begins a blow.
func (f *faults) strike(b blow) error {
	n := f.nodes[b.node]
	switch b.kind {
	case blowKill:
		n.pg.cut() // so that the supervisor's next one cannot serve before the blow is over
		n.signal(syscall.SIGKILL)
	case blowStop:
		n.signal(syscall.SIGSTOP)
	case blowCut:
		n.pg.cut()
	case blowDeaf:
		n.pg.deafen(true)
	case blowFast:
		return f.server.Down()
	case blowImmediate:
		return f.server.Kill()
	}
	return nil
}

// mend ends it.
func (f *faults) mend(b blow, pgAddr string) error {
	n := f.nodes[b.node]
	switch b.kind {
	case blowKill, blowCut:
		n.pg.to(pgAddr)
	case blowStop:
		n.signal(syscall.SIGCONT)
	case blowDeaf:
		n.pg.deafen(false)
	case blowFast, blowImmediate:
		return f.server.Up()
	}
	return nil
}

// run carries out one round and waits until all nodes serve again.
func (f *faults) run(ctx context.Context, r round, pgAddr string) error {
	for _, b := range r.blows {
		if err := f.strike(b); err != nil {
			return fmt.Errorf("%s: %w", b.kind, err)
		}
	}
	pause(ctx, r.holds)
	// The database first: a node that starts needs it.
	for _, first := range []bool{true, false} {
		for _, b := range r.blows {
			if postgres(b.kind) == first {
				if err := f.mend(b, pgAddr); err != nil {
					return fmt.Errorf("end of %s: %w", b.kind, err)
				}
			}
		}
	}
	if err := waitHealthy(ctx, f.nodes, recovery); err != nil && ctx.Err() == nil {
		return fmt.Errorf("not all nodes serve %v after %v: %w", recovery, r, err)
	}
	return nil
}

// recovery is how long nodes may take to serve again after something that went wrong is over.
const recovery = 45 * time.Second

// TestPlanFaults: a seed gives the same plan, another one another; each kind is in it, and a node is stopped for longer than its lease.
func TestPlanFaults(t *testing.T) {
	lease := 3 * time.Second
	text := func(seed uint64) (s string) {
		for _, r := range planFaults(seed, 30, 3, lease) {
			s += r.String() + "\n"
		}
		return s
	}
	if first, again := text(7), text(7); first != again || first == text(8) {
		t.Error("a plan is not a function of its seed")
	}
	for seed := range uint64(50) {
		seen := map[string]int{}
		for _, r := range planFaults(seed, 12, 3, lease) {
			for _, b := range r.blows {
				seen[b.kind]++
				if b.node < 0 || b.node > 2 || b.kind == blowStop && r.holds <= lease {
					t.Errorf("seed %d: %v", seed, r)
				}
			}
			if len(r.blows) == 2 {
				seen["two"]++
				if r.blows[0].node == r.blows[1].node || r.blows[0].kind == r.blows[1].kind {
					t.Errorf("seed %d: %v", seed, r)
				}
			}
		}
		if len(seen) != 7 {
			t.Errorf("seed %d: %v", seed, seen)
		}
	}
}
