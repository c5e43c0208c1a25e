package console

import (
	"context"
	"math"
	"net/http"
	"sync"
	"time"
)

// metricsPages are plots of what the server does, from live samples.
func (c *Console) metricsPages() page {
	return page{
		routes: []route{
			{pattern: "GET /metrics", nav: "Metrics", handler: c.showMetrics},
			{pattern: "GET /metrics/history", handler: c.metricsHistory, quiet: true},
		},
		nav:    []navEntry{{label: "Metrics", icon: "metrics", href: "/metrics", section: navServer, order: 20}},
		topics: []topic{{name: "metrics", open: c.openMetrics}},
	}
}

// plot is one diagram.
type plot struct {
	ID, Title, Help string
	Unit            string // how the script writes values: "rate", "ms", "bytes", "count" or "percent"
	Series          []series
}

// series is one line of a plot.
type series struct {
	Key, Label string
}

// plots are the diagrams of the page, in order.
var plots = []plot{
	{"throughput", "Documents", "a second", "rate", []series{{"writes", "written"}, {"reads", "read"}, {"sent", "sent to devices"}, {"received", "from devices"}}},
	{"latency", "Delay", "mean of the last samples", "ms", []series{{"sendLatency", "to a device, from the feed to its answer"}, {"pushLatency", "from a device, to the disk"}, {"syncLatency", "sync function"}}},
	{"connections", "Connections", "now", "count", []series{{"blip", "Couchbase Lite"}, {"feeds", "change feeds"}, {"behind", "pulls that catch up"}}},
	{"memory", "Memory", "", "bytes", []series{{"resident", "process"}, {"heap", "heap in use"}, {"stack", "stacks"}}},
	{"cpu", "Processor", "", "percent", []series{{"cpuProcess", "process, of one core"}, {"cpuMachine", "machine"}}},
	{"network", "Network", "bytes a second; REST when a request ends", "bytes", []series{{"netOut", "sent"}, {"netIn", "received"}}},
}

// sample is the state of all series at one moment; NaN where there is nothing to tell.
type sample map[string]float64

// historyLength is how many samples are kept: half an hour at the usual pace.
const historyLength = 900

// history keeps samples of the figures while anybody is logged in who may read them, so that the page has a past
// to show. It is safe for concurrent use.
type history struct {
	c *Console

	mu      sync.Mutex // guards what follows
	running bool
	last    *counters
	times   []float64 // seconds since 1970
	samples []sample
}

// counters are figures that only grow; plots show their differences.
type counters struct {
	at                                     time.Time
	writes, reads, sent, received          float64
	sendTime, pushTime, syncTime, syncRuns float64
	netIn, netOut                          float64
}

// start begins to take samples as whoever asked first; it ends when they are gone.
func (h *history) start(rq *request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running {
		return
	}
	h.running = true
	go h.run(rq.session, rq.api)
}

func (h *history) run(who *session, api *client) {
	defer func() {
		h.mu.Lock()
		h.running = false
		h.mu.Unlock()
	}()
	tick := time.NewTicker(h.c.o.LiveEvery)
	defer tick.Stop()
	for h.c.sessions.alive(h.c.closing, who) {
		var e expvar
		if err := api.get(h.c.closing, "/_expvar", nil, &e); err != nil {
			return
		}
		h.add(h.c.o.Now(), &e)
		select {
		case <-h.c.closing.Done():
			return
		case <-tick.C:
		}
	}
}

// add makes a sample of the figures.
func (h *history) add(now time.Time, e *expvar) {
	next := countersOf(now, e)
	h.mu.Lock()
	defer h.mu.Unlock()
	s := gauges(e)
	if h.last != nil {
		s.differences(h.last, next)
	}
	h.last = next
	h.times = append(h.times, math.Round(float64(now.UnixMilli()))/1000)
	h.samples = append(h.samples, s)
	if over := len(h.times) - historyLength; over > 0 {
		h.times = append([]float64(nil), h.times[over:]...)
		h.samples = append([]sample(nil), h.samples[over:]...)
	}
}

