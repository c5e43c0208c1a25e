package rest

import (
	"encoding/json"
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// This file is /{db}/_device_sync, the lifecycle of device sync for operators who know the gateway's API only (device-sync.md §5.1):
// the same rules and errors as the App Services Admin API has, in the gateway's shapes.

// routesDeviceSync are the rows of device sync.
func (s *Server) routesDeviceSync() []route {
	const path = "/{db}/_device_sync"
	return []route{
		{"GET", path, admin, needDatabase, anyState, s.handleDeviceSync},
		{"POST", path, admin, needDatabase, anyState, s.handleChangeDeviceSync},
		{"GET", path + "/sessions", admin, needDatabase, anyState, s.handleSyncSessions},
		{"GET", path + "/clients", admin, needDatabase, anyState, s.handleSyncClients},
		{"POST", path + "/reset_client", admin, needDatabase, anyState, s.handleResetClient},
		{"POST", path + "/reset_all", admin, needDatabase, anyState, s.handleResetAll},
		{"POST", path + "/trim", admin, needDatabase, anyState, s.handleTrim},
		{"GET", path + "/quarantine", admin, needDatabase, anyState, s.handleQuarantine},
		{"GET", path + "/quarantine/{id}", admin, needDatabase, anyState, s.handleQuarantined},
		{"DELETE", path + "/quarantine/{id}", admin, needDatabase, anyState, s.handleDropQuarantined},
		{"POST", path + "/quarantine/{id}/restore", admin, needDatabase, anyState, s.handleRestoreQuarantined},

		{"GET", "/{ks}/_sync", client, needLogin, 0, s.handleSyncVerdict},
		{"POST", "/{ks}/_sync/unsynced", client, needLogin, writes, s.handleUnsynced},
	}
}

// ConfirmTermination is what has to be typed, and sent, to terminate device sync.
const ConfirmTermination = "Terminate Sync"

var (
	errSyncAction  = tidegate.Errorf(tidegate.Invalid, `"action" must be pause, resume, enable, terminate or configure`)
	errSyncConfirm = tidegate.Errorf(tidegate.Invalid, `a termination destroys the sync history, and every client must reset: "confirm" must be %q`, ConfirmTermination)
	errSyncConfig  = tidegate.Errorf(tidegate.Invalid, `"config" must be given to configure device sync`)
)

// deviceSyncView is what GET and POST /{db}/_device_sync answer.
type deviceSyncView struct {
	SyncState string `json:"sync_state"`
	devicesync.Status
	Config json.RawMessage `json:"config"` // flexible_sync
	Sync   json.RawMessage `json:"sync,omitempty"`
}

// handleDeviceSync answers GET /{db}/_device_sync.
func (s *Server) handleDeviceSync(w http.ResponseWriter, r *request) error {
	return s.replyDeviceSync(w, r, http.StatusOK)
}

func (s *Server) replyDeviceSync(w http.ResponseWriter, r *request, status int) error {
	st, err := r.running.DeviceSync().Status(r.Context())
	if err != nil {
		return err
	}
	row := r.running.DeviceSync().Live().Row()
	return s.reply(w, status, deviceSyncView{row.Record.Word(), st, row.FlexibleSync(), row.PartitionSync()})
}

// handleChangeDeviceSync answers POST /{db}/_device_sync. What was asked for is durable when it answers, and goes on after that.
func (s *Server) handleChangeDeviceSync(w http.ResponseWriter, r *request) error {
	var body struct {
		Action  string          `json:"action"`
		Config  json.RawMessage `json:"config"`
		Confirm string          `json:"confirm"`
	}
	if err := s.readStrict(r, &body); err != nil {
		return err
	}
	change := devicesync.Change{
		By: r.adminBy(), Origin: "gateway", AllowDestructive: r.q.boolean("allow_destructive_changes", false),
	}
	if len(body.Config) > 0 && string(body.Config) != "null" {
		var err error
		if change.Patch, err = devicesync.ParseConfig(body.Config); err != nil {
			return err
		}
	}
	state, err := stateOfAction(body.Action, body.Confirm)
	if err != nil {
		return err
	}
	switch {
	case state == nil && terminates(change.Patch) && body.Confirm != ConfirmTermination:
		return errSyncConfirm
	case state != nil:
		change.Patch.State = state
	case change.Patch.Flexible == nil && change.Patch.Partition == nil:
		return errSyncConfig
	}
	if _, err := r.running.DeviceSync().Apply(r.Context(), change); err != nil {
		return err
	}
	return s.replyDeviceSync(w, r, http.StatusAccepted)
}

// terminates reports whether a patch asks for a termination.
func terminates(p devicesync.Patch) bool {
	for _, part := range []*devicesync.Part{p.Flexible, p.Partition} {
		if part != nil && part.State != nil && *part.State == devicesync.Terminated {
			return true
		}
	}
	return false
}

// stateOfAction is the state that an action asks for; nil: the present one.
func stateOfAction(action, confirm string) (*devicesync.State, error) {
	switch action {
	case "pause":
		return new(devicesync.Disabled), nil
	case "resume", "enable":
		return new(devicesync.Enabled), nil
	case "terminate":
		if confirm != ConfirmTermination {
			return nil, errSyncConfirm
		}
		return new(devicesync.Terminated), nil
	case "configure":
		return nil, nil
	default:
		return nil, errSyncAction
	}
}

// adminBy names the administrator who asks, as the record does.
func (r *request) adminBy() string {
	if who := r.insider(); who != nil && who.Name != "" {
		return "user:" + who.Name
	}
	if name, _, ok := r.BasicAuth(); ok && name != "" {
		return "user:" + name
	}
	return "user:admin"
}

// handleSyncSessions answers GET /{db}/_device_sync/sessions.
func (s *Server) handleSyncSessions(w http.ResponseWriter, r *request) error {
	return s.reply(w, http.StatusOK, struct {
		Sessions []devicesync.Session `json:"sessions"`
	}{r.running.DeviceSync().Sessions()})
}

// Bounds of lists of clients and of bodies in quarantine.
const (
	defaultSyncPage = 100
	maxSyncPage     = 1000
)

func (r *request) pageSize() int {
	return int(min(max(r.q.integer("limit", defaultSyncPage), 1), maxSyncPage))
}

// handleSyncClients answers GET /{db}/_device_sync/clients.
func (s *Server) handleSyncClients(w http.ResponseWriter, r *request) error {
	f := database.ClientFilter{After: int64(r.q.integer("after", 0)), Limit: r.pageSize()}
	if r.q.has("state") {
		f.Reset = new(database.ResetState(r.q.text("state")))
	}
	clients, err := r.running.DeviceSync().Clients(r.Context(), f)
	if err != nil {
		return err
	}
	if clients == nil {
		clients = []database.ClientRecord{}
	}
	return s.reply(w, http.StatusOK, struct {
		Clients []database.ClientRecord `json:"clients"`
	}{clients})
}

// handleResetClient answers POST /{db}/_device_sync/reset_client.
func (s *Server) handleResetClient(w http.ResponseWriter, r *request) error {
	var body struct {
		FileIdent int64 `json:"file_ident"`
	}
	if err := s.readStrict(r, &body); err != nil {
		return err
	}
	if err := r.running.DeviceSync().ForceReset(r.Context(), body.FileIdent); err != nil {
		return err
	}
	return s.reply(w, http.StatusAccepted, struct {
		FileIdent int64 `json:"file_ident"`
	}{body.FileIdent})
}

// handleResetAll answers POST /{db}/_device_sync/reset_all: a new epoch, in which every client resets.
func (s *Server) handleResetAll(w http.ResponseWriter, r *request) error {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := s.readStrict(r, &body); err != nil {
		return err
	}
	if err := r.running.DeviceSync().ResetAll(r.Context(), body.Reason, r.adminBy()); err != nil {
		return err
	}
	return s.replyDeviceSync(w, r, http.StatusAccepted)
}

// handleTrim answers POST /{db}/_device_sync/trim when the trim is done.
func (s *Server) handleTrim(w http.ResponseWriter, r *request) error {
	if err := r.running.DeviceSync().Trim(r.Context()); err != nil {
		return err
	}
	return s.replyDeviceSync(w, r, http.StatusAccepted)
}

// handleQuarantine answers GET /{db}/_device_sync/quarantine.
func (s *Server) handleQuarantine(w http.ResponseWriter, r *request) error {
	rows, err := r.running.DeviceSync().Quarantine(r.Context(), r.q.text("after"), r.pageSize())
	if err != nil {
		return err
	}
	if rows == nil {
		rows = []database.Quarantined{}
	}
	return s.reply(w, http.StatusOK, struct {
		Quarantine []database.Quarantined `json:"quarantine"`
	}{rows})
}

// handleQuarantined answers GET /{db}/_device_sync/quarantine/{id}.
func (s *Server) handleQuarantined(w http.ResponseWriter, r *request) error {
	id, err := r.pathVar("id")
	if err != nil {
		return err
	}
	one, err := r.running.DeviceSync().Quarantined(r.Context(), id)
	if err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, one)
}

// handleDropQuarantined answers DELETE /{db}/_device_sync/quarantine/{id}.
func (s *Server) handleDropQuarantined(w http.ResponseWriter, r *request) error {
	id, err := r.pathVar("id")
	if err == nil {
		err = r.running.DeviceSync().DropQuarantined(r.Context(), id)
	}
	if err != nil {
		return err
	}
	return noContent(w)
}

// handleRestoreQuarantined answers POST /{db}/_device_sync/quarantine/{id}/restore.
func (s *Server) handleRestoreQuarantined(w http.ResponseWriter, r *request) error {
	id, err := r.pathVar("id")
	if err != nil {
		return err
	}
	rev, err := r.running.DeviceSync().RestoreQuarantined(r.Context(), id)
	if err != nil {
		return err
	}
	return s.reply(w, http.StatusCreated, struct {
		Rev string `json:"rev"`
	}{rev.String()})
}
