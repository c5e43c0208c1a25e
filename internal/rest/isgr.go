package rest

import (
	"net/http"
	"net/url"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/gateway"
)

// routesReplications are the rows of replications with other gateways (inter-gateway.md §3, §5).
func (s *Server) routesReplications() []route {
	const all, one = "/{db}/_replication/", "/{db}/_replication/{id}"
	rows := []route{
		{"GET HEAD", all, admin, needDatabase, 0, s.handleListReplications},
		{"POST", all, admin, needDatabase, 0, s.handlePostReplication},
		{"GET HEAD", one, admin, needDatabase, 0, s.handleGetReplication},
		{"PUT POST", one, admin, needDatabase, 0, s.handlePutReplication},
		{"DELETE", one, admin, needDatabase, 0, s.handleDeleteReplication},
	}
	for _, name := range []string{"_replicationStatus", "_replicationstatus"} {
		all, one := "/{db}/"+name+"/", "/{db}/"+name+"/{id}"
		rows = append(rows,
			route{"GET HEAD", all, admin, needDatabase, 0, s.handleReplicationStatuses},
			route{"GET HEAD", one, admin, needDatabase, 0, s.handleReplicationStatus},
			route{"PUT POST", one, admin, needDatabase, 0, s.handleReplicationAction},
			route{"PUT POST", one + "/{action}", admin, needDatabase, 0, s.handleReplicationAction},
		)
	}
	return rows
}

// seedShapes reports whether an answer about replications has the forms of 2.8.
func (r *request) seedShapes() bool {
	return r.q.text("format") == "2.8" || r.running.Settings().Replications.SeedShapes
}

// Whether assigned_node tells if it is the node that answers.
type nodeForm bool

const (
	bareNode     nodeForm = false
	suffixedNode nodeForm = true
)

// replicationJSON is a definition with the members of output, secrets masked.
func (s *Server) replicationJSON(info gateway.ReplicationInfo, form nodeForm) []byte {
	c := info.Config.Clone()
	c.ClusterUUID = s.gateway.ClusterUUID()
	c.TargetState = "stopped"
	if info.Wanted {
		c.TargetState = "running"
	}
	c.CreatedAt, c.UpdatedAt = info.Created.Format(time.RFC3339), info.Updated.Format(time.RFC3339)
	c.AssignedNode = info.Node
	switch {
	case info.Node == "" || form == bareNode:
	case info.Local:
		c.AssignedNode += " (local)"
	default:
		c.AssignedNode += " (non-local)"
	}
	return c.Masked()
}

// handleListReplications answers GET and HEAD /{db}/_replication/: the definitions by id.
func (s *Server) handleListReplications(w http.ResponseWriter, r *request) error {
	form := suffixedNode
	if r.seedShapes() {
		form = bareNode
	}
	b := []byte{'{'}
	for i, info := range r.running.Replications().List() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(tidegate.AppendJSONString(b, info.ID), ':')
		b = append(b, s.replicationJSON(info, form)...)
	}
	return s.writeJSON(w, http.StatusOK, append(b, '}'))
}

// handleGetReplication answers GET and HEAD /{db}/_replication/{id}: the definition, and below its id the same again as
// 2.8 shows it, so that scripts of both kinds find what they look for.
func (s *Server) handleGetReplication(w http.ResponseWriter, r *request) error {
	id, err := r.pathVar("id")
	if err != nil {
		return err
	}
	info, err := r.running.Replications().Get(id)
	if err != nil {
		return err
	}
	b := []byte{'{'}
	if !r.seedShapes() {
		flat := s.replicationJSON(info, suffixedNode)
		if config.IsReplicationField(id) {
			return s.writeJSON(w, http.StatusOK, flat)
		}
		b = append(flat[:len(flat)-1], ',')
	}
	b = append(tidegate.AppendJSONString(b, id), ':')
	b = append(b, s.replicationJSON(info, bareNode)...)
	return s.writeJSON(w, http.StatusOK, append(b, '}'))
}

// replicationPatch reads the body of a request that makes or changes the definition of an id, "" if the body names it.
func (s *Server) replicationPatch(r *request, id string) (*config.ReplicationPatch, error) {
	body, err := s.readConfig(r)
	if err != nil {
		return nil, err
	}
	defer body.Free()
	return config.ParseReplicationPatch(body.bytes, id)
}

// handlePostReplication answers POST /{db}/_replication/: it makes or changes the definition that the body names. Without
// a name it makes one, and answers what it is called.
func (s *Server) handlePostReplication(w http.ResponseWriter, r *request) error {
	patch, err := s.replicationPatch(r, "")
	if err != nil {
		return err
	}
	all := r.running.Replications()
	id := patch.ID
	if id == "" {
		id = all.NewID()
	}
	created, err := all.Put(r.Context(), id, patch)
	if err != nil {
		return err
	}
	if patch.ID != "" {
		return replyPut(w, created)
	}
	w.Header().Set("Location", "/"+url.PathEscape(r.running.Name())+"/_replication/"+id)
	return s.reply(w, http.StatusCreated, struct {
		ID string `json:"replication_id"`
	}{id})
}

// handlePutReplication answers PUT and POST /{db}/_replication/{id}.
func (s *Server) handlePutReplication(w http.ResponseWriter, r *request) error {
	id, err := r.pathVar("id")
	if err != nil {
		return err
	}
	patch, err := s.replicationPatch(r, id)
	if err != nil {
		return err
	}
	if patch.ID != "" && patch.ID != id {
		return tidegate.Errorf(tidegate.Invalid, "Replication ID in body %q does not match request URI", patch.ID)
	}
	created, err := r.running.Replications().Put(r.Context(), id, patch)
	if err != nil {
		return err
	}
	return replyPut(w, created)
}

// handleDeleteReplication answers DELETE /{db}/_replication/{id}.
func (s *Server) handleDeleteReplication(w http.ResponseWriter, r *request) error {
	id, err := r.pathVar("id")
	if err != nil {
		return err
	}
	if err := r.running.Replications().Delete(r.Context(), id); err != nil {
		return err
	}
	return replyEmpty(w, http.StatusOK)
}
