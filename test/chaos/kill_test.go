package chaos

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidegate/tidegate/internal/store/pgstore/pgtest"
)

var (
	kills = flag.Int("kills", 8, "how often the gateway is killed")
	seed  = flag.Uint64("seed", 1, "seed of the choices")
)

const db = "chaos"

// TestI1KillUnderLoad kills the gateway with SIGKILL in the middle of concurrent writes, again and again on
// the same data, and looks after each restart for what was acknowledged (I1), what the feeds say (I6) and
// whether the store agrees with itself (I13).
func TestI1KillUnderLoad(t *testing.T) {
	data := t.TempDir()
	killUnderLoad(t, *kills,
		func() *process { return start(t, data) },
		func() { fsck(t, "--data", data) })
}

// TestI1KillUnderLoadPostgres is the same with everything in PostgreSQL: each life is a new node, which takes over from the one that was
// killed, and now and then the database is killed, too.
func TestI1KillUnderLoadPostgres(t *testing.T) {
	server, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	lives, key := 0, secretsKey(t)
	killUnderLoad(t, max(2, *kills/4),
		func() *process {
			if lives++; lives%2 == 0 {
				if err := errors.Join(server.Kill(), server.Up()); err != nil {
					t.Fatal(err)
				}
			}
			return start(t, t.TempDir(), "--store", server.URL(), "--takeover-after", "2s", "--secrets-key-file", key)
		},
		func() { fsck(t, "--store", server.URL()) })
}

// killUnderLoad runs the lives of a gateway. open starts one on what the last one left; check looks at that while none runs.
func killUnderLoad(t *testing.T, kills int, open func() *process, check func()) {
	rnd := rand.New(rand.NewPCG(*seed, 0))
	p := open()
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/", map[string]any{
		"sync": `function (doc) { channel(doc.channels); if (doc.grant) { access(doc.grant, "granted"); } }`})
	ledger := newLedger()
	reader := newFollower()
	for round := range kills {
		load(t, p, ledger, reader, rnd, round)
		check()
		p = open()
		if err := ledger.check(p); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := reader.catchUp(p); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := reader.compare(p); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if code := p.stop(); code != 0 {
		t.Fatalf("SIGTERM: exit code %d\n%s", code, p.log)
	}
	check()
	t.Logf("%d kills, %d acknowledged writes, %d feed entries", kills, ledger.total, len(reader.bySeq))
}

// load writes from several clients until a random number of writes was acknowledged, then kills.
func load(t *testing.T, p *process, l *ledger, f *follower, rnd *rand.Rand, round int) {
	t.Helper()
	const writers = 8
	var (
		wg     sync.WaitGroup
		acks   atomic.Int64
		target = int64(50 + rnd.IntN(400))
		killed = make(chan struct{})
	)
	once := sync.OnceFunc(func() { p.kill(); close(killed) })
	for w := range writers {
		wr := &writer{p: p, l: l, rnd: rand.New(rand.NewPCG(*seed, uint64(round*writers+w))), name: fmt.Sprintf("w%d", w)}
		wg.Go(func() {
			for {
				n, err := wr.step()
				if err != nil {
					select {
					case <-killed: // the connection broke because of us
					default:
						if !isConnectionError(err) {
							t.Errorf("writer: %v", err)
							once()
						}
					}
					return
				}
				if acks.Add(int64(n)) >= target {
					once()
					return
				}
			}
		})
	}
	wg.Go(func() {
		for f.poll(p) == nil {
		}
	})
	wg.Wait()
	once()
	if t.Failed() {
		t.FailNow()
	}
}

// ledger is what clients were told.
type ledger struct {
	mu    sync.Mutex
	acked map[string]acked
	total int
}

type acked struct {
	rev     string
	deleted bool
}

func newLedger() *ledger { return &ledger{acked: map[string]acked{}} }

func (l *ledger) note(id, rev string, deleted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[id] = acked{rev, deleted}
	l.total++
}

func (l *ledger) get(id string) (acked, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.acked[id]
	return a, ok
}

var errLost = errors.New("an acknowledged write is lost")

// check asks the gateway whether it knows every acknowledged revision.
func (l *ledger) check(p *process) error {
	ask := map[string][]string{}
	for id, a := range l.acked {
		ask[id] = []string{a.rev}
	}
	var missing map[string]json.RawMessage
	status, err := call(http.MethodPost, p.admin+"/"+db+"/_revs_diff", ask, &missing)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("_revs_diff: status %d: %w", status, err)
	}
	for id, what := range missing {
		return fmt.Errorf("%w: %s %s: %s (%d in all)", errLost, id, l.acked[id].rev, what, len(missing))
	}
	return nil
}

