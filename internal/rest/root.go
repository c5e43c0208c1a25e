package rest

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/gateway"
)

// handlePing answers GET and HEAD /_ping on every listener (gateway-rest.md §1).
func (s *Server) handlePing(w http.ResponseWriter, _ *request) error {
	return replyText(w, http.StatusOK, "text/plain", "OK")
}

// compatVersion is the product and version that peers and clients of Sync Gateway look for at the beginning
// of "version"; api.compat_version_string sets another.
const compatVersion = "Couchbase Sync Gateway/3.2"

type vendor struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// product returns what the server says it is.
func (s *Server) product() (version string, v vendor) {
	version = s.settings.CompatVersion
	if version == "" {
		version = compatVersion + " (tidegate/" + s.version + ")"
	}
	return version, vendor{"tidegate", majorMinor(s.version)}
}

// majorMinor cuts "1.2.3-x" to "1.2".
func majorMinor(version string) string {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// handleRoot answers GET and HEAD / (gateway-rest.md §9.1).
func (s *Server) handleRoot(w http.ResponseWriter, r *request) error {
	return s.replyRoot(w, r, s.gateway.ClusterUUID())
}

// replyRoot says what this server is. Clients that meet another uuid under the same address forget how far they had come.
func (s *Server) replyRoot(w http.ResponseWriter, r *request, uuid string) error {
	answer := struct {
		CouchDB    string  `json:"couchdb"`
		Version    string  `json:"version,omitempty"`
		Vendor     *vendor `json:"vendor,omitempty"`
		Persistent bool    `json:"persistent_config"`
		Admin      bool    `json:"ADMIN,omitempty"`
		UUID       string  `json:"uuid"`
	}{CouchDB: "Welcome", Persistent: s.gateway.Persistent(), Admin: r.listener == admin, UUID: uuid}
	version, v := s.product()
	if r.listener == admin || !s.settings.HideProductVersion {
		answer.Version, answer.Vendor = version, &v
	} else {
		answer.Version = compatVersion
	}
	return s.reply(w, http.StatusOK, answer)
}

// databaseError is why a database is not there though it is configured.
type databaseError struct {
	Code    int    `json:"error_code"`
	Message string `json:"error_message"`
}

func failureOf(db *gateway.Running) *databaseError {
	err := db.Err()
	if err == nil {
		return nil
	}
	return &databaseError{errorStatus(err), errorReason(err)}
}

// handleAllDBs answers GET and HEAD /_all_dbs (gateway-rest.md §9.2).
func (s *Server) handleAllDBs(w http.ResponseWriter, r *request) error {
	if !r.q.boolean("verbose", false) {
		names := s.gateway.Names()
		if names == nil {
			names = []string{}
		}
		return s.reply(w, http.StatusOK, names)
	}
	type row struct {
		Name           string         `json:"db_name"`
		Bucket         string         `json:"bucket"`
		State          string         `json:"state"`
		InitInProgress bool           `json:"init_in_progress"`
		RequireResync  bool           `json:"require_resync"`
		Error          *databaseError `json:"database_error,omitempty"`
	}
	rows := []row{}
	for _, db := range s.gateway.Databases() {
		needs, err := resyncNeedsOf(r, db)
		if err != nil {
			return err
		}
		rows = append(rows, row{
			Name: db.Name(), Bucket: db.StorageID(), State: db.State().String(), RequireResync: needs.Required != nil, Error: failureOf(db),
		})
	}
	return s.reply(w, http.StatusOK, rows)
}

// databaseStatus is a database in /_status.
type databaseStatus struct {
	Seq        tidegate.Seq   `json:"seq,omitempty"`
	ServerUUID string         `json:"server_uuid,omitempty"`
	State      string         `json:"state"`
	Error      *databaseError `json:"database_error,omitempty"`
	resyncNeeds

	Replications []replicationStatusJSON `json:"replication_status,omitempty"`
	Cluster      clusterStatus           `json:"cluster"`
}

// resyncNeeds tell that a resync is due, or must be (resync.md §2, §3.7).
type resyncNeeds struct {
	Changed  bool     `json:"sync_function_changed_since_resync,omitempty"`
	Required []string `json:"require_resync,omitempty"`
}

func resyncNeedsOf(r *request, db *gateway.Running) (resyncNeeds, error) {
	required, err := db.RequireResync(r.Context())
	return resyncNeeds{len(db.ResyncDue()) > 0, required}, err
}

type clusterStatus struct {
	UUID         string                     `json:"cluster_uuid"`
	Replications map[string]json.RawMessage `json:"replications,omitempty"`
	Nodes        map[string]nodeStatus      `json:"nodes"`
}

type nodeStatus struct {
	UUID string `json:"uuid"`
	Host string `json:"host"`
}

// handleStatus answers GET /_status (gateway-rest.md §9.3).
func (s *Server) handleStatus(w http.ResponseWriter, r *request) error {
	node := nodeStatus{s.gateway.NodeID(), r.Host}
	version, v := s.product()
	answer := struct {
		Databases   map[string]databaseStatus `json:"databases"`
		ActiveTasks []any                     `json:"active_tasks"` // the form of 2.8
		Version     string                    `json:"version"`
		Vendor      vendor                    `json:"vendor"`
	}{map[string]databaseStatus{}, []any{}, version, v}
	for _, db := range s.gateway.Databases() {
		seq, err := lastSequence(r, db)
		if err != nil {
			return err
		}
		needs, err := resyncNeedsOf(r, db)
		if err != nil {
			return err
		}
		cluster := clusterStatus{UUID: s.gateway.ClusterUUID(), Nodes: map[string]nodeStatus{node.UUID: node}}
		status := databaseStatus{
			Seq: seq, ServerUUID: db.ServerUUID(), State: db.State().String(), Error: failureOf(db), resyncNeeds: needs,
		}
		status.Replications, cluster.Replications = s.replicationsOf(db)
		status.Cluster = cluster
		answer.Databases[db.Name()] = status
	}
	return s.reply(w, http.StatusOK, answer)
}

// replicationsOf returns the statuses of a database's replications, and their definitions by id.
func (s *Server) replicationsOf(db *gateway.Running) (statuses []replicationStatusJSON, defs map[string]json.RawMessage) {
	defs = map[string]json.RawMessage{}
	for _, st := range db.Replications().Statuses() {
		statuses = append(statuses, replicationStatusOf(st, false))
		defs[st.ID] = s.replicationJSON(st.ReplicationInfo, bareNode)
	}
	return statuses, defs
}

// lastSequence is a database's last sequence; 0 when it is not loaded.
func lastSequence(r *request, running *gateway.Running) (tidegate.Seq, error) {
	if db := running.DB(); db != nil {
		return db.LastSequence(r.Context())
	}
	return 0, nil
}

// handleGetDatabase answers GET and HEAD /{db}/ (gateway-rest.md §10.1, device-sync.md §12.1).
func (s *Server) handleGetDatabase(w http.ResponseWriter, r *request) error {
	seq, err := lastSequence(r, r.running)
	if err != nil {
		return err
	}
	needs, err := resyncNeedsOf(r, r.running)
	if err != nil {
		return err
	}
	serverUUID, epoch := r.running.ServerUUID(), r.running.SyncEpoch()
	syncState := r.running.DeviceSync().Live().Row().Record.Word()
	if r.listener == public && r.db == nil { // nobody was asked who they are
		needs, serverUUID, epoch, syncState = resyncNeeds{}, "", "", ""
	}
	return s.reply(w, http.StatusOK, struct {
		Name       string       `json:"db_name"`
		UpdateSeq  tidegate.Seq `json:"update_seq"`
		Committed  tidegate.Seq `json:"committed_update_seq"`
		Start      int64        `json:"instance_start_time"`
		Compacting bool         `json:"compact_running"`
		PurgeSeq   int          `json:"purge_seq"`
		DiskFormat int          `json:"disk_format_version"`
		State      string       `json:"state"`
		ServerUUID string       `json:"server_uuid,omitempty"`
		SyncEpoch  string       `json:"sync_epoch,omitempty"`
		SyncState  string       `json:"sync_state,omitempty"`
		resyncNeeds
	}{r.running.Name(), seq, seq, r.running.InstanceStart().UnixMicro(), compacting(r.running.DB()), 0, 0,
		r.running.State().String(), serverUUID, epoch, syncState, needs})
}

// handleEnsureFullCommit answers POST /{db}/_ensure_full_commit: everything acknowledged is durable already
// (gateway-rest.md §10.6).
func (s *Server) handleEnsureFullCommit(w http.ResponseWriter, r *request) error {
	return s.reply(w, http.StatusCreated, struct {
		OK    bool  `json:"ok"`
		Start int64 `json:"instance_start_time"`
	}{true, r.running.InstanceStart().UnixMicro()})
}

// handleIndexInit answers /{db}/_index_init: there is nothing to build (gateway-rest.md §10.7).
func (s *Server) handleIndexInit(w http.ResponseWriter, _ *request) error {
	return s.reply(w, http.StatusOK, struct {
		Status    string    `json:"status"`
		Start     time.Time `json:"start_time"`
		LastError string    `json:"last_error"`
	}{Status: "completed"})
}
