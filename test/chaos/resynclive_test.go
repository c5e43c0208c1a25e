package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var liveDocs = flag.Int("resync-live-docs", 10_000, "documents that are resynced under load")

const (
	liveChannels = 8
	liveWriters  = 4
	grantee      = "grantee" // a user whose only channel is granted by a document
)

// liveFunction routes by one of two members of a document: "before" and "after" the resync.
func liveFunction(when string) string {
	return `function (doc) { channel(doc.` + when + `); if (doc.who) { access(doc.who, doc.gives_` + when + `); } }`
}

// TestOnlineResyncUnderLoad runs an online resync with a new function while clients write, follow feeds and replicate: no
// request fails and no connection ends, and afterwards every reader has what the new function says, all of it and nothing
// else.
func TestOnlineResyncUnderLoad(t *testing.T) {
	p := start(t, t.TempDir())
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/", map[string]any{"sync": liveFunction("before")})
	users := map[string]string{}
	for i := range 3 {
		name, channel := fmt.Sprintf("user%d", i), fmt.Sprintf("c%d", i)
		users[name] = channel
		mustCall(t, http.MethodPut, p.admin+"/"+db+"/_user/"+name, map[string]any{"password": "letmein", "admin_channels": []string{channel}})
	}
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/_user/"+grantee, map[string]any{"password": "letmein"})
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/grant", map[string]any{"who": grantee, "gives_before": "c0", "gives_after": "c5"})
	loadDocs(t, p, *liveDocs, func(i int, doc map[string]any) {
		maps.Copy(doc, randomChannels(rand.New(rand.NewPCG(*seed, uint64(i)))))
	})

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	feeds := map[string]*liveFeed{}
	for name := range users {
		feeds[name] = follow(t, ctx, p, name)
	}
	feeds[grantee] = follow(t, ctx, p, grantee)
	users[grantee] = "c5"
	device := startDevice(t, p, "user1")
	writers := startWriters(t, ctx, p)

	writers.phase("before")
	writers.wait(t, 2000)
	writers.phase("during")
	began := time.Now()
	started := resyncOf(t, http.MethodPost, p.admin+"/"+db+"/_resync?online=true", map[string]any{"sync_function": liveFunction("after")})
	end := pollResync(t, p.admin+"/"+db+"/_resync", ended)
	if end.Status != "completed" || end.ID != started.ID {
		t.Fatalf("end: %+v\n%s", end, p.log)
	}
	took := time.Since(began)
	writers.phase("after")
	writers.wait(t, 500)
	writers.stop()

	expected := expectedAfter(t, p)
	for name, feed := range feeds {
		feed.settles(t, expected[users[name]])
	}
	device.settles(t, expected["c1"])
	checkReads(t, p, users, expected)
	for name, feed := range feeds {
		if err := feed.ended(); err != nil {
			t.Errorf("the feed of %s ended: %v", name, err)
		}
	}
	t.Logf("%d documents, %d/s; %s", end.Processed, int(float64(end.Processed)/took.Seconds()), writers.latencies())
}

func randomChannels(rnd *rand.Rand) map[string]any {
	return map[string]any{"before": fmt.Sprintf("c%d", rnd.IntN(liveChannels)), "after": fmt.Sprintf("c%d", rnd.IntN(liveChannels))}
}

// expectedAfter says which documents are in each channel by the new function.
func expectedAfter(t *testing.T, p *process) map[string][]string {
	t.Helper()
	var all struct {
		Rows []struct {
			ID  string
			Doc struct{ After string }
		}
	}
	if status, err := call(http.MethodGet, p.admin+"/"+db+"/_all_docs?include_docs=true", nil, &all); err != nil || status != http.StatusOK {
		t.Fatalf("_all_docs: status %d: %v", status, err)
	}
	in := map[string][]string{}
	for _, row := range all.Rows {
		in[row.Doc.After] = append(in[row.Doc.After], row.ID)
	}
	for _, ids := range in {
		slices.Sort(ids)
	}
	return in
}

