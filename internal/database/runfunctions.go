package database

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
)

// runFunctions are the sync functions of online resyncs, compiled. Which function a write is routed by follows, like the
// generation, from the snapshot: by number of the run whose function it is.
type runFunctions struct {
	mu    sync.Mutex
	byRun map[uint32]map[store.Collection]script.SyncFunction
	owned []script.SyncFunction

	compile func(source, defaultChannel string, o script.Options) (script.SyncFunction, error)
}

func (f *runFunctions) init() {
	f.byRun = map[uint32]map[store.Collection]script.SyncFunction{}
	f.compile = script.CompileSync
}

// function returns the sync function of a collection that a run gave it; of run 0 or the one that it was opened with,
// the configured one.
func (db *Database) function(ctx context.Context, c *collection, run uint32) (script.SyncFunction, error) {
	if run == c.configured {
		return c.sync, nil
	}
	fns, err := db.functionsOf(ctx, run)
	if err != nil {
		return nil, err
	}
	if fn := fns[c.id]; fn != nil {
		return fn, nil
	}
	return nil, tidegate.Errorf(tidegate.Internal, "resync %d has no function for collection %s.%s", run, c.scope, c.name)
}

// functionsOf returns the functions of a run; it compiles them if they are not known yet, as after a restart.
func (db *Database) functionsOf(ctx context.Context, run uint32) (map[store.Collection]script.SyncFunction, error) {
	f := &db.functions
	f.mu.Lock()
	defer f.mu.Unlock()
	if fns, ok := f.byRun[run]; ok {
		return fns, nil
	}
	var sources map[store.Collection]string
	err := db.st.View(ctx, func(r store.Reader) (err error) {
		sources, err = readRunFunctions(r, db.space, run)
		return err
	})
	if err != nil {
		return nil, err
	}
	fns, err := db.compileLocked(sources)
	if err != nil {
		return nil, fmt.Errorf("compile functions of resync %d: %w", run, err)
	}
	f.byRun[run] = fns
	return fns, nil
}

// compile compiles functions for collections. A collection's own function is used again if its source is the same.
func (db *Database) compile(sources map[store.Collection]string) (map[store.Collection]script.SyncFunction, error) {
	db.functions.mu.Lock()
	defer db.functions.mu.Unlock()
	return db.compileLocked(sources)
}

func (db *Database) compileLocked(sources map[store.Collection]string) (map[store.Collection]script.SyncFunction, error) {
	fns := make(map[store.Collection]script.SyncFunction, len(sources))
	var made []script.SyncFunction
	for coll, source := range sources {
		c := db.byID[coll]
		switch {
		case c == nil:
			continue // not configured any more
		case source == c.source():
			fns[coll] = c.function()
			continue
		}
		fn, err := db.functions.compile(source, c.defaultChannel(), script.Options{Limits: db.opts.Script, Logger: db.log})
		if err != nil {
			for _, fn := range made {
				fn.Close()
			}
			return nil, err
		}
		fns[coll], made = fn, append(made, fn)
	}
	db.functions.owned = append(db.functions.owned, made...)
	return fns, nil
}

// set remembers the functions of a run.
func (f *runFunctions) set(run uint32, fns map[store.Collection]script.SyncFunction) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byRun[run] = fns
}

func (f *runFunctions) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fn := range f.owned {
		fn.Close()
	}
	f.owned = nil
}

// runFunctionsKey holds the sources of the functions of a run, by collection.
func runFunctionsKey(space store.Space, run uint32) store.Key {
	return store.NewKey(space, store.KindMeta).Name("resync.functions").Uint64(uint64(run))
}

func writeRunFunctions(tx store.Tx, space store.Space, run uint32, sources map[store.Collection]string) error {
	b, err := json.Marshal(sources)
	if err != nil {
		return fmt.Errorf("encode functions: %w", err)
	}
	return tx.Put(runFunctionsKey(space, run), b)
}

func readRunFunctions(r store.Reader, space store.Space, run uint32) (sources map[store.Collection]string, err error) {
	b, err := r.Get(runFunctionsKey(space, run))
	if err != nil {
		return nil, err
	}
	if b == nil { // another run has begun since its number was read
		return nil, tidegate.Errorf(tidegate.Unavailable, "resync %d is over, try again", run)
	}
	if err := json.Unmarshal(b, &sources); err != nil {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the stored functions of resync %d make no sense", run)
	}
	return sources, nil
}
