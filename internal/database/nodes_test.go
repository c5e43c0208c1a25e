package database_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pgstore"
	"github.com/tidegate/tidegate/internal/store/pgstore/pgtest"
)

// pair is a database that two nodes have open on one PostgreSQL store.
type pair struct {
	a, b   *env
	clock  *clock
	schema string
	srv    *pgtest.Server
}

// felt is within what time a node feels what another one did, as far as tests care: it takes milliseconds where nothing else runs.
const felt = 5 * time.Second

// TestNodes opens databases twice on one real PostgreSQL: what one node does the other one feels.
func TestNodes(t *testing.T) {
	srv, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	for i, test := range []struct {
		name string
		run  func(t *testing.T, p *pair)
	}{
		{"a new password", nodesPassword},
		{"a disabled user's feed ends", func(t *testing.T, p *pair) { nodesFeedEnds(t, p, disable) }},
		{"a deleted user's feed ends", func(t *testing.T, p *pair) { nodesFeedEnds(t, p, deleteUser) }},
		{"sessions end", nodesSessions},
		{"a one-time session is good once", nodesOneTime},
		{"grants of documents", nodesGrants},
		{"feeds", nodesFeeds},
		{"purged documents leave feeds", nodesPurge},
		{"an update of one document by both", nodesConflict},
		{"documents expire once", nodesExpiry},
		{"one node sweeps at a time", nodesSweepTurns},
		{"an upload outlives a compaction elsewhere", nodesUpload},
		{"content that was removed is not referred to", nodesLostContent},
		{"compactions", nodesCompact},
		{"a compaction's node dies", nodesCompactorDies},
		{"a store that is away", nodesStoreAway},
		{"at random", nodesAtRandom},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &pair{clock: newClock(), schema: fmt.Sprintf("n%d", i), srv: srv}
			p.a, p.b = p.join(t, "A"), p.join(t, "B")
			test.run(t, p)
		})
	}
}

