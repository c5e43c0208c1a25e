package console

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// resyncPages are the resync of a database (docs/resync.md), what one would change, and taking the database offline for it.
func (c *Console) resyncPages() page {
	const path, nav = "/db/{db}/resync", "Resync"
	return page{
		routes: []route{
			{pattern: "GET " + path, nav: nav, handler: c.showResync},
			{pattern: "GET " + path + "/panel", nav: nav, handler: c.resyncPanel, quiet: true},
			{pattern: "POST " + path + "/start", nav: nav, handler: c.startResync},
			{pattern: "POST " + path + "/stop", nav: nav, handler: c.stopResync},
			{pattern: "POST " + path + "/state", nav: nav, handler: c.resyncState},
			{pattern: "POST " + path + "/dry-run", nav: nav, handler: c.dryRun},
		},
		nav:    []navEntry{{label: nav, icon: "resync", href: "/db/{db}/resync", section: navDatabase, order: 75}},
		topics: []topic{{name: "resync", open: c.openResyncTopic}},
	}
}

// resyncStatus is what _resync answers.
type resyncStatus struct {
	Status     string              `json:"status"`
	Start      time.Time           `json:"start_time"`
	Error      string              `json:"last_error"`
	ID         string              `json:"resync_id"`
	Changed    int64               `json:"docs_changed"`
	Processed  int64               `json:"docs_processed"`
	Scopes     map[string][]string `json:"collections_processing"`
	Mode       string              `json:"mode"`
	Total      int64               `json:"docs_total"`
	Errored    int64               `json:"docs_errored"`
	Rejected   int64               `json:"docs_rejected"`
	PerSecond  int64               `json:"docs_per_second"`
	Left       *int64              `json:"seconds_left"`
	Regenerate bool                `json:"regenerate_sequences"`
}

// Running reports whether it goes on.
func (s *resyncStatus) Running() bool { return s.Status == "running" || s.Status == "stopping" }

// Never reports whether there never was one.
func (s *resyncStatus) Never() bool { return s.ID == "" }

// Percent is how far it is.
func (s *resyncStatus) Percent() int {
	if s.Total <= 0 {
		if s.Status == "completed" {
			return 100
		}
		return 0
	}
	return int(100 * min(1, float64(s.Processed)/float64(s.Total)))
}

// LeftWords says how long it takes yet.
func (s *resyncStatus) LeftWords() string {
	if s.Left == nil || !s.Running() {
		return ""
	}
	return "about " + span(time.Duration(*s.Left)*time.Second) + " left"
}

type resyncView struct {
	Status    resyncStatus
	State     string // of the database
	Due       bool   // the sync function has changed since
	Required  []string
	Figures   map[string]any
	Problem   string
	Source    string // of the function to try
	Report    *planReport
	Took      string
	DryFailed string
	// Collections are the names of the database's collections; a function is tried for one of them.
	Collections []string
	Chosen      string
}

// readResync reads the state of a database and of its resync.
func (rq *request) readResync(ctx context.Context, db string) (*resyncView, error) {
	v := &resyncView{}
	if err := rq.api.get(ctx, pathOf(db, "_resync"), nil, &v.Status); err != nil {
		return nil, err
	}
	var info struct {
		State    string   `json:"state"`
		Due      bool     `json:"sync_function_changed_since_resync"`
		Required []string `json:"require_resync"`
	}
	if err := rq.api.get(ctx, pathOf(db)+"/", nil, &info); err != nil {
		return nil, err
	}
	v.State, v.Due, v.Required = info.State, info.Due, info.Required
	s := &v.Status
	v.Figures = map[string]any{
		"status": s.Status, "database": v.State, "processed": count(s.Processed), "total": count(s.Total), "changed": count(s.Changed), "percent": s.Percent(),
		"failed": count(s.Errored + s.Rejected), "rate": count(s.PerSecond), "left": s.LeftWords(), "version": strings.Join([]string{s.ID, s.Status, v.State, boolText(v.Due)}, "/"),
	}
	return v, nil
}

// Online reports whether a resync without downtime can begin.
func (v *resyncView) Online() bool { return v.State == "Online" }

// Offline reports whether one of the other kind can begin.
func (v *resyncView) Offline() bool { return v.State == "Offline" }

func (c *Console) showResync(rq *request) error {
	v, err := rq.readResync(rq.Context(), rq.db)
	if err != nil {
		return err
	}
	return rq.renderResync(http.StatusOK, v)
}

func (rq *request) renderResync(status int, v *resyncView) error {
	// The names are there in every state of the database; who may not read its configuration tries the default collection.
	v.Collections, _ = collections(rq.Context(), rq.api, rq.db)
	rq.live = []string{"resync:" + rq.db}
	return rq.renderStatus(status, "resync", "Resync", v)
}

// resyncPanel answers with the part of the page that depends on the state.
func (c *Console) resyncPanel(rq *request) error {
	v, err := rq.readResync(rq.Context(), rq.db)
	if err != nil {
		return err
	}
	return rq.part("resync", "panel", v)
}

// openResyncTopic keeps the progress of a resync up to date.
func (c *Console) openResyncTopic(rq *request, db string) (sampler, error) {
	return func(ctx context.Context) (any, error) {
		v, err := rq.readResync(ctx, db)
		if err != nil {
			return nil, err
		}
		return v.Figures, nil
	}, nil
}

