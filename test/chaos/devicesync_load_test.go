package chaos

import (
	"crypto/md5"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var syncRounds = flag.Int("sync-rounds", 6, "how often device sync is terminated and enabled under load")

// TestD42TerminateDuringHeavyPush terminates device sync while devices push as fast as they can: what was acknowledged is there, with what
// was pushed last, while sync is terminated; and once all have pushed what they have, that is all there is.
func TestD42TerminateDuringHeavyPush(t *testing.T) {
	l := newSyncLoad(t, 8)
	l.awaitPushes(500)
	l.act("terminate")
	terminationEnds(t, l.p.Load())
	l.checkAcknowledged()
	l.act("enable")
	l.announce()
	l.awaitPushes(200)
	l.settle()
}

// TestD43TerminateAndEnableUnderLoad terminates and enables device sync again and again under devices that push, re-push what is long
// outdated, write checkpoints and pull, and kills the gateway in some of the terminations and enablings. Sequences and file identifiers
// are never used twice; in the end server, devices and a copy are the same.
func TestD43TerminateAndEnableUnderLoad(t *testing.T) {
	l := newSyncLoad(t, 4)
	rnd := rand.New(rand.NewPCG(*seed, 43))
	idents := map[uint64]string{}
	var last uint64
	for round := range *syncRounds {
		l.awaitPushes(50 + rnd.Int64N(150))
		l.noteIdents(idents, round)
		l.act("terminate")
		for range rnd.IntN(10) {
			readSync(t, l.p.Load())
		}
		if rnd.IntN(3) == 0 {
			l.killAndStart()
		}
		rec := terminationEnds(t, l.p.Load())
		if rec.Epoch.No != uint64(round+1) || rec.Epoch.Base <= last || rec.Floor != rec.Epoch.Base-1 || rec.Clients != 0 {
			t.Fatalf("round %d, after sequence %d: %+v", round, last, rec)
		}
		l.enable(rnd.IntN(3) == 0)
		last = l.lastSequence()
		if last < rec.Epoch.Base {
			t.Fatalf("round %d: last sequence %d below the base %d", round, last, rec.Epoch.Base)
		}
		l.announce()
	}
	l.awaitPushes(100)
	l.settle()
	t.Logf("%d terminations, %d kills, %d acknowledged revisions, %d refused pushes, %d stale copies offered, %d file identifiers",
		*syncRounds, l.kills, l.pushes.Load(), l.refused.Load(), l.stale.Load(), len(idents))
}

// syncLoad is a gateway whose device sync comes and goes, with the devices that use it.
type syncLoad struct {
	t       *testing.T
	data    string
	p       atomic.Pointer[process]
	kills   int
	devices []*pushDevice
	copy    *pulledCopy
	stop    chan struct{}
	running sync.WaitGroup

	pushes, refused, stale atomic.Int64
	pushed                 chan struct{} // one waits in it after a push

	mu   sync.Mutex
	open chan struct{} // closed when it is worth trying again
}

func newSyncLoad(t *testing.T, devices int) *syncLoad {
	l := &syncLoad{t: t, data: t.TempDir(), stop: make(chan struct{}), pushed: make(chan struct{}, 1), open: make(chan struct{})}
	l.p.Store(start(t, l.data))
	mustCall(t, http.MethodPut, l.p.Load().admin+"/"+db+"/", map[string]any{
		"sync": "function (doc) { channel(doc.channels); }",
	})
	mustCall(t, http.MethodPut, l.p.Load().admin+"/"+db+"/_user/GUEST", map[string]any{"disabled": false, "admin_channels": []string{"a"}})
	for i := range devices {
		d := &pushDevice{l: l, name: fmt.Sprintf("d%d", i), rnd: rand.New(rand.NewPCG(*seed, uint64(i))), docs: make([]pushedDoc, 40)}
		l.devices = append(l.devices, d)
		l.running.Go(d.run)
	}
	l.copy = &pulledCopy{l: l, since: "0", docs: map[string]string{}}
	l.running.Go(l.copy.run)
	return l
}

// next is closed when it is worth trying again after what fails from now on.
func (l *syncLoad) next() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// announce says that device sync is enabled again.
func (l *syncLoad) announce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.open)
	l.open = make(chan struct{})
}

