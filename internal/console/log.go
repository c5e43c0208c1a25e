package console

import (
	"context"
	"net/url"
	"strconv"
	"time"
)

// logPages are the log of the server as it grows.
func (c *Console) logPages() page {
	return page{
		routes: []route{{pattern: "GET /log", nav: "Log", handler: c.showLog}},
		nav:    []navEntry{{label: "Log", icon: "log", href: "/log", section: navServer, order: 30}},
		topics: []topic{{name: "log", open: c.openLog}},
	}
}

// logEntries is how many records the page begins with, and how many one event brings at most.
const logEntries = 200

type logEntry struct {
	Number  uint64    `json:"number"`
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Message string    `json:"message"`
	Attrs   string    `json:"attrs"`
}

// At is the time as the page shows it; the script writes it in the same way.
func (e logEntry) At() string { return e.Time.UTC().Format("15:04:05.000") }

type logView struct {
	Level, Text string
	Entries     []logEntry
	Topic       string
}

// logFilter is what is asked for: records of level or above that hold text.
type logFilter struct{ level, text string }

func (rq *request) logTail(ctx context.Context, f logFilter, after uint64) ([]logEntry, uint64, error) {
	var tail struct {
		Entries []logEntry
		Last    uint64
	}
	query := queryOf("level", f.level, "q", f.text, "limit", strconv.Itoa(logEntries), "after", strconv.FormatUint(after, 10))
	err := rq.api.get(ctx, "/_log", query, &tail)
	return tail.Entries, tail.Last, err
}

func (c *Console) showLog(rq *request) error {
	v := logView{Level: rq.FormValue("level"), Text: rq.FormValue("q")}
	if v.Level == "" {
		v.Level = "info"
	}
	var last uint64
	var err error
	if v.Entries, last, err = rq.logTail(rq.Context(), logFilter{v.Level, v.Text}, 0); err != nil {
		return err
	}
	v.Topic = "log:" + url.Values{"level": {v.Level}, "q": {v.Text}, "after": {strconv.FormatUint(last, 10)}}.Encode()
	rq.live = []string{v.Topic}
	return rq.render("log", "Log", v)
}

// openLog follows the log; arg is a query with level, q and after. A server that was started again counts from 1.
func (c *Console) openLog(rq *request, arg string) (sampler, error) {
	query, err := url.ParseQuery(arg)
	if err != nil {
		return nil, errNoPage
	}
	f := logFilter{query.Get("level"), query.Get("q")}
	after, _ := strconv.ParseUint(query.Get("after"), 10, 64) // 0 if it is no number
	return func(ctx context.Context) (any, error) {
		entries, last, err := rq.logTail(ctx, f, after)
		if err != nil {
			return nil, err
		}
		if last < after {
			after = 0
			return nil, nil
		}
		after = last
		if len(entries) == 0 {
			return nil, nil
		}
		return map[string]any{"entries": entries}, nil
	}, nil
}
