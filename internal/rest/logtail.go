package rest

import (
	"log/slog"
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/telemetry"
)

// The bounds of GET /_log.
const (
	logTailDefault = 200
	logTailMost    = 1000
)

var errNoLogTail = tidegate.Errorf(tidegate.NotFound, "no log is kept in memory")

// handleLogTail answers GET /_log: the newest records of the log, which are kept in memory. after: only those numbered
// above it; level: those of that level or above; q: those that hold it; limit: at most so many.
func (s *Server) handleLogTail(w http.ResponseWriter, r *request) error {
	ring := s.deps.LogRing
	if ring == nil {
		return errNoLogTail
	}
	level := slog.LevelDebug
	if name := r.q.text("level"); name != "" {
		var err error
		if level, err = telemetry.ParseLevel(name); err != nil {
			return tidegate.Errorf(tidegate.Invalid, "%v", err)
		}
	}
	limit := min(r.q.integer("limit", logTailDefault), logTailMost)
	last := ring.Last() // before the entries: what comes between is found by the next request
	answer := struct {
		Entries []telemetry.LogEntry `json:"entries"`
		Last    uint64               `json:"last"`
	}{ring.Entries(r.q.integer("after", 0), level, r.q.text("q"), int(limit)), last}
	if answer.Entries == nil {
		answer.Entries = []telemetry.LogEntry{}
	}
	for _, e := range answer.Entries {
		answer.Last = max(answer.Last, e.Number)
	}
	return s.reply(w, http.StatusOK, answer)
}