// join opens the database on another node.
func (p *pair) join(t *testing.T, node string) *env {
	t.Helper()
	st, err := pgstore.Open(t.Context(), p.srv.URL(), pgstore.Options{Schema: p.schema, Connections: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	nodes, err := cluster.Join(t.Context(), st, cluster.Options{NodeID: node, Beat: 100 * time.Millisecond, DeadAfter: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := nodes.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("node %s: %v", node, err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := nodes.Leave(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p.open(t, st, nodes)
}

func (p *pair) open(t *testing.T, st store.Store, nodes database.Nodes) *env {
	return openWith(t, st, blob.NewInStore(st, p.clock.now), database.Options{
		Now: p.clock.now, Nodes: nodes, AllowConflicts: true, CompactInterval: -1, MaxAttachmentBytes: 1 << 20, InlineAttachmentBytes: 100,
	})
}

// until waits for what another node did to be felt.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	began := time.Now()
	for !ok() {
		if time.Since(began) > felt {
			t.Fatalf("%s: not felt within %s", what, felt)
		}
		<-ticker.C
	}
	t.Logf("%s: felt after %s", what, time.Since(began).Round(time.Millisecond))
}

func (e *env) login(name, password string) error {
	_, err := e.db.Access().Authenticate(e.t.Context(), name, password, "10.0.0.1:1")
	return err
}

func (e *env) change(name string, u access.UserUpdate) {
	e.t.Helper()
	if _, err := e.db.Access().PutUser(e.t.Context(), name, u, false); err != nil {
		e.t.Fatal(err)
	}
}

func disable(e *env, name string) {
	yes := true
	e.change(name, access.UserUpdate{Disabled: &yes})
}

func deleteUser(e *env, name string) {
	e.t.Helper()
	if err := e.db.Access().DeleteUser(e.t.Context(), name); err != nil {
		e.t.Fatal(err)
	}
}

func nodesPassword(t *testing.T, p *pair) {
	p.a.user("bob", "x")
	if err := p.b.login("bob", "secret"); err != nil {
		t.Fatal(err) // now B remembers him and his password
	}
	pw := access.NewSecret("another")
	p.a.change("bob", access.UserUpdate{Password: &pw})
	until(t, "the old password is refused", func() bool { return p.b.login("bob", "secret") != nil })
	if err := p.b.login("bob", "another"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	disable(p.a, "bob")
	until(t, "he is disabled", func() bool { return p.b.login("bob", "another") != nil })
	no := false
	p.a.change("bob", access.UserUpdate{Disabled: &no})
	until(t, "he is enabled", func() bool { return p.b.login("bob", "another") == nil })
	deleteUser(p.a, "bob")
	until(t, "he is deleted", func() bool { return p.b.login("bob", "another") != nil })
	// What happened to him is no entry of a feed.
	if got := lines(drain(t, p.b.feed(p.b.admin, database.ChangesOptions{}), 0)); len(got) != 0 {
		t.Errorf("the feed has %q", got)
	}
}

func nodesFeedEnds(t *testing.T, p *pair, end func(e *env, name string)) {
	p.a.user("bob", "x")
	f := p.b.feed(p.b.as("bob"), database.ChangesOptions{})
	drain(t, f, 0)
	end(p.a, "bob")
	ctx, cancel := context.WithTimeout(t.Context(), felt)
	defer cancel()
	for ctx.Err() == nil {
		if err := f.Wait(ctx); err != nil {
			t.Fatalf("the feed goes on: %v", err)
		}
		if _, err := f.Next(ctx, 0); err != nil {
			return
		}
	}
	t.Fatal("the feed goes on")
}

func nodesSessions(t *testing.T, p *pair) {
	p.a.user("bob", "x")
	good := func(id access.Secret) bool {
		_, _, err := p.b.db.Access().Session(t.Context(), id.Reveal())
		return err == nil
	}
	begin := func() access.Secret {
		s, err := p.a.db.Access().CreateSession(t.Context(), "bob", time.Hour, false)
		if err != nil {
			t.Fatal(err)
		}
		if !good(s.ID) {
			t.Fatal("a session of the other node is not good")
		}
		return s.ID
	}
	one := begin()
	var ended atomic.Int32
	defer p.b.db.Access().WatchSession(sha256.Sum256([]byte(one.Reveal())), func(yes bool) {
		if yes {
			ended.Add(1)
		}
	})()
	if err := p.a.db.Access().DeleteSession(t.Context(), one.Reveal()); err != nil {
		t.Fatal(err)
	}
	until(t, "a session is ended", func() bool { return !good(one) })
	until(t, "who is connected by it is told", func() bool { return ended.Load() > 0 })
	two := begin()
	if err := p.a.db.Access().DeleteUserSessions(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	until(t, "all sessions are ended", func() bool { return !good(two) })
}

func nodesOneTime(t *testing.T, p *pair) {
	p.a.user("bob", "x")
	for range 5 {
		s, err := p.a.db.Access().CreateSession(t.Context(), "bob", time.Hour, true)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = []*env{p.a, p.b}[i%2].db.Access().OneTimeSession(t.Context(), s.ID.Reveal())
			})
		}
		wg.Wait()
		if n := len(slices.DeleteFunc(errs, func(err error) bool { return err != nil })); n != 1 {
			t.Fatalf("a one-time session was good %d times", n)
		}
	}
}

func nodesGrants(t *testing.T, p *pair) {
	p.a.user("bob")
	p.a.put(`{"_id":"d","channels":["x"]}`)
	f := p.b.feed(p.b.as("bob"), database.ChangesOptions{Request: changes.Request{Revocations: true}})
	if got := lines(drain(t, f, 0)); len(got) != 0 && !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "_user") }) {
		t.Fatalf("before the grant: %q", got)
	}
	next := func(want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), felt)
		defer cancel()
		for {
			entries, err := f.Next(ctx, 0)
			if err != nil {
				t.Fatalf("waiting for %q: %v", want, err)
			}
			if slices.ContainsFunc(lines(entries), func(s string) bool { return strings.Contains(s, want) }) {
				return
			}
			if err := f.Wait(ctx); err != nil {
				t.Fatalf("waiting for %q: %v", want, err)
			}
		}
	}
	rev := p.a.put(`{"_id":"g","grant":[["bob",["x"]]]}`)
	next(" d 1-") // backfill
	p.a.put(`{"_id":"g","_rev":"` + rev.String() + `"}`)
	next("revoked")
	p.a.put(`{"_id":"g2","grant":[["role:r",["x"]]]}`)
	if _, err := p.a.db.Access().PutRole(t.Context(), "r", access.RoleUpdate{}, false); err != nil {
		t.Fatal(err)
	}
	p.a.change("bob", access.UserUpdate{AdminRoles: []string{"r"}})
	next(" d 1-")
}

