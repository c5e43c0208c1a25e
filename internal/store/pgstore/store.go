// Package pgstore keeps a store in PostgreSQL, or what speaks its protocol and SQL. Nodes that share a database share the
// store. internal/store/DESIGN.md ("PostgreSQL") tells how and why.
package pgstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Store is a store in PostgreSQL. Make one with Open.
type Store struct {
	opts Options
	log  *slog.Logger
	node string // of this process, for the writer's row and leases
	// generation of the writer's row when the store was opened, or since Fence, which nobody calls while there are Updates
	generation int64

	views   *pgxpool.Pool // Views
	others  *pgxpool.Pool // committer, leases, listener, polls
	sql     statements
	queue   chan *request
	wanted  chan *wanted // Views to be gathered
	waiters waiters
	lookout lookout
	leases  leases

	closing   chan struct{} // closed when Close begins
	enter     sync.RWMutex  // held for reading while a request is queued, or a View begins
	closed    bool
	running   sync.WaitGroup // Views
	committer sync.WaitGroup
	workers   sync.WaitGroup
	stop      context.CancelFunc // ends what works in the background, last of all
	closeOnce sync.Once

	counters struct{ commits, syncs, bytes atomic.Uint64 }
}

var (
	_ store.Store       = (*Store)(nil)
	_ store.StatsReader = (*Store)(nil)
	_ store.Prefetcher  = (*Store)(nil)
)

// Open connects to the database that url names (postgres://user:password@host:port/name?options) and makes or migrates the
// tables. Invalid: url does not parse. Unavailable: it cannot be reached. Errors never hold the password.
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	cfg, err := parseURL(url, opts)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opts: opts, log: opts.Logger, node: uuid.NewString(), sql: statementsFor(opts.Schema),
		queue: make(chan *request, opts.Queue), wanted: make(chan *wanted, maxGathered), closing: make(chan struct{}),
	}
	s.leases.held = map[*lease]struct{}{}
	if s.others, err = connect(ctx, cfg, 4); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		s.others.Close()
		return nil, fmt.Errorf("prepare tables: %w", err)
	}
	if s.views, err = connect(ctx, cfg, opts.Connections); err != nil {
		s.others.Close()
		return nil, err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.committer.Go(func() { s.commitLoop(background) })
	s.workers.Go(func() { s.listen(background) })
	for range min(gatherers, opts.Connections) {
		s.workers.Go(func() { s.gatherLoop(background) })
	}
	return s, nil
}

// parseURL reads the URL and sets what every connection must have: commits that wait for the disk, whatever the server's
// default is.
func parseURL(url string, opts Options) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, tidegate.Errorf(tidegate.Invalid, "the store's URL is not one of PostgreSQL") // err may hold the password
	}
	cfg.ConnConfig.RuntimeParams["application_name"] = "tidegate"
	cfg.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
	cfg.ConnConfig.RuntimeParams["search_path"] = pgx.Identifier{opts.Schema}.Sanitize()
	watch(cfg)
	return cfg, nil
}

func connect(ctx context.Context, cfg *pgxpool.Config, most int) (*pgxpool.Pool, error) {
	cfg = cfg.Copy()
	cfg.MaxConns = int32(most)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, unavailable("connect to PostgreSQL", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, unavailable("connect to PostgreSQL", err)
	}
	return pool, nil
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.enter.RLock()
	if s.closed {
		s.enter.RUnlock()
		return store.ErrClosed
	}
	s.running.Add(1)
	s.enter.RUnlock()
	defer s.running.Done()
	r, err := s.beginView(ctx)
	if err != nil {
		return err
	}
	defer r.end()
	return fn(r)
}

// Stats implements store.StatsReader.
func (s *Store) Stats() store.Stats {
	return store.Stats{
		Commits: s.counters.commits.Load(), Syncs: s.counters.syncs.Load(), BytesWritten: s.counters.bytes.Load(),
		QueueDepth: len(s.queue),
	}
}

// Close implements store.Store: queued Updates are carried out, running Views read to their end, leases are given back.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		s.leases.close()
		s.enter.Lock()
		s.closed = true
		close(s.queue)
		s.enter.Unlock()
		s.committer.Wait()
		s.running.Wait()
		s.stop()
		s.workers.Wait()
		s.views.Close()
		s.others.Close()
	})
	return nil
}
