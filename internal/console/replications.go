package console

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// replicationPages are replications with other gateways.
func (c *Console) replicationPages() page {
	const nav = "Replications"
	return page{
		routes: []route{
			{pattern: "GET /db/{db}/replications", nav: nav, handler: c.showReplications},
			{pattern: "GET /db/{db}/replications/rows", nav: nav, handler: c.replicationRows, quiet: true},
			{pattern: "GET /db/{db}/replication", nav: nav, handler: c.showReplication},
			{pattern: "GET /db/{db}/replication/new", nav: nav, handler: c.newReplication},
			{pattern: "GET /db/{db}/replication/edit", nav: nav, handler: c.editReplication},
			{pattern: "POST /db/{db}/replication/new", nav: nav, handler: c.createReplication},
			{pattern: "POST /db/{db}/replication/edit", nav: nav, handler: c.saveReplication},
			{pattern: "POST /db/{db}/replication/delete", nav: nav, handler: c.deleteReplication},
			{pattern: "POST /db/{db}/replication/act", nav: nav, handler: c.actOnReplication},
		},
		nav:    []navEntry{{label: nav, icon: "replication", href: "/db/{db}/replications", section: navDatabase, order: 70}},
		topics: []topic{{name: "replications", open: c.openReplicationsTopic}},
	}
}

// replicationStatus is what a replication is doing.
type replicationStatus struct {
	ID               string          `json:"replication_id"`
	Status           string          `json:"status"`
	Error            string          `json:"error_message"`
	ErrorTime        time.Time       `json:"error_time"`
	DocsRead         int64           `json:"docs_read"`
	DocsWritten      int64           `json:"docs_written"`
	WriteFailures    int64           `json:"doc_write_failures"`
	WriteConflicts   int64           `json:"doc_write_conflict"`
	RejectedByRemote int64           `json:"rejected_by_remote"`
	RejectedByLocal  int64           `json:"rejected_by_local"`
	CheckedPull      int64           `json:"docs_checked_pull"`
	CheckedPush      int64           `json:"docs_checked_push"`
	Purged           int64           `json:"docs_purged"`
	DeltasReceived   int64           `json:"deltas_recv"`
	DeltasSent       int64           `json:"deltas_sent"`
	LastSeqPull      string          `json:"last_seq_pull"`
	LastSeqPush      string          `json:"last_seq_push"`
	Config           replicationConf `json:"config"`

	DB  string `json:"-"`
	Seq uint64 `json:"-"` // the last sequence of the database
}

// replicationConf is the definition of a replication, passwords masked.
type replicationConf struct {
	Remote             string          `json:"remote"`
	RemoteUsername     string          `json:"remote_username"`
	Username           string          `json:"username"`
	Direction          string          `json:"direction"`
	Continuous         bool            `json:"continuous"`
	Adhoc              bool            `json:"adhoc"`
	InitialState       string          `json:"initial_state"`
	ConflictResolution string          `json:"conflict_resolution_type"`
	Resolver           string          `json:"custom_conflict_resolver"`
	PurgeOnRemoval     bool            `json:"purge_on_removal"`
	Delta              bool            `json:"enable_delta_sync"`
	MaxBackoff         *int            `json:"max_backoff_time"`
	Filter             string          `json:"filter"`
	QueryParams        json.RawMessage `json:"query_params"`
	BatchSize          *int            `json:"batch_size"`
	RunAs              string          `json:"run_as"`
	Collections        bool            `json:"collections_enabled"`
	Local              []string        `json:"collections_local"`
	RemoteCollections  []string        `json:"collections_remote"`
	AssignedNode       string          `json:"assigned_node"`
	TargetState        string          `json:"target_state"`
	CreatedAt          time.Time       `json:"created_at"`
	UpdatedAt          time.Time       `json:"updated_at"`
}

// Channels are those that the replication is limited to.
func (c *replicationConf) Channels() []string {
	var list []string
	if json.Unmarshal(c.QueryParams, &list) == nil {
		return list
	}
	var named struct {
		Channels []string `json:"channels"`
	}
	_ = json.Unmarshal(c.QueryParams, &named) // channels by collection are shown as they are
	return named.Channels
}

// DirectionWords says which way it copies.
func (c *replicationConf) DirectionWords() string {
	switch c.Direction {
	case "push":
		return "Push"
	case "pull":
		return "Pull"
	case "pushAndPull":
		return "Push and pull"
	}
	return c.Direction
}

// Stopped reports whether it can be started.
func (r *replicationStatus) Stopped() bool {
	return slices.Contains([]string{"stopped", "error", "unassigned", ""}, r.Status)
}

// URL is the address of its page.
func (r *replicationStatus) URL() string {
	return address(queryOf("id", r.ID), "db", r.DB, "replication")
}

// Fill is what a dialog for one row of the list is filled with.
func (r *replicationStatus) Fill() string { return queryOf("id", r.ID).Encode() }

// EditURL is the address of its form.
func (r *replicationStatus) EditURL() string {
	return address(queryOf("id", r.ID), "db", r.DB, "replication", "edit")
}

// Lag says how far what was pushed is behind: the sequences of the database after the last one that is known to have arrived.
func (r *replicationStatus) Lag() string {
	if r.Config.Direction == "pull" {
		return "–"
	}
	first, _, _ := strings.Cut(r.LastSeqPush, ":")
	pushed, err := strconv.ParseUint(first, 10, 64)
	switch {
	case r.Seq == 0:
		return "–"
	case err != nil:
		pushed = 0
	case pushed >= r.Seq:
		return "caught up"
	}
	return plural(int64(r.Seq-pushed), "sequence", "sequences")
}

