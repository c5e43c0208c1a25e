package rest

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
)

// wsHeaders ask for a WebSocket.
var wsHeaders = []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}

// offering are the headers of a client that offers subprotocols.
func offering(protocols string, more ...string) []string {
	return append(append([]string{"Sec-WebSocket-Protocol: " + protocols}, wsHeaders...), more...)
}

const blip4 = "BLIP_3+CBMobile_4"

// blipClient is a connection on which a replication was asked for.
type blipClient struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
	resp *http.Response
}

// openBLIP asks for a replication and reads the head of the answer.
func openBLIP(t testing.TB, conn net.Conn, target string, header ...string) *blipClient {
	t.Helper()
	c := openClient(t, conn, "GET", target, "", header...)
	return &blipClient{t, conn, c.in, c.resp}
}

// opened expects that the connection has become a WebSocket.
func (c *blipClient) opened() *blipClient {
	c.t.Helper()
	if c.resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(c.resp.Body)
		c.t.Fatalf("status %d: %s", c.resp.StatusCode, body)
	}
	return c
}

// refused expects an error.
func (c *blipClient) refused(status int, reason string) {
	c.t.Helper()
	body, err := io.ReadAll(c.resp.Body)
	if err != nil || c.resp.StatusCode != status || !strings.Contains(string(body), `"reason":"`+reason+`"`) {
		c.t.Fatalf("status %d, %q, %v; want %d %q", c.resp.StatusCode, body, err, status, reason)
	}
}

// cut expects that the connection ends without a word.
func (c *blipClient) cut() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.conn); len(rest) > 0 || err != nil {
		c.t.Fatalf("at the end: %q, %v", rest, err)
	}
}

func TestBLIPNegotiation(t *testing.T) {
	for _, tt := range []struct {
		offers string
		want   int // 0: none
	}{
		{"BLIP_3+CBMobile_2", 2},
		{"BLIP_3+CBMobile_3,BLIP_3+CBMobile_2", 3},
		{"BLIP_3+CBMobile_4,BLIP_3+CBMobile_3", 4},
		{"BLIP_3+CBMobile_3, BLIP_3+CBMobile_4", 3}, // the client's order counts
		{" BLIP_3+CBMobile_2 ,BLIP_3+CBMobile_4", 2},
		{"BLIP_3+CBMobile_5,BLIP_3+CBMobile_2", 2},
		{"chat,SyncGatewaySession_x,BLIP_3+CBMobile_4", 4},
		{"BLIP_3", 0},
		{"BLIP_3+CBMobile_", 0},
		{"BLIP_3+CBMobile_1", 0},
		{"BLIP_3+CBMobile_04", 0},
		{"BLIP_3+CBMobile_+4", 0},
		{"blip_3+cbmobile_4", 0},
		{"BLIP_3+CBMobile_4 BLIP_3+CBMobile_3", 0},
		{"SyncGatewaySession_x", 0},
		{"", 0},
	} {
		got, ok := negotiateBLIP(subprotocols(http.Header{"Sec-Websocket-Protocol": {tt.offers}}))
		if got != tt.want || ok != (tt.want != 0) {
			t.Errorf("%q: version %d, %v; want %d", tt.offers, got, ok, tt.want)
		}
	}
	// A list may be spread over several lines (RFC 6455 §11.3.4).
	if got, _ := negotiateBLIP(subprotocols(http.Header{"Sec-Websocket-Protocol": {"a, b", "BLIP_3+CBMobile_3"}})); got != 3 {
		t.Errorf("over two lines: %d", got)
	}
}

// What Couchbase Lite looks at in the answer (blip.md §1.5).
func TestBLIPSwitch(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		c := openBLIP(t, dial(), "/db/_blipsync", offering("BLIP_3+CBMobile_3,BLIP_3+CBMobile_2")...).opened()
		for name, want := range map[string]string{
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
			"Sec-Websocket-Protocol": "BLIP_3+CBMobile_3", "Sec-Websocket-Extensions": "", "Content-Encoding": "", "Set-Cookie": "",
		} {
			if got := strings.Join(c.resp.Header.Values(name), "|"); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if id := c.resp.Header.Get("X-Correlation-Id"); !regexp.MustCompile(`^[0-9a-f]{16}$`).MatchString(id) {
			t.Errorf("correlation id %q", id)
		}
		if n := r.server.feeds.count(); n != 1 {
			t.Errorf("%d feeds are counted", n)
		}
		_ = c.conn.Close()
		synctest.Wait()
		if n := r.server.feeds.count(); n != 0 {
			t.Errorf("%d feeds are counted after the end", n)
		}
	})
}

