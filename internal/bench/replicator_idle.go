package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tidegate/tidegate/internal/blip"
)

const (
	idleAll    = "idle-all" // the channel that all idle pullers hold
	idleFew    = "idle-few" // and the one that only fewPullers of them hold
	fewPullers = 10
	// pullersPerUser is how many replications one user has: a gateway bounds them at 1,000.
	pullersPerUser = 500
)

// blipIdle opens many continuous pulls, reports what each costs the server in memory while nothing happens, then
// writes single documents and reports how long it takes until everybody who should has each, and how many feeds woke.
func (b *run) blipIdle(ctx context.Context) error {
	if err := enoughFiles(b.opts.Pullers); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	since, err := b.target.lastSeq(ctx)
	if err != nil {
		return err
	}
	before := processesRSS(b.opts.PIDs)
	cpu, start := processesCPU(b.opts.PIDs), time.Now()
	idle := &idlers{run: b, got: make(chan string, b.opts.Pullers), failed: make(chan error, b.opts.Pullers)}
	defer idle.close()
	if err := idle.open(ctx, since); err != nil {
		return err
	}
	row := Row{Name: "BLIP pullers opened", Clients: b.opts.Pullers, Value: float64(b.opts.Pullers) / time.Since(start).Seconds(), Unit: "a second"}
	if len(b.opts.PIDs) > 0 {
		row.CPU = (processesCPU(b.opts.PIDs) - cpu) / time.Duration(b.opts.Pullers)
		b.add(row)
		// Let the server's collector see the idle pullers before its memory is read.
		if err := sleep(ctx, b.opts.Settle); err != nil {
			return err
		}
		per := float64(processesRSS(b.opts.PIDs)-before) / float64(b.opts.Pullers) / 1024
		b.add(Row{Name: "memory for each idle BLIP puller", Clients: b.opts.Pullers, Value: per, Unit: "KiB"})
	} else {
		b.add(row)
	}
	if err := idle.wake(ctx, "one write to all BLIP pullers", idleAll, b.opts.Pullers); err != nil {
		return err
	}
	return idle.wake(ctx, "one write to ten BLIP pullers", idleFew, min(fewPullers, b.opts.Pullers))
}

// enoughFiles reports whether the tool may open so many connections. Go has raised the limit as far as it may.
func enoughFiles(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of file descriptors: %w", err)
	}
	if need := uint64(n) + 100; limit.Cur < need {
		return fmt.Errorf("%d connections need %d file descriptors, of which this process may have %d (ulimit -n); the server needs as many",
			n, need, limit.Cur)
	}
	return nil
}

// idlers are continuous pulls.
type idlers struct {
	run    *run
	all    []*replicator
	got    chan string // IDs of documents, once for each puller that gets one
	failed chan error
}

func (s *idlers) close() {
	for _, r := range s.all {
		r.conn.Drop(errReplicationEnded)
	}
}

// open opens the pulls, one after another: this measures pullers, not a flood of connections. The first ten belong to a
// user who holds one more channel than the others.
func (s *idlers) open(ctx context.Context, since string) error {
	w := s.run.newWire()
	n := s.run.opts.Pullers
	for i := 0; i < n; {
		channels, end := []string{idleAll}, min(i+pullersPerUser, n)
		if i == 0 {
			channels, end = append(channels, idleFew), min(fewPullers, n)
		}
		t, err := s.run.newUser(ctx, "idle-"+randomHex(), channels)
		if err != nil {
			return err
		}
		w.target = t
		for ; i < end; i++ {
			if err := s.openOne(ctx, w, since); err != nil {
				return fmt.Errorf("puller %d: %w", i, err)
			}
		}
	}
	return nil
}

