package rest

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// This file is what apps may ask of device sync themselves (device-sync.md §12.5, §12.8). Both calls work while it is paused.

// syncVerdict is what GET {ks}/_sync answers.
type syncVerdict struct {
	State     devicesync.State `json:"state"`
	SyncState string           `json:"sync_state"`
	Epoch     struct {
		No        uint64       `json:"no"`
		ID        string       `json:"id"`
		Base      tidegate.Seq `json:"base"`
		StartedAt string       `json:"started_at"`
	} `json:"epoch"`
	HistoryFloor    tidegate.Seq           `json:"history_floor"`
	Verdict         devicesync.VerdictKind `json:"verdict"`
	Reason          devicesync.Reason      `json:"reason,omitempty"`
	RecoveryAllowed bool                   `json:"recovery_allowed"`
}

// handleSyncVerdict answers GET {ks}/_sync: what would become of a client that comes with this checkpoint id and this position. Nothing
// is noted of it.
func (s *Server) handleSyncVerdict(w http.ResponseWriter, r *request) error {
	since, err := tidegate.ParseSince(r.q.text("since"))
	if err != nil {
		return err
	}
	verdict, err := r.handle.JudgeClient(r.Context(), r.q.text("client"), since)
	if err != nil {
		return err
	}
	row := r.running.DeviceSync().Live().Row()
	v := syncVerdict{
		State: row.Record.State, SyncState: row.Record.Word(), HistoryFloor: row.Record.HistoryFloor,
		Verdict: verdict.Kind, Reason: verdict.Reason, RecoveryAllowed: !row.Config.IsRecoveryModeDisabled,
	}
	e := row.Record.Epoch
	v.Epoch.No, v.Epoch.ID, v.Epoch.Base, v.Epoch.StartedAt = e.No, e.ID, e.Base, e.StartedAt.UTC().Format(time.RFC3339Nano)
	r.answer.Header().Set(headerSyncEpoch, e.ID)
	return s.reply(w, http.StatusOK, v)
}

// handleUnsynced answers POST {ks}/_sync/unsynced: an app hands in documents that it could not push before it discards its database. They
// go into quarantine for an operator to look at; nothing is written to documents.
func (s *Server) handleUnsynced(w http.ResponseWriter, r *request) error {
	if gate := r.running.DeviceSync().Live().Row().Gate(devicesync.Access{}); gate != nil && gate.Stop {
		return gate
	}
	if err := checkJSONType(r.Header); err != nil {
		return err
	}
	body, err := s.readBody(r, s.limits.RequestBytes)
	if err != nil {
		return err
	}
	defer body.Free()
	client, docs, err := s.parseUnsynced(body.bytes)
	if err != nil {
		return err
	}
	if err := r.handle.HandIn(r.Context(), client, docs); err != nil {
		return err
	}
	return s.reply(w, http.StatusAccepted, struct {
		Accepted int `json:"accepted"`
	}{len(docs)})
}

// parseUnsynced reads {"client":…,"docs":[…]}: all of it makes sense, or nothing is taken.
func (s *Server) parseUnsynced(raw []byte) (client string, docs []database.HandIn, err error) {
	if len(raw) == 0 {
		return "", nil, errEmptyDocument
	}
	head, list, err := cutArray(raw, "docs", s.jsonLimits())
	if err != nil {
		return "", nil, err
	}
	if v, ok := jsondoc.Get(head, "client"); ok {
		if err := json.Unmarshal(v, &client); err != nil {
			return "", nil, tidegate.Errorf(tidegate.Invalid, `"client" must be a checkpoint id`)
		}
	}
	if list == nil {
		return "", nil, errMissingDocs
	}
	for elem, err := range elements(list) {
		if err != nil {
			return "", nil, err
		}
		if len(docs) >= s.limits.BulkDocs {
			return "", nil, tidegate.Errorf(tidegate.TooLarge, "Too many documents (at most %d)", s.limits.BulkDocs)
		}
		one, err := s.handIn(elem)
		if err != nil {
			return "", nil, err
		}
		docs = append(docs, one)
	}
	return client, docs, nil
}

// handIn reads one document.
func (s *Server) handIn(raw []byte) (database.HandIn, error) {
	doc, err := s.splitDocument(raw)
	if err != nil {
		return database.HandIn{}, err
	}
	if !doc.HasID {
		return database.HandIn{}, tidegate.ErrInvalidDocID
	}
	write, err := database.WriteFromDoc(doc, false)
	if err != nil {
		return database.HandIn{}, err
	}
	one := database.HandIn{ID: doc.ID, Rev: doc.Rev, History: write.History, Body: write.Body, Deleted: write.Deleted}
	for name, a := range write.Attachments {
		kept := database.QuarantinedAttachment{Name: name, ContentType: a.ContentType, Digest: a.Digest, Length: max(a.Length, 0), Data: a.Data}
		if a.Data != nil {
			kept.Length = int64(len(a.Data))
		}
		one.Attachments = append(one.Attachments, kept)
	}
	return one, nil
}