func TestBLIPRefusals(t *testing.T) {
	r := newRig(t, rigOptions{startup: `{"auth":{"bcrypt_cost":4},"api":{"cors":{"origin":["https://app.example"]}}}`})
	r.a("PUT", "/db/_user/bob", `{"password":"letmein"}`).is(201)
	bob := basic("bob", "letmein")
	const target = "/db/_blipsync"
	r.a("GET", target, "").has("Upgrade", "websocket").fails(426, "this needs a WebSocket upgrade")
	r.p("GET", target, "", bob).fails(426, "this needs a WebSocket upgrade")
	for _, method := range []string{"POST", "PUT", "HEAD", "DELETE"} {
		r.p(method, target, "", offering(blip4, bob)...).has("Allow", "GET").is(405)
	}
	r.a("GET", target, "", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8").fails(426, "unsupported WebSocket version")
	r.a("GET", target, "", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13").fails(400, "bad Sec-WebSocket-Key")
	for _, offers := range []string{"BLIP_3", "BLIP_3+CBMobile_1,chat"} {
		r.a("GET", target, "", offering(offers)...).has("Content-Type", "text/plain").
			want(500, "I only speak BLIP_3+CBMobile_4, BLIP_3+CBMobile_3, BLIP_3+CBMobile_2 protocols")
	}
	r.a("GET", target, "", wsHeaders...).is(500)
	// A database, not a keyspace, whoever asks.
	for _, path := range []string{"/db._default._default/_blipsync", "/db.c/_blipsync", "/none.s.c/_blipsync"} {
		r.a("GET", path, "", offering(blip4)...).fails(400, errNotKeyspace.Reason)
		r.p("GET", path, "", offering(blip4)...).fails(400, errNotKeyspace.Reason)
	}
	r.p("GET", target, "", offering(blip4)...).has("WWW-Authenticate", `Basic realm="Couchbase Sync Gateway"`).fails(401, "Login required")
	r.p("GET", target, "", offering(blip4, basic("bob", "wrong"))...).fails(401, "Invalid login")
	r.p("GET", "/none/_blipsync", "", offering(blip4)...).fails(401, "Login required")
	r.p("GET", "/none/_blipsync", "", offering(blip4+",SyncGatewaySession_x")...).fails(401, "Invalid login")
	r.a("GET", "/none/_blipsync", "", offering(blip4)...).fails(404, `no such database "none"`)
	r.p("GET", target, "", offering(blip4, bob, "Origin: https://evil.example")...).fails(403, errForeignOrigin.Reason)
	// Where the connection cannot be taken over nothing is left behind.
	for _, origin := range []string{"https://app.example", "http://localhost"} {
		r.p("GET", target, "", offering(blip4, bob, "Origin: "+origin)...).fails(505, "a WebSocket needs HTTP/1.1")
	}
	if n := r.server.feeds.count(); n != 0 || len(r.server.logins.users) != 0 {
		t.Errorf("%d feeds and %d users are left", n, len(r.server.logins.users))
	}
	if err := r.gateway.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	r.p("GET", target, "", offering(blip4)...).fails(503, "DB is currently under maintenance")
}

// Without the protocol there is no such URL.
func TestBLIPWithoutReplication(t *testing.T) {
	r := newRig(t, rigOptions{})
	s := NewServer(Deps{Gateway: r.gateway, Config: r.gateway.Startup(), Version: "test"})
	r.do(s.Admin(), "GET", "/db/_blipsync", "", offering(blip4)...).fails(404, "unknown URL")
}

func TestBLIPLimits(t *testing.T) {
	const limit = "Replication limit exceeded. Try again later."
	bubble(t, rigOptions{startup: `{"replicator":{"max_concurrent_replications":2}}`}, func(t *testing.T, r *rig, dial func() net.Conn) {
		first := openBLIP(t, dial(), "/db/_blipsync", offering(blip4)...).opened()
		openClient(t, dial(), "GET", "/db/_changes?feed=continuous", "") // counts as one too
		c := openBLIP(t, dial(), "/db/_blipsync", offering(blip4)...)
		if c.resp.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		c.refused(503, limit)
		r.a("GET", "/db/_changes", "").fails(503, limit)
		_ = first.conn.Close()
		synctest.Wait()
		openBLIP(t, dial(), "/db/_blipsync", offering(blip4)...).opened()
		synctest.Wait()
		running, _ := r.gateway.Database("db")
		stats := &running.Stats().Replication
		if rejected, active, total := stats.RejectedLimit.Load(), stats.Active.Load(), stats.Total.Load(); rejected != 2 || active != 1 || total != 2 {
			t.Errorf("%d refused, %d open, %d in all", rejected, active, total)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{startup: `{"auth":{"bcrypt_cost":4},"replicator":{"max_replications_per_user":1}}`})
		for _, name := range []string{"ann", "bob"} {
			r.a("PUT", "/db/_user/"+name, `{"password":"letmein"}`).is(201)
		}
		dial := servePipes(t, r.public)
		openBLIP(t, dial(), "/db/_blipsync", offering(blip4, basic("ann", "letmein"))...).opened()
		openBLIP(t, dial(), "/db/_blipsync", offering(blip4, basic("ann", "letmein"))...).refused(503, limit)
		openBLIP(t, dial(), "/db/_blipsync", offering(blip4, basic("bob", "letmein"))...).opened()
	})
}

// what a handshake hands over, and bytes that came early.
func TestBLIPHandsOver(t *testing.T) {
	const database = `{"guest":{"disabled":false},"delta_sync":{"enabled":true},
		"unsupported":{"guest_read_only":true,"force_api_forbidden_errors":true}}`
	got := make(chan Replication)
	replicate := func(_ context.Context, conn net.Conn, what Replication) error {
		got <- what
		var b [5]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return err
		}
		_, err := conn.Write(b[1:])
		return err
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{startup: cheapPasswords, database: database, replicate: replicate})
		r.a("PUT", "/db/_user/bob", `{"password":"letmein"}`).is(201)
		for _, tt := range []struct {
			handler http.Handler
			target  string
			header  []string
			user    string // "-": none
			want    Replication
		}{
			{r.admin, "?client=sgr2", nil, "-", Replication{Version: 4, Peer: "sgr2"}},
			{r.public, "?client=cbl2", nil, "", Replication{Version: 4, ReadOnly: true, HideMissing: true}},
			{r.public, "", []string{basic("bob", "letmein")}, "bob", Replication{Version: 4, HideMissing: true}},
		} {
			conn := servePipes(t, tt.handler)()
			go func() { // the first bytes come with the request
				_, _ = io.WriteString(conn, "GET /db/_blipsync"+tt.target+" HTTP/1.1\r\nHost: localhost\r\n"+
					strings.Join(offering(blip4, tt.header...), "\r\n")+"\r\n\r\nhello")
			}()
			in := bufio.NewReader(conn)
			if _, err := http.ReadResponse(in, nil); err != nil {
				t.Fatal(err)
			}
			what := <-got
			user := "-"
			if what.User != nil {
				user = what.User.PrincipalName()
			}
			if user != tt.user || what.Version != tt.want.Version || what.Peer != tt.want.Peer || what.ReadOnly != tt.want.ReadOnly ||
				what.HideMissing != tt.want.HideMissing || !what.DeltaSync || what.Limits.Revs != 5 ||
				what.DB.Name() != "db" || what.ID == "" {
				t.Errorf("%s as %q: %+v", tt.target, user, what)
			}
			if echo, err := io.ReadAll(in); string(echo) != "ello" || err != nil {
				t.Errorf("%s: %q, %v", tt.target, echo, err)
			}
		}
		synctest.Wait()
		running, _ := r.gateway.Database("db")
		if stats := &running.Stats().Replication; stats.BytesReceived.Load() != 15 || stats.BytesSent.Load() != 12 {
			t.Errorf("%d bytes received, %d sent", stats.BytesReceived.Load(), stats.BytesSent.Load())
		}
	})
}

// A fault of the protocol's code ends its connection and nothing else.
func TestBLIPPanic(t *testing.T) {
	replicate := func(context.Context, net.Conn, Replication) error { panic("oh") }
	bubble(t, rigOptions{replicate: replicate}, func(t *testing.T, r *rig, dial func() net.Conn) {
		openBLIP(t, dial(), "/db/_blipsync", offering(blip4)...).opened().cut()
		synctest.Wait()
		if n := r.server.feeds.count(); n != 0 {
			t.Errorf("%d feeds are counted", n)
		}
	})
}
