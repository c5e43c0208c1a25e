package rest

import (
	"net/http"
	"time"
)

// nodeEntry is a node in the answer of /_nodes.
type nodeEntry struct {
	ID        string            `json:"id"`
	Self      bool              `json:"self"` // it is the one that answers
	Started   time.Time         `json:"started"`
	Version   string            `json:"version,omitempty"`
	Host      string            `json:"host,omitempty"`
	PID       int               `json:"pid,omitempty"`
	Public    string            `json:"public,omitempty"`
	Admin     string            `json:"admin,omitempty"`
	Databases map[string]string `json:"databases"` // states by name
}

// handleNodes answers GET /_nodes: the processes that serve from this store now.
func (s *Server) handleNodes(w http.ResponseWriter, r *request) error {
	states, err := s.gateway.NodeStates(r.Context())
	if err != nil {
		return err
	}
	self := s.gateway.Cluster().Self()
	entries := []nodeEntry{}
	for _, n := range s.gateway.Cluster().Nodes() {
		e := nodeEntry{
			ID: n.ID, Self: n.ID == self, Started: n.Started, Version: n.About.Version, Host: n.About.Host, PID: n.About.PID,
			Public: n.About.Public, Admin: n.About.Admin, Databases: states[n.ID],
		}
		if e.Self { // of oneself one knows it as it is now
			e.Databases = map[string]string{}
			for _, db := range s.gateway.Databases() {
				e.Databases[db.Name()] = db.State().String()
			}
		}
		if e.Databases == nil {
			e.Databases = map[string]string{}
		}
		entries = append(entries, e)
	}
	return s.reply(w, http.StatusOK, struct {
		Cluster string      `json:"cluster"`
		Nodes   []nodeEntry `json:"nodes"`
	}{s.gateway.ClusterUUID(), entries})
}
