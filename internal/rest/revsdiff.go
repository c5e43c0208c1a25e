package rest

import (
	"net/http"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

var errBadRevsDiff = tidegate.Errorf(tidegate.Invalid, "Invalid _revs_diff: expected an object of arrays of revision IDs")

// handleRevsDiff answers POST {ks}/_revs_diff (gateway-rest.md §13.4).
func (s *Server) handleRevsDiff(w http.ResponseWriter, r *request) error {
	docs, err := s.readRevsDiff(r)
	if err != nil {
		return err
	}
	s.setJSON(w)
	o := s.newOutput(w, http.StatusOK)
	defer o.close()
	o.b = append(o.b, '{')
	results, err := r.handle.RevsDiff(r.Context(), docs)
	if err != nil {
		return err
	}
	first := true
	for _, res := range results {
		if len(res.Missing) == 0 {
			continue
		}
		if !first {
			o.b = append(o.b, ',')
		}
		first = false
		o.b = append(tidegate.AppendJSONString(o.b, res.ID), ':')
		o.b = appendRevs(o.b, `{"missing":`, res.Missing)
		o.b = appendRevs(o.b, `,"possible_ancestors":`, res.PossibleAncestors)
		o.b = append(o.b, '}')
		if err := o.spill(); err != nil {
			return err
		}
	}
	o.b = append(o.b, '}')
	return o.finish()
}

// readRevsDiff reads {"docid":["rev",…]}. On the public listener design documents are left out, so that they
// are not sent.
func (s *Server) readRevsDiff(r *request) ([]database.DiffRequest, error) {
	body, err := s.readJSON(r)
	if err != nil {
		return nil, err
	}
	defer body.Free()
	if len(body.bytes) == 0 || body.bytes[skipSpaces(body.bytes, 0)] != '{' {
		return nil, errBadRevsDiff
	}
	var docs []database.DiffRequest
	total := 0
	for id, value := range jsondoc.Members(body.bytes) {
		list, ok := parseStrings(string(value))
		if !ok {
			return nil, errBadRevsDiff
		}
		if total += 1 + len(list); total > s.limits.BulkDocs {
			return nil, tidegate.Errorf(tidegate.TooLarge, "Too many revisions (at most %d)", s.limits.BulkDocs)
		}
		if r.listener == public && strings.HasPrefix(id, "_design/") {
			continue
		}
		revs, err := parseRevs(list)
		if err != nil {
			return nil, err
		}
		docs = append(docs, database.DiffRequest{ID: id, Revs: revs})
	}
	return docs, nil
}
