package rest

import (
	"net/http"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/gateway"
)

// routesResync are the rows of resync (resync.md §3), and those of the seed's spelling of it, /{db}/resync, which is a
// document's URL too.
func (s *Server) routesResync() []route {
	const path, alias = "/{db}/_resync", "/{ks}/" + aliasDoc
	return []route{
		{"GET", path, admin, needDatabase, anyState, s.handleResyncStatus},
		{"POST", path, admin, needDatabase, anyState, s.handleResync},
		{"GET", alias, admin, needDatabase, anyState | hides | anyType, s.handleResyncAlias},
		{"POST", alias, admin, needDatabase, anyState, s.handleResyncAliasPost},
		{"HEAD", alias, admin, needDatabase, hides | anyType, s.handleGetDocument},
		{"PUT", alias, admin, needDatabase, hides | writes, s.handlePutDocument},
		{"DELETE", alias, admin, needDatabase, hides | writes, s.handleDeleteDocument},
	}
}

// aliasDoc is the ID of the document whose URL is also the seed's spelling of _resync.
const aliasDoc = "resync"

var errResyncAction = tidegate.Errorf(tidegate.Invalid, "Unknown parameter for 'action'. Must be start or stop")

// resyncBody is the body of POST _resync.
type resyncBody struct {
	Scopes       map[string][]string `json:"scopes"`
	Regenerate   bool                `json:"regenerate_sequences"`
	SyncFunction *string             `json:"sync_function"`
}

// handleResync answers POST /{db}/_resync (resync.md §3.2, §3.9).
func (s *Server) handleResync(w http.ResponseWriter, r *request) error {
	switch r.q.text("action") {
	case "", "start":
		return s.startResync(w, r)
	case "stop":
		info, err := s.gateway.StopResync(r.Context(), r.running.Name())
		return s.answerResync(w, r, info, err)
	case "dry_run":
		return s.handleDryRun(w, r)
	}
	return errResyncAction
}

func (s *Server) startResync(w http.ResponseWriter, r *request) error {
	var body resyncBody
	if err := s.readStrict(r, &body); err != nil {
		return err
	}
	info, err := s.gateway.StartResync(r.Context(), r.running.Name(), gateway.ResyncRequest{
		Scopes: body.Scopes, SyncFunction: body.SyncFunction,
		Regenerate: body.Regenerate || r.q.boolean("regenerate_sequences", false),
		Reset:      r.q.boolean("reset", false), Online: r.q.boolean("online", false),
	})
	return s.answerResync(w, r, info, err)
}

// answerResync answers with a status: with wait=true that of the end, as scripts for 2.8 expect, where resync was
// synchronous.
func (s *Server) answerResync(w http.ResponseWriter, r *request, info *gateway.ResyncInfo, err error) error {
	if err == nil && r.q.boolean("wait", false) {
		warnings := info.Warnings
		if err = r.running.AwaitResync(r.Context()); err == nil {
			info, err = r.running.ResyncStatus(r.Context())
		}
		if err == nil {
			info.Warnings = warnings
		}
	}
	if err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, resyncStatusOf(info))
}

// handleResyncStatus answers GET /{db}/_resync, in every state of the database.
func (s *Server) handleResyncStatus(w http.ResponseWriter, r *request) error {
	info, err := r.running.ResyncStatus(r.Context())
	if err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, resyncStatusOf(info))
}

// handleResyncAlias answers GET /{db}/resync: with the document of that ID if the database is online and has it, else as
// _resync (resync.md §3.1). Below another collection it is the document.
func (s *Server) handleResyncAlias(w http.ResponseWriter, r *request) error {
	aliased := r.keyspace.collection == ""
	if aliased && r.running.State() != gateway.Online {
		return s.handleResyncStatus(w, r)
	}
	if err := r.admit(); err != nil {
		return err
	}
	if err := s.makeHandle(r); err != nil {
		if aliased && tidegate.ErrorCode(err) == tidegate.NotFound {
			return s.handleResyncStatus(w, r) // there is no default collection
		}
		return err
	}
	if aliased {
		if _, err := r.handle.Get(r.Context(), aliasDoc, database.GetOptions{}); tidegate.ErrorCode(err) == tidegate.NotFound {
			return s.handleResyncStatus(w, r)
		}
	}
	return s.handleGetDocument(w, r)
}

// handleResyncAliasPost answers POST /{db}/resync: documents are never posted to.
func (s *Server) handleResyncAliasPost(w http.ResponseWriter, r *request) error {
	if r.keyspace.collection != "" {
		return tidegate.Errorf(tidegate.NotAllowed, "method %s is not allowed for this URL", r.Method)
	}
	return s.handleResync(w, r)
}

// resyncStatus is the answer of _resync (resync.md §3.3). What follows Scopes is our own, but for Changes, which is all
// that 2.8 answered.
type resyncStatus struct {
	Status    string              `json:"status"`
	Start     time.Time           `json:"start_time"`
	Error     string              `json:"last_error"`
	ID        string              `json:"resync_id"`
	Changed   int64               `json:"docs_changed"`
	Processed int64               `json:"docs_processed"`
	Scopes    map[string][]string `json:"collections_processing,omitempty"`
	Changes   *int64              `json:"changes,omitempty"`

	Mode       string   `json:"mode,omitempty"`
	Total      int64    `json:"docs_total,omitempty"`
	Errored    int64    `json:"docs_errored,omitempty"`
	Rejected   int64    `json:"docs_rejected,omitempty"`
	PerSecond  int64    `json:"docs_per_second,omitempty"`
	Left       *int64   `json:"seconds_left,omitempty"`
	Regenerate bool     `json:"regenerate_sequences,omitempty"`
	Warnings   []string `json:"warnings,omitempty"`
	Node       string   `json:"node,omitempty"`
}

func resyncStatusOf(i *gateway.ResyncInfo) resyncStatus {
	st := resyncStatus{
		Status: string(i.State), Start: i.StartTime.UTC().Truncate(time.Microsecond), Error: i.LastError, ID: i.ID,
		Changed: i.DocsChanged, Processed: i.DocsProcessed, Scopes: i.Scopes,
		Mode: string(i.Mode), Total: i.DocsTotal, Errored: i.DocsErrored, Rejected: i.DocsRejected,
		PerSecond: int64(i.DocsPerSecond + 0.5), Regenerate: i.Regenerate, Warnings: i.Warnings, Node: i.Node,
	}
	switch {
	case !i.Ended():
	case i.ID == "":
		st.Mode = "" // there never was one
	default:
		st.Changes = &st.Changed
	}
	if i.TimeLeft > 0 {
		left := int64((i.TimeLeft + time.Second - 1) / time.Second)
		st.Left = &left
	}
	return st
}
