package rest

import (
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

var errBadPurge = tidegate.Errorf(tidegate.Invalid, "_purge document ID's must be passed as a JSON")

// handlePurge answers POST {ks}/_purge (gateway-rest.md §17): documents named with ["*"] are removed without a
// trace; what is not there, or asks for single revisions, is skipped.
func (s *Server) handlePurge(w http.ResponseWriter, r *request) error {
	body, err := s.readJSON(r)
	if err != nil {
		return err
	}
	defer body.Free()
	if len(body.bytes) == 0 || body.bytes[skipSpaces(body.bytes, 0)] != '{' {
		return errBadPurge
	}
	var ids []string
	for id, value := range jsondoc.Members(body.bytes) {
		if revs, ok := parseStrings(string(value)); ok && len(revs) == 1 && revs[0] == "*" {
			ids = append(ids, id)
		}
	}
	if len(ids) > s.limits.BulkDocs {
		return tidegate.Errorf(tidegate.TooLarge, "Too many documents (at most %d)", s.limits.BulkDocs)
	}
	purged, err := r.handle.Purge(r.Context(), ids)
	if err != nil {
		return err
	}
	s.setJSON(w)
	o := s.newOutput(w, http.StatusOK)
	defer o.close()
	o.b = append(o.b, `{"purged":{`...)
	for i, id := range purged {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = append(tidegate.AppendJSONString(o.b, id), `:["*"]`...)
		if err := o.spill(); err != nil {
			return err
		}
	}
	o.b = append(o.b, `}}`...)
	return o.finish()
}
