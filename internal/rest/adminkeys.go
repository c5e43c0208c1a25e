package rest

import (
	"encoding/json"
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
)

// routesAdminKeys are the rows of the API keys with which programs log in to the App Services API and to the console.
func (s *Server) routesAdminKeys() []route {
	return []route{
		{"GET", "/_admin_api_keys", admin, needServerRead, 0, s.handleListAdminKeys},
		{"POST", "/_admin_api_keys", admin, needServerWrite, 0, s.handleCreateAdminKey},
		{"DELETE", "/_admin_api_keys/{id}", admin, needServerWrite, 0, s.handleDeleteAdminKey},
	}
}

// maxAdminKeyBody bounds the body that makes a key.
const maxAdminKeyBody = 64 << 10

// adminKeyCreated is a new key: the only time that its private half is told.
type adminKeyCreated struct {
	access.APIKey
	PrivateKey string `json:"private_key"`
}

// adminKeys returns the keys. NotFound: this process keeps none.
func (s *Server) adminKeys() (*access.APIKeys, error) {
	if s.deps.APIKeys == nil {
		return nil, errUnknownURL
	}
	return s.deps.APIKeys, nil
}

func (s *Server) handleListAdminKeys(w http.ResponseWriter, r *request) error {
	all, err := s.adminKeys()
	if err != nil {
		return err
	}
	keys, err := all.List(r.Context())
	if err != nil {
		return err
	}
	if keys == nil {
		keys = []access.APIKey{}
	}
	return s.writeAdminKeys(w, http.StatusOK, keys)
}

func (s *Server) handleCreateAdminKey(w http.ResponseWriter, r *request) error {
	all, err := s.adminKeys()
	if err != nil {
		return err
	}
	if err := checkJSONType(r.Header); err != nil {
		return err
	}
	body, err := s.readBody(r, maxAdminKeyBody)
	if err != nil {
		return err
	}
	defer body.Free()
	given := struct {
		Name string `json:"name"`
		Role string `json:"role"`
	}{"key", access.RoleOwner}
	if len(body.bytes) > 0 {
		if err := json.Unmarshal(body.bytes, &given); err != nil {
			return tidegate.Errorf(tidegate.Invalid, "expected an object with the strings name and role")
		}
	}
	key, private, err := all.Create(r.Context(), given.Name, given.Role)
	if err != nil {
		return err
	}
	s.log.Info("an API key was made", "id", key.ID, "name", key.Name, "role", key.Role)
	return s.writeAdminKeys(w, http.StatusCreated, adminKeyCreated{key, private.Reveal()})
}

func (s *Server) handleDeleteAdminKey(w http.ResponseWriter, r *request) error {
	all, err := s.adminKeys()
	if err != nil {
		return err
	}
	id, err := r.pathVar("id")
	if err != nil {
		return err
	}
	if err := all.Delete(r.Context(), id); err != nil {
		return err
	}
	s.log.Info("an API key was deleted", "id", id)
	return noContent(w)
}

func (s *Server) writeAdminKeys(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return s.writeJSON(w, status, b)
}

// CheckOrigin refuses requests to the admin listener that a web page elsewhere could have a browser on this machine send, for handlers
// that are mounted beside this API. Forbidden.
func (s *Server) CheckOrigin(r *http.Request) error {
	return s.guardAdmin(&request{Request: r, listener: admin})
}
