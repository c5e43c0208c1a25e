package console

import (
	"strconv"
	"strings"
	"time"
)

// syncLogPages are the log of an app: the addresses that errors of the Admin API link to (device-sync.md §14.1).
func (c *Console) syncLogPages() page {
	const path, nav = "/groups/{g}/apps/{a}/logs", "Logs"
	return page{
		routes: []route{
			{pattern: "GET /db/{db}/sync-log", handler: c.toApp("logs")},
			{pattern: "GET " + path, nav: nav, handler: withApp(c.showSyncLog)},
		},
		nav: []navEntry{{label: nav, icon: "log", href: "/db/{db}/sync-log", section: navSync, order: 83}},
	}
}

// syncLogEntry is an entry of the log.
type syncLogEntry struct {
	ID        string    `json:"_id"`
	CoID      string    `json:"co_id"`
	Type      string    `json:"type"`
	UserID    string    `json:"user_id"`
	URL       string    `json:"request_url"`
	Method    string    `json:"request_method"`
	Started   time.Time `json:"started"`
	Completed time.Time `json:"completed"`
	Error     string    `json:"error"`
	Code      string    `json:"error_code"`
	Messages  []string  `json:"messages"`
	Status    int       `json:"status"`

	By   string `json:"-"`
	Path string `json:"-"` // of the URL, below the app
}

// Words are what happened.
func (e *syncLogEntry) Words() string { return strings.Join(e.Messages, " ") }

// Took is how long it took.
func (e *syncLogEntry) Took() string {
	if d := e.Completed.Sub(e.Started); d > 0 {
		return duration(d)
	}
	return ""
}

type syncLogView struct {
	App        *app
	Entries    []syncLogEntry
	Type, CoID string
	ErrorsOnly bool
	Types      []string
	Pager      pager
}

// syncLogTypes are the types of entries that can be chosen.
var syncLogTypes = []string{"API", "AUTH", "SYNC_CONNECTION_START", "SYNC_CONNECTION_END", "SYNC_SESSION_START", "SYNC_SESSION_END", "SYNC_CLIENT_WRITE", "SYNC_ERROR", "SYNC_OTHER"}

// showSyncLog answers the log.
func (c *Console) showSyncLog(rq *request, a *app) error {
	v := syncLogView{App: a, Type: rq.FormValue("type"), CoID: rq.FormValue("co_id"), ErrorsOnly: rq.FormValue("errors_only") != "", Types: syncLogTypes}
	errorsOnly := boolText(v.ErrorsOnly)
	query := queryOf("type", v.Type, "co_id", v.CoID, "errors_only", errorsOnly, "end_date", rq.FormValue("end_date"), "skip", rq.FormValue("skip"), "limit", "50")
	var got struct {
		Logs        []syncLogEntry `json:"logs"`
		NextEndDate string         `json:"nextEndDate"`
		NextSkip    int            `json:"nextSkip"`
	}
	if err := rq.apps.get(rq.Context(), a.Path("logs"), query, &got); err != nil {
		return err
	}
	v.Entries = got.Logs
	names := rq.userNames()
	for i := range v.Entries {
		_, below, found := strings.Cut(v.Entries[i].URL, a.Path())
		if v.Entries[i].Path = below; !found || below == "" {
			v.Entries[i].Path = v.Entries[i].URL
		}
		if id := v.Entries[i].UserID; id != "" {
			v.Entries[i].By = names.of(id)
		}
	}
	here := queryOf("type", v.Type, "co_id", v.CoID, "errors_only", errorsOnly)
	if rq.FormValue("end_date") != "" {
		v.Pager.First = a.URL("logs") + "?" + here.Encode()
	}
	if got.NextEndDate != "" {
		here.Set("end_date", got.NextEndDate)
		here.Set("skip", strconv.Itoa(got.NextSkip))
		v.Pager.Next = a.URL("logs") + "?" + here.Encode()
	}
	rq.live = []string{a.Topic()}
	return rq.render("synclog", "Sync log", v)
}
