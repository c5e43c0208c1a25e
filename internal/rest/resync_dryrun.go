package rest

import (
	"net/http"

	"github.com/tidegate/tidegate"
)

// handleDryRun answers POST /{db}/_resync?action=dry_run (resync.md §3.9). The body has not been read.
func (s *Server) handleDryRun(http.ResponseWriter, *request) error {
	return tidegate.Errorf(tidegate.Unavailable, "action=dry_run is not in this version")
}
