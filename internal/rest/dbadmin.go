package rest

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
)

var (
	errPublicCreate = tidegate.Errorf(tidegate.Forbidden, "Creating a DB over the public API is unsupported")
	errDBExists     = tidegate.Errorf(tidegate.Exists, "Database already exists")
	errFlushOff     = tidegate.Errorf(tidegate.Forbidden, "_flush is off; unsupported.api_endpoints.enable_couchbase_bucket_flush turns it on")
)

// maxConfigBytes bounds the config of a database in a request.
const maxConfigBytes = 8 << 20

// readConfig reads a config body. It is not checked as JSON beforehand: scripts may stand in it between
// backquotes (gateway-rest.md §3). An empty body counts as {}.
func (s *Server) readConfig(r *request) (*bodyBuffer, error) {
	if err := checkJSONType(r.Header); err != nil {
		return nil, err
	}
	b, err := s.readBody(r, maxConfigBytes)
	if err == nil && len(b.bytes) == 0 {
		b.bytes = []byte("{}")
	}
	return b, err
}

// handleCreateDatabase answers PUT /{db}/ on the admin listener (gateway-rest.md §10.2).
func (s *Server) handleCreateDatabase(w http.ResponseWriter, r *request) error {
	body, err := s.readConfig(r)
	if err != nil {
		return err
	}
	defer body.Free()
	cfg, err := config.ParseDatabase(body.bytes)
	if err != nil {
		return err
	}
	version, err := s.gateway.Create(r.Context(), r.keyspace.db, cfg)
	if err != nil {
		return err
	}
	setETag(w, version)
	return replyEmpty(w, http.StatusCreated)
}

// handlePublicCreate answers PUT /{db}/ on the public listener; PouchDB's set-up relies on the 412.
func (s *Server) handlePublicCreate(_ http.ResponseWriter, r *request) error {
	if r.running != nil {
		return errDBExists
	}
	return errPublicCreate
}

// handleDeleteDatabase answers DELETE /{db}/. The data are kept for a database of the same name unless
// purge=true.
func (s *Server) handleDeleteDatabase(w http.ResponseWriter, r *request) error {
	if err := s.gateway.Delete(r.Context(), r.running.Name(), r.q.boolean("purge", false)); err != nil {
		return err
	}
	return s.writeJSON(w, http.StatusOK, []byte("{}"))
}

// handleFlush answers POST /{db}/_flush (gateway-rest.md §10.5). It sees to the gate itself: a request that is counted in
// would wait for its own end.
func (s *Server) handleFlush(w http.ResponseWriter, r *request) error {
	if err := r.running.Gate(); err != nil {
		return err
	}
	if !r.running.Settings().EnableFlush {
		return errFlushOff
	}
	if db := r.running.DB(); db != nil {
		if err := r.bypass(db.Admin(0)).MayWrite(r.Context()); err != nil {
			return err
		}
	}
	if err := s.gateway.Flush(r.Context(), r.running.Name()); err != nil {
		return err
	}
	return replyEmpty(w, http.StatusOK)
}

// handleOffline answers POST /{db}/_offline (resync.md §1.1).
func (s *Server) handleOffline(w http.ResponseWriter, r *request) error {
	if err := s.gateway.TakeOffline(r.Context(), r.running.Name()); err != nil {
		return err
	}
	return replyEmpty(w, http.StatusOK)
}

// maxOnlineDelay bounds the delay of _online.
const maxOnlineDelay = 24 * time.Hour

// handleOnline answers POST /{db}/_online (resync.md §1.2). A body that does not parse is ignored.
func (s *Server) handleOnline(w http.ResponseWriter, r *request) error {
	body, err := s.readBody(r, s.limits.RequestBytes)
	if err != nil {
		return err
	}
	defer body.Free()
	var given struct{ Delay float64 }
	if json.Unmarshal(body.bytes, &given) != nil || given.Delay < 0 {
		given.Delay = 0
	}
	delay := min(time.Duration(min(given.Delay, maxOnlineDelay.Seconds())*float64(time.Second)), maxOnlineDelay)
	if err := s.gateway.BringOnline(r.Context(), r.running.Name(), delay, r.q.boolean("wait", false)); err != nil {
		return err
	}
	return replyEmpty(w, http.StatusOK)
}
