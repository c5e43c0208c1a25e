package database_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// space is the storage id of test databases.
const space = store.Space(7)

// env is one open database on stores in memory.
type env struct {
	t     testing.TB
	st    store.Store
	blobs blob.Store
	db    *database.Database
	admin *database.Handle
	clock *clock
}

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)} }

// byChannels routes by the document's own words, and lets tests steer everything else the sync function can do.
const byChannels = `function(doc, oldDoc) {
	if (doc.forbid) { throw({forbidden: doc.forbid}); }
	if (doc.onlyBy) { requireUser(doc.onlyBy); }
	if (doc.needs) { requireAccess(doc.needs); }
	channel(doc.channels);
	if (doc.keepChannels && oldDoc) { channel(oldDoc.channels); }
	if (doc.grant) { for (var i = 0; i < doc.grant.length; i++) { access(doc.grant[i][0], doc.grant[i][1]); } }
	if (doc.roles) { for (var i = 0; i < doc.roles.length; i++) { role(doc.roles[i][0], doc.roles[i][1]); } }
	if (doc.expires !== undefined) { expiry(doc.expires); }
}`

// compiled is byChannels, compiled once: starting an engine takes long under the race detector.
var compiled = sync.OnceValues(func() (script.SyncFunction, error) {
	return script.CompileSync(byChannels, "", script.Options{})
})

// compiledOnce are functions that tests give to databases that are open, each compiled once.
var compiledOnce sync.Map // of source and default channel → script.SyncFunction

func compileOnce(source, defaultChannel string, o script.Options) (script.SyncFunction, error) {
	key := defaultChannel + "\x00" + source
	if fn, ok := compiledOnce.Load(key); ok {
		return fn.(script.SyncFunction), nil
	}
	fn, err := script.CompileSync(source, defaultChannel, o)
	if err != nil {
		return nil, err
	}
	kept, _ := compiledOnce.LoadOrStore(key, keptFunction{fn})
	return kept.(script.SyncFunction), nil
}

// keptFunction is shared by databases, none of which closes it.
type keptFunction struct{ script.SyncFunction }

func (keptFunction) Close() {}

func byChannelsCollection(t testing.TB) []database.CollectionOptions {
	t.Helper()
	fn, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	return []database.CollectionOptions{{Function: fn}}
}

// open opens a database on fresh stores in memory.
func open(t testing.TB, opts database.Options) *env {
	t.Helper()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return openOn(t, st, vfs.NewMem(), opts)
}

// openOn opens a database on a store, with its blobs in fs, and runs it until the test ends.
func openOn(t testing.TB, st store.Store, fs vfs.FS, opts database.Options) *env {
	t.Helper()
	blobs, err := blob.OpenFiles("blobs", blob.Options{FS: fs, MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	return openWith(t, st, blobs, opts)
}

// openWith opens a database on stores, and runs it until the test ends.
func openWith(t testing.TB, st store.Store, blobs blob.Store, opts database.Options) *env {
	t.Helper()
	e := &env{t: t, st: st, blobs: blobs, clock: newClock()}
	var err error
	opts.Name, opts.Space = "test", space
	if opts.Now == nil {
		opts.Now = e.clock.now
	}
	if opts.Collections == nil {
		opts.Collections = byChannelsCollection(t)
	}
	opts.Access.BcryptCost = 4
	if e.db, err = database.Open(t.Context(), st, blobs, opts); err != nil {
		t.Fatal(err)
	}
	database.Compiling(e.db, compileOnce)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.db.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := e.db.Close(); err != nil {
			t.Error(err)
		}
	})
	e.admin = e.db.Admin(0)
	return e
}

// user makes a user with the channels and returns the database as the user sees it.
func (e *env) user(name string, channels ...string) *database.Handle {
	e.t.Helper()
	pw := access.NewSecret("secret")
	if channels == nil {
		channels = []string{}
	}
	_, err := e.db.Access().PutUser(e.t.Context(), name, access.UserUpdate{Password: &pw, AdminChannels: channels}, false)
	if err != nil {
		e.t.Fatal(err)
	}
	return e.as(name)
}

// as returns the database as the user sees it now.
func (e *env) as(name string) *database.Handle {
	e.t.Helper()
	u, err := e.db.Access().User(e.t.Context(), name)
	if err != nil {
		e.t.Fatal(err)
	}
	return e.db.As(u, 0)
}

// write reads a document as a REST client would send it.
func (e *env) write(raw string, newEdits bool) *database.Write {
	e.t.Helper()
	w, err := parse(raw, newEdits)
	if err != nil {
		e.t.Fatalf("%s: %v", raw, err)
	}
	return w
}

func parse(raw string, newEdits bool) (*database.Write, error) {
	doc, err := jsondoc.Split([]byte(raw), jsondoc.Limits{}, false)
	if err != nil {
		return nil, err
	}
	return database.WriteFromDoc(doc, newEdits)
}

// put writes a document as its JSON says, and returns the revision.
func (e *env) put(raw string) tidegate.RevID {
	e.t.Helper()
	res, err := e.admin.Put(e.t.Context(), e.write(raw, true))
	if err != nil {
		e.t.Fatalf("put %s: %v", raw, err)
	}
	return res.Rev
}

// push writes a revision made elsewhere.
func (e *env) push(raw string) (database.Written, error) {
	e.t.Helper()
	return e.admin.Put(e.t.Context(), e.write(raw, false))
}

// get reads a document, its current revision if rev is zero.
func (e *env) get(h *database.Handle, id string, rev tidegate.RevID) *database.Document {
	e.t.Helper()
	doc, err := h.Get(e.t.Context(), id, database.GetOptions{Rev: rev})
	if err != nil {
		e.t.Fatalf("get %s %s: %v", id, rev, err)
	}
	return doc
}

// raw reads everything about a document.
func (e *env) raw(id string) *database.RawDocument {
	e.t.Helper()
	raw, err := e.admin.Raw(e.t.Context(), id)
	if err != nil {
		e.t.Fatalf("raw %s: %v", id, err)
	}
	return raw
}

// check fails the test if the database has problems.
func (e *env) check() *database.CheckReport {
	e.t.Helper()
	report, err := e.db.Check(e.t.Context(), database.CheckOptions{ReadBlobs: true})
	if err != nil {
		e.t.Fatal(err)
	}
	for _, p := range report.Problems {
		e.t.Errorf("check: %s: %s", p.Kind, p.What)
	}
	return report
}

// wantErr fails the test unless err has the code and reason.
func wantErr(t testing.TB, err error, code tidegate.Code, reason string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s %q", code, reason)
	}
	if tidegate.ErrorCode(err) != code || tidegate.ErrorReason(err) != reason {
		t.Fatalf("error %s %q, want %s %q", tidegate.ErrorCode(err), tidegate.ErrorReason(err), code, reason)
	}
}

func rev(t testing.TB, s string) tidegate.RevID {
	t.Helper()
	r, err := tidegate.ParseRevID(s)
	if err != nil {
		t.Fatalf("revision %q: %v", s, err)
	}
	return r
}
