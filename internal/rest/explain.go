package rest

import (
	"net/http"

	"github.com/tidegate/tidegate"
)

var errExplainDoc = tidegate.Errorf(tidegate.Invalid, "doc must name a document")

// handleExplain answers GET {ks}/_explain?doc=ID&user=NAME: why a user sees a document or does not (sync-function.md
// §10). Without user it is about the guest, as a request without login is. Users and documents that do not exist are
// no errors: the verdict says so.
func (s *Server) handleExplain(w http.ResponseWriter, r *request) error {
	id := r.q.text("doc")
	if id == "" {
		return errExplainDoc
	}
	if err := tidegate.ValidDocID(id); err != nil {
		return err
	}
	user := r.q.text("user")
	if user != "" {
		if err := tidegate.ValidPrincipalName(user); err != nil {
			return err
		}
	}
	e, err := r.handle.Explain(r.Context(), id, user)
	if err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, e)
}
