package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/websocket"
)

// remote is a gateway with one database, as far as replications see it.
type remote struct {
	*env
	url     *url.URL
	version replicate.Version // the only one that it speaks; 0: all
	deltas  bool
	user    string // whom Basic credentials are for, with the password "letmein"; "": no login, an administrator

	mu    sync.Mutex
	conns []net.Conn
	down  bool // answers 503
}

// newRemote serves a database.
func newRemote(t testing.TB, opts database.Options) *remote {
	t.Helper()
	r := &remote{env: newEnv(t, opts)}
	srv := httptest.NewServer(r)
	t.Cleanup(func() { r.cut(); srv.Close() })
	u, err := url.Parse(srv.URL + "/db")
	if err != nil {
		t.Fatal(err)
	}
	r.url = u
	return r
}

// ServeHTTP answers GET /db/ and GET /db/_blipsync.
func (r *remote) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	down := r.down
	r.mu.Unlock()
	name, password, _ := req.BasicAuth()
	switch {
	case down:
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	case r.user != "" && (name != r.user || password != "letmein"):
		http.Error(w, "no", http.StatusUnauthorized)
		return
	case req.URL.Path != "/db/_blipsync":
		_, _ = io.WriteString(w, "{}")
		return
	}
	p := replicate.Peer{DB: r.db, User: r.user, Admin: r.user == "", Gateway: req.URL.Query().Get("client") == "sgr2", Deltas: r.deltas}
	v, ok := replicate.Negotiate(strings.Split(req.Header.Get("Sec-WebSocket-Protocol"), ","))
	if !ok || r.version != 0 && v != r.version {
		http.Error(w, "I only speak others", http.StatusInternalServerError)
		return
	}
	p.Version = v
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	head := http.Header{}
	websocket.AcceptUpgrade(req, head, v.Subprotocol())
	var b strings.Builder
	_ = head.Write(&b)
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n"+b.String()+"\r\n"); err != nil {
		return
	}
	r.mu.Lock()
	r.conns = append(r.conns, conn)
	r.mu.Unlock()
	_ = r.srv.Serve(context.Background(), websocket.Server(websocket.NewStream(conn, nil), websocket.Options{}), p)
}

// cut breaks all connections.
func (r *remote) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

func (r *remote) setDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

// replicator makes a replication of e's database with the remote.
func (e *env) replicator(r *remote, o replicate.ActiveOptions) *replicate.Replicator {
	e.t.Helper()
	o.DB, o.Remote = e.db, r.url
	o.Logger = slog.New(slog.NewTextHandler(e.t.Output(), nil))
	if o.ID == "" {
		o.ID = "r"
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = time.Minute
	}
	rep, err := replicate.NewReplicator(e.srv, o)
	if err != nil {
		e.t.Fatal(err)
	}
	return rep
}