// Failed is how many documents could not be copied.
func (r *replicationStatus) Failed() int64 {
	return r.WriteFailures + r.RejectedByRemote + r.RejectedByLocal
}

// figures are its numbers by their keys.
func (r *replicationStatus) figures(into map[string]any) {
	for key, value := range map[string]string{
		"status": r.Status, "read": count(r.DocsRead), "written": count(r.DocsWritten), "lag": r.Lag(), "failed": count(r.Failed()),
		"conflicts": count(r.WriteConflicts), "checkedPull": count(r.CheckedPull), "checkedPush": count(r.CheckedPush), "purged": count(r.Purged),
		"deltas": count(r.DeltasReceived + r.DeltasSent), "pullSeq": orDash(r.LastSeqPull), "pushSeq": orDash(r.LastSeqPush),
	} {
		into[key+":"+r.ID] = value
	}
}

// orDash shows that there is nothing.
func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

// ConflictWords says what becomes of conflicts.
func (c *replicationConf) ConflictWords() string {
	switch c.ConflictResolution {
	case "localWins":
		return "this side wins"
	case "remoteWins":
		return "the other side wins"
	case "custom":
		return "a function decides"
	}
	return "deletions win, then the newer"
}

type replicationsView struct {
	Rows    []replicationStatus
	Version string
	Figures map[string]any
}

// readReplications reads the states of a database's replications.
func (rq *request) readReplications(ctx context.Context, db string) (*replicationsView, error) {
	v := &replicationsView{Figures: map[string]any{}}
	if err := rq.api.get(ctx, pathOf(db, "_replicationStatus")+"/", queryOf("includeConfig", "true"), &v.Rows); err != nil {
		return nil, err
	}
	var info databaseInfo
	if err := rq.api.get(ctx, pathOf(db)+"/", nil, &info); err != nil {
		return nil, err
	}
	var version []string
	for i := range v.Rows {
		r := &v.Rows[i]
		r.DB, r.Seq = db, info.UpdateSeq
		r.figures(v.Figures)
		version = append(version, r.ID, r.Status, r.Error)
	}
	v.Version = compact(version)
	v.Figures["version"] = v.Version
	return v, nil
}

// showReplications answers the list.
func (c *Console) showReplications(rq *request) error {
	v, err := rq.readReplications(rq.Context(), rq.db)
	if err != nil {
		return err
	}
	rq.live = []string{"replications:" + rq.db}
	return rq.render("replications", "Replications", v)
}

// replicationRows answers with the rows alone, when a state changed.
func (c *Console) replicationRows(rq *request) error {
	v, err := rq.readReplications(rq.Context(), rq.db)
	if err != nil {
		return err
	}
	return rq.part("replications", "rows", v)
}

// openReplicationsTopic keeps the figures of a database's replications up to date.
func (c *Console) openReplicationsTopic(rq *request, db string) (sampler, error) {
	return func(ctx context.Context) (any, error) {
		v, err := rq.readReplications(ctx, db)
		if err != nil {
			return nil, err
		}
		return v.Figures, nil
	}, nil
}

// replication finds the replication that the parameter id names.
func (rq *request) replication() (*replicationStatus, *replicationsView, error) {
	v, err := rq.readReplications(rq.Context(), rq.db)
	if err != nil {
		return nil, nil, err
	}
	id := rq.FormValue("id")
	for i := range v.Rows {
		if v.Rows[i].ID == id {
			return &v.Rows[i], v, nil
		}
	}
	return nil, nil, &pageError{http.StatusNotFound, "No such replication", "There is no replication “" + id + "” any more. One that was ad hoc is gone once it has ended."}
}

// showReplication answers the page of one.
func (c *Console) showReplication(rq *request) error {
	one, v, err := rq.replication()
	if err != nil {
		return err
	}
	rq.live = []string{"replications:" + rq.db}
	return rq.render("replication", one.ID, map[string]any{"R": one, "Figures": v.Figures, "Version": v.Version})
}

// actOnReplication answers POST: start, stop or reset.
func (c *Console) actOnReplication(rq *request) error {
	id, action := rq.PostFormValue("id"), rq.PostFormValue("action")
	done, ok := map[string]string{"start": "is starting", "stop": "is stopping", "reset": "starts again from the beginning when it runs next"}[action]
	if !ok {
		return &pageError{http.StatusBadRequest, "No such action", "A replication can be started, stopped and reset."}
	}
	back := pathOf("db", rq.db, "replications")
	if rq.PostFormValue("back") == "one" {
		back = pathOf("db", rq.db, "replication") + "?" + queryOf("id", id).Encode()
	}
	err := rq.api.send(rq.Context(), http.MethodPost, pathOf(rq.db, "_replicationStatus", id), queryOf("action", action), nil, nil)
	if err != nil {
		return rq.sayRefusal(err, back)
	}
	return rq.redirect(back, "The replication "+id+" "+done+".")
}

// deleteReplication answers POST: its checkpoints go with it, documents stay.
func (c *Console) deleteReplication(rq *request) error {
	id := rq.PostFormValue("id")
	back := pathOf("db", rq.db, "replications")
	if err := rq.api.send(rq.Context(), http.MethodDelete, pathOf(rq.db, "_replication", id), nil, nil, nil); err != nil {
		return rq.sayRefusal(err, back)
	}
	return rq.redirect(back, "The replication "+id+" was deleted.")
}
