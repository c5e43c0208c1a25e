package rest

import (
	"net/http"
	"strconv"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

var (
	errCompactType   = tidegate.Errorf(tidegate.Invalid, "Unknown parameter for 'type'. Must be 'tombstone' or 'attachment'")
	errCompactAction = tidegate.Errorf(tidegate.Invalid, "Unknown parameter for 'action'. Must be start or stop")
)

// handleCompact answers GET and POST /{db}/_compact (gateway-rest.md §10.4).
func (s *Server) handleCompact(w http.ResponseWriter, r *request) error {
	kind := database.CompactTombstones
	switch r.q.text("type") {
	case "", "tombstone":
	case "attachment":
		kind = database.CompactAttachments
	default:
		return errCompactType
	}
	if r.Method == http.MethodGet {
		return s.replyCompact(w, kind, r.db.CompactStatus(kind))
	}
	var status database.CompactStatus
	var err error
	switch r.q.text("action") {
	case "", "start":
		status, err = r.db.StartCompact(kind, database.CompactOptions{DryRun: r.q.boolean("dry_run", false)})
	case "stop":
		status, err = r.db.StopCompact(kind)
	default:
		return errCompactAction
	}
	if err != nil {
		return err
	}
	return s.replyCompact(w, kind, status)
}

func (s *Server) replyCompact(w http.ResponseWriter, kind database.CompactKind, st database.CompactStatus) error {
	if kind == database.CompactAttachments {
		return s.reply(w, http.StatusOK, struct {
			Status string    `json:"status"`
			Start  time.Time `json:"start_time"`
			Error  string    `json:"last_error"`
			Marked int64     `json:"marked_attachments"`
			Purged int64     `json:"purged_attachments"`
			ID     string    `json:"compact_id"`
			Phase  string    `json:"phase,omitempty"`
			DryRun bool      `json:"dry_run,omitempty"`
		}{st.Status, st.Start, st.LastError, st.Marked, st.Purged, st.ID, st.Phase, st.DryRun})
	}
	answer := struct {
		Status string    `json:"status"`
		Start  time.Time `json:"start_time"`
		Error  string    `json:"last_error"`
		Purged string    `json:"docs_purged"` // a string in the product
		Revs   *int64    `json:"revs,omitempty"`
	}{Status: st.Status, Start: st.Start, Error: st.LastError, Purged: strconv.FormatInt(st.Purged, 10)}
	if st.Status == "completed" {
		answer.Revs = &st.Purged
	}
	return s.reply(w, http.StatusOK, answer)
}

// compacting reports whether a compaction is running; db may be nil.
func compacting(db *database.Database) bool {
	if db == nil {
		return false
	}
	for _, kind := range []database.CompactKind{database.CompactTombstones, database.CompactAttachments} {
		if st := db.CompactStatus(kind).Status; st == "running" || st == "stopping" {
			return true
		}
	}
	return false
}
