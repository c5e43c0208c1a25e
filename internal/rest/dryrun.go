package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/gateway"
)

// dryRunBody is the body of POST _resync?action=dry_run.
type dryRunBody struct {
	Scopes       map[string][]string `json:"scopes"`
	SyncFunction *string             `json:"sync_function"`
}

// handleDryRun answers POST /{db}/_resync?action=dry_run (resync.md §3.9) with the report; with stream=true with lines of
// JSON that say how far it is, of which the last one has the report or the error. It ends when the client is gone.
func (s *Server) handleDryRun(w http.ResponseWriter, r *request) error {
	var body dryRunBody
	if err := s.readStrict(r, &body); err != nil {
		return err
	}
	req := gateway.DryRunRequest{Scopes: body.Scopes, SyncFunction: body.SyncFunction}
	if r.q.boolean("stream", false) {
		return s.streamDryRun(w, r, req)
	}
	report, err := s.gateway.DryRun(r.Context(), r.running.Name(), req, nil)
	if err != nil {
		return err
	}
	return s.reply(w, http.StatusOK, report)
}

// dryRunEvery is how often a stream says how far the dry run is.
const dryRunEvery = 250 * time.Millisecond

// dryRunEnd is how a dry run came out.
type dryRunEnd struct {
	report *database.PlanReport
	err    error
}

// dryRunLine is one line of a stream.
type dryRunLine struct {
	Progress *resyncStatus        `json:"progress,omitempty"`
	Report   *database.PlanReport `json:"report,omitempty"`
	Error    string               `json:"error,omitempty"`
	Reason   string               `json:"reason,omitempty"`
}

// streamDryRun carries a dry run out beside the answer: it must not wait for the client, since it holds a snapshot. What
// fails before the first line is an ordinary error.
func (s *Server) streamDryRun(w http.ResponseWriter, r *request, req gateway.DryRunRequest) error {
	ctx, cancel := context.WithCancel(r.Context())
	end := make(chan dryRunEnd, 1)
	var latest atomic.Pointer[gateway.ResyncInfo]
	go func() {
		var e dryRunEnd
		defer func() {
			if v := recover(); v != nil { // steps.go: one bad request does not take the process with it
				s.logPanic(v)
				e = dryRunEnd{err: errPanic}
			}
			end <- e
		}()
		e.report, e.err = s.gateway.DryRun(ctx, r.running.Name(), req, latest.Store)
	}()
	ended := false
	defer func() {
		cancel()
		if !ended {
			<-end
		}
	}()
	ticker := time.NewTicker(dryRunEvery)
	defer ticker.Stop()
	out := s.newOutput(w, http.StatusOK)
	defer out.close()
	for {
		select {
		case e := <-end:
			ended = true
			if e.err != nil && !out.sent {
				return e.err
			}
			return s.endDryRun(w, r, out, e)
		case <-ticker.C:
			if info := latest.Load(); info != nil {
				st := resyncStatusOf(info)
				if err := s.sendDryRun(w, out, dryRunLine{Progress: &st}); err != nil {
					return err
				}
			}
		}
	}
}

// endDryRun sends the last line.
func (s *Server) endDryRun(w http.ResponseWriter, r *request, out *output, e dryRunEnd) error {
	line := dryRunLine{Report: e.report}
	if e.err != nil {
		status := errorStatus(e.err)
		s.logFailure(r, status, e.err)
		line = dryRunLine{Error: errorName(status), Reason: errorReason(e.err)}
	}
	return s.sendDryRun(w, out, line)
}

// sendDryRun sends one line.
func (s *Server) sendDryRun(w http.ResponseWriter, out *output, line dryRunLine) error {
	if !out.sent {
		w.Header().Set("Content-Type", "application/x-ndjson")
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(line); err != nil {
		return fmt.Errorf("encode response: %w", err)
	}
	return out.flush()
}
