package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// This file is the gate of device sync (device-sync.md §12.4): what replicates is refused while sync is paused or terminated. Routes
// with the flag syncs are what replication uses; requests that replicate only sometimes ask gate themselves.

// The headers of replication endpoints.
const (
	headerSyncEpoch = "X-Tidegate-Sync-Epoch"
	headerSyncState = "X-Tidegate-Sync-State"
)

// peerGateway is the client parameter of other gateways.
const peerGateway = "sgr2"

// syncAccess is what a request of replication wants. On the admin listener it is administration, except for connections that replicate.
func (r *request) syncAccess() devicesync.Access {
	return devicesync.Access{
		Peer:            r.q.text("client") == peerGateway,
		AdminFeed:       r.listener == admin && !r.route.has(replicates),
		CheckpointWrite: strings.HasPrefix(r.route.pattern, "/{ks}/_local/") && r.Method != http.MethodGet && r.Method != http.MethodHead,
	}
}

// gate lets a request of replication pass, or returns why it is refused. It says in the answer which epoch it is, and refuses a client
// that says that it is in another one (§12.5).
func (r *request) gate() error {
	row := r.running.DeviceSync().Live().Row()
	h := r.answer.Header()
	h.Set(headerSyncEpoch, row.Record.Epoch.ID)
	if err := r.running.DeviceSync().Allow(r.syncAccess()); err != nil {
		h.Set(headerSyncState, row.Record.Word())
		return err
	}
	if epoch := r.Header.Get(headerSyncEpoch); epoch != "" && epoch != row.Record.Epoch.ID {
		return &epochMismatch{row}
	}
	r.syncs, r.admitted = true, row.Record.Epoch.No
	r.markAdmitted()
	return nil
}

// markAdmitted says to the request's Handle, once both are there, what device sync let it in as.
func (r *request) markAdmitted() {
	if r.syncs && r.handle != nil {
		r.handle = r.handle.Admitted(r.syncAccess(), r.admitted)
	}
}

// sessionInfo describes a connection or feed that stays open.
func (r *request) sessionInfo(kind, since string) devicesync.Session {
	return devicesync.Session{Kind: kind, User: r.userName(), Since: since, Remote: r.RemoteAddr}
}

// epochMismatch refuses a client that is in another epoch than the database.
type epochMismatch struct{ row *devicesync.Row }

var errEpochMismatch = tidegate.Errorf(tidegate.Conflict, "sync_epoch_mismatch")

func (e *epochMismatch) Error() string { return errEpochMismatch.Error() }
func (e *epochMismatch) Unwrap() error { return errEpochMismatch }

// syncDetail is the member sync of an error's body.
type syncDetail struct {
	Code         string `json:"code"`
	State        string `json:"state"`
	Epoch        string `json:"epoch"`
	RetryAfter   int    `json:"retry_after,omitempty"` // seconds
	Verdict      string `json:"verdict,omitempty"`
	Reason       string `json:"reason,omitempty"`
	RealmCode    int    `json:"realm_code,omitempty"`
	RealmMessage string `json:"realm_message,omitempty"`
}

// syncDetailOf describes an error that device sync has to do with; nil for others.
func (r *request) syncDetailOf(err error) *syncDetail {
	if gate, ok := errors.AsType[*devicesync.GateError](err); ok {
		d := &syncDetail{
			Code: string(gate.Code), State: string(gate.State), Epoch: gate.Epoch,
			RealmCode: devicesync.RealmNotEnabled, RealmMessage: devicesync.RealmNotEnabledMessage,
		}
		if !gate.Stop {
			d.RetryAfter = devicesync.RetryAfter
		}
		return d
	}
	if e, ok := errors.AsType[*epochMismatch](err); ok {
		v := e.row.Judge(devicesync.Claim{Retired: true, RetiredLast: e.row.Record.LedgerFloor}, 0)
		return verdictDetail("sync_epoch_mismatch", e.row, devicesync.Verdict{Kind: v.Kind, Reason: devicesync.EpochChanged})
	}
	if e, ok := errors.AsType[*database.ResetRequired](err); ok && r.running != nil {
		return verdictDetail("client_reset_required", r.running.DeviceSync().Live().Row(), e.Verdict)
	}
	return nil
}

func verdictDetail(code string, row *devicesync.Row, v devicesync.Verdict) *syncDetail {
	d := &syncDetail{
		Code: code, State: string(row.Record.State), Epoch: row.Record.Epoch.ID, Verdict: string(v.Kind), Reason: string(v.Reason),
	}
	d.RealmCode, d.RealmMessage = v.Reason.RealmCode()
	return d
}

// appendSyncDetail completes an error's body, without its last brace, with what device sync says.
func appendSyncDetail(b []byte, d *syncDetail) []byte {
	if d == nil {
		return b
	}
	detail, err := json.Marshal(d) // strings and numbers: it cannot fail
	if err != nil {
		return b
	}
	return append(append(b, `,"sync":`...), detail...)
}

// refuseUpgrade refuses a connection of replication with a status line that says why: Couchbase Lite shows its phrase as the message. It
// reports whether it could; if not, nothing was sent.
func (s *Server) refuseUpgrade(w *response, r *request, err error) bool {
	gate, ok := errors.AsType[*devicesync.GateError](err)
	if !ok || !r.route.has(replicates) || checkUpgrade(w, r) != nil {
		return false
	}
	h := w.Header().Clone()
	h.Del("Upgrade")
	status := errorStatus(err)
	body := s.appendError(nil, r, status, err)
	conn, ok, err := hijack(w, socketBuffers{})
	if err != nil || !ok {
		return ok
	}
	defer conn.Close()
	h.Set("Content-Type", jsonType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Connection", "close")
	setRetryAfter(h, status, gate)
	// A client that is gone cannot be told anything.
	if writeHead(conn, "HTTP/1.1", strconv.Itoa(status)+" "+string(gate.Code), h, refusalTimeout) == nil {
		_ = conn.WriteWithin(body, refusalTimeout)
	}
	return true
}

// refusalTimeout is how long a client may take to read a refusal.
const refusalTimeout = 10 * time.Second

// setRetryAfter says when to try again, with what can be.
func setRetryAfter(h http.Header, status int, err error) {
	if status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
		return
	}
	after := 5
	if _, ok := errors.AsType[*devicesync.GateError](err); ok {
		after = devicesync.RetryAfter
	}
	h.Set("Retry-After", strconv.Itoa(after))
}
