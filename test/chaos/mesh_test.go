package chaos

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

var (
	meshDocs   = flag.Int("mesh-docs", 200, "how many documents are written at once to each gateway that replicates, besides single ones")
	meshRounds = flag.Int("mesh-rounds", 6, "how often something fails between the gateways that replicate, or one is killed")
)

// mesh is several gateways, the replications between them, and what was written.
type mesh struct {
	t        *testing.T
	rnd      *rand.Rand
	gateways []*gateway
	links    []*link
	runs     []meshRun
	m        *model
	writers  []int // which gateways are written to
}

// meshRun is one replication.
type meshRun struct {
	from, to  int
	id        string
	direction string
}

// TestMesh: gateways that replicate with each other in several shapes come to hold the same documents, whatever happens to
// the network and to the processes while all of them are written to; what was acknowledged is there, and what was deleted
// stays so.
func TestMesh(t *testing.T) {
	for _, shape := range []struct {
		name    string
		n       int
		writers []int
		runs    []meshRun
	}{
		{"push", 2, []int{0}, []meshRun{{0, 1, "there", "push"}}},
		{"pull", 2, []int{0, 1}, []meshRun{{0, 1, "left", "pull"}, {1, 0, "right", "pull"}}},
		{"both", 2, []int{0, 1}, []meshRun{{0, 1, "both", "pushAndPull"}}},
		{"chain", 3, []int{0, 1, 2}, []meshRun{{0, 1, "first", "pushAndPull"}, {1, 2, "second", "pushAndPull"}}},
		{"ring", 3, []int{0, 1, 2}, []meshRun{{0, 1, "one", "pull"}, {1, 2, "two", "pull"}, {2, 0, "three", "pull"}}},
	} {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t, shape.n, shape.writers, shape.runs, nil)
			for _, g := range m.gateways {
				g.sameNames = len(shape.runs) == 1 // one side resolves all conflicts
			}
			m.seed()
			m.disturb()
			m.verify()
		})
	}
}

func newMesh(t *testing.T, n int, writers []int, runs []meshRun, def map[string]any) *mesh {
	t.Helper()
	m := &mesh{t: t, rnd: rand.New(rand.NewPCG(*seed, uint64(n))), m: newModel(), runs: runs, writers: writers}
	for i := range n {
		g := startGateway(t, string(rune('a'+i)))
		g.database(nil)
		m.gateways = append(m.gateways, g)
	}
	for _, r := range runs {
		l := m.gateways[r.to].link()
		m.links = append(m.links, l)
		m.gateways[r.from].replicate(r.id, l, r.direction, def)
	}
	return m
}

// seed makes the documents that all share, and waits until all have them.
func (m *mesh) seed() {
	m.t.Helper()
	first := &author{g: m.gateways[0], m: m.m, rnd: m.rnd, doubtful: map[string]bool{}}
	for i := range sharedDocs {
		id := sharedID(i)
		first.note(id, first.g.put(id, first.body("")))
	}
	m.converge()
}

// converge waits until all hold the same.
func (m *mesh) converge() {
	m.t.Helper()
	eventually(m.t, "all hold the same", func() error { return equal(m.gateways...) })
}

// disturb has authors write while links and processes fail, and ends with everything in order.
func (m *mesh) disturb() {
	m.t.Helper()
	tokens, done := make(chan struct{}), make(chan struct{})
	var (
		writing sync.WaitGroup
		authors []*author
	)
	for _, i := range m.writers {
		a := &author{g: m.gateways[i], m: m.m, rnd: rand.New(rand.NewPCG(*seed, uint64(i))), docs: 40, doubtful: map[string]bool{}}
		authors = append(authors, a)
		writing.Go(func() { m.write(a, tokens, done) })
	}
	for round := range *meshRounds {
		m.pace(tokens, done, 10)
		heal := m.fault(round)
		m.pace(tokens, done, 20)
		heal()
		for _, r := range m.runs {
			eventually(m.t, r.id+" runs again", func() error { return m.gateways[r.from].is(r.id, "running") })
		}
	}
	close(tokens)
	writing.Wait()
	for _, a := range authors {
		if err := a.settle(); err != nil {
			m.t.Fatal(err)
		}
	}
	if m.t.Failed() {
		m.t.FailNow()
	}
}

// pace lets each author make n writes and waits for them.
func (m *mesh) pace(tokens chan<- struct{}, done <-chan struct{}, n int) {
	given, made := 0, 0
	for made < n*len(m.writers) {
		next := tokens
		if given == n*len(m.writers) {
			next = nil
		}
		select {
		case next <- struct{}{}:
			given++
		case <-done:
			made++
		}
	}
}

// fault breaks something, another one in each round, and returns what mends it.
func (m *mesh) fault(round int) (heal func()) {
	l := m.links[m.rnd.IntN(len(m.links))]
	heal = func() {
		for _, g := range m.gateways {
			g.heal()
		}
	}
	switch round % 6 {
	case 0, 3:
		g := m.gateways[m.rnd.IntN(len(m.gateways))]
		crashed := make(chan struct{})
		go func() { defer close(crashed); g.crash() }()
		return func() { <-crashed }
	case 1:
		l.cut()
	case 2:
		l.slow(time.Duration(1+m.rnd.IntN(20))*time.Millisecond, 200<<10)
	case 4:
		l.deafen(true)
	case 5:
		for _, l := range m.links {
			l.reset()
		}
	}
	return heal
}

