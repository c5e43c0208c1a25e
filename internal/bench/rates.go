package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// rate runs op on so many clients for the duration and reports operations a second, with the server's CPU
// for each if its process is known. weight is how many documents one op stands for.
func (b *run) rate(ctx context.Context, name string, clients, weight int, op func(c *conn, rnd *rand.Rand) error) error {
	conns := make([]*conn, clients)
	for i := range conns {
		c, err := b.target.dial(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		conns[i] = c
	}
	var (
		wg    sync.WaitGroup
		done  atomic.Int64
		fail  atomic.Pointer[error]
		cpu   = processesCPU(b.opts.PIDs)
		start = time.Now()
		end   = start.Add(b.opts.Duration)
	)
	latencies := make([][]time.Duration, clients)
	for i, c := range conns {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), uint64(start.UnixNano())))
			for time.Now().Before(end) && ctx.Err() == nil && fail.Load() == nil {
				at := time.Now()
				if err := op(c, rnd); err != nil {
					fail.Store(&err)
					return
				}
				latencies[i] = append(latencies[i], time.Since(at))
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if err := fail.Load(); err != nil {
		return *err
	}
	elapsed := time.Since(start)
	docs := float64(done.Load()) * float64(weight)
	row := Row{Name: name, Clients: clients, Value: docs / elapsed.Seconds(), Unit: "docs/s"}
	if used := processesCPU(b.opts.PIDs) - cpu; len(b.opts.PIDs) > 0 && docs > 0 {
		row.CPU = used / time.Duration(docs)
	}
	all := slices.Concat(latencies...)
	row.P50, row.P99 = percentiles(all)
	b.add(row)
	return ctx.Err()
}

func (b *run) put(ctx context.Context) error {
	for _, n := range b.opts.Clients {
		prefix := b.target.path + "/put-" + randomHex() + "-"
		var next atomic.Int64
		err := b.rate(ctx, "PUT new document", n, 1, func(c *conn, _ *rand.Rand) error {
			i := int(next.Add(1))
			body, status, err := c.do(http.MethodPut, prefix+strconv.Itoa(i), document(i))
			return expect(status, http.StatusCreated, body, err)
		})
		b.written += int(next.Load())
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *run) bulk(ctx context.Context) error {
	for _, n := range b.opts.Clients {
		prefix := "bulk-" + randomHex() + "-"
		var next atomic.Int64
		err := b.rate(ctx, "_bulk_docs of 100", n, 100, func(c *conn, _ *rand.Rand) error {
			body, status, err := c.do(http.MethodPost, b.target.path+"/_bulk_docs", bulkBody(prefix, int(next.Add(100))-100, document))
			return expect(status, http.StatusCreated, body, err)
		})
		b.written += int(next.Load())
		if err != nil {
			return err
		}
	}
	return nil
}

// bulkBody makes 100 documents with IDs prefix+n, numbered from n.
func bulkBody(prefix string, n int, document func(int) []byte) []byte {
	body := make([]byte, 0, 120<<10)
	body = append(body, `{"docs":[`...)
	for i := n; i < n+100; i++ {
		if i > n {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"_id":%q,`, prefix+strconv.Itoa(i))
		body = append(body, document(i)[1:]...)
	}
	return append(body, `]}`...)
}

const getDocuments = 5_000

func (b *run) get(ctx context.Context) error {
	prefix := "get-" + randomHex() + "-"
	if err := b.fill(ctx, prefix, getDocuments, document); err != nil {
		return err
	}
	for _, n := range b.opts.Clients {
		err := b.rate(ctx, "GET document", n, 1, func(c *conn, rnd *rand.Rand) error {
			body, status, err := c.do(http.MethodGet, b.target.path+"/"+prefix+strconv.Itoa(rnd.IntN(getDocuments)), nil)
			return expect(status, http.StatusOK, body, err)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fill writes n documents in batches of 100.
func (b *run) fill(ctx context.Context, prefix string, n int, document func(int) []byte) error {
	c, err := b.target.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for i := 0; i < n && ctx.Err() == nil; i += 100 {
		body, status, err := c.do(http.MethodPost, b.target.path+"/_bulk_docs", bulkBody(prefix, i, document))
		if err := expect(status, http.StatusCreated, body, err); err != nil {
			return err
		}
	}
	b.written += n
	return ctx.Err()
}

// changes reads the feed once over the wanted number of documents, without and with bodies. Three runs
// each; the median counts.
func (b *run) changes(ctx context.Context) error {
	if missing := b.opts.Documents - b.written; missing > 0 {
		if err := b.fill(ctx, "chg-"+randomHex()+"-", missing, document); err != nil {
			return err
		}
	}
	for _, mode := range []struct{ name, query, unit string }{
		{"one-shot _changes", "", "rows/s"},
		{"one-shot _changes with documents", "&include_docs=true", "docs/s"},
	} {
		var rates []float64
		var cpu time.Duration
		for range 3 {
			before, start := processesCPU(b.opts.PIDs), time.Now()
			n, err := b.oneShot(ctx, mode.query)
			if err != nil {
				return err
			}
			rates = append(rates, float64(n)/time.Since(start).Seconds())
			cpu = (processesCPU(b.opts.PIDs) - before) / time.Duration(max(n, 1))
		}
		slices.Sort(rates)
		b.add(Row{Name: mode.name, Clients: 1, Value: rates[1], Unit: mode.unit, CPU: cpu})
	}
	return nil
}

func (b *run) oneShot(ctx context.Context, query string) (int, error) {
	c, err := b.target.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	body, status, err := c.do(http.MethodGet, fmt.Sprintf("%s/_changes?limit=%d%s", b.target.path, b.opts.Documents, query), nil)
	if err := expect(status, http.StatusOK, body[:min(len(body), 200)], err); err != nil {
		return 0, err
	}
	n := countRows(body)
	if n < b.opts.Documents {
		return n, fmt.Errorf("the feed has %d rows of %d", n, b.opts.Documents)
	}
	return n, nil
}

func expect(status, want int, body []byte, err error) error {
	if err != nil {
		return err
	}
	if status != want && (status != http.StatusOK || want != http.StatusCreated) {
		return fmt.Errorf("status %d: %s", status, body[:min(len(body), 200)])
	}
	return nil
}

func percentiles(d []time.Duration) (p50, p99 time.Duration) {
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	return d[len(d)/2], d[min(len(d)-1, len(d)*99/100)]
}
