package rest

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/job"
)

// replicationCounts are the counters of a status that are shown even if they are 0.
type replicationCounts struct {
	DocsRead         int64 `json:"docs_read"`
	DocsWritten      int64 `json:"docs_written"`
	DocWriteFailures int64 `json:"doc_write_failures"`
	DocWriteConflict int64 `json:"doc_write_conflict"`
	RejectedByRemote int64 `json:"rejected_by_remote"`
	RejectedByLocal  int64 `json:"rejected_by_local"`
}

// replicationStatusJSON is a status object (inter-gateway.md §5).
type replicationStatusJSON struct {
	ID        string    `json:"replication_id"`
	Status    string    `json:"status"`
	Error     string    `json:"error_message,omitempty"`
	ErrorTime time.Time `json:"error_time,omitzero"`
	Ended     bool      `json:"ended,omitempty"` // it was ad hoc and is gone

	*replicationCounts // nil once it is removed

	DocsCheckedPull int64 `json:"docs_checked_pull,omitempty"`
	DocsPurged      int64 `json:"docs_purged,omitempty"`
	DeltasReceived  int64 `json:"deltas_recv,omitempty"`
	DeltasRequested int64 `json:"deltas_requested,omitempty"`
	DocsCheckedPush int64 `json:"docs_checked_push,omitempty"`
	DeltasSent      int64 `json:"deltas_sent,omitempty"`

	LastSeqPull string          `json:"last_seq_pull,omitempty"`
	LastSeqPush string          `json:"last_seq_push,omitempty"`
	Config      json.RawMessage `json:"config,omitempty"`

	Runs []gateway.ReplicationRun `json:"runs,omitempty"`
}

// replicationStatusOf makes the status object. withConfig adds the definition, without what it says of nodes.
func replicationStatusOf(st gateway.ReplicationStatus, withConfig bool) replicationStatusJSON {
	out := replicationStatusJSON{ID: st.ID, Status: st.State.String()}
	if st.State == job.Removed {
		return out
	}
	n := st.Counters
	out.replicationCounts = &replicationCounts{
		n["docs_read"], n["docs_written"], n["doc_write_failures"], n["doc_write_conflict"], n["rejected_by_remote"], n["rejected_by_local"],
	}
	out.DocsCheckedPull, out.DocsPurged = n["docs_checked_pull"], n["docs_purged"]
	out.DeltasReceived, out.DeltasRequested = n["deltas_recv"], n["deltas_requested"]
	out.DocsCheckedPush, out.DeltasSent = n["docs_checked_push"], n["deltas_sent"]
	out.Error, out.ErrorTime = st.Error, st.ErrorAt
	out.LastSeqPull, out.LastSeqPush = st.LastSeqPull, st.LastSeqPush
	if withConfig {
		out.Config = st.Config.Masked()
	}
	return out
}

// endedStatusOf makes the status object of an ad hoc replication that is gone, with the counters as they were at its end.
func endedStatusOf(st gateway.ReplicationStatus) replicationStatusJSON {
	state := st.State
	st.State = job.Stopped
	out := replicationStatusOf(st, false)
	out.Status, out.Ended = state.String(), true
	return out
}

// wants applies the filters of a query to a status.
func (r *request) wants(st gateway.ReplicationStatus) bool {
	switch {
	case r.q.boolean("activeOnly", false) && st.State != job.Running,
		r.q.boolean("localOnly", false) && !st.Local,
		!r.q.boolean("includeError", true) && st.State == job.Error:
		return false
	}
	return true
}

// handleReplicationStatuses answers GET and HEAD /{db}/_replicationStatus/.
func (s *Server) handleReplicationStatuses(w http.ResponseWriter, r *request) error {
	list := []replicationStatusJSON{}
	for _, st := range r.running.Replications().Statuses() {
		if r.wants(st) {
			list = append(list, replicationStatusOf(st, r.q.boolean("includeConfig", false)))
		}
	}
	return s.reply(w, http.StatusOK, list)
}

// handleReplicationStatus answers GET and HEAD /{db}/_replicationStatus/{id}: an object, null if the filters leave it out;
// in the form of 2.8 a list of it. With includeEnded one that was ad hoc and has just ended is found too; with
// includeRuns it says which nodes ran it.
func (s *Server) handleReplicationStatus(w http.ResponseWriter, r *request) error {
	id, err := r.pathVar("id")
	if err != nil {
		return err
	}
	st, err := r.running.Replications().Status(id)
	if err != nil {
		if r.q.boolean("includeEnded", false) {
			if ended, ok := r.running.Replications().Ended(id); ok {
				return s.reply(w, http.StatusOK, endedStatusOf(ended))
			}
		}
		return err
	}
	list := []replicationStatusJSON{}
	if r.wants(st) {
		list = append(list, replicationStatusOf(st, r.q.boolean("includeConfig", false)))
		if r.q.boolean("includeRuns", false) {
			if list[0].Runs, err = r.running.Replications().Runs(r.Context(), id); err != nil {
				return err
			}
		}
	}
	switch {
	case r.seedShapes():
		return s.reply(w, http.StatusOK, list)
	case len(list) == 0:
		return s.writeJSON(w, http.StatusOK, []byte("null"))
	default:
		return s.reply(w, http.StatusOK, list[0])
	}
}

var errNoAction = tidegate.Errorf(tidegate.Invalid, "Query parameter 'action' must be specified")

// handleReplicationAction answers PUT and POST of /{db}/_replicationStatus/{id}?action=… and …/{id}/{action}.
func (s *Server) handleReplicationAction(w http.ResponseWriter, r *request) error {
	id, err := r.pathVar("id")
	if err != nil {
		return err
	}
	action, err := r.pathVar("action")
	if err != nil {
		return err
	}
	if action == "" {
		action = r.q.text("action")
	}
	event := map[string]job.Event{"start": job.Start, "stop": job.Stop, "reset": job.Reset}[action]
	switch {
	case action == "":
		return errNoAction
	case event == 0:
		return tidegate.Errorf(tidegate.Invalid, "Unrecognized action %q.  Valid values are start/stop/reset.", action)
	}
	st, err := r.running.Replications().Act(r.Context(), id, event)
	if err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, replicationStatusOf(st, false))
}