// checkReads asks for some documents as each user.
func checkReads(t *testing.T, p *process, users map[string]string, expected map[string][]string) {
	t.Helper()
	for name, channel := range users {
		for c, ids := range expected {
			want := http.StatusForbidden
			if c == channel {
				want = http.StatusOK
			}
			for _, id := range ids[:min(len(ids), 20)] {
				status, err := call(http.MethodGet, asUser(p, name)+"/"+id, nil, nil)
				if err != nil || status != want {
					t.Errorf("%s reads %s of %s: status %d, want %d: %v", name, id, c, status, want, err)
				}
			}
		}
	}
}

// asUser is the URL of the database on the public listener, with a login.
func asUser(p *process, name string) string {
	u, _ := url.Parse(p.public + "/" + db) // the test made it
	u.User = url.UserPassword(name, "letmein")
	return u.String()
}

// liveFeed is a client with one continuous feed, and what it has by it.
type liveFeed struct {
	name string
	mu   sync.Mutex
	has  map[string]bool
	err  error
	news chan struct{}
}

// follow opens a feed from the beginning.
func follow(t *testing.T, ctx context.Context, p *process, name string) *liveFeed {
	t.Helper()
	f := &liveFeed{name: name, has: map[string]bool{}, news: make(chan struct{}, 1)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, asUser(p, name)+"/_changes?feed=continuous&since=0&revocations=true&heartbeat=1000", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("feed of %s: %v", name, err)
	}
	go func() {
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			f.take(lines.Bytes())
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if ctx.Err() == nil {
			f.err = fmt.Errorf("feed of %s: end of the connection: %w", name, lines.Err())
		}
	}()
	return f
}

// take does what a line says.
func (f *liveFeed) take(line []byte) {
	var e struct {
		ID      string
		Deleted bool
		Removed []string
		Revoked bool
		Error   string
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch err := json.Unmarshal(line, &e); {
	case len(line) == 0:
		return // a heartbeat
	case err != nil || e.Error != "":
		f.err = fmt.Errorf("feed of %s: %q: %w", f.name, line, err)
	case e.ID == "" || e.ID[0] == '_': // the last line, or a user
	case e.Deleted || e.Revoked || len(e.Removed) > 0:
		delete(f.has, e.ID)
	default:
		f.has[e.ID] = true
	}
	select {
	case f.news <- struct{}{}:
	default:
	}
}

func (f *liveFeed) ids() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.has))
}

func (f *liveFeed) ended() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// settles waits until the feed has brought exactly these documents.
func (f *liveFeed) settles(t *testing.T, want []string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		has := f.ids()
		if slices.Equal(has, want) {
			return
		}
		if err := f.ended(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-f.news:
		case <-deadline:
			t.Fatalf("%s: %s", f.name, differ(has, want))
		}
	}
}

// differ says where two sorted lists differ.
func differ(has, want []string) string {
	missing := slices.DeleteFunc(slices.Clone(want), func(id string) bool { _, ok := slices.BinarySearch(has, id); return ok })
	more := slices.DeleteFunc(slices.Clone(has), func(id string) bool { _, ok := slices.BinarySearch(want, id); return ok })
	return fmt.Sprintf("has %d documents, want %d; missing %d %q, too many %d %q", len(has), len(want),
		len(missing), missing[:min(5, len(missing))], len(more), more[:min(5, len(more))])
}

// device is a client that replicates over BLIP as a user and keeps nothing that it has lost: another gateway.
type device struct {
	p      *process
	source *process // that it pulls from
	user   string
}

func startDevice(t *testing.T, p *process, user string) *device {
	t.Helper()
	d := &device{p: start(t, t.TempDir()), source: p, user: user}
	mustCall(t, http.MethodPut, d.p.admin+"/"+db+"/", map[string]any{})
	mustCall(t, http.MethodPut, d.p.admin+"/"+db+"/_replication/pull", map[string]any{
		"remote": p.public + "/" + db, "remote_username": user, "remote_password": "letmein",
		"direction": "pull", "continuous": true, "purge_on_removal": true,
	})
	return d
}

