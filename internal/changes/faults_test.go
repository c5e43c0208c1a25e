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
	for name, c := range map[string]struct {
		invariant string
		losses    bool
		alter     func([]tidegate.Change) []tidegate.Change
	}{
		"an entry is dropped": {"I6", false, without(func(c tidegate.Change) bool {
			n++
			return len(c.Revs) > 0 && n%7 == 0
		})},
		"the last entry of a page is dropped": {"I6", false, func(out []tidegate.Change) []tidegate.Change {
			if len(out) == 3 {
				out = out[:2]
			}
			return out
		}},
		"entries are out of order": {"I6", false, func(out []tidegate.Change) []tidegate.Change {
			slices.Reverse(out)
			return out
		}},
		"there is no backfill":    {"I9", false, without(func(c tidegate.Change) bool { return c.Seq.Trigger > 0 && !c.Revoked })},
		"removals are dropped":    {"I8", false, without(func(c tidegate.Change) bool { return len(c.Removed) > 0 && !c.Deleted })},
		"deletions are dropped":   {"I8", false, without(func(c tidegate.Change) bool { return c.Deleted })},
		"revocations are dropped": {"I8", true, without(func(c tidegate.Change) bool { return c.Revoked })},
		"a document of another user is sent": {"I7", false, func(out []tidegate.Change) []tidegate.Change {
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
				return runHistory(t, newWorld(st), c.losses, func(f feeder) feeder { return faulty{f, c.alter} }, scanning)
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
