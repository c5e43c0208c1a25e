package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// databasePages are the page of a database and what is done to the database as a whole.
func (c *Console) databasePages() page {
	return page{
		routes: []route{
			{pattern: "GET /db/{db}/{$}", nav: "Overview", handler: c.showDatabase},
			{pattern: "POST /db/{db}/online", nav: "Overview", handler: c.setOnline("_online", "is online")},
			{pattern: "POST /db/{db}/offline", nav: "Overview", handler: c.setOnline("_offline", "is offline")},
			{pattern: "POST /db/{db}/delete", nav: "Overview", handler: c.deleteDatabase},
		},
		nav:    []navEntry{{label: "Overview", icon: "database", href: "/db/{db}/", section: navDatabase, order: 10}},
		topics: []topic{{name: "database", open: c.openDatabaseTopic}},
	}
}

// databaseInfo is what /{db}/ answers.
type databaseInfo struct {
	State     string `json:"state"`
	UpdateSeq uint64 `json:"update_seq"`
	UUID      string `json:"server_uuid"`
}

type databaseView struct {
	Name        string
	State       string
	Started     time.Time // of the server
	UUID        string
	Collections []keyspace
	Figures     map[string]any // as the topic sends them
	NoFigures   bool           // the account may not read them
}

func (c *Console) showDatabase(rq *request) error {
	ctx := rq.Context()
	var info databaseInfo
	if err := rq.api.get(ctx, pathOf(rq.db)+"/", nil, &info); err != nil {
		return err
	}
	v := databaseView{Name: rq.db, State: info.State, UUID: info.UUID}
	figures, err := rq.expvar(ctx)
	v.NoFigures = err != nil
	v.Started = c.o.Now().Add(-time.Duration(figures.SyncGateway.Global["resource_utilization"]["uptime"]))
	v.Figures = databaseData(&info, figures, rq.db)
	names, err := collections(ctx, rq.api, rq.db)
	if err != nil {
		return err
	}
	for _, name := range names {
		v.Collections = append(v.Collections, keyspace{rq.db, name})
	}
	rq.live = []string{"database:" + rq.db}
	return rq.render("database", "Overview", v)
}

// databaseData are the figures of a database by the keys of its page.
func databaseData(info *databaseInfo, figures *expvar, db string) map[string]any {
	f := figures.SyncGateway.PerDB[db]
	whole := func(v float64) string { return count(int64(v)) }
	data := map[string]any{
		"state": info.State, "sequence": count(int64(info.UpdateSeq)), "writes": whole(f.database("num_doc_writes")), "reads": whole(f.reads()),
		"clients": whole(f.database("num_replications_active")), "continuous": whole(f.Pull["num_pull_repl_active_continuous"]),
		"sent": whole(f.Pull["rev_send_count"]), "received": whole(f.Push["doc_push_count"]),
		"conflicts": whole(f.database("conflict_write_count")), "rejected": whole(f.Security["num_docs_rejected"] + f.Security["num_access_errors"]),
		"failedLogins": whole(f.Security["auth_failed_count"]), "requests": whole(f.database("num_public_rest_requests")),
		"bytesWritten": byteSize(int64(f.database("doc_writes_bytes"))), "syncTime": average(f.database("sync_function_time"), f.database("sync_function_count")),
		"version": info.State,
	}
	for name, c := range f.Collection {
		data["writes:"+name], data["reads:"+name] = whole(c["num_doc_writes"]), whole(c["num_doc_reads"])
		data["refused:"+name] = whole(c["sync_function_reject_count"] + c["sync_function_reject_access_count"])
	}
	return data
}

// average writes a mean time; total is in nanoseconds.
func average(total, n float64) string {
	if n == 0 {
		return "–"
	}
	return duration(time.Duration(total / n))
}

// duration writes a short time with two or three digits.
func duration(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2g ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// openDatabaseTopic keeps the figures of a database up to date.
func (c *Console) openDatabaseTopic(rq *request, db string) (sampler, error) {
	return func(ctx context.Context) (any, error) {
		var info databaseInfo
		if err := rq.api.get(ctx, pathOf(db)+"/", nil, &info); err != nil {
			return nil, err
		}
		figures, _ := rq.expvar(ctx) // who may not read them sees the state
		return databaseData(&info, figures, db), nil
	}, nil
}

// setOnline makes the handler that posts to an action of the database.
func (c *Console) setOnline(action, done string) func(*request) error {
	return func(rq *request) error {
		query, body := queryOf(), map[string]any{}
		if action == "_online" {
			query = queryOf("wait", "true")
		}
		if err := rq.api.send(rq.Context(), http.MethodPost, pathOf(rq.db, action), query, body, nil); err != nil {
			return rq.refused(err)
		}
		return rq.redirect(pathOf("db", rq.db)+"/", "The database "+rq.db+" "+done+".")
	}
}

// refused goes back to the database's page with the reason of a refusal; what is no refusal stays an error.
func (rq *request) refused(err error) error {
	if s := statusOf(err); s == 0 || slices.Contains([]int{http.StatusUnauthorized, http.StatusNotFound}, s) {
		return err
	}
	rq.session.addFlash("error", reasonOf(err))
	return rq.redirect(pathOf("db", rq.db)+"/", "")
}

// deleteDatabase answers POST /db/{db}/delete: the name has to be typed.
func (c *Console) deleteDatabase(rq *request) error {
	if rq.PostFormValue("confirm") != rq.db {
		return &pageError{http.StatusBadRequest, "Not confirmed", "The name that was typed is not the database’s. Nothing was deleted."}
	}
	query := queryOf()
	done := "The database " + rq.db + " was removed. Its data are kept for a database of the same name."
	if rq.PostFormValue("purge") != "" {
		query, done = queryOf("purge", "true"), "The database "+rq.db+" was deleted with everything in it."
	}
	if err := rq.api.send(rq.Context(), http.MethodDelete, pathOf(rq.db)+"/", query, nil, nil); err != nil {
		return rq.refused(err)
	}
	return rq.redirect("/", done)
}