// write makes an author's writes: many at once, and one for each token. Those that a killed process does not answer are
// settled later.
func (m *mesh) write(a *author, tokens <-chan struct{}, done chan<- struct{}) {
	for left := *meshDocs; left > 0; left -= 100 {
		err := a.bulk(left, min(left, 100))
		for err != nil && isConnectionError(err) {
			err = a.bulk(left, min(left, 100))
		}
		if err != nil {
			m.t.Error(err)
		}
	}
	for range tokens {
		if err := a.step(); err != nil && !isConnectionError(err) {
			m.t.Error(err)
		}
		done <- struct{}{}
	}
}

// bulk writes n documents of the author's own at once; they may be there already.
func (a *author) bulk(from, n int) error {
	docs := make([]map[string]any, n)
	for i := range docs {
		docs[i] = a.body("")
		docs[i]["_id"] = fmt.Sprintf("%s-bulk-%d", a.g.name, from-i)
	}
	var rows []struct {
		ID, Rev string
		Status  int
	}
	code, err := call(http.MethodPost, a.g.url("/_bulk_docs"), map[string]any{"docs": docs}, &rows)
	if err != nil {
		return err
	}
	if code != http.StatusCreated {
		return fmt.Errorf("_bulk_docs: status %d", code)
	}
	for _, r := range rows {
		switch r.Status {
		case 0, http.StatusCreated:
			a.note(r.ID, r.Rev)
		case http.StatusConflict:
			a.doubtful[r.ID] = true
		default:
			return fmt.Errorf("_bulk_docs: %s: status %d", r.ID, r.Status)
		}
	}
	return nil
}

// verify waits until all hold the same and looks at everything that must be true then.
func (m *mesh) verify() {
	m.t.Helper()
	m.converge()
	if err := m.m.check(m.gateways); err != nil {
		m.t.Error(err)
	}
	m.verifyReplications()
	m.verifyAttachments()
	for _, g := range m.gateways {
		if code := g.process().stop(); code != 0 {
			m.t.Errorf("%s: SIGTERM: exit code %d\n%s", g.name, code, g.process().log)
		}
		fsck(m.t, "--data", g.data)
	}
	m.t.Logf("%d revisions seen by authors, %d documents of one author", m.m.writes, len(m.m.own))
}

// verifyReplications: the replications run, both sides agree how far they have come, and when they start again they do not
// look at everything again.
func (m *mesh) verifyReplications() {
	m.t.Helper()
	for _, r := range m.runs {
		g, other := m.gateways[r.from], m.gateways[r.to]
		eventually(m.t, r.id+" runs", func() error { return g.is(r.id, "running") })
		before, err := g.status(r.id)
		if err != nil {
			m.t.Fatal(err)
		}
		if before.Error != "" || before.Rejected+before.Refused > 0 || before.Failures != before.Conflicts {
			m.t.Errorf("%s: %+v", r.id, before)
		}
		g.action(r.id, "stop")
		eventually(m.t, r.id+" stops and both sides agree", func() error { return errors.Join(g.is(r.id, "stopped"), m.agree(g, other, r)) })
		m.m.own[g.name+"-after-"+r.id] = g.put(g.name+"-after-"+r.id, map[string]any{"channels": "c0"})
		g.action(r.id, "start")
		m.converge()
		after, err := g.status(r.id)
		if err != nil {
			m.t.Fatal(err)
		}
		if n := after.CheckedPull + after.CheckedPush - before.CheckedPull - before.CheckedPush; n > 10 {
			m.t.Errorf("%s: %d rows were looked at after the replication had been stopped and started: %+v, %+v", r.id, n, before, after)
		}
	}
}

// agree is nil if the checkpoints of a replication agree, are those of its status and at the source's end.
func (m *mesh) agree(g, other *gateway, r meshRun) error {
	st, err := g.status(r.id)
	if err != nil {
		return err
	}
	for _, d := range []struct {
		name   string
		source *gateway
		last   string
	}{{"push", g, st.LastSeqPush}, {"pull", other, st.LastSeqPull}} {
		if r.direction != "pushAndPull" && r.direction != d.name {
			continue
		}
		seq, err := d.source.updateSeq()
		if err != nil {
			return err
		}
		saved, err := g.agree(other, r.id, d.name)
		if err != nil {
			return err
		}
		if end := fmt.Sprint(seq); saved != d.last || saved != end {
			return fmt.Errorf("%s %s: checkpoint %s, status %s, source %s", r.id, d.name, saved, d.last, end)
		}
	}
	return nil
}

// verifyAttachments: the attachments that the databases say they have can be read.
func (m *mesh) verifyAttachments() {
	m.t.Helper()
	read := 0
	for _, g := range m.gateways {
		n, err := g.readAttachments()
		if err != nil {
			m.t.Error(err)
		}
		read += n
	}
	if read == 0 {
		m.t.Error("no database has an attachment")
	}
}
