package rest

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate/internal/access"
)

// echo stands in for the replication protocol: it sends back what comes, until the connection is over or must end.
func echo(ctx context.Context, conn net.Conn, _ Replication) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_, _ = io.Copy(conn, conn)
	return nil
}

// alive reports whether the connection is still served.
func (c *blipClient) alive() bool {
	if _, err := c.conn.Write([]byte{'x'}); err != nil {
		return false
	}
	var b [1]byte
	_, err := io.ReadFull(c.conn, b[:])
	return err == nil
}

// loginBubble runs fn in a bubble with the users ann and bob, whose connections are echoed.
func loginBubble(t *testing.T, database string, fn func(t *testing.T, r *rig, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{startup: cheapPasswords, database: database, replicate: echo})
		for _, name := range []string{"ann", "bob"} {
			r.a("PUT", "/db/_user/"+name, `{"password":"letmein"}`).is(201)
		}
		fn(t, r, servePipes(t, r.public))
	})
}

// oneTime makes a one-time session as a web page would.
func (r *rig) oneTime(name string) string {
	r.t.Helper()
	return r.p("POST", "/db/_session?one_time=true", `{"name":"`+name+`","password":"letmein"}`).is(200).member("one_time_session_id")
}

// sessionFor logs a user in for ttl and returns the cookie's header line.
func (r *rig) sessionFor(name string, ttl time.Duration) string {
	r.t.Helper()
	body := fmt.Sprintf(`{"name":%q,"ttl":%d}`, name, ttl/time.Second)
	return "Cookie: SyncGatewaySession=" + r.a("POST", "/db/_session", body).is(200).member("session_id")
}

// Who a connection is for: the first that applies of Basic, one-time session, cookie and guest (replication.md §2).
func TestBLIPCredentials(t *testing.T) {
	loginBubble(t, `{}`, func(t *testing.T, r *rig, dial func() net.Conn) {
		open := func(protocols string, header ...string) *blipClient {
			return openBLIP(t, dial(), "/db/_blipsync", offering(protocols, header...)...)
		}
		owners := func(want string) {
			t.Helper()
			r.server.logins.mu.Lock()
			defer r.server.logins.mu.Unlock()
			var got []string
			for owner := range r.server.logins.users {
				got = append(got, owner.name)
			}
			if strings.Join(got, ",") != want {
				t.Fatalf("connected: %q, want %q", got, want)
			}
		}
		leave := func(c *blipClient) {
			_ = c.conn.Close()
			synctest.Wait()
		}
		cookie := r.sessionFor("ann", time.Hour)
		c := open(blip4, basic("bob", "letmein"), cookie).opened()
		owners("bob")
		leave(c)

		token := r.oneTime("bob")
		open(blip4+", SyncGatewaySession_"+token, basic("ann", "wrong")).refused(401, "Invalid login")
		// It was not used up, wins over the cookie, is not echoed, and its place in the list does not matter.
		c = open("SyncGatewaySession_"+token+", "+blip4, cookie).opened()
		if got := c.resp.Header.Values("Sec-Websocket-Protocol"); len(got) != 1 || got[0] != blip4 {
			t.Errorf("subprotocol %q", got)
		}
		owners("bob")
		open(blip4+",SyncGatewaySession_"+token).refused(401, "Session Invalid") // once
		open(blip4+",SyncGatewaySession_"+token, cookie).refused(401, "Session Invalid")
		leave(c)

		// One that lasts is not for one time, and stays as it is.
		open(blip4+",SyncGatewaySession_"+strings.TrimPrefix(cookie, "Cookie: SyncGatewaySession=")).refused(401, "Session Invalid")
		open(blip4+",SyncGatewaySession_").refused(401, "Login required") // no session at all
		token = r.oneTime("bob")
		pass(oneTimeTTL)
		open(blip4+",SyncGatewaySession_"+token).refused(401, "Session Invalid")

		cookie = r.sessionFor("ann", 10*time.Minute)
		c = open(blip4, cookie).opened()
		owners("ann")
		if got := c.resp.Header.Values("Set-Cookie"); len(got) != 0 {
			t.Errorf("a new session was extended: %q", got)
		}
		leave(c)
		pass(2 * time.Minute) // more than a tenth
		c = open(blip4, cookie).opened()
		if got := c.resp.Header.Values("Set-Cookie"); len(got) != 1 || !strings.HasPrefix(got[0], "SyncGatewaySession=") {
			t.Errorf("an old session was not extended: %q", got)
		}
		leave(c)
		open(blip4, "Cookie: SyncGatewaySession="+strings.Repeat("0", 40)).refused(401, "Session Invalid")
		open(blip4).refused(401, "Login required")
		owners("")
		// Elsewhere the subprotocol is no login.
		r.p("GET", "/db/", "", "Sec-WebSocket-Protocol: SyncGatewaySession_"+r.oneTime("bob")).fails(401, "Login required")
	})
}

