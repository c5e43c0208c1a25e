package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// countRows counts the entries of a one-shot feed: each has one "changes" member, and the bodies we write
// have none.
func countRows(body []byte) int { return bytes.Count(body, []byte(`"changes":[`)) }

// latency measures from the beginning of a PUT until a continuous listener has its line.
func (b *run) latency(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	since, err := b.target.lastSeq(ctx)
	if err != nil {
		return err
	}
	lines := make(chan []byte, 64)
	opened := make(chan *conn, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- b.target.feed(ctx, since, func(c *conn) { opened <- c }, func(line []byte) { lines <- bytes.Clone(line) })
	}()
	select {
	case c := <-opened:
		defer c.Close()
	case err := <-ended:
		return err
	}
	c, err := b.target.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	prefix := "lat-" + randomHex() + "-"
	all := make([]time.Duration, 0, b.opts.Writes)
	for i := range b.opts.Writes {
		id := prefix + strconv.Itoa(i) + "."
		start := time.Now()
		body, status, err := c.do(http.MethodPut, b.target.path+"/"+id, document(i))
		if err := expect(status, http.StatusCreated, body, err); err != nil {
			return err
		}
		if err := await(ctx, lines, ended, id); err != nil {
			return err
		}
		all = append(all, time.Since(start))
	}
	p50, p99 := percentiles(all)
	b.add(Row{Name: "PUT to continuous feed", Clients: 1, Value: float64(p50.Microseconds()) / 1000, Unit: "ms p50", P50: p50, P99: p99})
	return nil
}

func await(ctx context.Context, lines <-chan []byte, ended <-chan error, id string) error {
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	for {
		select {
		case line := <-lines:
			if bytes.Contains(line, []byte(`"`+id+`"`)) {
				return nil
			}
		case err := <-ended:
			return fmt.Errorf("the feed ended: %w", err)
		case <-timeout.C:
			return errors.New("no line came within 30 s")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fanOut opens many continuous listeners, reports what they cost in memory, then writes single documents
// and reports how long it takes until every listener has each.
func (b *run) fanOut(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	since, err := b.target.lastSeq(ctx)
	if err != nil {
		return err
	}
	before := processesRSS(b.opts.PIDs)
	got := make(chan string, b.opts.Listeners)
	closeAll, err := b.listen(ctx, since, got)
	defer closeAll()
	if err != nil {
		return err
	}
	if len(b.opts.PIDs) > 0 {
		// Let the server's collector see the idle listeners before its memory is read.
		if err := sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		per := float64(processesRSS(b.opts.PIDs)-before) / float64(b.opts.Listeners) / 1024
		b.add(Row{Name: "memory for each idle listener", Clients: b.opts.Listeners, Value: per, Unit: "KiB"})
	}
	return b.fanOutWrites(ctx, got)
}

// listen opens the listeners, each sending the ID of every document it hears of.
func (b *run) listen(ctx context.Context, since string, got chan<- string) (closeAll func(), err error) {
	var (
		mu     sync.Mutex
		conns  []*conn
		ready  = make(chan struct{}, b.opts.Listeners)
		failed = make(chan error, b.opts.Listeners)
	)
	closeAll = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	}
	opened := func(c *conn) {
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		ready <- struct{}{}
	}
	each := func(line []byte) {
		if _, rest, ok := bytes.Cut(line, []byte(`"id":"fan-`)); ok {
			id, _, _ := bytes.Cut(rest, []byte(`"`))
			got <- string(id)
		}
	}
	for i := range b.opts.Listeners {
		go func() { failed <- b.target.feed(ctx, since, opened, each) }()
		select { // one at a time: this measures listeners, not a flood of connections
		case <-ready:
		case err := <-failed:
			return closeAll, fmt.Errorf("listener %d: %w", i, err)
		}
	}
	return closeAll, nil
}

func (b *run) fanOutWrites(ctx context.Context, got <-chan string) error {
	c, err := b.target.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	run := randomHex()
	var times []time.Duration
	for i := range b.opts.Rounds {
		id := run + "-" + strconv.Itoa(i)
		start := time.Now()
		body, status, err := c.do(http.MethodPut, b.target.path+"/fan-"+id, document(i))
		if err := expect(status, http.StatusCreated, body, err); err != nil {
			return err
		}
		for n := 0; n < b.opts.Listeners; {
			select {
			case heard := <-got:
				if heard == id {
					n++
				}
			case <-time.After(60 * time.Second):
				return fmt.Errorf("%d of %d listeners heard of a write within 60 s", n, b.opts.Listeners)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	median := times[len(times)/2]
	b.add(Row{Name: "one write to all listeners", Clients: b.opts.Listeners, Value: float64(median.Microseconds()) / 1000, Unit: "ms",
		P50: median, P99: times[len(times)-1]})
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
