package appservices

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/store"
)

// BasePath is where a Server is mounted on the admin listener.
const BasePath = "/api/admin/v3.0"

// Bounds of what a client can make the server keep or read (docs/admin-api.md).
const (
	MaxBodyBytes       = 16 << 20 // of a request, and of what an uploaded archive holds
	MaxConfigBytes     = 1 << 20  // of the configuration of one app, schemas included
	MaxApps            = 1000     // in the group, besides the automatic ones
	MaxServices        = 20       // of an app
	MaxSchemas         = 1000     // of an app
	MaxDrafts          = 100      // of an app; one for each user
	MaxDeployments     = 100      // kept for an app; the oldest go
	MaxLogEntries      = 2000     // kept for an app; the oldest go
	MaxSessions        = 100      // logins of a user; the oldest end
	maxJSONDepth       = 128
	maxNameChars       = 64
	DefaultRefreshTTL  = 60 * 24 * time.Hour
	MinRefreshTTL      = 30 * time.Minute
	MaxRefreshTTL      = 5 * 365 * 24 * time.Hour
	accessTTL          = 30 * time.Minute
	maxArchiveFiles    = 10_000
	deploymentsPerPage = 25
)

// Options are what a Server is made of.
type Options struct {
	Gateway *gateway.Gateway
	Store   store.Store
	Keys    *access.APIKeys
	Admins  *access.AdminAccounts // who may log in with a password; nil: nobody
	Secrets *config.Keyring       // seals the key that tokens are signed with; nil: it is stored as it is
	// Guard refuses requests that a web page elsewhere has a browser send; nil: none is refused.
	Guard func(*http.Request) error
	// Journal has what is logged about device sync; nil: logs of apps hold the requests of this API alone. See Run.
	Journal    *Journal
	RefreshTTL time.Duration    // of a login; DefaultRefreshTTL if 0
	Logger     *slog.Logger     // discards if nil
	Now        func() time.Time // time.Now if nil
}

// Server answers the App Services API. It is safe for concurrent use.
type Server struct {
	opts   Options
	log    *slog.Logger
	now    func() time.Time
	ids    *idGenerator
	signer *signer
	server *serverRecord
	logs   *logRing
	table  *table

	addresses sync.Map // of the ids of apps by client_app_id, which never changes

	// changing is held by who changes an app, here: its record, drafts, deployments, and what they do to the database. See change.
	changing sync.Mutex
}

// New makes a Server: it reads or makes the server's ids and the key of its tokens, and finishes deployments that a crash
// interrupted.
func New(ctx context.Context, opts Options) (*Server, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.RefreshTTL == 0 {
		opts.RefreshTTL = DefaultRefreshTTL
	}
	if opts.RefreshTTL < MinRefreshTTL || opts.RefreshTTL > MaxRefreshTTL {
		return nil, fmt.Errorf("logins last %v; at least %v, at most %v", opts.RefreshTTL, MinRefreshTTL, MaxRefreshTTL)
	}
	s := &Server{opts: opts, log: opts.Logger, now: opts.Now, ids: newIDGenerator(opts.Now), logs: newLogRing(MaxLogEntries)}
	var err error
	if s.signer, err = openSigner(ctx, opts.Store, opts.Secrets); err != nil {
		return nil, err
	}
	if s.server, err = openServerRecord(ctx, opts.Store, s.ids); err != nil {
		return nil, err
	}
	s.table = newTable(s.routes())
	if s.opts.Gateway.Cluster().Alone() {
		return s, s.finishDeployments(ctx)
	}
	_, release, err := s.change(ctx) // which finishes them, unless another node is making one
	if err != nil {
		return nil, err
	}
	release()
	return s, nil
}

// call is a request with what the steps before its handler found out.
type call struct {
	*http.Request
	s      *Server
	w      http.ResponseWriter
	id     string // of the request
	start  time.Time
	origin string // as deployments name it: "UI", "CLI" or "Admin API"
	row    *row
	vars   map[string]string

	who Identity
	app *app   // of routes under …/apps/{app}
	raw []byte // the body
}

type identityKey struct{}

// AsUser returns a request that was authenticated elsewhere, in this process: it is who's, whatever it carries, and the guard is not
// asked.
func AsUser(r *http.Request, who Identity) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), identityKey{}, who))
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := &answer{ResponseWriter: w}
	c := &call{Request: r, s: s, w: answer, id: s.ids.next(), start: s.now(), origin: originOf(r)}
	w.Header().Set("X-Appservices-Request-Id", c.id)
	w.Header().Set("Cache-Control", "no-store")
	err := c.steps()
	if err != nil {
		e := asAPIError(err)
		if e.status == http.StatusInternalServerError {
			s.log.Error("a request of the App Services API failed", "request", c.id, "method", r.Method, "error", err)
		}
		c.writeError(e)
	}
	c.note(answer.status, err)
}

