package clustersync

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// followDestination reads the destination's changes, so that writes that are not the sync's are found. It closes opened once that makes
// hashing safe.
func (v *Verifier) followDestination(ctx context.Context, opened chan<- struct{}) error {
	var info Info
	err := v.retry(ctx, func() (err error) { info, err = v.cfg.Destination.Inspect(ctx); return err })
	if err != nil {
		return fmt.Errorf("inspect the destination: %w", err)
	}
	if info.ChangeSource == "" {
		// Final hashes everything again instead.
		v.change(func() { v.followed.never, v.followed.opening = true, false })
		close(opened)
		return nil
	}
	var from Position
	for first := true; ; first = false {
		if from.Zero() {
			err = v.retry(ctx, func() (err error) { from, err = v.cfg.Destination.Mark(ctx); return err })
			if err != nil {
				return fmt.Errorf("mark the destination: %w", err)
			}
		}
		v.change(func() {
			v.followed.opening, v.followed.at, v.followed.seen = false, from, time.Now()
			if !first {
				v.rehashAll()
			}
		})
		if first {
			close(opened)
		}
		if err := v.followFrom(ctx, from); !errors.Is(err, ErrHistoryLost) {
			return err
		}
		v.cfg.Log.WarnContext(ctx, "the destination's history went on without the verifier: all collections are hashed again")
		from = Position{}
	}
}

// rehashAll has all pairs hashed anew. mu is held, by change.
func (v *Verifier) rehashAll() {
	for key := range v.pairs {
		v.rehash(key)
	}
}

// followFrom reads the stream from a position on until it fails for good.
func (v *Verifier) followFrom(ctx context.Context, from Position) error {
	var stream Stream
	defer func() {
		if stream != nil {
			_ = stream.Close(context.WithoutCancel(ctx)) // the stream is only read
		}
	}()
	for {
		err := v.retry(ctx, func() error {
			if stream == nil {
				s, err := v.cfg.Destination.Changes(ctx, from)
				if err != nil {
					return err
				}
				stream = s
			}
			events, at, err := stream.Next(ctx, followWait)
			if err != nil {
				_ = stream.Close(context.WithoutCancel(ctx))
				stream = nil
				return err
			}
			if err := v.observeDestination(ctx, events); err != nil {
				return err
			}
			from = at
			v.change(func() { v.followed.at, v.followed.seen = at, time.Now() })
			return nil
		})
		if err != nil {
			return fmt.Errorf("follow the destination: %w", err)
		}
	}
}

// observeDestination makes dirty what changed on the destination. What it cannot place is in a collection that is gone, or was renamed,
// for which the rename's own event is still to come, or is a stranger, which the comparison of the catalogs finds.
func (v *Verifier) observeDestination(ctx context.Context, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	pairs, err := v.refresh(ctx)
	if err != nil {
		return err
	}
	place := make(map[Namespace]string, len(pairs))
	for key, p := range pairs {
		place[p.Destination] = key
	}
	for _, e := range events {
		if e.Op == OpRename {
			// Events before it had the old name, under which there may have been no pair any more.
			if key, ok := place[e.To]; ok {
				v.change(func() { v.rehash(key) })
			}
		}
		key, ok := place[e.Ref.Namespace]
		if e.DDL() || !ok {
			continue
		}
		k, err := v.both.translate(e.Doc.Key, v.cfg.Destination, v.cfg.Source)
		if err != nil {
			return fmt.Errorf("%s: %w", e.Ref.Namespace, err)
		}
		id, err := v.both.join(e.Doc.Key, v.cfg.Destination.Kind())
		if err != nil {
			return fmt.Errorf("%s: %w", e.Ref.Namespace, err)
		}
		if err := v.dirty.add(ctx, dirtyID{key, id}, k); err != nil {
			return err
		}
	}
	return nil
}