// startResync answers POST …/resync/start.
func (c *Console) startResync(rq *request) error {
	back := pathOf("db", rq.db, "resync")
	query := queryOf("action", "start", "online", boolText(rq.PostFormValue("mode") == "online"),
		"regenerate_sequences", boolText(rq.PostFormValue("regenerate") != ""), "reset", boolText(rq.PostFormValue("reset") != ""))
	if err := rq.api.send(rq.Context(), http.MethodPost, pathOf(rq.db, "_resync"), query, nil, nil); err != nil {
		return rq.sayRefusal(err, back)
	}
	return rq.redirect(back, "The resync has begun.")
}

// stopResync answers POST …/resync/stop.
func (c *Console) stopResync(rq *request) error {
	back := pathOf("db", rq.db, "resync")
	if err := rq.api.send(rq.Context(), http.MethodPost, pathOf(rq.db, "_resync"), queryOf("action", "stop"), nil, nil); err != nil {
		return rq.sayRefusal(err, back)
	}
	return rq.redirect(back, "The resync is stopping.")
}

// resyncState answers POST …/resync/state: the database is taken offline or brought online.
func (c *Console) resyncState(rq *request) error {
	back := pathOf("db", rq.db, "resync")
	action, query, done := "_offline", queryOf(), "The database is offline."
	if rq.PostFormValue("to") == "online" {
		action, query, done = "_online", queryOf("wait", "true"), "The database is online."
	}
	if err := rq.api.send(rq.Context(), http.MethodPost, pathOf(rq.db, action), query, nil, nil); err != nil {
		return rq.sayRefusal(err, back)
	}
	return rq.redirect(back, done)
}

// dryRunTimeout is how long a dry run may take.
const dryRunTimeout = 5 * time.Minute

// dryRun answers POST …/resync/dry-run with the report in the page. It changes nothing.
func (c *Console) dryRun(rq *request) error {
	v, err := rq.readResync(rq.Context(), rq.db)
	if err != nil {
		return err
	}
	v.Source, v.Chosen = rq.PostFormValue("source"), rq.PostFormValue("ks")
	body := map[string]any{}
	if strings.TrimSpace(v.Source) != "" {
		body["sync_function"] = v.Source
	}
	if scope, name, ok := strings.Cut(v.Chosen, "."); ok {
		body["scopes"] = map[string][]string{scope: {name}}
	}
	ctx, cancel := context.WithTimeout(rq.Context(), dryRunTimeout)
	defer cancel()
	began := time.Now()
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	got, err := rq.api.longCall(ctx, http.MethodPost, pathOf(rq.db, "_resync"), queryOf("action", "dry_run"), raw, nil)
	if err == nil {
		v.Report = &planReport{}
		err = json.Unmarshal(got.Body, v.Report)
	}
	if err != nil {
		v.Report = nil
		words, refused := refusal(err)
		if !refused {
			return err
		}
		v.DryFailed = words
		return rq.renderResync(http.StatusUnprocessableEntity, v)
	}
	v.Took = duration(time.Since(began))
	return rq.renderResync(http.StatusOK, v)
}

// planReport is what a resync would change.
type planReport struct {
	Collections []string `json:"collections"`
	Total       int64    `json:"docs_total"`
	Processed   int64    `json:"docs_processed"`
	WouldChange int64    `json:"docs_would_change"`
	Rejected    int64    `json:"docs_rejected"`
	Failed      int64    `json:"docs_failed"`
	Errored     int64    `json:"docs_errored"`
	Users       int64    `json:"users_changed"`
	Roles       int64    `json:"roles_changed"`
	Losing      int64    `json:"principals_losing"`
	Documents   []struct {
		Collection string   `json:"collection"`
		Doc        string   `json:"doc"`
		Gained     []string `json:"channels_gained"`
		Lost       []string `json:"channels_lost"`
		Branches   bool     `json:"branches"`
		Grants     bool     `json:"grants"`
	} `json:"documents"`
	Channels []struct {
		Collection string `json:"collection"`
		Channel    string `json:"channel"`
		Gained     int64  `json:"docs_gained"`
		Lost       int64  `json:"docs_lost"`
	} `json:"channels"`
	Others struct {
		Channels int   `json:"channels"`
		Gained   int64 `json:"docs_gained"`
		Lost     int64 `json:"docs_lost"`
	} `json:"other_channels"`
	Principals []struct {
		Kind           string   `json:"kind"`
		Name           string   `json:"name"`
		ChannelsGained []string `json:"channels_gained"`
		ChannelsLost   []string `json:"channels_lost"`
		RolesGained    []string `json:"roles_gained"`
		RolesLost      []string `json:"roles_lost"`
		DocsGained     int64    `json:"docs_gained"`
		DocsLost       int64    `json:"docs_lost"`
	} `json:"principals"`
	Failures []struct {
		Collection string `json:"collection"`
		Doc        string `json:"doc"`
		Kind       string `json:"kind"`
		Error      string `json:"error"`
		Line       int    `json:"line"`
	} `json:"failures"`
	Exact struct {
		Channels   bool `json:"channels"`
		Principals bool `json:"principals"`
		Documents  bool `json:"documents"`
	} `json:"exact"`
}