// What ends a connection, and what does not (replication.md §14).
func TestWhatEndsReplications(t *testing.T) {
	const dbConfig = `{"guest":{"disabled":false}}`
	for _, tt := range []struct {
		name string
		do   func(r *rig, session string)
		ends string // of: ann's by password, ann's by session, bob's, the guest's
	}{
		{"offline", func(r *rig, _ string) { r.a("POST", "/db/_offline", "").is(200) }, "ann session bob guest"},
		{"a change of the config", func(r *rig, _ string) { r.a("POST", "/db/_config", `{"revs_limit":60}`).is(201) }, "ann session bob guest"},
		{"the database is deleted", func(r *rig, _ string) { r.a("DELETE", "/db/", "").is(200) }, "ann session bob guest"},
		{"a new password", func(r *rig, _ string) { r.a("PUT", "/db/_user/ann", `{"password":"another"}`).is(200) }, "ann session"},
		{"disabled", func(r *rig, _ string) { r.a("PUT", "/db/_user/ann", `{"disabled":true}`).is(200) }, "ann session"},
		{"deleted", func(r *rig, _ string) { r.a("DELETE", "/db/_user/ann", "").is(200) }, "ann session"},
		{"all sessions end", func(r *rig, _ string) { r.a("DELETE", "/db/_user/ann/_session", "").is(200) }, "ann session"},
		{"the session is deleted", func(r *rig, id string) { r.a("DELETE", "/db/_session/"+id, "").is(200) }, "session"},
		{"the user's session is deleted", func(r *rig, id string) { r.a("DELETE", "/db/_user/ann/_session/"+id, "").is(200) }, "session"},
		{"logout", func(r *rig, id string) { r.p("DELETE", "/db/_session", "", "Cookie: SyncGatewaySession="+id).is(200) }, "session"},
		{"the session is deleted on another node", func(r *rig, id string) { // which is heard of by the feed only
			running, err := r.gateway.Database("db")
			if err == nil {
				err = running.DB().Access().DeleteSession(r.t.Context(), id)
			}
			if err != nil {
				r.t.Fatal(err)
			}
		}, "session"},
		{"everybody may see something else", func(r *rig, _ string) {
			running, err := r.gateway.Database("db")
			if err != nil {
				r.t.Fatal(err)
			}
			running.DB().Access().InvalidateAll()
		}, ""},
		{"another session is deleted", func(r *rig, _ string) {
			r.a("DELETE", "/db/_session/"+strings.TrimPrefix(r.session("db", "ann"), "Cookie: SyncGatewaySession="), "").is(200)
		}, ""},
		{"the session expires", func(*rig, string) { pass(15 * time.Minute) }, ""},
		{"the session expires and channels change", func(r *rig, _ string) {
			pass(15 * time.Minute)
			r.a("PUT", "/db/_user/ann", `{"admin_channels":["a"]}`).is(200)
		}, ""},
		{"channels change", func(r *rig, _ string) { r.a("PUT", "/db/_user/ann", `{"admin_channels":["a"]}`).is(200) }, ""},
		{"a role changes", func(r *rig, _ string) {
			r.a("PUT", "/db/_user/ann", `{"admin_roles":["r"]}`).is(200)
			r.a("PUT", "/db/_role/r", `{"admin_channels":["a"]}`).is(201)
		}, ""},
		{"the guest is disabled", func(r *rig, _ string) { r.a("PUT", "/db/_user/GUEST", `{"disabled":true}`).is(200) }, "guest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			loginBubble(t, dbConfig, func(t *testing.T, r *rig, dial func() net.Conn) {
				cookie := r.sessionFor("ann", 10*time.Minute)
				conns := map[string]*blipClient{}
				for name, header := range map[string][]string{
					"ann": {basic("ann", "letmein")}, "session": {cookie}, "bob": {basic("bob", "letmein")}, "guest": nil,
				} {
					conns[name] = openBLIP(t, dial(), "/db/_blipsync", offering(blip4, header...)...).opened()
				}
				tt.do(r, strings.TrimPrefix(cookie, "Cookie: SyncGatewaySession="))
				synctest.Wait()
				left := 0
				for name, c := range conns {
					if strings.Contains(" "+tt.ends+" ", " "+name+" ") {
						c.cut()
						continue
					}
					left++
					if !c.alive() {
						t.Errorf("%s was cut", name)
					}
				}
				if n := r.server.feeds.count(); n != left {
					t.Errorf("%d connections are counted, want %d", n, left)
				}
				for _, c := range conns {
					_ = c.conn.Close()
				}
				synctest.Wait()
				if l := r.server.logins; len(l.users) != 0 || len(l.bySession) != 0 || len(l.watched) != 0 || l.queue.running {
					t.Errorf("%d users and %d sessions are still watched", len(l.users), len(l.bySession))
				}
			})
		})
	}
}