// Both nodes write, and feeds of both get all in order.
func nodesFeeds(t *testing.T, p *pair) {
	const writers, each = 2, 40
	var wg sync.WaitGroup
	feeds := []*database.Feed{p.a.feed(p.a.admin, database.ChangesOptions{}), p.b.feed(p.b.admin, database.ChangesOptions{})}
	for w := range writers {
		for i, e := range []*env{p.a, p.b} {
			wg.Go(func() {
				for n := range each {
					_, err := e.admin.Put(t.Context(), &database.Write{ID: fmt.Sprintf("d%d-%d-%d", i, w, n), NewEdits: true, Body: []byte(`{"channels":"x"}`)})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	for i, f := range feeds {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			var last tidegate.Seq
			for last < 2*writers*each {
				entries, err := f.Next(ctx, 7)
				if err == nil && len(entries) == 0 {
					err = f.Wait(ctx)
				}
				if err != nil {
					t.Errorf("feed %d: %v", i, err)
					return
				}
				for _, c := range entries {
					if c.Seq.Seq != last+1 {
						t.Errorf("feed %d: %s after %d", i, c.Seq, last)
						return
					}
					last = c.Seq.Seq
				}
			}
		})
	}
	wg.Wait()
}

func nodesPurge(t *testing.T, p *pair) {
	f := p.b.feed(p.b.admin, database.ChangesOptions{})
	p.a.put(`{"_id":"gone","channels":["x"]}`)
	p.a.put(`{"_id":"stays","channels":["x"]}`)
	until(t, "documents", func() bool { return slices.Equal(lines(drain(t, f, 0)), []string{"1 gone 1-", "2 stays 1-"}) })
	if _, err := p.a.admin.Purge(t.Context(), []string{"gone"}); err != nil {
		t.Fatal(err)
	}
	// A feed that is opened now is served from B's memory.
	if got := lines(drain(t, p.b.feed(p.b.admin, database.ChangesOptions{}), 0)); !slices.Equal(got, []string{"2 stays 1-"}) {
		t.Errorf("B still tells of %q", got)
	}
	p.a.put(`{"_id":"gone","channels":["x"]}`) // a new document
	want := []string{"2 stays 1-", "4 gone 1-"}
	for _, e := range []*env{p.a, p.b} {
		if got := lines(drain(t, e.feed(e.admin, database.ChangesOptions{}), 0)); !slices.Equal(got, want) {
			t.Errorf("the feed has %q, want %q", got, want)
		}
	}
}

// Of two updates of the same revision, on two nodes at once, one is refused.
func nodesConflict(t *testing.T, p *pair) {
	for i := range 10 {
		id := fmt.Sprint("d", i)
		rev := p.a.put(fmt.Sprintf(`{"_id":%q}`, id))
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for n, e := range []*env{p.a, p.b} {
			wg.Go(func() {
				body := fmt.Appendf(nil, `{"n":%d}`, n)
				_, errs[n] = e.admin.Put(t.Context(), &database.Write{ID: id, NewEdits: true, Parent: rev, Body: body})
			})
		}
		wg.Wait()
		refused := slices.DeleteFunc(errs, func(err error) bool { return tidegate.ErrorCode(err) != tidegate.Conflict })
		if len(refused) != 1 {
			t.Errorf("%d of 2 were refused: %v", len(refused), errs)
		}
	}
}

func nodesExpiry(t *testing.T, p *pair) {
	const docs = 30
	for i := range docs {
		p.a.put(fmt.Sprintf(`{"_id":"d%d","_exp":%d}`, i, p.clock.now().Add(time.Minute).Unix()))
	}
	p.clock.add(2 * time.Minute)
	var wg sync.WaitGroup
	for _, e := range []*env{p.a, p.b} {
		wg.Go(func() {
			if err := e.db.Sweep(t.Context()); err != nil { // beside what the nodes do by themselves
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := p.a.db.Stats().DocsExpired.Load() + p.b.db.Stats().DocsExpired.Load(); n != docs {
		t.Errorf("%d documents expired, want %d", n, docs)
	}
	for _, line := range lines(drain(t, p.b.feed(p.b.admin, database.ChangesOptions{}), 0)) {
		if !strings.Contains(line, " 2- deleted") {
			t.Errorf("%s: want one tombstone", line)
		}
	}
}

// big is content that is kept in the blob store.
func big(n byte) []byte { return bytes.Repeat([]byte{n}, 5000) }

// read returns the content of an attachment.
func (e *env) attachment(id, name string) []byte {
	e.t.Helper()
	r, _, err := e.admin.OpenAttachment(e.t.Context(), e.get(e.admin, id, tidegate.RevID{}), name)
	if err != nil {
		e.t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		e.t.Fatal(err)
	}
	return data
}

func nodesUpload(t *testing.T, p *pair) {
	info, release, err := p.a.admin.Upload(t.Context(), bytes.NewReader(big(1)))
	if err != nil {
		t.Fatal(err)
	}
	p.b.compact(database.CompactAttachments, database.CompactOptions{}) // nothing refers to it yet
	in := map[string]database.AttachmentInput{"att": {Blob: info, Length: -1, EncodedLength: -1}}
	if _, err := p.a.admin.Put(t.Context(), &database.Write{ID: "d", NewEdits: true, Attachments: in}); err != nil {
		t.Fatal(err)
	}
	release()
	p.b.compact(database.CompactAttachments, database.CompactOptions{})
	if !bytes.Equal(p.b.attachment("d", "att"), big(1)) {
		t.Error("the attachment is another")
	}
	if _, err := p.a.admin.Purge(t.Context(), []string{"d"}); err != nil {
		t.Fatal(err)
	}
	p.a.check()
}

// A pin has an end; a node that stood still for longer finds its content gone and does not refer to it.
func nodesLostContent(t *testing.T, p *pair) {
	info, release, err := p.a.admin.Upload(t.Context(), bytes.NewReader(big(1)))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	p.clock.add(3 * time.Hour)
	p.b.compact(database.CompactAttachments, database.CompactOptions{})
	in := map[string]database.AttachmentInput{"att": {Blob: info, Length: -1, EncodedLength: -1}}
	_, err = p.a.admin.Put(t.Context(), &database.Write{ID: "d", NewEdits: true, Attachments: in})
	if tidegate.ErrorCode(err) != tidegate.Unavailable {
		t.Errorf("a write that refers to content that is gone: %v", err)
	}
	// Content that can be read again is: the first is swept while the second comes.
	opened := 0
	reader := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(big(2))), nil }
	slow := func() (io.ReadCloser, error) {
		if opened++; opened == 1 {
			p.clock.add(3 * time.Hour)
			p.b.compact(database.CompactAttachments, database.CompactOptions{})
		}
		return io.NopCloser(bytes.NewReader(big(3))), nil
	}
	in = map[string]database.AttachmentInput{
		"1": {Length: -1, EncodedLength: -1, Open: reader}, "2": {Length: -1, EncodedLength: -1, Open: slow},
	}
	if _, err = p.a.admin.Put(t.Context(), &database.Write{ID: "e", NewEdits: true, Attachments: in}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p.b.attachment("e", "1"), big(2)) || !bytes.Equal(p.b.attachment("e", "2"), big(3)) || opened != 2 {
		t.Errorf("the attachments are others; the second was read %d times", opened)
	}
	p.a.check()
}
