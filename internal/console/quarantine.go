package console

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// quarantinePages are the edits that the server took and did not make current (device-sync.md §12.8).
func (c *Console) quarantinePages() page {
	const path, nav = "/groups/{g}/apps/{a}/sync/quarantine", "Device Sync"
	return page{
		routes: []route{
			{pattern: "GET /db/{db}/quarantine", handler: c.toApp("sync", "quarantine")},
			{pattern: "GET " + path, nav: nav, handler: withApp(c.showQuarantine)},
			{pattern: "GET " + path + "/{id}", nav: nav, handler: withApp(c.showQuarantined)},
			{pattern: "POST " + path + "/{id}/restore", nav: nav, handler: withApp(c.restoreQuarantined)},
			{pattern: "POST " + path + "/{id}/drop", nav: nav, handler: withApp(c.dropQuarantined)},
		},
	}
}

// quarantined is one of them.
type quarantined struct {
	ID          string          `json:"id"`
	Collection  string          `json:"collection_name"`
	DocID       string          `json:"doc_id"`
	Rev         string          `json:"rev"`
	Body        json.RawMessage `json:"body"`
	User        string          `json:"user"`
	FileIdent   int64           `json:"file_ident"`
	Epoch       uint64          `json:"epoch"`
	Cause       string          `json:"cause"`
	ReceivedAt  time.Time       `json:"received_at"`
	Deleted     bool            `json:"deleted"`
	Attachments []struct {
		Name        string `json:"name"`
		ContentType string `json:"content_type"`
		Length      int64  `json:"length"`
	} `json:"attachments"`
}

// CauseWords says why it is here.
func (q *quarantined) CauseWords() string {
	switch q.Cause {
	case "edit_of_deleted":
		return "Edit of a deleted document"
	case "closed_branch":
		return "Branch that lost a conflict"
	case "handed_in":
		return "Handed in by an app"
	}
	return q.Cause
}

type quarantineView struct {
	App    *app
	Rows   []quarantined
	Pager  pager
	NoData bool
}

// quarantinePerPage is how many a page lists.
const quarantinePerPage = 50

// showQuarantine answers the list.
func (c *Console) showQuarantine(rq *request, a *app) error {
	v := quarantineView{App: a, NoData: a.Database == ""}
	if !v.NoData {
		query := queryOf("after", rq.FormValue("after"), "limit", strconv.Itoa(quarantinePerPage+1))
		if err := rq.apps.get(rq.Context(), a.Path("sync", "quarantine"), query, &v.Rows); err != nil {
			return err
		}
	}
	if rq.FormValue("after") != "" {
		v.Pager.First = a.URL("sync", "quarantine")
	}
	if len(v.Rows) > quarantinePerPage {
		v.Rows = v.Rows[:quarantinePerPage]
		v.Pager.Next = a.URL("sync", "quarantine") + "?" + queryOf("after", v.Rows[quarantinePerPage-1].ID).Encode()
	}
	rq.live = []string{a.Topic()}
	return rq.render("quarantine", "Quarantine", v)
}

type quarantinedView struct {
	App        *app
	Row        *quarantined
	Keyspace   keyspace
	Current    string // revision of the document now; "" if there is none
	Now        string // "deleted", "missing", "unknown" or ""
	Diff       []diffFile
	Same, Gone bool
}

// showQuarantined answers one of them, beside the document as it is now.
func (c *Console) showQuarantined(rq *request, a *app) error {
	v := quarantinedView{App: a, Row: &quarantined{}}
	if err := rq.apps.get(rq.Context(), a.Path("sync", "quarantine", rq.PathValue("id")), nil, v.Row); err != nil {
		if statusOf(err) == http.StatusNotFound {
			return &pageError{http.StatusNotFound, "Not in quarantine", "It was restored or dropped, or its time was over."}
		}
		return err
	}
	v.Keyspace = keyspace{a.Database, v.Row.Collection}
	now, err := rq.currentBody(&v)
	if err != nil {
		return err
	}
	lines := diffTexts(pretty(sortMembers(now)), pretty(sortMembers(v.Row.Body)))
	v.Same = len(now) > 0
	for _, l := range lines {
		v.Same = v.Same && l.Kind == "same"
	}
	v.Diff = []diffFile{{Lines: lines}}
	rq.live = []string{a.Topic()}
	return rq.render("quarantined", "Quarantined edit", v)
}

// currentBody reads the document as it is now, without what begins with an underscore; nil if there is none.
func (rq *request) currentBody(v *quarantinedView) (json.RawMessage, error) {
	if v.Row.Collection == "" {
		v.Gone = true
		return nil, nil
	}
	var raw json.RawMessage
	err := rq.api.get(rq.Context(), pathOf(v.Keyspace.segment(), v.Row.DocID), nil, &raw)
	switch statusOf(err) {
	case http.StatusNotFound:
		v.Now = "missing"
		if reasonOf(err) == "deleted" {
			v.Now = "deleted"
		}
		return nil, nil
	case http.StatusServiceUnavailable, http.StatusForbidden:
		v.Now = "unknown"
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := membersOf(raw)
	if err != nil {
		return nil, err
	}
	var own []member
	for _, m := range all {
		if m.name == "_rev" {
			_ = json.Unmarshal(m.value, &v.Current) // a string, as the API says
		}
		if m.name[:min(1, len(m.name))] != "_" {
			own = append(own, m)
		}
	}
	return joinMembers(own), nil
}

// sortMembers puts the members of objects in order of their names, so that two texts can be compared. Numbers keep their digits.
func sortMembers(raw json.RawMessage) json.RawMessage {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return raw
	}
	return json.RawMessage(compact(v))
}

// restoreQuarantined answers POST …/restore.
func (c *Console) restoreQuarantined(rq *request, a *app) error {
	id := rq.PathValue("id")
	var made struct{ Rev string }
	if err := rq.apps.send(rq.Context(), http.MethodPost, a.Path("sync", "quarantine", id, "restore"), nil, nil, &made); err != nil {
		return rq.sayRefusal(err, a.Path("sync", "quarantine"))
	}
	return rq.redirect(a.Path("sync", "quarantine"), "The edit is restored: it is revision "+made.Rev+" of its document now.")
}

// dropQuarantined answers POST …/drop.
func (c *Console) dropQuarantined(rq *request, a *app) error {
	id := rq.PathValue("id")
	if err := rq.apps.send(rq.Context(), http.MethodDelete, a.Path("sync", "quarantine", id), nil, nil, nil); err != nil {
		return rq.sayRefusal(err, a.Path("sync", "quarantine"))
	}
	return rq.redirect(a.Path("sync", "quarantine"), "The edit is dropped.")
}
