package rest

import (
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
)

// maxPrincipalBytes bounds the body that describes a user or role.
const maxPrincipalBytes = 8 << 20

var (
	errMissingName  = tidegate.Errorf(tidegate.Invalid, "Missing name property")
	errNameMismatch = tidegate.Errorf(tidegate.Invalid, "Name mismatch (can't change name)")
	errLimitAlone   = tidegate.Errorf(tidegate.Invalid, "limit may be used only with name_only=false")
)

// handleListUsers answers GET and HEAD /{db}/_user/ (gateway-rest.md §16.2).
func (s *Server) handleListUsers(w http.ResponseWriter, r *request) error {
	namesOnly := r.q.boolean("name_only", true)
	if namesOnly {
		if r.q.has("limit") {
			return errLimitAlone
		}
		names, err := r.db.Access().Users(r.ctx)
		if err != nil {
			return err
		}
		return s.reply(w, http.StatusOK, names)
	}
	users, err := r.db.Access().UserList(r.ctx, int(r.q.integer("limit", 0)))
	if err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, users)
}

// userUpdate reads the body of a request that creates or changes a user.
func (s *Server) userUpdate(r *request) (name string, u access.UserUpdate, err error) {
	body, err := s.readBody(r, maxPrincipalBytes)
	if err != nil {
		return "", u, err
	}
	defer body.Free()
	if err := checkJSONType(r.Header); err != nil {
		return "", u, err
	}
	return access.ParseUserUpdate(body.bytes)
}

// handlePostUser answers POST /{db}/_user/: it creates the user that the body names.
func (s *Server) handlePostUser(w http.ResponseWriter, r *request) error {
	name, update, err := s.userUpdate(r)
	if err != nil {
		return err
	}
	if name == "" {
		return errMissingName
	}
	if _, err := r.db.Access().PutUser(r.ctx, name, update, true); err != nil {
		return err
	}
	return replyEmpty(w, http.StatusCreated)
}

// handleGetUser answers GET and HEAD /{db}/_user/{name}.
func (s *Server) handleGetUser(w http.ResponseWriter, r *request) error {
	name, err := r.pathVar("name")
	if err != nil {
		return err
	}
	info, err := r.db.Access().UserRecord(r.ctx, name)
	if err != nil {
		return err
	}
	return s.writeJSON(w, http.StatusOK, info.AppendJSON(nil))
}

// handlePutUser answers PUT /{db}/_user/{name}: it creates or changes the user.
func (s *Server) handlePutUser(w http.ResponseWriter, r *request) error {
	name, err := r.pathVar("name")
	if err != nil {
		return err
	}
	given, update, err := s.userUpdate(r)
	if err != nil {
		return err
	}
	if given != "" && given != name {
		return errNameMismatch
	}
	created, err := r.db.Access().PutUser(r.ctx, name, update, false)
	if err != nil {
		return err
	}
	return replyPut(w, created)
}

// replyPut answers a PUT of a principal.
func replyPut(w http.ResponseWriter, created bool) error {
	if created {
		return replyEmpty(w, http.StatusCreated)
	}
	return replyEmpty(w, http.StatusOK)
}

// handleDeleteUser answers DELETE /{db}/_user/{name}.
func (s *Server) handleDeleteUser(w http.ResponseWriter, r *request) error {
	name, err := r.pathVar("name")
	if err != nil {
		return err
	}
	if err := r.db.Access().DeleteUser(r.ctx, name); err != nil {
		if tidegate.ErrorCode(err) == tidegate.NotAllowed { // the guest
			w.Header().Set("Allow", "GET, HEAD, PUT")
		}
		return err
	}
	return replyEmpty(w, http.StatusOK)
}