// answer notes the status of an answer.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// originOf is what a deployment says that it came from.
func originOf(r *http.Request) string {
	switch r.Header.Get("X-BAAS-Request-Origin") {
	case "mongodb-baas-ui":
		return originUI
	case "mongodb-baas-cli":
		return originCLI
	}
	return originAPI
}

// Values of a deployment's origin.
const (
	originUI  = "UI"
	originCLI = "CLI"
	originAPI = "Admin API"
)

// steps takes the request to its handler, and through it.
func (c *call) steps() error {
	trusted, isTrusted := c.Context().Value(identityKey{}).(Identity)
	if c.s.opts.Guard != nil && !isTrusted {
		if err := c.s.opts.Guard(c.Request); err != nil {
			return err
		}
	}
	path := strings.TrimPrefix(c.URL.Path, BasePath)
	item, vars := c.s.table.find(path)
	c.vars = vars
	if item != nil {
		c.row = item.rows[c.Method]
	}
	if c.row == nil || c.row.needs != nobody {
		if isTrusted {
			c.who = trusted
		} else if err := c.authenticate(); err != nil {
			return err
		}
	}
	switch {
	case item == nil:
		return fail(http.StatusNotFound, codeBadRequest, "there is no such endpoint")
	case c.row == nil:
		c.w.Header().Set("Allow", item.allow)
		return fail(http.StatusMethodNotAllowed, codeBadRequest, "method %s is not allowed here", c.Method)
	}
	if c.row.needs != nobody && c.who.Role != access.RoleOwner && c.Method != http.MethodGet {
		return errReadOnlyRole
	}
	if err := c.find(); err != nil {
		return err
	}
	if c.Method != http.MethodGet {
		var err error
		if c.raw, err = c.readBody(); err != nil { // before the lock: a client may take its time
			return err
		}
	}
	if c.Method != http.MethodGet && c.row.needs != nobody {
		within, release, err := c.s.change(c.Context())
		if err != nil {
			return err
		}
		defer release()
		c.Request = c.WithContext(within)
		if err := c.again(); err != nil {
			return err
		}
	}
	return c.row.handler(c)
}

// find looks up what the path names: the group and the app.
func (c *call) find() error {
	group, ok := c.vars["group"]
	if !ok {
		return nil
	}
	if group != c.s.server.GroupID {
		return fail(http.StatusNotFound, codeGroupNotFound, "group not found: %q", printable(group))
	}
	id, ok := c.vars["app"]
	if !ok {
		return nil
	}
	var err error
	c.app, err = c.s.findApp(c.Context(), id)
	return err
}

// again looks up the app once more, as the change before this one left it, on whatever node that was made.
func (c *call) again() error {
	if c.app == nil {
		return nil
	}
	if err := c.find(); err != nil {
		return err
	}
	if r := c.s.running(c.app); r != nil {
		return r.DeviceSync().Refresh(c.Context())
	}
	return nil
}

// printable shortens a text of a client for a message.
func printable(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}

// readBody reads the request's body. TooLarge: it is longer than MaxBodyBytes.
func (c *call) readBody() ([]byte, error) {
	if c.ContentLength > MaxBodyBytes {
		return nil, errTooLarge
	}
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, MaxBodyBytes))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, fail(http.StatusBadRequest, codeBadRequest, "the request body could not be read")
	}
	return b, nil
}

// decode reads the body, a JSON object without a member twice, into v, a pointer to a struct. Members that it does not know are
// ignored; an empty body counts as {}.
func (c *call) decode(v any) error {
	b, err := checkObject(c.raw)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return invalid("%s: a %s does not belong there", t.Field, t.Value)
		}
		return errNotObject
	}
	return nil
}

func checkObject(b []byte) ([]byte, error) {
	if len(strings.TrimSpace(string(b))) == 0 {
		return []byte("{}"), nil
	}
	if err := jsondoc.Check(b, jsondoc.Limits{Bytes: MaxBodyBytes, Depth: maxJSONDepth}); err != nil {
		return nil, fail(http.StatusBadRequest, devicesync.CodeMalformedJSON, "malformed JSON: %s", tidegate.ErrorReason(err))
	}
	if bytes.TrimLeft(b, " \t\r\n")[0] != '{' {
		return nil, errNotObject
	}
	return b, nil
}
