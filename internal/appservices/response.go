package appservices

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// reply answers with a value as JSON.
func (c *call) reply(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	c.write(status, b)
	return nil
}

func (c *call) write(status int, body []byte) {
	h := c.w.Header()
	// Exactly so: one family of clients compares for equality (device-sync.md §3.2).
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body) // who went away is told nothing
}

func (c *call) noContent() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// errorBody is the shape of errors (device-sync.md §3.3).
type errorBody struct {
	Error string `json:"error"`
	Code  string `json:"error_code"`
	Link  string `json:"link"`
}

func (c *call) writeError(e *apiError) {
	if e.status == http.StatusTooManyRequests || e.status == http.StatusServiceUnavailable {
		c.w.Header().Set("Retry-After", "30")
	}
	b, err := json.Marshal(errorBody{e.text, e.code, c.link()})
	if err != nil {
		b = []byte(`{"error":"internal error","error_code":"InternalServerError","link":""}`)
	}
	c.write(e.status, b)
}

// link is the address of the log entry of this request, or of this server where no app is known.
func (c *call) link() string {
	scheme := "http"
	if c.TLS != nil {
		scheme = "https"
	}
	base := url.URL{Scheme: scheme, Host: c.Host}
	if c.app != nil {
		base.Path = "/_console/groups/" + c.app.GroupID + "/apps/" + c.app.ID + "/logs"
		base.RawQuery = url.Values{"co_id": {c.id}}.Encode()
	}
	return base.String()
}
