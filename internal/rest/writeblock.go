package rest

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// bypassBlockHeader has an administrator's request pass the write block (cluster-sync.md §12).
const bypassBlockHeader = "Tidegate-Bypass-Write-Block"

// errBlockedForNow is what a replicating client is told in place of [database.ErrWritesBlocked]: a 403 would mean to it that the revision is
// refused for good, and it would go on without it.
var errBlockedForNow = tidegate.Errorf(tidegate.Unavailable, "Database writes are blocked")

var errBlockBody = tidegate.Errorf(tidegate.Invalid, `the body must be {"blocked":true|false} and may have "bypass_role", the name of a role or null`)

// routesWriteBlock are the rows of the write block.
func (s *Server) routesWriteBlock() []route {
	return []route{
		{"GET", "/{db}/_write_block", admin, needDatabase, 0, s.handleGetWriteBlock},
		{"PUT", "/{db}/_write_block", admin, needDatabase, 0, s.handlePutWriteBlock},
	}
}

// writeBlock is the block as it is shown.
type writeBlock struct {
	Blocked    bool   `json:"blocked"`
	BypassRole string `json:"bypass_role,omitempty"`
}

// handleGetWriteBlock answers GET /{db}/_write_block.
func (s *Server) handleGetWriteBlock(w http.ResponseWriter, r *request) error {
	b, err := r.db.WriteBlock(r.Context())
	if err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, writeBlock(b))
}

// handlePutWriteBlock answers PUT /{db}/_write_block. A role that is not named stays; null takes it away.
func (s *Server) handlePutWriteBlock(w http.ResponseWriter, r *request) error {
	body, err := s.readJSON(r)
	if err != nil {
		return err
	}
	defer body.Free()
	b, err := r.db.WriteBlock(r.Context())
	if err != nil {
		return err
	}
	if err := parseWriteBlock(body.bytes, &b); err != nil {
		return err
	}
	if err := r.db.SetWriteBlock(r.Context(), b); err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, writeBlock(b))
}

// parseWriteBlock reads a body into b.
func parseWriteBlock(raw []byte, b *database.WriteBlock) error {
	if len(raw) == 0 || raw[skipSpaces(raw, 0)] != '{' {
		return errBlockBody
	}
	given := false
	for name, value := range jsondoc.Members(raw) {
		switch name {
		case "blocked":
			if json.Unmarshal(value, &b.Blocked) != nil || string(value) == "null" {
				return errBlockBody
			}
			given = true
		case "bypass_role":
			b.BypassRole = ""
			if json.Unmarshal(value, &b.BypassRole) != nil {
				return errBlockBody
			}
		default:
			return errBlockBody
		}
	}
	if !given {
		return errBlockBody
	}
	return nil
}

// bypass gives an administrator who asks for it a Handle that the write block lets through.
func (r *request) bypass(h *database.Handle) *database.Handle {
	if r.Header.Get(bypassBlockHeader) == "true" {
		return h.BypassWriteBlock()
	}
	return h
}

// pushError is how the block is told to who pushes revisions; any other error stays as it is.
func pushError(err error) error {
	if errors.Is(err, database.ErrWritesBlocked) {
		return errBlockedForNow
	}
	return err
}
