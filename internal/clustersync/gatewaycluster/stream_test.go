package gatewaycluster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

func mark(t testing.TB, c clustersync.Cluster) clustersync.Position {
	t.Helper()
	var p clustersync.Position
	patient(t, func() (err error) { p, err = c.Mark(t.Context()); return err })
	return p
}

// patient calls do again, as the engine does, while its error is one that may pass.
func patient(t testing.TB, do func() error) {
	t.Helper()
	var err error
	for range 100 {
		if err = do(); !errors.Is(err, clustersync.ErrUnreachable) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestNoEventIsLost: whatever requests of a stream break, it tells everything.
func TestNoEventIsLost(t *testing.T) {
	r := newRig(t)
	c := r.cluster()
	r.must("PUT", "/db/", `{"scopes":{"_default":{"collections":{"_default":{},"x":{},"y":{}}}}}`)
	from := mark(t, c)
	for i := range 30 {
		for _, ks := range []string{"db", "db._default.x", "db._default.y"} {
			r.must("PUT", fmt.Sprintf("/%s/d%d", ks, i), `{}`)
		}
	}
	r.must("PUT", "/new/", `{}`)
	r.must("PUT", "/new/d", `{}`)
	to := mark(t, c)
	rng := rand.New(rand.NewPCG(3, 4))
	var mu sync.Mutex
	broken := func() fate {
		mu.Lock()
		defer mu.Unlock()
		return []fate{answered, lost, lost, cutShort}[rng.IntN(4)]
	}
	r.fault.Store(&broken)
	defer r.fault.Store(nil)
	seen := map[string]bool{}
	var stream clustersync.Stream
	patient(t, func() (err error) { stream, err = c.Changes(t.Context(), from); return err })
	for at := from; !c.Reached(at, to); {
		patient(t, func() error {
			events, now, err := stream.Next(t.Context(), time.Second)
			for _, e := range events {
				seen[fmt.Sprint(e.Op, e.Ref.Namespace, e.Doc.Key.ID)] = true
			}
			if err == nil {
				at = now
			}
			return err
		})
	}
	if len(seen) != 3*30+2 {
		t.Errorf("%d of 92 events", len(seen))
	}
}

// words are DDL events for people.
func words(events []clustersync.Event) string {
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%s %s", map[clustersync.Op]string{clustersync.OpCreate: "create", clustersync.OpDrop: "drop"}[e.Op], e.Ref.Namespace))
	}
	return strings.Join(out, ", ")
}

// TestDDL: databases and collections that appear and vanish are told, also by a stream that is opened later, and a database that was
// deleted and made anew is another one.
func TestDDL(t *testing.T) {
	a, b := newRig(t), newRig(t)
	src, dst := a.cluster(), b.cluster()
	a.must("PUT", "/first/", `{}`)
	a.must("PUT", "/first/d", `{"n":1}`)
	from := mark(t, src)
	copyAll(t, src, dst, ns("first", "_default._default"))

	a.must("PUT", "/second/", `{"scopes":{"s":{"collections":{"x":{},"y":{}}}}}`)
	a.must("PUT", "/second.s.x/d", `{"n":2}`)
	ddl, at := follow(t, src, dst, from, mark(t, src))
	if got := words(ddl); got != "create second.s.x, create second.s.y" {
		t.Error(got)
	}
	equal(t, readAll(t, dst, ns("second", "s.x")), readAll(t, src, ns("second", "s.x")))

	// A database of its own name, with other documents, and a collection less: the stream that goes on from before tells all.
	a.must("DELETE", "/first/?purge=true", "")
	a.must("PUT", "/first/", `{}`)
	a.must("PUT", "/first/other", `{"n":3}`)
	a.must("POST", "/second/_config", `{"scopes":{"s":{"collections":{"y":null,"z":{}}}}}`)
	m := mark(t, src)
	if src.Reached(at, m) {
		t.Error("a mark is reached before anybody looked")
	}
	ddl, _ = follow(t, src, dst, at, m)
	if got := words(ddl); got != "drop first._default._default, drop second.s.y, create first._default._default, create second.s.z" {
		t.Error(got)
	}
	equal(t, readAll(t, dst, ns("first", "_default._default")), readAll(t, src, ns("first", "_default._default")))
	var names []string
	colls, err := dst.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range colls {
		names = append(names, c.String())
	}
	if got := strings.Join(names, " "); got != "first._default._default second.s.x second.s.z" {
		t.Errorf("the destination has %s", got)
	}
	// A collection that was dropped is empty when it is made again.
	if err := dst.Drop(t.Context(), ns("second", "s.x")); err != nil {
		t.Fatal(err)
	}
	if err := dst.Create(t.Context(), clustersync.Collection{Ref: clustersync.Ref{Namespace: ns("second", "s.x")}}); err != nil {
		t.Fatal(err)
	}
	if docs := readAll(t, dst, ns("second", "s.x")); len(docs) != 0 {
		t.Errorf("%s", docs)
	}
}

// TestEmptied: a database that was emptied (_flush) is another one, too.
func TestEmptied(t *testing.T) {
	a := newRig(t)
	src := a.cluster()
	a.must("PUT", "/db/", `{"unsupported":{"api_endpoints":{"enable_couchbase_bucket_flush":true}}}`)
	a.must("PUT", "/db/d", `{}`)
	from := mark(t, src)
	a.must("POST", "/db/_flush", "")
	a.must("PUT", "/db/e", `{}`)
	var touched []string
	stream, err := src.Changes(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	to := mark(t, src)
	for at := from; !src.Reached(at, to); {
		events, now, err := stream.Next(t.Context(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Op == clustersync.OpTouched {
				touched = append(touched, e.Doc.Key.ID)
			} else {
				touched = append(touched, words([]clustersync.Event{e}))
			}
		}
		at = now
	}
	if got := strings.Join(touched, ", "); got != "drop db._default._default, create db._default._default, e" {
		t.Error(got)
	}
}

// TestHistory: a stream does not begin where deletions may be forgotten.
func TestHistory(t *testing.T) {
	r := newRig(t)
	c := r.cluster()
	r.must("PUT", "/db/", `{"metadata_purge_interval_days":2}`)
	oldest, newest, err := c.Oplog(t.Context())
	if got := newest.Sub(oldest); err != nil || got != 48*time.Hour {
		t.Errorf("a window of %v, %v", got, err)
	}
	p := mark(t, c)
	var token bson.M
	if err := bson.Unmarshal(p.Token, &token); err != nil {
		t.Fatal(err)
	}
	token["listed"] = time.Now().Add(-49 * time.Hour).UnixNano()
	raw, err := bson.Marshal(token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Changes(t.Context(), clustersync.Position{Token: raw, Time: p.Time}); !errors.Is(err, clustersync.ErrHistoryLost) {
		t.Errorf("after 49 hours: %v", err)
	}
	if _, err := c.Changes(t.Context(), clustersync.Position{}); err == nil {
		t.Error("from nowhere")
	}
}

// TestSettingsGoAlong: how documents are routed and kept is the same on the copy; storage and secrets are each deployment's own.
func TestSettingsGoAlong(t *testing.T) {
	a, b := newRig(t), newRig(t)
	src, dst := a.cluster(), b.cluster()
	a.must("PUT", "/one/", `{"sync":"function(d){ channel('one'); }","revs_limit":33,"allow_conflicts":true,"password":"hidden","username":"u","delta_sync":{"enabled":true}}`)
	a.must("PUT", "/two/", `{"revs_limit":44,"scopes":{"_default":{"collections":{"_default":{"sync":"function(d){ channel('dflt'); }"},"x":{"sync":"function(d){ channel('x'); }"}}}}}`)
	a.must("PUT", "/three/", `{"scopes":{"s":{"collections":{"x":{},"y":{"import_filter":"function(d){ return true; }"}}}}}`)
	from, err := src.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range from {
		if err := dst.Create(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	to, err := dst.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(to) != len(from) || len(to) != 5 {
		t.Fatalf("%d collections of %d", len(to), len(from))
	}
	for i := range from {
		if from[i].Namespace != to[i].Namespace || from[i].Options.String() != to[i].Options.String() {
			t.Errorf("%s: %s\n%s: %s", from[i].Namespace, from[i].Options, to[i].Namespace, to[i].Options)
		}
	}
	if cfg := b.must("GET", "/one/_config", ""); cfg["password"] != nil || cfg["username"] != nil || cfg["sync"] == nil {
		t.Errorf("config %v", cfg)
	}
	// The default collection goes, and what belongs to it.
	if err := dst.Drop(t.Context(), ns("two", "_default._default")); err != nil {
		t.Fatal(err)
	}
	b.must("PUT", "/two._default.x/d", `{}`)
	// A collection more in a database that had the default one alone keeps that.
	if err := dst.Create(t.Context(), clustersync.Collection{Ref: clustersync.Ref{Namespace: ns("one", "_default.more")}}); err != nil {
		t.Fatal(err)
	}
	b.must("PUT", "/one/d", `{}`)
	if raw := b.must("GET", "/one/_raw/d", ""); !strings.Contains(fmt.Sprint(raw["_sync"]), "one") {
		t.Errorf("the default collection's function: %v", raw["_sync"])
	}
}

// TestUsers are copied without passwords and cannot log in.
func TestUsers(t *testing.T) {
	a, b := newRig(t), newRig(t)
	src, dst := a.cluster(), b.cluster()
	for _, r := range []*rig{a, b} {
		r.must("PUT", "/db/", `{"scopes":{"s":{"collections":{"x":{}}}}}`)
	}
	a.must("PUT", "/db/_role/staff", `{"collection_access":{"s":{"x":{"admin_channels":["all"]}}}}`)
	a.must("PUT", "/db/_user/bob", `{"password":"letmein","email":"bob@example.com","admin_roles":["staff"],"collection_access":{"s":{"x":{"admin_channels":["bob"]}}}}`)
	a.must("PUT", "/db/_user/alice", `{"password":"letmein"}`)
	b.must("PUT", "/db/_user/alice", `{"password":"hers","email":"alice@example.com"}`)
	report, err := dst.CopyUsers(t.Context(), src)
	if err != nil || report.Roles != 1 || report.Users != 1 || strings.Join(report.Existing, " ") != "db/alice" {
		t.Fatalf("%+v, %v", report, err)
	}
	bob := b.must("GET", "/db/_user/bob", "")
	if bob["disabled"] != true || bob["email"] != "bob@example.com" || !strings.Contains(fmt.Sprint(bob), "bob") {
		t.Errorf("bob is %v", bob)
	}
	if alice := b.must("GET", "/db/_user/alice", ""); alice["email"] != "alice@example.com" || alice["disabled"] == true {
		t.Errorf("alice is %v", alice)
	}
	if err := b.ask(b.public, "POST", "/db/_session", `{"name":"bob","password":"letmein"}`, nil); err == nil {
		t.Error("bob logs in with the old password")
	}
	b.must("PUT", "/db/_user/bob", `{"password":"anew","disabled":false}`)
	if err := b.ask(b.public, "POST", "/db/_session", `{"name":"bob","password":"anew"}`, nil); err != nil {
		t.Error(err)
	}
}
