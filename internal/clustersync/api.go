package clustersync

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// API serves the HTTP API of a cluster sync (spec §3): mongosync's calls, the metrics, what each namespace is at, and a page for people.
type API struct {
	control  *Control
	log      *slog.Logger
	loopback bool
	host     string
	routes   map[string]route
}

// APIOptions of an API.
type APIOptions struct {
	Log *slog.Logger
	// Loopback: it is served to this machine only, so that a request for another host comes from a page that has had its own name point
	// here.
	Loopback bool
	Host     string // a name besides localhost, 127.0.0.1 and ::1 that it is served under; may be empty
}

// Bounds of requests.
const (
	maxBody         = 1 << 20 // bytes of a body: 413 beyond
	maxLoggedBody   = 1_024   // bytes of a body in the log
	traceIDHeader   = "Trace-Id"
	contentTypeJSON = "application/json"
)

// route is what is at a path. answer is for JSON, serve for everything else.
type route struct {
	method string
	answer func(ctx context.Context, body []byte) (any, error)
	serve  http.Handler
}

// NewAPI makes the API of a Control.
func NewAPI(c *Control, opts APIOptions) *API {
	a := &API{control: c, log: opts.Log, loopback: opts.Loopback, host: strings.ToLower(opts.Host)}
	a.routes = map[string]route{
		"/api/v1/start":      {method: http.MethodPost, answer: a.start},
		"/api/v1/pause":      {method: http.MethodPost, answer: without(c.Pause)},
		"/api/v1/resume":     {method: http.MethodPost, answer: without(c.Resume)},
		"/api/v1/commit":     {method: http.MethodPost, answer: without(c.Commit)},
		"/api/v1/reverse":    {method: http.MethodPost, answer: without(c.Reverse)},
		"/api/v1/progress":   {method: http.MethodGet, answer: a.progress},
		"/api/v1/namespaces": {method: http.MethodGet, answer: a.namespaces},
		"/metrics":           {method: http.MethodGet, serve: c.metricsHandler()},
	}
	for path, h := range pageHandlers() {
		a.routes[path] = route{method: http.MethodGet, serve: h}
	}
	return a
}

// start answers POST /api/v1/start.
func (a *API) start(ctx context.Context, body []byte) (any, error) {
	req, err := ParseStart(body)
	if err != nil {
		return nil, err
	}
	return success{true}, a.control.Start(ctx, req)
}

// without answers a call that takes no parameters.
func without(call func(context.Context) error) func(context.Context, []byte) (any, error) {
	return func(ctx context.Context, body []byte) (any, error) {
		if err := ParseEmpty(body); err != nil {
			return nil, err
		}
		return success{true}, call(ctx)
	}
}

// progress answers GET /api/v1/progress.
func (a *API) progress(context.Context, []byte) (any, error) {
	p, err := a.control.Progress()
	return progressAnswer{p, true}, err
}

// namespaces answers GET /api/v1/namespaces, which mongosync does not have.
func (a *API) namespaces(context.Context, []byte) (any, error) {
	return namespacesAnswer{a.control.Namespaces(), true}, nil
}

// The answers (spec §3, envelope).
type (
	success struct {
		Success bool `json:"success"`
	}
	progressAnswer struct {
		Progress Progress `json:"progress"`
		Success  bool     `json:"success"`
	}
	namespacesAnswer struct {
		Namespaces []NamespaceStatus `json:"namespaces"`
		Success    bool              `json:"success"`
	}
	failure struct {
		Success     bool      `json:"success"`
		Error       ErrorName `json:"error"`
		Description string    `json:"errorDescription"`
	}
)

// ServeHTTP answers a request and writes its two lines into the log (spec §21.2).
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	trace := newUUID()
	log := a.log.With("traceID", trace)
	w.Header().Set(traceIDHeader, trace)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	rec := &recorder{ResponseWriter: w}
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			log.Error("Panic in a request", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			if rec.status == 0 {
				a.refuse(rec, r, http.StatusInternalServerError, Errorf(InternalError, "internal error; the log has more under traceID %s", trace))
			}
		}
		log.Log(r.Context(), levelOf(r), "sent response", "status", rec.status, "bytesWritten", rec.written, "latency", time.Since(began).String(), "body", string(rec.start))
	}()
	a.handle(rec, r, log)
}

