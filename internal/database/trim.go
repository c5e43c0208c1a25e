package database

import (
	"context"
	"fmt"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// TrimOptions say what Trim may forget.
type TrimOptions struct {
	Record *devicesync.Record // as it is now
	// Floor is the last sequence that was the current one client_max_offline_days ago; 0: nothing is trimmed, and only a marker may
	// be allocated.
	Floor tidegate.Seq
	// LowestOpen is the lowest position of the sessions that are open, which need what comes after it; 0: there are none, or they
	// have had their time.
	LowestOpen tidegate.Seq
	// IdleBefore is when clients must have been seen last to be retired; zero: none are.
	IdleBefore time.Time
	// Commit changes the stored record, and returns once that is durable. It may be called twice.
	Commit func(ctx context.Context, change func(*devicesync.Record)) error
}

// TrimReport is what a trim did.
type TrimReport struct {
	Marker tidegate.Seq // that was allocated; 0: none was needed
	Floor  tidegate.Seq // history_floor afterwards
	Moved  bool         // the floor moved
	Held   bool         // a session that is open holds the floor back

	Remembered int64 // deletions that have no history any more
	Collapsed  int64 // documents that lost bodies of old revisions, or periods
	Retired    int64 // clients
}

// Trim does what device-sync.md §8.6 says: a floor marker first, then what history is made of up to the new floor, then the floor. It may be
// broken off anywhere and run again: until the floor moves, clients are served from the ledger what was theirs before.
func (k *Keeper) Trim(ctx context.Context, o TrimOptions) (rep TrimReport, err error) {
	rep.Floor = o.Record.HistoryFloor
	if rep.Marker, err = k.AllocateMarker(ctx, max(o.Record.Marker(), o.Record.Epoch.Base)); err != nil {
		return rep, fmt.Errorf("allocate floor marker: %w", err)
	}
	if rep.Marker > 0 {
		err := o.Commit(ctx, func(r *devicesync.Record) {
			if r.Marker() < rep.Marker {
				r.Markers = append(r.Markers[:len(r.Markers):len(r.Markers)], rep.Marker)
			}
		})
		if err != nil {
			return rep, fmt.Errorf("store floor marker: %w", err)
		}
	}
	floor := o.Floor
	if o.LowestOpen > 0 && o.LowestOpen-1 < floor {
		floor, rep.Held = o.LowestOpen-1, true
	}
	if floor <= o.Record.HistoryFloor {
		return rep, nil
	}
	if rep.Remembered, err = k.Remember(ctx, o.Record.HistoryFloor, floor, nil); err != nil {
		return rep, err
	}
	if rep.Collapsed, err = k.Collapse(ctx, o.Record.HistoryFloor, floor, nil); err != nil {
		return rep, err
	}
	if !o.IdleBefore.IsZero() {
		if rep.Retired, err = k.RetireIdle(ctx, o.IdleBefore, nil); err != nil {
			return rep, err
		}
	}
	err = o.Commit(ctx, func(r *devicesync.Record) { raiseFloor(r, floor) })
	if err != nil {
		return rep, fmt.Errorf("move history floor: %w", err)
	}
	rep.Floor, rep.Moved = floor, true
	return rep, nil
}

// raiseFloor moves the floor, and drops the markers that are not above it any more.
func raiseFloor(r *devicesync.Record, floor tidegate.Seq) {
	if floor <= r.HistoryFloor {
		return
	}
	r.HistoryFloor = floor
	var markers []tidegate.Seq
	for _, m := range r.Markers {
		if m > floor {
			markers = append(markers, m)
		}
	}
	r.Markers = markers
}