// writer makes one client's writes, on documents of its own and some that all share.
type writer struct {
	p    *process
	l    *ledger
	rnd  *rand.Rand
	name string
	n    int
}

// step makes one request and returns how many writes it acknowledged.
func (w *writer) step() (int, error) {
	w.n++
	switch r := w.rnd.IntN(10); {
	case r < 5:
		return w.put(w.name + "-" + strconv.Itoa(w.rnd.IntN(50)))
	case r < 6:
		return w.remove(w.name + "-" + strconv.Itoa(w.rnd.IntN(50)))
	case r < 9:
		return w.bulk()
	default:
		return w.put(w.name + "-att-" + strconv.Itoa(w.rnd.IntN(20)))
	}
}

func (w *writer) body(id string) map[string]any {
	doc := map[string]any{"n": w.n, "by": w.name, "channels": []string{"c" + strconv.Itoa(w.rnd.IntN(5))}, "pad": strings.Repeat("x", w.rnd.IntN(2000))}
	if w.rnd.IntN(5) == 0 {
		doc["grant"] = "user" + strconv.Itoa(w.rnd.IntN(3))
	}
	if strings.Contains(id, "-att-") {
		data := strings.Repeat("QUJD", 1+w.rnd.IntN(20_000)) // base64 of ABC…: both small and large attachments
		doc["_attachments"] = map[string]any{"a.txt": map[string]any{"content_type": "text/plain", "data": data}}
	}
	return doc
}

func (w *writer) put(id string) (int, error) {
	url := w.p.admin + "/" + db + "/" + id
	doc := w.body(id)
	if a, ok := w.l.get(id); ok && !a.deleted {
		doc["_rev"] = a.rev
	}
	return w.write(http.MethodPut, url, id, doc, false)
}

func (w *writer) remove(id string) (int, error) {
	a, ok := w.l.get(id)
	if !ok || a.deleted {
		return 0, nil
	}
	return w.write(http.MethodDelete, w.p.admin+"/"+db+"/"+id+"?rev="+a.rev, id, nil, true)
}

// write makes the request; a conflict means that an earlier, unanswered write went through: it is taken
// over from the gateway.
func (w *writer) write(method, url, id string, doc any, deleted bool) (int, error) {
	var ans struct{ Rev string }
	status, err := call(method, url, doc, &ans)
	switch {
	case err != nil:
		return 0, err
	case status == http.StatusConflict:
		return 0, w.refresh(id)
	case status >= 300:
		return 0, fmt.Errorf("%s %s: status %d", method, url, status)
	}
	w.l.note(id, ans.Rev, deleted)
	return 1, nil
}

func (w *writer) refresh(id string) error {
	var doc struct {
		Rev string `json:"_rev"`
	}
	status, err := call(http.MethodGet, w.p.admin+"/"+db+"/"+id, nil, &doc)
	if err != nil {
		return err
	}
	switch status {
	case http.StatusOK:
		w.l.note(id, doc.Rev, false)
	case http.StatusNotFound: // its unanswered delete went through
		a, _ := w.l.get(id)
		w.l.note(id, a.rev, true)
	default:
		return fmt.Errorf("GET %s after a conflict: status %d", id, status)
	}
	return nil
}

func (w *writer) bulk() (int, error) {
	var docs []any
	for i := range 20 {
		id := fmt.Sprintf("%s-bulk-%d-%d-%d", w.name, w.n, i, w.rnd.Uint32())
		doc := w.body(id)
		doc["_id"] = id
		docs = append(docs, doc)
	}
	var rows []struct{ ID, Rev, Error string }
	status, err := call(http.MethodPost, w.p.admin+"/"+db+"/_bulk_docs", map[string]any{"docs": docs}, &rows)
	if err != nil {
		return 0, err
	}
	if status != http.StatusCreated {
		return 0, fmt.Errorf("_bulk_docs: status %d", status)
	}
	for _, r := range rows {
		if r.Error != "" {
			return 0, fmt.Errorf("_bulk_docs: %s: %s", r.ID, r.Error)
		}
		w.l.note(r.ID, r.Rev, false)
	}
	return len(rows), nil
}

func isConnectionError(err error) bool {
	s := err.Error()
	for _, part := range []string{"connection re", "closed network connection", "EOF", "broken pipe", "server closed", "unexpected end of JSON"} {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
}

func mustCall(t *testing.T, method, url string, body any) {
	t.Helper()
	if status, err := call(method, url, body, nil); err != nil || status >= 300 {
		t.Fatalf("%s %s: status %d: %v", method, url, status, err)
	}
}