// levelOf a request's lines: what is asked all the time is only for those who look closely.
func levelOf(r *http.Request) slog.Level {
	if r.Method == http.MethodPost {
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

func (a *API) handle(w *recorder, r *http.Request, log *slog.Logger) {
	path := r.URL.Path
	if path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	rt, known := a.routes[path]
	body, err := readBody(w, r)
	log.Log(r.Context(), levelOf(r), "Received request", "uri", shorten(r.URL.Path), "method", r.Method, "body", shorten(string(body)), "clientIP", clientIP(r))
	tooLarge, isTooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case !a.hostAllowed(r):
		a.refuse(w, r, http.StatusForbidden, Errorf(InvalidRequest, "this service answers to localhost only; the request is for another host"))
	case !originAllowed(r):
		a.refuse(w, r, http.StatusForbidden, Errorf(InvalidRequest, "requests from pages of other sites are refused"))
	case !known:
		a.refuse(w, r, http.StatusNotFound, Errorf(InvalidRequest, "there is nothing at this path"))
	case r.Method != rt.method && (rt.method != http.MethodGet || r.Method != http.MethodHead):
		w.Header().Set("Allow", rt.method)
		a.refuse(w, r, http.StatusMethodNotAllowed, Errorf(InvalidRequest, "only %s is allowed at this path", rt.method))
	case isTooLarge:
		a.refuse(w, r, http.StatusRequestEntityTooLarge, Errorf(InvalidRequest, "the body is larger than %d bytes", tooLarge.Limit))
	case err != nil:
		a.refuse(w, r, http.StatusBadRequest, Errorf(InvalidRequest, "the body could not be read"))
	case rt.serve != nil:
		rt.serve.ServeHTTP(w, r)
	default:
		answer, err := rt.answer(r.Context(), body)
		if err != nil {
			a.refuse(w, r, statusOf(err), err)
			return
		}
		a.reply(w, r, http.StatusOK, answer)
	}
}

// statusOf the failure of a call (spec §3): what a script has to look at is in the body.
func statusOf(err error) int {
	switch NameOf(err) {
	case InvalidRequest:
		return http.StatusBadRequest
	case InternalError:
		return http.StatusInternalServerError
	default:
		return http.StatusOK
	}
}

func (a *API) refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	a.reply(w, r, status, failure{false, NameOf(err), err.Error()})
}

func (a *API) reply(w http.ResponseWriter, r *http.Request, status int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		a.log.Error("An answer could not be written down", "error", err)
		status, body = http.StatusInternalServerError, []byte(`{"success":false,"error":"InternalError","errorDescription":"the answer could not be written down"}`)
	}
	h := w.Header()
	h.Set("Content-Type", contentTypeJSON)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // if the client is gone nobody is left to tell
	}
}

// hostAllowed stops pages whose own name was made to point here (DNS rebinding).
func (a *API) hostAllowed(r *http.Request) bool {
	if !a.loopback {
		return true
	}
	host := r.Host
	if h, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		host = h
	}
	switch name := strings.ToLower(strings.Trim(host, "[]")); name {
	case "localhost", "127.0.0.1", "::1":
		return true
	default:
		return name != "" && name == a.host
	}
}

// originAllowed stops other sites' pages; those of this server and what is no browser pass.
func originAllowed(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	u, err := url.Parse(origins[0])
	return err == nil && len(origins) == 1 && u.Scheme == "http" && u.User == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
}

func clientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// shorten cuts what is too long for the log (spec §21.1).
func shorten(s string) string {
	if len(s) <= maxLoggedBody {
		return s
	}
	return strings.ToValidUTF8(s[:maxLoggedBody], "") + "…"
}

// recorder remembers what was answered, for the log.
type recorder struct {
	http.ResponseWriter
	status  int
	written int64
	start   []byte // of a JSON body
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if room := maxLoggedBody - len(r.start); room > 0 && r.Header().Get("Content-Type") == contentTypeJSON {
		r.start = append(r.start, b[:min(room, len(b))]...)
	}
	n, err := r.ResponseWriter.Write(b)
	r.written += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController through.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// newUUID returns a random UUID.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