// settles waits until the device has exactly these documents, by the connection that it had from the beginning.
func (d *device) settles(t *testing.T, want []string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		var all struct{ Rows []struct{ ID string } }
		if status, err := call(http.MethodGet, d.p.admin+"/"+db+"/_all_docs", nil, &all); err != nil || status != http.StatusOK {
			t.Fatalf("_all_docs of the device: status %d: %v", status, err)
		}
		var has []string
		for _, row := range all.Rows {
			has = append(has, row.ID)
		}
		slices.Sort(has)
		if slices.Equal(has, want) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the device: %s\n%s\n%s", differ(has, want), d.about(has, want), d.p.log)
		}
	}
}

// about tells what the two gateways have of the first document that the device should not have.
func (d *device) about(has, want []string) string {
	text := ""
	for _, id := range has {
		if _, ok := slices.BinarySearch(want, id); ok {
			continue
		}
		for _, u := range []string{
			d.source.admin + "/" + db + "/_raw/" + id, asUser(d.source, d.user) + `/_changes?filter=_doc_ids&doc_ids=["` + id + `"]`,
			d.p.admin + "/" + db + "/_raw/" + id, d.p.admin + "/" + db + "/_replicationStatus/pull",
		} {
			var answer json.RawMessage
			_, err := call(http.MethodGet, u, nil, &answer)
			text += fmt.Sprintf("%s: %s (%v)\n", u, answer, err)
		}
		break
	}
	return text
}

// liveWriterSet writes without a pause, each writer on documents of its own, and measures.
type liveWriterSet struct {
	p      *process
	cancel context.CancelFunc
	wg     sync.WaitGroup
	writes atomic.Int64

	mu    sync.Mutex
	now   string
	took  map[string][]time.Duration
	order []string
}

func startWriters(t *testing.T, ctx context.Context, p *process) *liveWriterSet {
	t.Helper()
	w := &liveWriterSet{p: p, took: map[string][]time.Duration{}}
	ctx, w.cancel = context.WithCancel(ctx)
	for i := range liveWriters {
		rnd := rand.New(rand.NewPCG(*seed, uint64(1_000_000+i)))
		w.wg.Go(func() {
			revs := map[string]string{}
			for ctx.Err() == nil {
				if err := w.write(fmt.Sprintf("live-%d-%03d", i, rnd.IntN(300)), rnd, revs); err != nil {
					t.Errorf("writer: %v", err)
					return
				}
			}
		})
	}
	return w
}

// write makes, changes or, now and then, deletes a document.
func (w *liveWriterSet) write(id string, rnd *rand.Rand, revs map[string]string) error {
	method, target := http.MethodPut, w.p.admin+"/"+db+"/"+id
	if revs[id] != "" {
		target += "?rev=" + revs[id]
	}
	var body any = randomChannels(rnd)
	if revs[id] != "" && rnd.IntN(8) == 0 {
		method, body = http.MethodDelete, nil
	}
	began := time.Now()
	var answer struct{ Rev string }
	status, err := call(method, target, body, &answer)
	if err != nil || status >= 300 {
		return fmt.Errorf("%s %s: status %d: %w", method, target, status, err)
	}
	w.writes.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took[w.now] = append(w.took[w.now], time.Since(began))
	if revs[id] = answer.Rev; method == http.MethodDelete {
		delete(revs, id)
	}
	return nil
}

// phase says under which name latencies are noted from now on.
func (w *liveWriterSet) phase(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.order = name, append(w.order, name)
}

// wait returns when n more writes have been made.
func (w *liveWriterSet) wait(t *testing.T, n int64) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for target := w.writes.Load() + n; w.writes.Load() < target; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the writers do not get on")
		}
	}
}

func (w *liveWriterSet) stop() {
	w.cancel()
	w.wg.Wait()
}

// latencies tells of the phases.
func (w *liveWriterSet) latencies() string {
	text := "latency of writes"
	for _, phase := range w.order {
		all := slices.Sorted(slices.Values(w.took[phase]))
		if len(all) == 0 {
			continue
		}
		at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(10 * time.Microsecond) }
		text += fmt.Sprintf("; %s: %d writes, p50 %s, p99 %s, max %s", phase, len(all), at(0.5), at(0.99), all[len(all)-1].Round(10*time.Microsecond))
	}
	return text
}