// awaitPushes returns after so many more revisions were acknowledged.
func (l *syncLoad) awaitPushes(n int64) {
	for target := l.pushes.Load() + n; l.pushes.Load() < target; {
		select {
		case <-l.pushed:
		case <-l.t.Context().Done():
		}
		if l.t.Failed() {
			l.t.FailNow()
		}
	}
}

func (l *syncLoad) act(action string) {
	l.t.Helper()
	mustCall(l.t, http.MethodPost, l.p.Load().admin+"/"+db+"/_device_sync", l.body(action))
}

func (l *syncLoad) body(action string) map[string]any {
	if action == "terminate" {
		return map[string]any{"action": action, "confirm": "Terminate Sync"}
	}
	return map[string]any{"action": action, "config": map[string]any{"database_name": db}}
}

func (l *syncLoad) killAndStart() {
	l.kills++
	l.p.Load().kill()
	l.p.Store(start(l.t, l.data))
}

// enable enables device sync. With a kill, that comes while it is being enabled: afterwards it is, or it is not, and can be.
func (l *syncLoad) enable(kill bool) {
	l.t.Helper()
	if !kill {
		l.act("enable")
		return
	}
	p := l.p.Load()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, _ = call(http.MethodPost, p.admin+"/"+db+"/_device_sync", l.body("enable"), nil) // nobody knows whether it is answered
	}()
	l.killAndStart()
	<-asked
	switch rec := readSync(l.t, l.p.Load()); {
	case rec.Phase != "steady":
		l.t.Fatalf("after a kill while device sync was being enabled: %+v", rec)
	case rec.State == "":
		l.act("enable")
	}
}

func (l *syncLoad) lastSequence() uint64 {
	l.t.Helper()
	var info struct {
		Seq uint64 `json:"update_seq"`
	}
	if code, err := call(http.MethodGet, l.p.Load().admin+"/"+db+"/", nil, &info); err != nil || code != http.StatusOK {
		l.t.Fatal(code, err)
	}
	return info.Seq
}

// noteIdents looks at the file identifiers that are in use: none belongs to another client than before, or to one of before.
func (l *syncLoad) noteIdents(seen map[uint64]string, round int) {
	l.t.Helper()
	var clients struct {
		Clients []struct {
			Ident      uint64 `json:"file_ident"`
			Checkpoint string `json:"checkpoint_id"`
		}
	}
	if code, err := call(http.MethodGet, l.p.Load().admin+"/"+db+"/_device_sync/clients", nil, &clients); err != nil || code != http.StatusOK {
		l.t.Fatal(code, err)
	}
	for _, c := range clients.Clients {
		who := fmt.Sprintf("%s of round %d", c.Checkpoint, round)
		if before, ok := seen[c.Ident]; ok {
			l.t.Fatalf("file identifier %d was that of %s, and is that of %s", c.Ident, before, who)
		}
		seen[c.Ident] = who
	}
}

// documents are the revisions that the gateway has.
func (l *syncLoad) documents() map[string]string {
	l.t.Helper()
	var all struct {
		Rows []struct {
			ID    string
			Value struct{ Rev string }
		}
	}
	if code, err := call(http.MethodGet, l.p.Load().admin+"/"+db+"/_all_docs", nil, &all); err != nil || code != http.StatusOK {
		l.t.Fatal(code, err)
	}
	revs := map[string]string{}
	for _, row := range all.Rows {
		revs[row.ID] = row.Value.Rev
	}
	return revs
}

// checkAcknowledged looks for what was acknowledged, or what came after it without the device learning that.
func (l *syncLoad) checkAcknowledged() {
	l.t.Helper()
	have := l.documents()
	for _, d := range l.devices {
		for id, allowed := range d.acknowledged() {
			if rev := have[id]; rev != allowed[0] && rev != allowed[1] {
				l.t.Errorf("%s: %q, acknowledged %q", id, rev, allowed[0])
			}
		}
	}
}

// settle ends the load, has all push and pull what is left, and compares.
func (l *syncLoad) settle() {
	l.t.Helper()
	close(l.stop)
	l.running.Wait()
	for _, d := range l.devices {
		for tries := 0; d.batch != nil && !d.push(); tries++ {
			if tries == 100 || l.t.Failed() {
				l.t.Fatalf("%s cannot push", d.name)
			}
		}
	}
	for more := true; more; {
		var err error
		if more, err = l.copy.pull(false); err != nil {
			l.t.Fatal(err)
		}
	}
	want := map[string]string{}
	for _, d := range l.devices {
		for id, allowed := range d.acknowledged() {
			if allowed[0] != "" {
				want[id] = allowed[0]
			}
		}
	}
	if have := l.documents(); !maps.Equal(have, want) {
		l.t.Errorf("the gateway differs from the devices: %s", difference(have, want))
	}
	if !maps.Equal(l.copy.docs, want) {
		l.t.Errorf("the copy differs from the devices: %s", difference(l.copy.docs, want))
	}
	l.p.Load().stop()
	fsck(l.t, "--data", l.data)
}

