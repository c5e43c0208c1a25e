package chaos

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/testkit"
)

// stranger is a remote that is no gateway that can be trusted.
type stranger struct {
	name, url string
	states    []string // that the replication may be in
	reason    string   // part of what it says
}

func strangers(t *testing.T) []stranger {
	t.Helper()
	retries := []string{"reconnecting"}
	serve := func(h http.HandlerFunc) string {
		srv := httptest.NewServer(h)
		t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
		return srv.URL + "/" + db
	}
	real := startGateway(t, "real")
	real.database(nil)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	html := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html><body>Welcome</body></html>")
	}
	l := real.link()
	return []stranger{
		{"nobody", "http://" + testkit.FreePort(t).Address() + "/" + db, retries, "connection refused"},
		{"no-such-database", "http://" + l.addr() + "/other", retries, "unexpected status code"},
		{"no-such-host", "http://no-such-host.invalid/" + db, retries, "no-such-host.invalid"},
		{"a-web-site", serve(html), []string{"error", "reconnecting"}, "target"},
		{"a-redirect", serve(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+l.addr()+"/"+db+"/", http.StatusFound)
		}), retries, "redirects to another server"},
		{"unavailable", serve(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) }), retries, "unexpected status code 503"},
		{"not-trusted", secure.URL + "/" + db, retries, "certificate"},
		{"garbage", rawServer(t, "HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n"), retries, "target"},
		{"silence", rawServer(t, ""), []string{"starting", "reconnecting"}, ""},
	}
}

// rawServer answers every connection with the same bytes and then says nothing.
func rawServer(t *testing.T, answer string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			_, _ = io.WriteString(c, answer)
		}
	}()
	return "http://" + ln.Addr().String() + "/" + db
}

// says returns nil if a replication is in one of the states and gives the reason.
func (g *gateway) says(id string, states []string, reason string) error {
	s, err := g.status(id)
	if err == nil && (!slices.Contains(states, s.Status) || !strings.Contains(s.Error, reason)) {
		err = fmt.Errorf("%s is %s: %q", id, s.Status, s.Error)
	}
	return err
}

// TestMeshCertificates: a gateway behind a certificate that nobody we know has signed is a remote for those only who are told
// to skip the check, and a login that is wrong is named.
func TestMeshCertificates(t *testing.T) {
	there := startGateway(t, "there")
	there.database(nil)
	there.put("a", map[string]any{"channels": "c"})
	public, err := url.Parse(there.process().public)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(public))
	t.Cleanup(func() { front.CloseClientConnections(); front.Close() })
	remote := front.URL + "/" + db

	careful, careless := startGateway(t, "careful"), startGateway(t, "careless")
	careful.database(nil)
	careless.database(map[string]any{"unsupported": map[string]any{"sgr_tls_skip_verify": true}})
	careful.replicate("r", there.link(), "pull", map[string]any{"remote": remote})
	careless.replicate("r", there.link(), "pull", map[string]any{"remote": remote})
	careless.replicate("login", there.link(), "pull", map[string]any{"remote": remote, "remote_password": "wrong"})
	eventually(t, "one does not trust", func() error { return careful.says("r", []string{"reconnecting"}, "certificate") })
	eventually(t, "the other has the document", func() error { return equal(careless, there) })
	eventually(t, "the login is refused", func() error { return careless.says("login", []string{"reconnecting"}, "401") })
	if n, err := careful.updateSeq(); err != nil || n > 1 { // the user's document
		t.Errorf("update_seq %d of the one that does not trust, %v", n, err)
	}
}

// TestMeshForeignCheckpoints: checkpoints at the remote that are somebody else's, or ahead of the truth, lose no document.
func TestMeshForeignCheckpoints(t *testing.T) {
	here, there := startGateway(t, "here"), startGateway(t, "there")
	here.database(nil)
	there.database(nil)
	run := meshRun{0, 1, "r", "pushAndPull"}
	m := &mesh{t: t, gateways: []*gateway{here, there}, runs: []meshRun{run}}
	here.replicate(run.id, there.link(), run.direction, nil)
	here.put("first", map[string]any{"channels": "c"})
	m.converge()
	prefix := here.checkpointPrefix(run.id)
	for i, foreign := range []map[string]any{
		{"last_sequence": "99999", "config_hash": "another"},
		{"last_sequence": "99999"}, // with the hash that is right
		{"last_sequence": map[string]any{"not": "a sequence"}, "config_hash": 7},
		{"some": "thing else"},
	} {
		here.action(run.id, "stop")
		eventually(t, "it stops, and both sides agree", func() error {
			return errors.Join(here.is(run.id, "stopped"), m.agree(here, there, run))
		})
		for _, direction := range []string{"push:", "pull:"} {
			id := prefix + direction + run.id
			next := map[string]any{"config_hash": here.hash(id)}
			maps.Copy(next, foreign)
			there.overwriteLocal("checkpoint/"+id, next)
		}
		here.put(fmt.Sprintf("here%d", i), map[string]any{"channels": "c"})
		there.put(fmt.Sprintf("there%d", i), map[string]any{"channels": "c"})
		here.action(run.id, "start")
		m.converge()
	}
}

// hash is the config_hash of one of the gateway's checkpoints.
func (g *gateway) hash(checkpoint string) string {
	g.t.Helper()
	cp, err := g.checkpoint(checkpoint)
	if err != nil {
		g.t.Fatal(err)
	}
	return cp.ConfigHash
}

// overwriteLocal writes a local document, whatever it was.
func (g *gateway) overwriteLocal(id string, body map[string]any) {
	g.t.Helper()
	var old struct {
		Rev string `json:"_rev"`
	}
	path := g.url("/_local/" + url.PathEscape(id))
	next := maps.Clone(body)
	if code, err := call(http.MethodGet, path, nil, &old); err != nil || code != http.StatusOK {
		g.t.Fatalf("GET %s: status %d: %v", path, code, err)
	}
	next["_rev"] = old.Rev
	mustCall(g.t, http.MethodPut, path, next)
}
