package changes

import (
	"context"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
)

// faulty is a feed with a fault planted into it.
type faulty struct {
	feeder
	alter func([]tidegate.Change) []tidegate.Change
}

func (f faulty) Next(ctx context.Context, max int) ([]tidegate.Change, error) {
	for {
		out, err := f.feeder.Next(ctx, max)
		if err != nil || len(out) == 0 {
			return out, err
		}
		if out = f.alter(slices.Clone(out)); len(out) > 0 {
			return out, nil
		}
	}
}

func without(drop func(tidegate.Change) bool) func([]tidegate.Change) []tidegate.Change {
	return func(out []tidegate.Change) []tidegate.Change { return slices.DeleteFunc(out, drop) }
}

// TestCheckersCatchPlantedFaults shows that the checkers of I6, I7, I8 and I9 are not blind: each fault is
// found by the checker of the invariant that it breaks.
func TestCheckersCatchPlantedFaults(t *testing.T) {
	n := 0
	plain, losing, trimming := historyKind{}, historyKind{losses: true}, historyKind{losses: true, trims: true}
	for name, c := range map[string]struct {
		invariant string
		kind      historyKind
		alter     func([]tidegate.Change) []tidegate.Change
	}{
		"an entry is dropped": {"I6", plain, without(func(c tidegate.Change) bool {
			n++
			return len(c.Revs) > 0 && n%7 == 0
		})},
		"the last entry of a page is dropped": {"I6", plain, func(out []tidegate.Change) []tidegate.Change {
			if len(out) == 3 {
				out = out[:2]
			}
			return out
		}},
		"entries are out of order": {"I6", plain, func(out []tidegate.Change) []tidegate.Change {
			slices.Reverse(out)
			return out
		}},
		"there is no backfill":    {"I9", plain, without(func(c tidegate.Change) bool { return c.Seq.Trigger > 0 && !c.Revoked })},
		"removals are dropped":    {"I8", plain, without(func(c tidegate.Change) bool { return len(c.Removed) > 0 && !c.Deleted })},
		"deletions are dropped":   {"I8", plain, without(func(c tidegate.Change) bool { return c.Deleted })},
		"revocations are dropped": {"I8", losing, without(func(c tidegate.Change) bool { return c.Revoked })},
		"an entry before a marker is dropped": {"I6", trimming, func(out []tidegate.Change) []tidegate.Change {
			if len(out) == 2 && out[0].Seq.Trigger > 0 && len(out[0].Revs) > 0 {
				out = out[1:]
			}
			return out
		}},
		"deletions before a marker are dropped": {"I8", trimming, without(func(c tidegate.Change) bool { return c.Deleted && c.Seq.Trigger > 0 })},
		"losses before a marker are dropped":    {"I8", trimming, without(func(c tidegate.Change) bool { return c.Revoked && c.Seq.Trigger > 0 })},
		"what follows a marker is told as if it came before": {"I6", trimming, func(out []tidegate.Change) []tidegate.Change {
			for i := 1; i < len(out); i++ {
				if out[i-1].Seq.Trigger > 0 && out[i].Seq.Trigger == 0 {
					out[i].Seq.Trigger = out[i-1].Seq.Trigger
				}
			}
			return out
		}},
		"a document of another user is sent": {"I7", plain, func(out []tidegate.Change) []tidegate.Change {
			for i := range out {
				if out[i].ID != "d1" && len(out[i].Revs) > 0 {
					out[i].ID = "d1"
				}
			}
			return out
		}},
	} {
		t.Run(name, func(t *testing.T) {
			st := openStore(t)
			histories := rapid.Custom(func(t *rapid.T) error {
				return runHistory(t, newWorld(st), c.kind, func(f feeder) feeder { return faulty{f, c.alter} }, scanning)
			})
			for seed := range 300 {
				err := histories.Example(seed)
				if err != nil && strings.HasPrefix(err.Error(), c.invariant+":") {
					return
				}
			}
			t.Errorf("the checker of %s saw nothing", c.invariant)
		})
	}
}