// openOne opens a pull and waits until it has caught up.
func (s *idlers) openOne(ctx context.Context, w *wire, since string) error {
	caughtUp := make(chan struct{}, 1)
	r, err := w.dial(ctx, func(r *blip.Request) { s.handle(r, caughtUp) })
	if err != nil {
		return err
	}
	s.all = append(s.all, r)
	if err := r.subscribe(ctx, since, true); err != nil {
		return err
	}
	select {
	case <-caughtUp:
		return nil
	case err := <-r.ended:
		return fmt.Errorf("%w: %w", errReplicationEnded, err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handle takes what comes.
func (s *idlers) handle(r *blip.Request, caughtUp chan<- struct{}) {
	defer r.Release()
	switch r.Profile() {
	case "changes":
		if rows := bytes.Count(r.Body(), []byte("[")) - 1; rows > 0 {
			wantAll(r, rows)
			return
		}
		r.Respond(&blip.Message{})
		select {
		case caughtUp <- struct{}{}:
		default:
		}
	case "rev":
		id, _ := r.Property("id")
		s.got <- strings.Clone(id)
		if !r.NoReply() {
			r.Respond(&blip.Message{})
		}
	default:
		r.NoHandler()
	}
}

// wake writes single documents into a channel and reports how long it takes until all of its n holders have each, and,
// if the server's counter can be read, how many feeds one write woke.
func (s *idlers) wake(ctx context.Context, name, channel string, n int) error {
	b := s.run
	c, err := b.target.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	before, err := b.wakeups(ctx)
	if err != nil {
		return err
	}
	prefix, cpu := "idle-"+randomHex()+"-", processesCPU(b.opts.PIDs)
	var times []time.Duration
	for i := range b.opts.Rounds {
		id := prefix + strconv.Itoa(i)
		start := time.Now()
		doc := fmt.Appendf(nil, `{"type":"note","owner":%q,"channels":[%q],"text":%q}`, userName, channel, strings.Repeat("idle ", 200))
		body, status, err := c.do(http.MethodPut, b.target.path+"/"+id, doc)
		if err := expect(status, http.StatusCreated, body, err); err != nil {
			return err
		}
		if err := s.await(ctx, id, n); err != nil {
			return err
		}
		times = append(times, time.Since(start))
	}
	row := Row{Name: name, Clients: n, P50: median(times), P99: times[len(times)-1], Unit: "ms"}
	row.Value = float64(row.P50.Microseconds()) / 1000
	if len(b.opts.PIDs) > 0 {
		row.CPU = (processesCPU(b.opts.PIDs) - cpu) / time.Duration(b.opts.Rounds*n)
	}
	b.add(row)
	if b.opts.Metrics == "" {
		return nil
	}
	after, err := b.wakeups(ctx)
	if err != nil {
		return err
	}
	b.add(Row{Name: "feeds that one such write woke", Clients: len(s.all), Value: (after - before) / float64(b.opts.Rounds), Unit: "feeds"})
	return nil
}

// await waits until n pullers have the document.
func (s *idlers) await(ctx context.Context, id string, n int) error {
	timeout := time.NewTimer(60 * time.Second)
	defer timeout.Stop()
	for heard := 0; heard < n; {
		select {
		case got := <-s.got:
			if got == id {
				heard++
			}
		case <-timeout.C:
			return fmt.Errorf("%d of %d pullers heard of a write within 60 s", heard, n)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// newUser makes a user and returns the database as that user sees it.
func (b *run) newUser(ctx context.Context, name string, channels []string) (*target, error) {
	password := randomHex()
	user, err := json.Marshal(map[string]any{"name": name, "password": password, "admin_channels": channels})
	if err != nil {
		return nil, err
	}
	t := &target{hosts: b.target.hosts, path: b.target.path, auth: basic(name, password)}
	return t, new(target).request(ctx, http.MethodPost, b.opts.Admin+t.path+"/_user/", user)
}

// wakeups reads how many feeds of the database have been woken; 0 if no metrics are known.
func (b *run) wakeups(ctx context.Context) (float64, error) {
	if b.opts.Metrics == "" {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.opts.Metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		head, value, _ := strings.Cut(lines.Text(), " ")
		if strings.HasPrefix(head, "tidegate_feed_wakeups_total{") && strings.Contains(head, strconv.Quote(b.opts.DB)) {
			return strconv.ParseFloat(value, 64)
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("%s/metrics has no tidegate_feed_wakeups_total of the database", b.opts.Metrics)
}