func countersOf(now time.Time, e *expvar) *counters {
	n := &counters{at: now}
	for _, f := range e.SyncGateway.PerDB {
		n.writes += f.database("num_doc_writes")
		n.reads += f.reads()
		n.sent += f.Pull["rev_send_count"]
		n.received += f.Push["doc_push_count"]
		n.sendTime += f.Pull["rev_send_latency"]
		n.pushTime += f.Push["write_processing_time"]
		n.syncTime += f.database("sync_function_time")
		n.syncRuns += f.database("sync_function_count")
	}
	r := e.SyncGateway.Global["resource_utilization"]
	n.netIn = r["pub_net_bytes_recv"] + e.Tidegate[`blip_wire_bytes_total{direction="in"}`]
	n.netOut = r["pub_net_bytes_sent"] + e.Tidegate[`blip_wire_bytes_total{direction="out"}`]
	return n
}

// gauges are the series that need no difference.
func gauges(e *expvar) sample {
	r := e.SyncGateway.Global["resource_utilization"]
	s := sample{
		"resident": r["process_memory_resident"], "heap": r["go_memstats_heapinuse"], "stack": r["go_memstats_stackinuse"],
		"cpuProcess": r["process_cpu_percent_utilization"], "cpuMachine": r["node_cpu_percent_utilization"],
		"blip": e.own("blip_connections", ""), "feeds": e.own("feeds", ""),
	}
	for _, f := range e.SyncGateway.PerDB {
		s["behind"] += max(0, f.Pull["num_replications_active"]-f.Pull["num_pull_repl_caught_up"])
	}
	return s
}

// differences adds the series that are made of two counts. Counters that fell belong to a database that went.
func (s sample) differences(from, to *counters) {
	seconds := to.at.Sub(from.at).Seconds()
	rate := func(a, b float64) float64 {
		if seconds <= 0 || b < a {
			return 0
		}
		return (b - a) / seconds
	}
	s["writes"], s["reads"] = rate(from.writes, to.writes), rate(from.reads, to.reads)
	s["sent"], s["received"] = rate(from.sent, to.sent), rate(from.received, to.received)
	s["netIn"], s["netOut"] = rate(from.netIn, to.netIn), rate(from.netOut, to.netOut)
	mean := func(key string, time0, time1, n0, n1 float64) {
		if n1 > n0 && time1 >= time0 {
			s[key] = (time1 - time0) / (n1 - n0) / float64(time.Millisecond)
		}
	}
	mean("sendLatency", from.sendTime, to.sendTime, from.sent, to.sent)
	mean("pushLatency", from.pushTime, to.pushTime, from.received, to.received)
	mean("syncLatency", from.syncTime, to.syncTime, from.syncRuns, to.syncRuns)
}

// columns is the form that uPlot takes: times, and for each series a value or null at each time.
type columns struct {
	Times  []float64             `json:"times"`
	Series map[string][]*float64 `json:"series"`
}

// since returns the samples taken after a time, in seconds since 1970.
func (h *history) since(after float64) columns {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := columns{Times: []float64{}, Series: map[string][]*float64{}}
	for _, p := range plots {
		for _, s := range p.Series {
			out.Series[s.Key] = []*float64{}
		}
	}
	for i, t := range h.times {
		if t <= after {
			continue
		}
		out.Times = append(out.Times, t)
		for key := range out.Series {
			var value *float64
			if v, ok := h.samples[i][key]; ok {
				value = &v
			}
			out.Series[key] = append(out.Series[key], value)
		}
	}
	return out
}

// mayReadFigures refuses whom the API refuses them.
func (rq *request) mayReadFigures(ctx context.Context) error {
	_, err := rq.expvar(ctx)
	return err
}

func (c *Console) showMetrics(rq *request) error {
	if err := rq.mayReadFigures(rq.Context()); err != nil {
		return err
	}
	c.history.start(rq)
	rq.live = []string{"metrics"}
	return rq.render("metrics", "Metrics", plots)
}

// metricsHistory answers with all samples there are.
func (c *Console) metricsHistory(rq *request) error {
	if err := rq.mayReadFigures(rq.Context()); err != nil {
		return err
	}
	rq.w.Header().Set("Content-Type", "application/json")
	rq.w.WriteHeader(http.StatusOK)
	_, err := rq.w.Write([]byte(compact(c.history.since(0))))
	return err
}

// openMetrics sends the samples as they are taken.
func (c *Console) openMetrics(rq *request, _ string) (sampler, error) {
	if err := rq.mayReadFigures(rq.Context()); err != nil {
		return nil, err
	}
	after := float64(c.o.Now().UnixMilli()) / 1000
	return func(context.Context) (any, error) {
		c.history.start(rq) // who took the samples may have left
		news := c.history.since(after)
		if len(news.Times) == 0 {
			return nil, nil
		}
		after = news.Times[len(news.Times)-1]
		return news, nil
	}, nil
}
