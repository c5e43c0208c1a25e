package rest

import (
	"net/http"

	"github.com/tidegate/tidegate"
)

// Design documents are kept and returned as they are, and do nothing (gateway-rest.md §17). They are kept like
// local documents, under a name that no local document's URL can reach, with revisions like theirs.

const designPrefix = "_design/"

// designID is the {ddoc} of the path as the ID of the local document it is kept in.
func (r *request) designID() (string, error) {
	name, err := r.pathVar("ddoc")
	return designPrefix + name, err
}

// handleGetDesign answers GET and HEAD {ks}/_design/{ddoc}.
func (s *Server) handleGetDesign(w http.ResponseWriter, r *request) error {
	id, err := r.designID()
	if err != nil {
		return err
	}
	return s.writeLocal(w, r, id, "")
}

// handlePutDesign answers PUT {ks}/_design/{ddoc}.
func (s *Server) handlePutDesign(w http.ResponseWriter, r *request) error {
	if r.listener == public {
		return tidegate.ErrForbidden
	}
	id, err := r.designID()
	if err != nil {
		return err
	}
	return s.putLocalAndReply(w, r, id, "")
}

// handleDeleteDesign answers DELETE {ks}/_design/{ddoc}.
func (s *Server) handleDeleteDesign(w http.ResponseWriter, r *request) error {
	if r.listener == public {
		return tidegate.ErrForbidden
	}
	id, err := r.designID()
	if err != nil {
		return err
	}
	return s.deleteLocalAndReply(w, r, id, "")
}
