package gatewaycluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Mark gives the sequences that all collections have reached. A gateway answers a write when every later reader sees it, so there is
// nothing to be written.
func (c *Cluster) Mark(ctx context.Context) (clustersync.Position, error) {
	now := time.Now()
	p, err := c.look(ctx)
	if err != nil {
		return clustersync.Position{}, fmt.Errorf("mark: %w", err)
	}
	return p.position(now)
}

// look lists databases and collections with the sequences that they have reached.
func (c *Cluster) look(ctx context.Context) (place, error) {
	names, err := c.databaseNames(ctx)
	if err != nil {
		return place{}, err
	}
	var mu sync.Mutex
	out := place{Databases: map[string]dbPlace{}}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(listWorkers)
	for _, db := range names {
		if c.internal(db) {
			continue
		}
		g.Go(func() error {
			at, ok, err := c.lookAt(gctx, db)
			if err != nil || !ok {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			out.Databases[db] = at
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return place{}, err
	}
	out.Listed = time.Now().UnixNano()
	return out, nil
}

// lookAt looks at one database; ok is false if it is gone by now.
func (c *Cluster) lookAt(ctx context.Context, db string) (at dbPlace, ok bool, err error) {
	cfg, _, err := c.getConfig(ctx, db)
	if isNotFound(err) {
		return at, false, nil
	}
	if err != nil {
		return at, false, err
	}
	s, err := cfg.scopes()
	if err != nil {
		return at, false, fmt.Errorf("database %q: %w", db, err)
	}
	inst, err := c.instance(ctx, db)
	if isNotFound(err) {
		return at, false, nil
	}
	if err != nil {
		return at, false, err
	}
	at = dbPlace{Instance: inst.id(), Collections: map[string]uint64{}}
	for _, name := range s.names() {
		at.Collections[name] = inst.UpdateSeq
	}
	return at, true, nil
}

// defaultPurgeDays is how long a gateway keeps tombstones if its config does not say.
const defaultPurgeDays = 3

// Oplog says how far back a stream may begin: as far as tombstones are surely kept. Sequences themselves are never lost.
func (c *Cluster) Oplog(ctx context.Context) (oldest, newest time.Time, err error) {
	newest = time.Now()
	kept, err := c.tombstonesKept(ctx)
	if err != nil {
		return time.Time{}, time.Time{}, fmt.Errorf("look how long deletions are kept: %w", err)
	}
	return newest.Add(-kept), newest, nil
}

// tombstonesKept is the shortest time that a database keeps tombstones: a deletion that is older may be unknown to its feed.
func (c *Cluster) tombstonesKept(ctx context.Context) (time.Duration, error) {
	names, err := c.databaseNames(ctx)
	if err != nil {
		return 0, err
	}
	days := 0.0
	for _, db := range names {
		if c.internal(db) {
			continue
		}
		cfg, _, err := c.getConfig(ctx, db)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if d := purgeDays(cfg); days == 0 || d < days {
			days = d
		}
	}
	if days == 0 {
		days = defaultPurgeDays
	}
	return time.Duration(days * float64(24*time.Hour)), nil
}

// purgeDays reads metadata_purge_interval_days, a number with or without quotes.
func purgeDays(cfg config) float64 {
	raw := cfg["metadata_purge_interval_days"]
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	if d, err := strconv.ParseFloat(text, 64); err == nil && d > 0 {
		return d
	}
	return defaultPurgeDays
}
