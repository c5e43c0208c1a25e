package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// client calls an API of this process as one identity.
type client struct {
	handler  http.Handler // nil: there is no such API
	identity Identity
	prefix   string // of every path
	origin   string // value of X-BAAS-Request-Origin; "" for none
}

// maxAnswer bounds what is kept of an answer, in bytes; callTimeout how long one may take.
const (
	maxAnswer   = 96 << 20
	callTimeout = 60 * time.Second
)

var errNoAPI = &pageError{http.StatusNotFound, "Not available", "This server was started without that API."}

var errNoRole = &apiError{http.StatusForbidden, "Unauthorized", "device sync is administered by accounts that may administer the whole server."}

// apiError is an answer of an API that is none of success.
type apiError struct {
	Status int
	Code   string // "not_found", "conflict", … or an error_code of App Services
	Reason string // a sentence
}

func (e *apiError) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Reason) }

// statusOf returns the status of an API's error, 0 if err is none.
func statusOf(err error) int {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e.Status
	}
	return 0
}

// reasonOf returns the sentence to show beside what was refused.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e.Reason
	}
	if e, ok := errors.AsType[*pageError](err); ok {
		return e.words
	}
	return err.Error()
}

func isUnauthorized(err error) bool { return statusOf(err) == http.StatusUnauthorized }

// pathOf joins segments, each escaped, to a path: pathOf("db", "_user", "a/b") is "/db/_user/a%2Fb".
func pathOf(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// answer is a whole answer.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// get reads JSON into out.
func (cl *client) get(ctx context.Context, path string, query url.Values, out any) error {
	return cl.send(ctx, http.MethodGet, path, query, nil, out)
}

// send sends body, as JSON unless it is []byte or nil, and reads the answer's JSON into out unless that is nil.
// An answer that is no success is an *apiError.
func (cl *client) send(ctx context.Context, method, path string, query url.Values, body, out any) error {
	var raw []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		raw = b
	default:
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return fmt.Errorf("write request for %s: %w", path, err)
		}
	}
	a, err := cl.call(ctx, method, path, query, raw, nil)
	if err != nil {
		return err
	}
	if out == nil || len(a.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(a.Body, out); err != nil {
		return fmt.Errorf("read answer of %s %s: %w", method, path, err)
	}
	return nil
}

// call makes a request and returns the whole answer. An answer that is no success is an *apiError.
func (cl *client) call(ctx context.Context, method, path string, query url.Values, body []byte, header http.Header) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return cl.longCall(ctx, method, path, query, body, header)
}

// longCall is call without a limit of time but that of ctx.
func (cl *client) longCall(ctx context.Context, method, path string, query url.Values, body []byte, header http.Header) (*answer, error) {
	rec := &recorder{header: make(http.Header)}
	if err := cl.do(ctx, rec, method, path, query, body, header); err != nil {
		return nil, err
	}
	a := &answer{Status: rec.statusCode(), Header: rec.header, Body: rec.body.Bytes()}
	if rec.full {
		return nil, fmt.Errorf("call %s %s: the answer is longer than %d bytes", method, path, maxAnswer)
	}
	if a.Status == http.StatusUnauthorized && cl.prefix != "" {
		return nil, errNoRole // whoever is logged in here is nobody there
	}
	if a.Status/100 != 2 {
		return nil, readError(a)
	}
	return a, nil
}

// do gives a request to the handler.
func (cl *client) do(ctx context.Context, w http.ResponseWriter, method, path string, query url.Values, body []byte, header http.Header) (err error) {
	if cl.handler == nil {
		return errNoAPI
	}
	target := cl.prefix + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+target, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request for %s: %w", path, err)
	}
	r.RequestURI, r.RemoteAddr = target, "console"
	r.Header.Set("Accept", "*/*")
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	if cl.origin != "" {
		r.Header.Set("X-BAAS-Request-Origin", cl.origin)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	defer func() {
		if v := recover(); v == http.ErrAbortHandler {
			err = fmt.Errorf("call %s %s: the answer broke off", method, path)
		} else if v != nil {
			panic(v)
		}
	}()
	cl.handler.ServeHTTP(w, cl.identity.Sign(r))
	return nil
}

// readError reads the error of either API.
func readError(a *answer) error {
	var e struct {
		Error, Reason string
		ErrorCode     string `json:"error_code"`
	}
	_ = json.Unmarshal(a.Body, &e) // what is no JSON has no reason
	out := &apiError{Status: a.Status, Code: e.Error, Reason: e.Reason}
	if e.ErrorCode != "" {
		out.Code, out.Reason = e.ErrorCode, e.Error
	}
	if out.Reason == "" {
		out.Reason = http.StatusText(a.Status)
	}
	return out
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
	full   bool // there was more
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	if r.body.Len()+len(b) > maxAnswer {
		r.full = true
		return 0, io.ErrShortWrite
	}
	return r.body.Write(b)
}

func (r *recorder) statusCode() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

// explain finds the words for an error that a page is about.
func explain(err error) *pageError {
	if e, ok := errors.AsType[*pageError](err); ok {
		return e
	}
	e, ok := errors.AsType[*apiError](err)
	if !ok {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return &pageError{http.StatusGatewayTimeout, "That took too long", "The server did not answer in time. What was asked for may still have happened: look before you repeat it."}
		}
		return &pageError{http.StatusInternalServerError, "Something went wrong", "The server's log says more: " + err.Error()}
	}
	switch e.Status {
	case http.StatusForbidden:
		return &pageError{e.Status, "You may not do this", "Your account's role does not allow it: " + e.Reason}
	case http.StatusNotFound:
		return &pageError{e.Status, "Not found", e.Reason}
	case http.StatusConflict:
		return &pageError{e.Status, "Somebody was faster", e.Reason}
	case http.StatusServiceUnavailable:
		return &pageError{e.Status, "Not available now", e.Reason}
	}
	if e.Status < http.StatusInternalServerError {
		return &pageError{e.Status, "The server refused this", e.Reason}
	}
	return &pageError{http.StatusBadGateway, "The server failed", e.Reason}
}
