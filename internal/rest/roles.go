package rest

import (
	"net/http"

	"github.com/tidegate/tidegate/internal/access"
)

// handleListRoles answers GET and HEAD /{db}/_role/ (gateway-rest.md §16.2).
func (s *Server) handleListRoles(w http.ResponseWriter, r *request) error {
	names, err := r.db.Access().Roles(r.ctx, r.q.boolean("deleted", false))
	if err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, names)
}

// roleUpdate reads the body of a request that creates or changes a role.
func (s *Server) roleUpdate(r *request) (name string, u access.RoleUpdate, err error) {
	body, err := s.readBody(r, maxPrincipalBytes)
	if err != nil {
		return "", u, err
	}
	defer body.Free()
	if err := checkJSONType(r.Header); err != nil {
		return "", u, err
	}
	return access.ParseRoleUpdate(body.bytes)
}

// handlePostRole answers POST /{db}/_role/: it creates the role that the body names.
func (s *Server) handlePostRole(w http.ResponseWriter, r *request) error {
	name, update, err := s.roleUpdate(r)
	if err != nil {
		return err
	}
	if name == "" {
		return errMissingName
	}
	if _, err := r.db.Access().PutRole(r.ctx, name, update, true); err != nil {
		return err
	}
	return replyEmpty(w, http.StatusCreated)
}

// handleGetRole answers GET and HEAD /{db}/_role/{name}.
func (s *Server) handleGetRole(w http.ResponseWriter, r *request) error {
	name, err := r.pathVar("name")
	if err != nil {
		return err
	}
	info, err := r.db.Access().RoleRecord(r.ctx, name)
	if err != nil {
		return err
	}
	return s.writeJSON(w, http.StatusOK, info.AppendJSON(nil))
}

// handlePutRole answers PUT /{db}/_role/{name}: it creates or changes the role.
func (s *Server) handlePutRole(w http.ResponseWriter, r *request) error {
	name, err := r.pathVar("name")
	if err != nil {
		return err
	}
	given, update, err := s.roleUpdate(r)
	if err != nil {
		return err
	}
	if given != "" && given != name {
		return errNameMismatch
	}
	created, err := r.db.Access().PutRole(r.ctx, name, update, false)
	if err != nil {
		return err
	}
	return replyPut(w, created)
}

// handleDeleteRole answers DELETE /{db}/_role/{name}. The role is remembered for revocations unless
// purge=true.
func (s *Server) handleDeleteRole(w http.ResponseWriter, r *request) error {
	name, err := r.pathVar("name")
	if err != nil {
		return err
	}
	if err := r.db.Access().DeleteRole(r.ctx, name, r.q.boolean("purge", false)); err != nil {
		return err
	}
	return replyEmpty(w, http.StatusOK)
}