// run runs a one-shot to its end.
func run(t testing.TB, rep *replicate.Replicator) {
	t.Helper()
	if err := rep.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// contents is every document of a database: its current revision and body.
func (e *env) contents() map[string]string {
	e.t.Helper()
	feed, err := e.admin.Changes(e.t.Context(), database.ChangesOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	defer feed.Close()
	all := map[string]string{}
	for {
		entries, err := feed.Next(e.t.Context(), 0)
		if err != nil {
			e.t.Fatal(err)
		}
		if len(entries) == 0 {
			return all
		}
		for _, c := range entries {
			all[c.ID] = fmt.Sprintf("%s deleted=%v %s", c.Revs[0], c.Deleted, e.get(c.ID))
		}
	}
}

// equal fails the test if the databases differ.
func equal(t testing.TB, a, b *env) {
	t.Helper()
	x, y := a.contents(), b.contents()
	for id := range x {
		if x[id] != y[id] {
			t.Errorf("%s: %s and %s", id, x[id], y[id])
		}
	}
	for id := range y {
		if _, ok := x[id]; !ok {
			t.Errorf("%s: only on one side: %s", id, y[id])
		}
	}
}

// fill writes documents, edits, deletions and an attachment.
func (e *env) fill(prefix string, n int) {
	e.t.Helper()
	for i := range n {
		id := fmt.Sprintf("%s%03d", prefix, i)
		rev := e.put(id, fmt.Sprintf(`{"channels":["A"],"n":%d}`, i))
		switch i % 5 {
		case 1:
			e.put(id, fmt.Sprintf(`{"channels":["A"],"n":%d,"again":true,"_rev":%q}`, i, rev))
		case 2:
			e.put(id, fmt.Sprintf(`{"_rev":%q,"_deleted":true}`, rev))
		case 3:
			e.put(id, fmt.Sprintf(`{"channels":["A"],"_rev":%q,"_attachments":{"a.txt":{"data":"aGVsbG8="}}}`, rev))
		}
	}
}

// TestReplicateOnce: one-shots in each direction and version bring both sides to the same documents, once.
func TestReplicateOnce(t *testing.T) {
	for _, v := range []replicate.Version{replicate.V4, replicate.V3, replicate.V2} {
		t.Run(v.Subprotocol(), func(t *testing.T) {
			there := newRemote(t, database.Options{})
			there.version = v
			here := newEnv(t, database.Options{})
			here.fill("here", 30)
			there.fill("there", 230)
			rep := here.replicator(there, replicate.ActiveOptions{Push: true, Pull: true})
			run(t, rep)
			equal(t, here, there.env)
			st := rep.Stats()
			if st.Push.Written.Load() != 30 || st.Push.Checked.Load() < 30 || st.Pull.Read.Load() != 230 || st.Pull.Failures.Load()+st.Push.Failures.Load() != 0 {
				t.Errorf("pushed %d, pulled %d, failed %d and %d", st.Push.Written.Load(), st.Pull.Read.Load(), st.Push.Failures.Load(), st.Pull.Failures.Load())
			}
			if st.Push.Attachments.Load() != 6 || st.Pull.Attachments.Load() != 46 || st.Pull.AttachmentBytes.Load() != 46*5 {
				t.Errorf("%d attachments pushed, %d pulled, %d bytes", st.Push.Attachments.Load(), st.Pull.Attachments.Load(), st.Pull.AttachmentBytes.Load())
			}
			if s := rep.Status(); s.Pull.State != replicate.Stopped || s.Push.State != replicate.Stopped || s.Pull.LastSeq == "" || s.Push.LastSeq == "" {
				t.Errorf("status %+v", s)
			}
			// The checkpoints hold: another run looks at what it brought itself, and no more.
			again := here.replicator(there, replicate.ActiveOptions{Push: true, Pull: true})
			run(t, again)
			run(t, again)
			if st := again.Stats(); st.Push.Written.Load()+st.Pull.Read.Load() != 0 {
				t.Errorf("again: %d pushed, %d pulled", st.Push.Written.Load(), st.Pull.Read.Load())
			}
			last := here.replicator(there, replicate.ActiveOptions{Push: true, Pull: true})
			run(t, last)
			if st := last.Stats(); st.Push.Checked.Load()+st.Pull.Checked.Load() != 0 {
				t.Errorf("at last: %d and %d rows were looked at", st.Push.Checked.Load(), st.Pull.Checked.Load())
			}
			// Without checkpoints everything is looked at, and nothing moves.
			if err := last.Reset(t.Context()); err != nil {
				t.Fatal(err)
			}
			run(t, last)
			if st := last.Stats(); st.Push.Checked.Load() < 260 || st.Push.Written.Load()+st.Pull.Read.Load() != 0 {
				t.Errorf("after a reset: %d rows, %d pushed, %d pulled", st.Push.Checked.Load(), st.Push.Written.Load(), st.Pull.Read.Load())
			}
		})
	}
}

// live runs a continuous replication until the test ends, and counts its states.
func live(t testing.TB, e *env, r *remote, o replicate.ActiveOptions) (rep *replicate.Replicator, stop func() error) {
	t.Helper()
	o.Continuous = true
	rep = e.replicator(r, o)
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- rep.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel(errStopped)
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return rep, stop
}

var errStopped = errors.New("stopped by the test")

// until waits until ok holds, looking whenever one of the databases has changed.
func until(t testing.TB, what string, ok func() bool, envs ...*env) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-t.Context().Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// TestReplicateLive: writes on both sides go over, also after the connections were cut and after the remote was away.
func TestReplicateLive(t *testing.T) {
	there := newRemote(t, database.Options{})
	here := newEnv(t, database.Options{})
	rep, stop := live(t, here, there, replicate.ActiveOptions{Push: true, Pull: true})
	same := func() bool {
		x, y := here.contents(), there.contents()
		if len(x) != len(y) {
			return false
		}
		for id := range x {
			if x[id] != y[id] {
				return false
			}
		}
		return true
	}
	for round := range 3 {
		here.fill(fmt.Sprintf("here%d-", round), 20)
		there.fill(fmt.Sprintf("there%d-", round), 20)
		until(t, "both sides are equal", func() bool { return len(here.contents()) == 40*(round+1) && same() })
		there.cut()
	}
	until(t, "it runs again", func() bool {
		s := rep.Status()
		return s.Pull.State == replicate.Running && s.Push.State == replicate.Running
	})
	if err := stop(); !errors.Is(err, errStopped) {
		t.Errorf("stopped with %v", err)
	}
	if s := rep.Status(); s.Pull.State != replicate.Stopped || s.Push.State != replicate.Stopped {
		t.Errorf("after stopping: %+v", s)
	}
	if st := rep.Stats(); st.Pull.Failures.Load()+st.Push.Failures.Load() != 0 || st.Pull.Connects.Load() < 3 {
		t.Errorf("%d and %d failures, %d connects", st.Pull.Failures.Load(), st.Push.Failures.Load(), st.Pull.Connects.Load())
	}
}

// TestReplicateFiltered: channels, and the remote user's rights.
func TestReplicateFiltered(t *testing.T) {
	there := newRemote(t, database.Options{})
	there.user = "bob"
	there.env.user("bob", "A", "B")
	there.setDown(true)
	here := newEnv(t, database.Options{})
	for _, ch := range []string{"A", "B", "C"} {
		there.put("there"+ch, `{"channels":["`+ch+`"]}`)
		here.put("here"+ch, `{"channels":["`+ch+`"]}`)
	}
	o := replicate.ActiveOptions{Push: true, Pull: true, Username: "bob", Password: "letmein", Channels: []string{"A", "C"}}
	rep := here.replicator(there, o)
	ended := make(chan error, 1)
	go func() { ended <- rep.Run(t.Context()) }()
	until(t, "both wait for the remote", func() bool {
		s := rep.Status()
		return s.Pull.State == replicate.Reconnecting && s.Push.State == replicate.Reconnecting
	})
	there.setDown(false)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	keys := func(m map[string]string) string {
		var all []string
		for id := range m {
			all = append(all, id)
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	if got := keys(here.contents()); got != "hereA hereB hereC thereA" {
		t.Errorf("here: %s", got)
	}
	if got := keys(there.contents()); got != "hereA hereC thereA thereB thereC" {
		t.Errorf("there: %s", got)
	}
}

// TestPurgeOnRemoval: what leaves the remote user's reach is purged here, if that is asked for.
func TestPurgeOnRemoval(t *testing.T) {
	for _, purge := range []bool{true, false} {
		there := newRemote(t, database.Options{})
		there.user = "bob"
		there.env.user("bob", "A", "B")
		rev := there.put("moves", `{"channels":["A"]}`)
		there.put("revoked", `{"channels":["B"]}`)
		here := newEnv(t, database.Options{})
		o := replicate.ActiveOptions{Pull: true, Username: "bob", Password: "letmein", PurgeOnRemoval: purge}
		run(t, here.replicator(there, o))
		there.put("moves", `{"channels":["C"],"_rev":"`+rev+`"}`)
		there.grant("bob", "A")
		rep := here.replicator(there, o)
		run(t, rep)
		if got := len(here.contents()); purge != (got == 0) {
			t.Errorf("purge %v: %d documents are left", purge, got)
		}
		if got := rep.Stats().Pull.Purged.Load(); purge && got != 2 {
			t.Errorf("%d were purged", got)
		}
	}
}

// TestPushRefused: what the remote refuses is counted and does not stop the rest.
func TestPushRefused(t *testing.T) {
	there := newRemote(t, database.Options{})
	here := newEnv(t, database.Options{})
	here.put("good", `{"channels":["A"]}`)
	there.put("conflict", `{"there":1}`)
	here.put("conflict", `{"here":1}`)
	w, err := here.admin.Put(t.Context(), &database.Write{ID: "late", Body: []byte(`{"boom":1}`), History: []tidegate.RevID{{Generation: 1, Digest: "aa"}}})
	if err == nil {
		t.Fatalf("the sync function took %+v", w)
	}
	rep := here.replicator(there, replicate.ActiveOptions{Push: true})
	run(t, rep)
	st := &rep.Stats().Push
	if st.Written.Load() != 1 || st.Conflicts.Load() != 1 || st.Failures.Load() != 1 || st.Rejected.Load() != 0 {
		t.Errorf("%d written, %d conflicts, %d failures, %d rejected", st.Written.Load(), st.Conflicts.Load(), st.Failures.Load(), st.Rejected.Load())
	}
	if there.get("good") == "" {
		t.Error("the good one is not there")
	}
}

// TestReplicateDeltas: with deltas on both sides an edit of a large document sends little.
func TestReplicateDeltas(t *testing.T) {
	there := newRemote(t, database.Options{})
	there.deltas = true
	here := newEnv(t, database.Options{})
	big := strings.Repeat("x", 100<<10)
	rev := there.put("d", `{"big":"`+big+`","n":1}`)
	o := replicate.ActiveOptions{Push: true, Pull: true, Deltas: true}
	run(t, here.replicator(there, o))
	rev = there.put("d", `{"big":"`+big+`","n":2,"_rev":"`+rev+`"}`)
	rep := here.replicator(there, o)
	run(t, rep)
	if st := &rep.Stats().Pull; st.DeltasReceived.Load() != 1 || st.DeltasRequested.Load() != 1 {
		t.Errorf("%d deltas received, %d requested", st.DeltasReceived.Load(), st.DeltasRequested.Load())
	}
	here.put("d", `{"big":"`+big+`","n":3,"_rev":"`+rev+`"}`)
	rep = here.replicator(there, o)
	run(t, rep)
	if st := &rep.Stats().Push; st.DeltasSent.Load() != 1 {
		t.Errorf("%d deltas sent", st.DeltasSent.Load())
	}
	equal(t, here, there.env)
}

// TestBadRemotes: each fault has a clear error, and a try is followed by another.
func TestBadRemotes(t *testing.T) {
	here := newEnv(t, database.Options{})
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"answers HTML", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>hello</html>") }, "refused the upgrade: 200 OK"},
		{"no such database", http.NotFound, "unexpected status code 404 from target database"},
		{"wrong password", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, "unexpected status code 401 from target database"},
		{"redirects", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, "redirects to another server"},
		{"is ill", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "unexpected status code 503 from target database"},
	} {
		srv := httptest.NewServer(tt.handler)
		u, _ := url.Parse(srv.URL + "/db")
		changed := make(chan struct{}, 100)
		rep, err := replicate.NewReplicator(here.srv, replicate.ActiveOptions{ID: "bad", DB: here.db, Remote: u, Pull: true, Continuous: true,
			MaxBackoff: time.Minute, OnChange: func() { changed <- struct{}{} }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- rep.Run(ctx) }()
		for rep.Status().Pull.Err == nil {
			<-changed
		}
		s := rep.Status().Pull
		if s.State != replicate.Reconnecting || !strings.Contains(s.Err.Error(), tt.want) || s.ErrAt.IsZero() {
			t.Errorf("%s: %v %v", tt.name, s.State, s.Err)
		}
		cancel()
		<-done
		srv.Close()
	}
}

// TestRunAs: pulled documents pass the sync function as the local user, and only what that user sees is pushed.
func TestRunAs(t *testing.T) {
	there := newRemote(t, database.Options{})
	there.put("ours", `{"channels":["A"],"onlyBy":"ann"}`)
	there.put("theirs", `{"channels":["A"],"onlyBy":"eve"}`)
	here := newEnv(t, database.Options{})
	here.user("ann", "A")
	here.put("seen", `{"channels":["A"]}`)
	here.put("unseen", `{"channels":["B"]}`)
	rep := here.replicator(there, replicate.ActiveOptions{Push: true, Pull: true, RunAs: "ann"})
	run(t, rep)
	if here.get("ours") == "" || here.get("theirs") != "" || rep.Stats().Pull.Failures.Load() != 1 {
		t.Errorf("pulled: %q, %q, %d failures", here.get("ours"), here.get("theirs"), rep.Stats().Pull.Failures.Load())
	}
	if there.get("seen") == "" || there.get("unseen") != "" {
		t.Errorf("pushed: %q, %q", there.get("seen"), there.get("unseen"))
	}
	rep = here.replicator(there, replicate.ActiveOptions{Pull: true, RunAs: "nobody"})
	if err := rep.Run(t.Context()); err == nil || rep.Status().Pull.State != replicate.Failed {
		t.Errorf("nobody: %v, %v", err, rep.Status().Pull.State)
	}
}

// TestReplicateCollections: collections are mapped by name, each with its own checkpoint and channels.
func TestReplicateCollections(t *testing.T) {
	colls := func() []database.CollectionOptions {
		return []database.CollectionOptions{{}, {Scope: "s", Name: "one", ID: 1}, {Scope: "s", Name: "two", ID: 2}}
	}
	there := newRemote(t, database.Options{Collections: colls()})
	here := newEnv(t, database.Options{Collections: colls()})
	for i := range 3 {
		id := fmt.Sprintf("d%d", i)
		there.putIn(there.db.Admin(1), id, `{"channels":["A"],"in":"one"}`)
		there.putIn(there.db.Admin(2), id, `{"channels":["B"],"in":"two"}`)
	}
	there.putIn(there.db.Admin(2), "filtered", `{"channels":["A"]}`)
	there.put("default", `{}`)
	o := replicate.ActiveOptions{
		Push: true, Pull: true,
		Collections:         []replicate.CollectionPair{{Local: "s.one", Remote: "s.two"}, {Local: "s.two", Remote: "s.one"}},
		CollectionsChannels: map[string][]string{"s.one": {"B"}, "s.two": {"A", "B"}},
	}
	rep := here.replicator(there, o)
	run(t, rep)
	for coll, want := range map[store.Collection]string{1: "two", 2: "one"} {
		doc, err := here.db.Admin(coll).Get(t.Context(), "d2", database.GetOptions{})
		if err != nil || !strings.Contains(string(doc.Body), want) {
			t.Errorf("collection %d: %v", coll, err)
		}
	}
	if _, err := here.db.Admin(1).Get(t.Context(), "filtered", database.GetOptions{}); tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Errorf("what is in no channel of the filter: %v", err)
	}
	if got := here.get("default"); got != "" {
		t.Errorf("the default collection came along: %s", got)
	}
	if st := rep.Stats(); st.Pull.Read.Load() != 6 || st.Expected.Load() != 0 || st.Processed.Load() != 0 {
		t.Errorf("%d read, %d expected, %d processed", st.Pull.Read.Load(), st.Expected.Load(), st.Processed.Load())
	}
	o.Collections[0].Remote = "s.nowhere"
	bad := here.replicator(there, o)
	err := bad.Run(t.Context()) // of the two directions the first to see it fails, and stops the other
	if st := bad.Status(); err == nil || !strings.Contains(err.Error(), "no collection s.nowhere") || st.Pull.State != replicate.Failed && st.Push.State != replicate.Failed {
		t.Errorf("an unknown collection: %v, %+v", err, st)
	}
}
