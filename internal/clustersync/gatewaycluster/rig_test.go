package gatewaycluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/gatewaycluster"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/replicate"
	"github.com/tidegate/tidegate/internal/rest"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// rig is a tidegate deployment of one gateway, with both listeners on the loopback.
type rig struct {
	t      testing.TB
	g      *gateway.Gateway
	admin  *httptest.Server
	public *httptest.Server
	// fault, if set, is asked what becomes of each request to the admin listener.
	fault atomic.Pointer[func() fate]
}

// fate is what becomes of a request.
type fate int

// The fates.
const (
	answered  fate = iota
	lost           // its connection breaks before it is carried out
	forgotten      // before its answer is sent
	cutShort       // in the middle of its answer
)

func newRig(t testing.TB) *rig {
	t.Helper()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.OpenFiles(t.TempDir(), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	startup, _, err := config.ParseStartup([]byte(`{"auth":{"bcrypt_cost":4}}`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	g, err := gateway.Open(t.Context(), gateway.Options{Store: st, Blobs: blobs, NodeID: "node", Startup: startup, Logger: log, NewReplicator: noReplicator})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- g.Run(ctx) }()
	s := rest.NewServer(rest.Deps{Gateway: g, Config: startup, Logger: log, Version: "1.0"})
	r := &rig{t: t, g: g, public: httptest.NewServer(s.Public())}
	admin := s.Admin()
	r.admin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f := r.fault.Load()
		if f == nil {
			admin.ServeHTTP(w, req)
			return
		}
		becomes := (*f)()
		if becomes == lost {
			panic(http.ErrAbortHandler)
		}
		answer := httptest.NewRecorder()
		admin.ServeHTTP(answer, req)
		maps.Copy(w.Header(), answer.Header())
		body := answer.Body.Bytes()
		switch becomes {
		case forgotten:
			panic(http.ErrAbortHandler)
		case cutShort:
			w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
			w.WriteHeader(answer.Code)
			_, _ = w.Write(body[:len(body)/2])
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
	}))
	t.Cleanup(func() {
		r.public.Close()
		r.admin.Close()
		if err := g.Close(context.Background()); err != nil {
			t.Error("close gateway:", err)
		}
		cancel()
		<-ran
		if err := st.Close(); err != nil {
			t.Error("close store:", err)
		}
	})
	return r
}

func (r *rig) uri() string { return "tidegate://" + strings.TrimPrefix(r.admin.URL, "http://") }

// connect opens a connection that looks for collections often.
func (r *rig) connect(opts gatewaycluster.Options) *gatewaycluster.Cluster {
	r.t.Helper()
	if opts.Poll == 0 {
		opts.Poll = 20 * time.Millisecond
	}
	if opts.Pauses == nil {
		opts.Pauses = []time.Duration{time.Millisecond, 20 * time.Millisecond}
	}
	c, err := gatewaycluster.Open(r.t.Context(), r.uri(), opts)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) cluster() *gatewaycluster.Cluster {
	c := r.connect(gatewaycluster.Options{})
	r.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// ask makes a request of a person's client and decodes the answer.
func (r *rig) ask(server *httptest.Server, method, path, body string, out any) error {
	req, err := http.NewRequestWithContext(r.t.Context(), method, server.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return &status{resp.StatusCode, string(raw)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(raw, out)
}

// status is an answer that is an error.
type status struct {
	code int
	body string
}

func (s *status) Error() string { return fmt.Sprintf("%d %s", s.code, s.body) }

// must asks the admin listener and ends the test on an error.
func (r *rig) must(method, path, body string) map[string]any {
	r.t.Helper()
	var raw json.RawMessage
	if err := r.ask(r.admin, method, path, body, nil); err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	if method != http.MethodGet {
		return nil
	}
	if err := r.ask(r.admin, method, path, body, &raw); err != nil {
		r.t.Fatal(err)
	}
	var out map[string]any
	_ = json.Unmarshal(raw, &out)
	return out
}

// check looks into a database's stored form and returns what is wrong with it.
func (r *rig) check(db string) ([]string, error) {
	running, err := r.g.Database(db)
	if err != nil {
		return nil, err
	}
	report, err := running.DB().Check(r.t.Context(), database.CheckOptions{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range report.Problems {
		out = append(out, fmt.Sprint(p))
	}
	return out, nil
}

func path(ns clustersync.Namespace, rest string) string {
	return "/" + url.PathEscape(ns.Database+"."+ns.Collection) + "/" + rest
}

func ns(db, coll string) clustersync.Namespace {
	return clustersync.Namespace{Database: db, Collection: coll}
}

// noReplicator runs nothing: there are no replications here.
func noReplicator(replicate.ActiveOptions) (gateway.Replicator, error) {
	return nil, errors.New("no replications in this test")
}