func difference(have, want map[string]string) string {
	var out strings.Builder
	for id, rev := range want {
		if have[id] != rev {
			fmt.Fprintf(&out, "%s: %q, want %q; ", id, have[id], rev)
		}
	}
	for id, rev := range have {
		if want[id] == "" {
			fmt.Fprintf(&out, "%s: %q, want none; ", id, rev)
		}
	}
	return out.String()
}

// pushDevice is a device that alone writes some documents, and pushes them as PouchDB does.
type pushDevice struct {
	l    *syncLoad
	name string
	rnd  *rand.Rand

	mu    sync.Mutex // guards what follows, which a test looks at
	docs  []pushedDoc
	batch []int // documents whose newest revision is not acknowledged
}

// pushedDoc is a document of a device: the ids of its revisions, the newest first.
type pushedDoc struct {
	revs    []string
	deleted []bool
}

const keptRevs = 40 // of a document, on a device

func (d *pushDevice) run() {
	for n := 0; !d.l.t.Failed(); n++ {
		select {
		case <-d.l.stop:
			return
		default:
		}
		next := d.l.next()
		if d.batch == nil {
			d.edit()
		}
		if d.push() && (n%4 != 0 || d.pushStale() && d.checkpoint()) {
			continue
		}
		select {
		case <-next:
		case <-d.l.stop:
		}
	}
}

func (d *pushDevice) id(i int) string { return fmt.Sprintf("%s-%02d", d.name, i) }

// edit makes a revision of some documents: an edit, a deletion, or a new document on top of a deletion.
func (d *pushDevice) edit() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, i := range d.rnd.Perm(len(d.docs))[:5] {
		doc := &d.docs[i]
		generation := 1
		if len(doc.revs) > 0 {
			_, _ = fmt.Sscanf(doc.revs[0], "%d-", &generation)
			generation++
		}
		sum := md5.Sum(fmt.Appendf(nil, "%s %d", d.id(i), generation))
		doc.revs = append([]string{fmt.Sprintf("%d-%s", generation, hex.EncodeToString(sum[:]))}, doc.revs...)
		doc.deleted = append([]bool{generation > 1 && !doc.deleted[0] && d.rnd.IntN(6) == 0}, doc.deleted...)
		doc.revs, doc.deleted = doc.revs[:min(len(doc.revs), keptRevs)], doc.deleted[:min(len(doc.deleted), keptRevs)]
		d.batch = append(d.batch, i)
	}
}

// revision is a revision of a document as it is pushed: the newest one, or an older one.
func (d *pushDevice) revision(i, back int) map[string]any {
	doc := d.docs[i]
	ids := []string{}
	var generation int
	for _, rev := range doc.revs[back:] {
		n, id, _ := strings.Cut(rev, "-")
		if len(ids) == 0 {
			_, _ = fmt.Sscanf(n, "%d", &generation)
		}
		ids = append(ids, id)
	}
	body := map[string]any{"_id": d.id(i), "_rev": doc.revs[back], "channels": []string{"a"}, "pad": strings.Repeat("x", 500),
		"_revisions": map[string]any{"start": generation, "ids": ids}}
	if doc.deleted[back] {
		body["_deleted"] = true
	}
	return body
}

// push pushes the batch, and reports whether it was acknowledged.
func (d *pushDevice) push() bool {
	var docs []any
	for _, i := range d.batch {
		docs = append(docs, d.revision(i, 0))
	}
	if !d.send(docs) {
		return false
	}
	d.l.pushes.Add(int64(len(docs)))
	d.mu.Lock()
	d.batch = nil
	d.mu.Unlock()
	select {
	case d.l.pushed <- struct{}{}:
	default:
	}
	return true
}

