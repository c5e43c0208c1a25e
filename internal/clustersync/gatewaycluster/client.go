package gatewaycluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Limits of requests.
const (
	maxConns      = 64
	maxIdleConns  = 32
	headerTimeout = 5 * time.Minute // until an answer begins
	maxAnswer     = 64 << 20        // of an answer that is read whole
	maxErrorBody  = 64 << 10
	maxReason     = 500 // of a server's words in an error
)

// bypassHeader has the sync's writes pass the write block.
const bypassHeader = "Tidegate-Bypass-Write-Block"

// client makes requests to the admin API. Every request that it makes may be made twice.
type client struct {
	addr address
	http *http.Client
	log  *slog.Logger
	// pauses are made before a request that failed in a way that may pass is made again.
	pauses []time.Duration
	at     atomic.Uint32 // the host that is asked
}

// apiError is an answer that is an error.
type apiError struct {
	Status int
	Reason string
}

func (e *apiError) Error() string {
	return fmt.Sprintf("the gateway answers %d: %s", e.Status, e.Reason)
}

// Unwrap says what the engine makes of it.
func (e *apiError) Unwrap() error {
	switch {
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		return clustersync.ErrUnauthorized
	case e.Status == http.StatusNotFound:
		return clustersync.ErrNotFound
	case e.Status == http.StatusPreconditionFailed:
		return clustersync.ErrExists
	case e.Status == http.StatusRequestEntityTooLarge:
		return clustersync.ErrTooLarge
	case e.Status == http.StatusTooManyRequests, e.Status == http.StatusBadGateway, e.Status == http.StatusServiceUnavailable, e.Status == http.StatusGatewayTimeout:
		return clustersync.ErrUnreachable
	}
	return nil
}

func isStatus(err error, status int) bool {
	var e *apiError
	return errors.As(err, &e) && e.Status == status
}

func isNotFound(err error) bool { return isStatus(err, http.StatusNotFound) }

// call is a request.
type call struct {
	method, path string
	query        url.Values
	body         []byte
	header       http.Header
}

// open makes the request and returns the answer's body, to be closed.
func (c *client) open(ctx context.Context, r call) (io.ReadCloser, http.Header, error) {
	for try := 0; ; try++ {
		body, header, err := c.once(ctx, r)
		if err == nil || !errors.Is(err, clustersync.ErrUnreachable) || try >= len(c.pauses) || ctx.Err() != nil {
			return body, header, err
		}
		c.at.Add(1)
		if err := pause(ctx, c.pauses[try]); err != nil {
			return nil, nil, err
		}
	}
}

// pause waits, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-wait.C:
		return nil
	}
}

func (c *client) once(ctx context.Context, r call) (io.ReadCloser, http.Header, error) {
	host := c.addr.hosts[int(c.at.Load())%len(c.addr.hosts)]
	target := c.addr.scheme + "://" + host + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(r.body))
	if err != nil {
		return nil, nil, fmt.Errorf("make a request for %s: %w", r.path, err)
	}
	if r.body == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set(bypassHeader, "true")
	if c.addr.user != "" {
		req.SetBasicAuth(c.addr.user, string(c.addr.password))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, unreachable(ctx, host, err)
	}
	if resp.StatusCode < 300 {
		return resp.Body, resp.Header, nil
	}
	defer resp.Body.Close()
	return nil, resp.Header, fmt.Errorf("%s %s: %w", r.method, r.path, readError(resp))
}

// unreachable describes a request that got no answer. The client's error quotes the URL, so only what is below it is kept.
func unreachable(ctx context.Context, host string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if e := new(url.Error); errors.As(err, &e) {
		err = e.Err
	}
	return fmt.Errorf("gateway %s: %w: %w", host, clustersync.ErrUnreachable, err)
}

// readError reads an error's body.
func readError(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	var said struct{ Reason string }
	_ = json.Unmarshal(raw, &said)
	if said.Reason == "" {
		said.Reason = http.StatusText(resp.StatusCode)
	}
	return &apiError{resp.StatusCode, cut(said.Reason, maxReason)}
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// do makes the request and decodes the answer into out, unless that is nil.
func (c *client) do(ctx context.Context, r call, out any) (http.Header, error) {
	body, header, err := c.open(ctx, r)
	if err != nil {
		return header, err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	switch {
	case err != nil:
		return header, unreachable(ctx, r.path, err)
	case len(raw) > maxAnswer:
		return header, fmt.Errorf("%s %s: the answer is longer than %d bytes", r.method, r.path, maxAnswer)
	case out == nil:
		return header, nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return header, fmt.Errorf("%s %s: decode the answer: %w", r.method, r.path, err)
	}
	return header, nil
}

func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	_, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query}, out)
	return err
}

func (c *client) post(ctx context.Context, path string, query url.Values, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode a request for %s: %w", path, err)
	}
	_, err = c.do(ctx, call{method: http.MethodPost, path: path, query: query, body: body}, out)
	return err
}

// dbPath is the path of a database, with a slash at the end.
func dbPath(db string) string { return "/" + url.PathEscape(db) + "/" }

// keyspace is the path of a collection, with a slash at the end.
func keyspace(ns clustersync.Namespace) string {
	return "/" + url.PathEscape(ns.Database+"."+ns.Collection) + "/"
}