// A connection that is opened while its login ends is not forgotten.
func TestLoginEndsMeanwhile(t *testing.T) {
	loginBubble(t, `{}`, func(t *testing.T, r *rig, _ func() net.Conn) {
		running, err := r.gateway.Database("db")
		if err != nil {
			t.Fatal(err)
		}
		registry := running.DB().Access()
		before, err := registry.User(t.Context(), "ann")
		if err != nil {
			t.Fatal(err)
		}
		r.a("PUT", "/db/_user/ann", `{"password":"another"}`).is(200)
		if _, err := r.server.logins.add(t.Context(), registry, before, "", func() { t.Error("ended twice") }); err != errInvalidLogin {
			t.Errorf("added: %v", err)
		}
		if len(r.server.logins.users) != 0 {
			t.Error("a refused connection is watched")
		}
	})
}

// Connections come and go while logins end: each ends at most once, none that should end is left, and nothing remains.
func TestLoginsUnderLoad(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords})
	r.a("PUT", "/db/_user/ann", `{"password":"letmein"}`).is(201)
	running, err := r.gateway.Database("db")
	if err != nil {
		t.Fatal(err)
	}
	registry, l := running.DB().Access(), newLogins()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				u, err := registry.User(context.Background(), "ann")
				if err != nil {
					t.Error(err)
					return
				}
				ended := make(chan struct{})
				session := fmt.Sprint(j)
				forget, err := l.add(context.Background(), registry, u, session, func() { close(ended) })
				switch {
				case err != nil:
					continue // the login ended before
				case i == 0:
					l.sessionEnded(session)
				case i < 4:
					endLogins(t, registry)
				default:
					forget()
					continue
				}
				<-ended
				forget()
			}
		})
	}
	wg.Wait()
	if len(l.users) != 0 || len(l.bySession) != 0 {
		t.Errorf("%d users and %d sessions are left", len(l.users), len(l.bySession))
	}
}

// endLogins ends all of ann's logins.
func endLogins(t *testing.T, registry *access.Registry) {
	if err := registry.DeleteUserSessions(context.Background(), "ann"); err != nil {
		t.Error(err)
	}
}