// pushStale offers revisions that the gateway has newer ones of: nothing may come of it.
func (d *pushDevice) pushStale() bool {
	var docs []any
	for i, doc := range d.docs {
		if len(doc.revs) > 1 && d.rnd.IntN(4) == 0 {
			docs = append(docs, d.revision(i, 1+d.rnd.IntN(min(len(doc.revs)-1, 10))))
		}
	}
	d.l.stale.Add(int64(len(docs)))
	return len(docs) == 0 || d.send(docs)
}

// send pushes revisions. They are taken, or refused as a whole because device sync does not run or nobody answers.
func (d *pushDevice) send(docs []any) bool {
	var rows []struct{ ID, Error, Reason string }
	code, err := call(http.MethodPost, d.l.p.Load().public+"/"+db+"/_bulk_docs", map[string]any{"new_edits": false, "docs": docs}, &rows)
	switch {
	case err != nil && !isConnectionError(err):
		d.l.t.Errorf("%s: %v", d.name, err)
	case err != nil || code == http.StatusServiceUnavailable:
		d.l.refused.Add(1)
	case code != http.StatusCreated:
		d.l.t.Errorf("%s: _bulk_docs: %d", d.name, code)
	default:
		for _, row := range rows {
			if row.Error != "" {
				d.l.t.Errorf("%s: %+v", d.name, row)
			}
		}
		return true
	}
	return false
}

// checkpoint writes one, as after a push. It is never answered with 4xx by the gate (D44).
func (d *pushDevice) checkpoint() bool {
	address := d.l.p.Load().public + "/" + db + "/_local/" + d.name
	var had struct {
		Rev string `json:"_rev"`
	}
	code, err := call(http.MethodGet, address, nil, &had)
	if err != nil || code == http.StatusServiceUnavailable {
		return false
	}
	body := map[string]any{"last_seq": 1, "session_id": d.name, "history": []any{}}
	if code == http.StatusOK {
		body["_rev"] = had.Rev
	}
	code, err = call(http.MethodPut, address, body, nil)
	if err == nil && code >= 400 && code < 500 && code != http.StatusConflict { // a termination may have taken it away meanwhile
		d.l.t.Errorf("%s: PUT _local: %d", d.name, code)
	}
	return err == nil && code == http.StatusCreated
}

// acknowledged are the device's documents, with the revision that was acknowledged and the one that may have come after it; "" where
// there is none, or a deletion.
func (d *pushDevice) acknowledged() map[string][2]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	pending := map[int]int{}
	for _, i := range d.batch {
		pending[i] = 1
	}
	all := map[string][2]string{}
	for i, doc := range d.docs {
		live := func(back int) string {
			if back >= len(doc.revs) || doc.deleted[back] {
				return ""
			}
			return doc.revs[back]
		}
		all[d.id(i)] = [2]string{live(pending[i]), live(0)}
	}
	return all
}

// pulledCopy is a client that only pulls, over all epochs, with no checkpoint but its position.
type pulledCopy struct {
	l     *syncLoad
	since string
	docs  map[string]string // revisions by document
}

func (c *pulledCopy) run() {
	for !c.l.t.Failed() {
		select {
		case <-c.l.stop:
			return
		default:
		}
		next := c.l.next()
		if _, err := c.pull(true); err == nil {
			continue
		}
		select {
		case <-next:
		case <-c.l.stop:
		}
	}
}

// pull takes a page of the feed, and reports whether there may be more.
func (c *pulledCopy) pull(wait bool) (more bool, err error) {
	query := url.Values{"since": {c.since}, "limit": {"200"}}
	if wait {
		query.Set("feed", "longpoll")
		query.Set("timeout", "500")
	}
	var page struct {
		Results []struct {
			ID      string
			Deleted bool
			Changes []struct{ Rev string }
		}
		Last any `json:"last_seq"`
	}
	code, err := call(http.MethodGet, c.l.p.Load().public+"/"+db+"/_changes?"+query.Encode(), nil, &page)
	if err != nil || code != http.StatusOK {
		return false, fmt.Errorf("_changes: %d: %w", code, err)
	}
	for _, row := range page.Results {
		if row.Deleted {
			delete(c.docs, row.ID)
		} else if len(row.Changes) > 0 {
			c.docs[row.ID] = row.Changes[0].Rev
		}
	}
	switch last := page.Last.(type) {
	case float64:
		c.since = fmt.Sprintf("%.0f", last)
	case string:
		c.since = last
	}
	return len(page.Results) > 0, nil
}
