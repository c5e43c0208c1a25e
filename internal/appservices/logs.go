package appservices

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Types of log entries (device-sync.md §14.1).
const (
	LogConnectionStart = "SYNC_CONNECTION_START"
	LogConnectionEnd   = "SYNC_CONNECTION_END"
	LogSessionStart    = "SYNC_SESSION_START"
	LogSessionEnd      = "SYNC_SESSION_END"
	LogClientWrite     = "SYNC_CLIENT_WRITE"
	LogError           = "SYNC_ERROR"
	LogOther           = "SYNC_OTHER"
	LogAPI             = "API"
	LogAuth            = "AUTH"
)

// LogEntry is an entry in the log of an app. It never holds what documents hold.
type LogEntry struct {
	ID        string    `json:"_id"`
	CoID      string    `json:"co_id"` // of the request, or of the session, that it belongs to
	Type      string    `json:"type"`
	UserID    string    `json:"user_id,omitempty"`
	DomainID  string    `json:"domain_id"`
	AppID     string    `json:"app_id"`
	GroupID   string    `json:"group_id"`
	URL       string    `json:"request_url,omitempty"`
	Method    string    `json:"request_method,omitempty"`
	Started   time.Time `json:"started"`
	Completed time.Time `json:"completed"`
	Error     string    `json:"error,omitempty"`
	ErrorCode string    `json:"error_code,omitempty"`
	Messages  []string  `json:"messages,omitempty"`
	Status    int       `json:"status,omitempty"`
}

// logRing keeps the newest entries of each app, in memory. It is safe for concurrent use.
type logRing struct {
	most int // for each app
	mu   sync.Mutex
	apps map[string][]LogEntry // oldest first
}

func newLogRing(most int) *logRing { return &logRing{most: most, apps: map[string][]LogEntry{}} }

func (l *logRing) add(e LogEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := append(l.apps[e.AppID], e)
	if len(entries) > l.most+l.most/4 { // not each time
		entries = slices.Clone(entries[len(entries)-l.most:])
	}
	l.apps[e.AppID] = entries
}

func (l *logRing) drop(appID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.apps, appID)
}

// newest returns the entries of an app that match, newest first.
func (l *logRing) newest(appID string, match func(*LogEntry) bool) []LogEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.apps[appID]
	all = all[max(0, len(all)-l.most):]
	var found []LogEntry
	for i := len(all) - 1; i >= 0; i-- {
		if match(&all[i]) {
			found = append(found, all[i])
		}
	}
	return found
}

// entry completes a log entry of an app.
func (s *Server) entry(a *app, e LogEntry) LogEntry {
	e.ID, e.AppID, e.GroupID, e.DomainID = s.ids.next(), a.ID, a.GroupID, s.server.DomainID
	if e.CoID == "" {
		e.CoID = e.ID
	}
	if e.Started.IsZero() {
		e.Started = s.now().UTC()
	}
	if e.Completed.IsZero() {
		e.Completed = e.Started
	}
	return e
}

// note logs a request that changed something, or failed. Who asked for something and left before the answer is no failure.
func (c *call) note(status int, err error) {
	if c.app == nil || c.who.UserID == "" || c.Method == http.MethodGet && (err == nil || c.Context().Err() != nil) {
		return
	}
	e := LogEntry{
		CoID: c.id, Type: LogAPI, UserID: c.who.UserID, URL: c.URL.Path, Method: c.Method,
		Started: c.start.UTC(), Completed: c.s.now().UTC(), Status: status,
	}
	if err != nil {
		shown := asAPIError(err)
		e.Error, e.ErrorCode = shown.text, shown.code
	}
	c.s.logs.add(c.s.entry(c.app, e))
}

// The bounds of a page of logs.
const (
	logsPerPage = 100
	logsMaxSkip = 1_000_000
)

// logFilter is what a query of logs asks for.
type logFilter struct {
	coID, userID   string
	errorsOnly     bool
	types          []string
	after, through time.Time // zero: open
	skip, limit    int
}

func (f *logFilter) match(e *LogEntry) bool {
	return (f.coID == "" || e.CoID == f.coID) && (f.userID == "" || e.UserID == f.userID) && (!f.errorsOnly || e.Error != "") &&
		(len(f.types) == 0 || slices.Contains(f.types, e.Type)) &&
		(f.after.IsZero() || e.Started.After(f.after)) && (f.through.IsZero() || !e.Started.After(f.through))
}

// logFilter reads the query.
func (c *call) logFilter() (*logFilter, error) {
	q := c.URL.Query()
	f := &logFilter{coID: q.Get("co_id"), userID: q.Get("user_id"), errorsOnly: q.Has("errors_only"), limit: logsPerPage}
	if text := q.Get("type"); text != "" {
		f.types = strings.Split(text, ",")
	}
	for name, to := range map[string]*time.Time{"start_date": &f.after, "end_date": &f.through} {
		if text := q.Get(name); text != "" {
			t, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return nil, invalid("%s: expected a time as in 2006-01-02T15:04:05.000Z", name)
			}
			*to = t
		}
	}
	for name, n := range map[string]struct {
		to        *int
		low, high int
	}{"skip": {&f.skip, 0, logsMaxSkip}, "limit": {&f.limit, 1, logsPerPage}} {
		if text := q.Get(name); text != "" {
			v, err := strconv.Atoi(text)
			if err != nil || v < n.low || v > n.high {
				return nil, invalid("%s: expected a number from %d to %d", name, n.low, n.high)
			}
			*n.to = v
		}
	}
	return f, nil
}

func (c *call) handleLogs() error {
	f, err := c.logFilter()
	if err != nil {
		return err
	}
	found := c.s.logs.newest(c.app.ID, f.match)
	found = found[min(f.skip, len(found)):]
	answer := struct {
		Logs        []LogEntry `json:"logs"`
		NextEndDate *time.Time `json:"nextEndDate,omitempty"`
		NextSkip    *int       `json:"nextSkip,omitempty"`
	}{Logs: []LogEntry{}}
	if len(found) > f.limit {
		answer.NextEndDate, answer.NextSkip = nextPage(found[:f.limit], f)
		found = found[:f.limit]
	}
	answer.Logs = append(answer.Logs, found...)
	return c.reply(http.StatusOK, answer)
}

// nextPage says how the query after a page has to go on: with the time of its last entry as the end, less the entries of that time
// that were shown.
func nextPage(page []LogEntry, f *logFilter) (*time.Time, *int) {
	end := page[len(page)-1].Started
	skip := 0
	for i := len(page) - 1; i >= 0 && page[i].Started.Equal(end); i-- {
		skip++
	}
	if skip == len(page) && f.through.Equal(end) {
		skip += f.skip // the page before began at that time, too
	}
	return &end, &skip
}
