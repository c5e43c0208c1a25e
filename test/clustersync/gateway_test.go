package clustersync

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
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/gatewaycluster"
)

// gatewayServer is a `tidegate serve`.
type gatewayServer struct {
	*process
	admin string // host:port of its admin listener
	http  http.Client
}

func newGateway(t testing.TB) endpoint {
	t.Helper()
	ready := make(chan string, 1)
	p := run(t, func(line []byte) {
		var entry struct{ Msg, Listener, Address string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "listening" && entry.Listener == "admin" {
			ready <- entry.Address
		}
	}, "serve", "--data", t.TempDir(), "--public", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--log-format", "json")
	g := &gatewayServer{process: p, http: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: time.Minute}}
	select {
	case g.admin = <-ready:
	case <-p.done:
		t.Fatalf("the gateway ended while starting:\n%s", p.log)
	}
	return g
}

func (g *gatewayServer) kind() clustersync.Kind { return clustersync.Tidegate }
func (g *gatewayServer) uri() string            { return "tidegate://" + g.admin }

func (g *gatewayServer) open(t testing.TB) clustersync.Cluster {
	t.Helper()
	c, err := gatewaycluster.Open(t.Context(), g.uri(), gatewaycluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// httpError is an answer that is an error.
type httpError struct {
	status int
	body   string
}

func (e *httpError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

func hasStatus(err error, status int) bool {
	var h *httpError
	return errors.As(err, &h) && h.status == status
}

func (g *gatewayServer) ask(ctx context.Context, method, path string, body, out any) error {
	var r io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+g.admin+path, r)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	res, err := g.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return &httpError{res.StatusCode, string(raw)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(raw, out)
}

func keyspace(ns clustersync.Namespace) string {
	return "/" + url.PathEscape(ns.Database+"."+ns.Collection) + "/"
}

func scopes(ns clustersync.Namespace, config any) map[string]any {
	scope, coll, _ := strings.Cut(ns.Collection, ".")
	return map[string]any{"scopes": map[string]any{scope: map[string]any{"collections": map[string]any{coll: config}}}}
}

func (g *gatewayServer) create(ctx context.Context, ns clustersync.Namespace) error {
	err := g.ask(ctx, http.MethodPut, "/"+ns.Database+"/", scopes(ns, struct{}{}), nil)
	if hasStatus(err, http.StatusPreconditionFailed) {
		return g.ask(ctx, http.MethodPost, "/"+ns.Database+"/_config", scopes(ns, struct{}{}), nil)
	}
	return err
}

func (g *gatewayServer) drop(ctx context.Context, ns clustersync.Namespace) error {
	return g.ask(ctx, http.MethodPost, "/"+ns.Database+"/_config", scopes(ns, nil), nil)
}

func (g *gatewayServer) rename(context.Context, clustersync.Namespace, clustersync.Namespace) error {
	return errNotHad
}

func (g *gatewayServer) index(context.Context, clustersync.Namespace, string, bool) error {
	return errNotHad
}

func (g *gatewayServer) dropIndex(context.Context, clustersync.Namespace, string) error {
	return errNotHad
}

func (d document) json(rev string) map[string]any {
	m := map[string]any{"_id": d.ID, "n": d.N, "text": d.Text, "tags": d.Tags, "inner": map[string]any{"n": d.N}}
	if rev != "" {
		m["_rev"] = rev
	}
	return m
}

func (g *gatewayServer) load(ctx context.Context, ns clustersync.Namespace, docs []document) error {
	all := make([]any, len(docs))
	for i, d := range docs {
		all[i] = d.json("")
	}
	return g.ask(ctx, http.MethodPost, keyspace(ns)+"_bulk_docs", map[string]any{"docs": all}, nil)
}

// rev is the current revision of a document; "" if there is none.
func (g *gatewayServer) rev(ctx context.Context, ns clustersync.Namespace, id string) (string, error) {
	var doc struct {
		Rev string `json:"_rev"`
	}
	err := g.ask(ctx, http.MethodGet, keyspace(ns)+id, nil, &doc)
	if hasStatus(err, http.StatusNotFound) {
		return "", nil
	}
	return doc.Rev, err
}

func (g *gatewayServer) put(ctx context.Context, ns clustersync.Namespace, d document) error {
	rev, err := g.rev(ctx, ns, d.ID)
	if err != nil {
		return err
	}
	return g.ask(ctx, http.MethodPut, keyspace(ns)+d.ID, d.json(rev), nil)
}

func (g *gatewayServer) update(ctx context.Context, ns clustersync.Namespace, d document) error {
	rev, err := g.rev(ctx, ns, d.ID)
	if err != nil || rev == "" {
		return err
	}
	return g.ask(ctx, http.MethodPut, keyspace(ns)+d.ID, d.json(rev), nil)
}

func (g *gatewayServer) remove(ctx context.Context, ns clustersync.Namespace, id string) error {
	rev, err := g.rev(ctx, ns, id)
	if err != nil || rev == "" {
		return err
	}
	return g.ask(ctx, http.MethodDelete, keyspace(ns)+id+"?rev="+rev, nil, nil)
}

func (g *gatewayServer) all(ctx context.Context, ns clustersync.Namespace) (map[string]string, error) {
	const page = 5000
	out := map[string]string{}
	for from := ""; ; {
		var rows struct {
			Rows []struct {
				ID  string
				Doc json.RawMessage
			}
		}
		query := url.Values{"include_docs": {"true"}, "limit": {fmt.Sprint(page)}}
		if from != "" {
			query.Set("startkey", fmt.Sprintf("%q", from))
		}
		if err := g.ask(ctx, http.MethodGet, keyspace(ns)+"_all_docs?"+query.Encode(), nil, &rows); err != nil {
			if hasStatus(err, http.StatusNotFound) {
				return out, nil
			}
			return nil, err
		}
		for _, r := range rows.Rows {
			text, err := sortedJSON(r.Doc)
			if err != nil {
				return nil, err
			}
			out[r.ID], from = text, r.ID
		}
		if len(rows.Rows) < page {
			return out, nil
		}
	}
}

func (g *gatewayServer) refused(err error) bool {
	return hasStatus(err, http.StatusServiceUnavailable) || hasStatus(err, http.StatusForbidden) || hasStatus(err, http.StatusLocked)
}
