package rest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate/internal/access"
)

func TestChangesNormal(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("GET", "/db/_changes", "").want(200, "{\"results\":[\r\n],\n\"last_seq\":\"0\"}\n")
	r.a("GET", "/db/_changes?since=5", "").want(200, "{\"results\":[\r\n],\n\"last_seq\":\"5\"}\n")
	for _, id := range []string{"a", "b", "c"} {
		r.put(id, `{}`)
	}
	all := "{\"results\":[\r\n" + entry(1, "a") + "\n," + entry(2, "b") + "\n," + entry(3, "c") + "\n],\n\"last_seq\":\"3\"}\n"
	a := r.a("GET", "/db/_changes", "").has("Content-Type", "application/json").has("Cache-Control", "private, max-age=0, no-cache, no-store")
	if a.body != all {
		t.Errorf("body %q, want %q", a.body, all)
	}
	if head := r.a("HEAD", "/db/_changes?feed=continuous", "").is(200); head.header.Get("Content-Length") != fmt.Sprint(len(all)) {
		t.Errorf("HEAD: %v", head.header)
	}
	list := func(from, to int) string {
		var rows []string
		for seq := from; seq <= to; seq++ {
			rows = append(rows, entry(seq, string(rune('a'+seq-1))))
		}
		return fmt.Sprintf(`{"results":[%s],"last_seq":"%d"}`, strings.Join(rows, ","), to)
	}
	for query, want := range map[string]string{
		"?since=1": list(2, 3), "?since=%221%22": list(2, 3), "?since=1%3A%3A2": list(2, 3), "?limit=2": list(1, 2),
		"?since=1&limit=1": list(2, 2), "?limit=0": list(1, 3), "?limit=x": list(1, 3), "?feed=normal": list(1, 3),
		"?since=now": `{"results":[],"last_seq":"3"}`, "?since=3": `{"results":[],"last_seq":"3"}`, "?since=": list(1, 3),
		"?descending=true":                       fmt.Sprintf(`{"results":[%s,%s,%s],"last_seq":null}`, entry(3, "c"), entry(2, "b"), entry(1, "a")),
		"?descending=true&limit=1":               fmt.Sprintf(`{"results":[%s],"last_seq":null}`, entry(3, "c")),
		"?filter=_doc_ids&doc_ids=%5B%22b%22%5D": fmt.Sprintf(`{"results":[%s],"last_seq":"2"}`, entry(2, "b")),
		"?filter=_doc_ids&doc_ids=a,c":           fmt.Sprintf(`{"results":[%s,%s],"last_seq":"3"}`, entry(1, "a"), entry(3, "c")),
		"?seq_interval=100&request_plus=true":    list(1, 3),
	} {
		a := r.a("GET", "/db/_changes"+query, "").is(200)
		if !sameBody(a.body, want) {
			t.Errorf("%s: %s", query, a.body)
		}
	}
	// In a POST the query has the last word.
	r.a("POST", "/db/_changes", `{"since":1,"limit":1}`).want(200, list(2, 2))
	r.a("POST", "/db/_changes", `{"since":"2"}`).want(200, list(3, 3))
	r.a("POST", "/db/_changes?since=0", `{"since":2}`).want(200, list(1, 3))
	r.a("POST", "/db/_changes?filter=_doc_ids", `{"doc_ids":["b"]}`).want(200, fmt.Sprintf(`{"results":[%s],"last_seq":"2"}`, entry(2, "b")))
	r.a("POST", "/db/_changes", ``).want(200, list(1, 3))
	r.a("POST", "/db/_changes", `{"feed":null}`).want(200, list(1, 3))
}

func TestChangesBadRequests(t *testing.T) {
	r := newRig(t, rigOptions{})
	for query, reason := range map[string]string{
		"feed=nonsense": "Unknown feed type", "feed=eventsource": "Unknown feed type",
		"since=x": "Invalid sequence", "since=1:2:3:4": "Invalid sequence", "since=-1": "Invalid sequence", "since=1:": "Invalid sequence", "since=%5B1%5D": "Invalid sequence",
		"filter=x": "Unknown filter; try sync_gateway/bychannel or _doc_ids", "filter=_selector": "Unknown filter; try sync_gateway/bychannel or _doc_ids",
		"filter=_view":                                "Unknown filter; try sync_gateway/bychannel or _doc_ids",
		"filter=sync_gateway/bychannel":               "Missing 'channels' filter parameter",
		"filter=sync_gateway/bychannel&channels=":     "Empty channel list",
		"filter=sync_gateway/bychannel&channels=a,,b": `Illegal channel name ""`,
		"filter=_doc_ids":                             "Missing 'doc_ids' filter parameter",
		"filter=_doc_ids&doc_ids=":                    "Empty doc_ids list",
		"filter=_doc_ids&doc_ids=%5B%5D":              "Empty doc_ids list",
	} {
		for _, feed := range []string{"", "&feed=longpoll", "&feed=continuous"} {
			if strings.HasPrefix(query, "feed=") && feed != "" {
				continue
			}
			r.a("GET", "/db/_changes?"+query+feed, "").fails(400, reason)
		}
	}
	for body, reason := range map[string]string{`[]`: "Document body must be JSON", `{`: "Bad JSON: …", `{"since":"x"}`: "Invalid sequence", `{"since":1,"since":2}`: "Bad JSON: …"} {
		r.a("POST", "/db/_changes", body).fails(400, reason)
	}
	if n := r.server.feeds.count(); n != 0 {
		t.Errorf("%d feeds are still counted", n)
	}
}

func TestChangesEntries(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"allow_conflicts":true,"guest":{"disabled":false,"admin_channels":["a"]}}`})
	// The guest's channels took sequence 1.
	r.a("PUT", "/db/doc?new_edits=false", `{"channels":["a"],"_revisions":{"start":1,"ids":["a"]}}`).is(201)
	r.a("PUT", "/db/doc?new_edits=false", `{"channels":["a"],"v":2,"_revisions":{"start":2,"ids":["b","a"]},"_attachments":{"x":{"data":"`+base64Of("xx")+`"}}}`).is(201)
	r.a("PUT", "/db/doc?new_edits=false", `{"channels":["a"],"v":3,"_revisions":{"start":2,"ids":["c","a"]}}`).is(201)
	r.a("GET", "/db/_changes?style=all_docs", "").want(200, `{"results":[{"seq":4,"id":"doc","changes":[{"rev":"2-c"},{"rev":"2-b"}]}],"last_seq":"4"}`)
	r.a("GET", "/db/_changes?include_docs=true", "").want(200,
		`{"results":[{"seq":4,"id":"doc","changes":[{"rev":"2-c"}],"doc":{"_id":"doc","_rev":"2-c","channels":["a"],"v":3}}],"last_seq":"4"}`)
	r.a("GET", "/db/_changes?include_docs=true&conflicts=true", "").want(200,
		`{"results":[{"seq":4,"id":"doc","changes":[{"rev":"2-c"}],"doc":{"_id":"doc","_rev":"2-c","_conflicts":["2-b"],"channels":["a"],"v":3}}],"last_seq":"4"}`)
	r.a("PUT", "/db/att", `{"_attachments":{"x":{"data":"`+base64Of("xx")+`"}}}`).is(201)
	r.a("GET", "/db/_changes?since=4&include_docs=true&attachments=true", "").want(200,
		`{"results":[{"seq":5,"id":"att","changes":[{"rev":"REV"}],"doc":{"_id":"att","_rev":"REV","_attachments":{"x":{"digest":"`+sha1Digest("xx")+`","length":2,"revpos":1,"data":"`+base64Of("xx")+`"}}}}],"last_seq":"5"}`)

	// What the reader lost with this revision, and deletions.
	rev := r.put("moved", `{"channels":["a"]}`)
	moved := r.a("PUT", "/db/moved?rev="+rev, `{"channels":["b"]}`).is(201).rev()
	r.p("GET", "/db/_changes?since=5&include_docs=true", "").want(200,
		`{"results":[{"seq":7,"id":"moved","changes":[{"rev":"`+moved+`"}],"removed":["a"],"doc":{"_id":"moved","_rev":"`+moved+`","_removed":true}}],"last_seq":"7"}`)
	rev = r.put("dead", `{"channels":["a"]}`)
	dead := r.a("DELETE", "/db/dead?rev="+rev, "").is(200).rev()
	r.p("GET", "/db/_changes?since=7", "").want(200, `{"results":[{"seq":9,"id":"dead","changes":[{"rev":"`+dead+`"}],"deleted":true,"removed":["a"]}],"last_seq":"9"}`)
	r.p("GET", "/db/_changes?since=5&active_only=true", "").want(200, `{"results":[],"last_seq":null}`)
	r.p("GET", "/db/_changes?since=3&filter=sync_gateway/bychannel&channels=a,z", "").is(200)
	r.p("GET", "/db/_changes?filter=sync_gateway/bychannel&channels=b", "").want(200, `{"results":[{"seq":1,"id":"_user/GUEST","changes":[]}],"last_seq":"1"}`)
}

func TestLongpoll(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		// There is something: like normal.
		r.put("a", `{}`)
		c := openClient(t, dial(), "GET", "/db/_changes?feed=longpoll", "")
		if got := c.rest(); got != "{\"results\":[\r\n"+entry(1, "a")+"\n],\n\"last_seq\":\"1\"}\n" {
			t.Errorf("body %q", got)
		}
		// There is nothing: the opening line comes at once, then heartbeats, then the entry.
		began := time.Now()
		c = openClient(t, dial(), "GET", "/db/_changes?feed=longpoll&since=1&heartbeat=10000&timeout=1000", "")
		if got := c.line(); got != "{\"results\":[\r" {
			t.Errorf("opening %q", got)
		}
		for range 3 {
			if got := c.line(); got != "" {
				t.Errorf("heartbeat %q", got)
			}
		}
		if waited := time.Since(began); waited != 75*time.Second { // never more often than every 25 s
			t.Errorf("three heartbeats took %v", waited)
		}
		go r.put("b", `{}`)
		if got := c.rest(); got != entry(2, "b")+"\n],\n\"last_seq\":\"2\"}\n" {
			t.Errorf("body %q", got)
		}
		// Its time is over.
		began = time.Now()
		c = openClient(t, dial(), "GET", "/db/_changes?feed=longpoll&since=2&timeout=7000", "", "Accept-Encoding: gzip")
		if got := c.rest(); got != "{\"results\":[\r\n],\n\"last_seq\":\"2\"}\n" || time.Since(began) != 7*time.Second {
			t.Errorf("body %q after %v", got, time.Since(began))
		}
		// The connection is as good as new.
		began = time.Now()
		c = openClient(t, dial(), "GET", "/db/_changes?feed=longpoll&since=9", "")
		if got := c.rest(); got != "{\"results\":[\r\n],\n\"last_seq\":\"9\"}\n" || time.Since(began) != defaultFeedTimeout {
			t.Errorf("body %q after %v", got, time.Since(began))
		}
	})
}

func TestLongpollEndsInForm(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		c := openClient(t, dial(), "GET", "/db/_changes?feed=longpoll", "")
		synctest.Wait()
		go func() {
			if err := r.gateway.TakeOffline(t.Context(), "db"); err != nil {
				t.Error(err)
			}
		}()
		if got := c.rest(); got != "{\"results\":[\r\n],\n\"last_seq\":\"0\"}\n" {
			t.Errorf("body %q", got)
		}
	})
}

func TestLongpollClientGone(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		conn := dial()
		openClient(t, conn, "GET", "/db/_changes?feed=longpoll", "")
		synctest.Wait()
		if n := r.server.feeds.count(); n != 1 {
			t.Fatalf("%d feeds", n)
		}
		_ = conn.Close()
		synctest.Wait()
		if n := r.server.feeds.count(); n != 0 {
			t.Errorf("%d feeds after the client has gone", n)
		}
	})
}

func TestContinuous(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		r.put("a", `{}`)
		r.put("b", `{}`)
		began := time.Now()
		c := openClient(t, dial(), "GET", "/db/_changes?feed=continuous&heartbeat=30000", "", "Accept-Encoding: gzip")
		if ct := c.resp.Header.Get("Content-Type"); c.resp.StatusCode != 200 || ct != "application/octet-stream" || c.resp.Header.Get("Server") != "tidegate/test" {
			t.Errorf("head: %d %v", c.resp.StatusCode, c.resp.Header)
		}
		for seq, id := range []string{"a", "b"} {
			if got := c.line(); got != entry(seq+1, id) {
				t.Errorf("line %q", got)
			}
		}
		for range 2 {
			if got := c.line(); got != "" {
				t.Errorf("heartbeat %q", got)
			}
		}
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("two heartbeats took %v", waited)
		}
		go r.put("c", `{}`)
		if got := c.line(); got != entry(3, "c") {
			t.Errorf("line %q", got)
		}
		// Offline ends the feed, in form.
		go func() { _ = r.gateway.TakeOffline(t.Context(), "db") }()
		if got := c.rest(); got != "" {
			t.Errorf("after the end: %q", got)
		}
	})
}

func TestContinuousEnds(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		r.put("a", `{}`)
		r.put("b", `{}`)
		c := openClient(t, dial(), "GET", "/db/_changes?feed=continuous&limit=1", "")
		if got := c.rest(); got != entry(1, "a")+"\n" {
			t.Errorf("limit: %q", got)
		}
		began := time.Now()
		c = openClient(t, dial(), "POST", "/db/_changes", `{"feed":"continuous","since":1,"timeout":3000}`)
		if got := c.rest(); got != entry(2, "b")+"\n" || time.Since(began) != 3*time.Second {
			t.Errorf("timeout: %q after %v", got, time.Since(began))
		}
		// A client of HTTP/1.0 knows no chunks.
		conn := dial()
		go func() {
			_, _ = conn.Write([]byte("GET /db/_changes?feed=continuous&limit=2 HTTP/1.0\r\nHost: localhost\r\n\r\n"))
		}()
		old := &httpClient{t: t, in: lines(conn)}
		body := old.rest()
		if !strings.HasPrefix(body, "HTTP/1.0 200 OK\r\n") || !strings.HasSuffix(body, "\r\n\r\n"+entry(1, "a")+"\n"+entry(2, "b")+"\n") {
			t.Errorf("HTTP/1.0: %q", body)
		}
		// The client goes.
		conn = dial()
		openClient(t, conn, "GET", "/db/_changes?feed=continuous&since=2", "")
		synctest.Wait()
		if n := r.server.feeds.count(); n != 1 {
			t.Fatalf("%d feeds", n)
		}
		_ = conn.Close()
		synctest.Wait()
		if n := r.server.feeds.count(); n != 0 {
			t.Errorf("%d feeds after the client has gone", n)
		}
	})
}

// A feed whose connection cannot be taken over works inside its handler.
func TestContinuousWithoutTakeOver(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.put("a", `{}`)
	r.a("GET", "/db/_changes?feed=continuous&limit=1", "").want(200, entry(1, "a")+"\n").has("Content-Type", "application/octet-stream")
	if n := r.server.feeds.count(); n != 0 {
		t.Errorf("%d feeds are still counted", n)
	}
}

func TestFeedEndsWithItsUser(t *testing.T) {
	for _, feed := range []string{"continuous", "longpoll"} {
		t.Run(feed, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigOptions{database: openGuest})
				dial := servePipes(t, r.public)
				c := openClient(t, dial(), "GET", "/db/_changes?since=now&feed="+feed, "")
				synctest.Wait()
				db, err := r.gateway.Database("db")
				if err != nil {
					t.Fatal(err)
				}
				disabled := true
				go func() {
					if _, err := db.DB().Access().PutUser(t.Context(), "GUEST", access.UserUpdate{Disabled: &disabled}, false); err != nil {
						t.Error(err)
					}
				}()
				c.rest() // comes to an end
			})
		})
	}
}

func TestFeedLimits(t *testing.T) {
	bubble(t, rigOptions{startup: `{"replicator":{"max_concurrent_replications":2}}`}, func(t *testing.T, r *rig, dial func() net.Conn) {
		first := dial()
		openClient(t, first, "GET", "/db/_changes?feed=continuous", "")
		openClient(t, dial(), "GET", "/db/_changes?feed=longpoll", "")
		r.a("GET", "/db/_changes?feed=continuous", "").fails(503, "Replication limit exceeded. Try again later.")
		r.a("GET", "/db/_changes", "").fails(503, "Replication limit exceeded. Try again later.")
		_ = first.Close()
		synctest.Wait()
		r.a("GET", "/db/_changes", "").is(200)
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{database: openGuest, startup: `{"replicator":{"max_replications_per_user":1}}`})
		dial := servePipes(t, r.public)
		openClient(t, dial(), "GET", "/db/_changes?feed=continuous", "")
		r.p("GET", "/db/_changes", "").fails(503, "Replication limit exceeded. Try again later.")
		r.a("GET", "/db/_changes", "").is(200) // administrators have no such limit
	})
}

// TestSlowReader: a client that never reads neither blocks writers nor holds more than its share of memory; it is
// cut off when its time is over.
func TestSlowReader(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		conn := dial()
		openClient(t, conn, "GET", "/db/_changes?feed=continuous&include_docs=true", "")
		// A pipe has no buffer at all: the feed's very first byte waits for the client.
		const writes = 300
		pad := strings.Repeat("x", 4000)
		for i := range writes {
			r.put(fmt.Sprintf("doc%d", i), `{"pad":"`+pad+`"}`) // none of them waits
		}
		synctest.Wait()
		if n := r.server.feeds.count(); n != 1 {
			t.Fatalf("%d feeds", n)
		}
		if held := r.server.heldOutputs.Load(); held > 1 {
			t.Errorf("the feed holds %d buffers", held)
		}
		pass(2 * DefaultWriteTimeout) // the bubble's time
		synctest.Wait()
		if n := r.server.feeds.count(); n != 0 {
			t.Errorf("the feed of a client that never reads is still there")
		}
		if held := r.server.heldOutputs.Load(); held != 0 {
			t.Errorf("%d buffers are still held", held)
		}
	})
}

// TestStalledFeedHoldsLittle: what a feed has ready for a client that does not read is about one chunk, however much
// there is to send.
func TestStalledFeedHoldsLittle(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		pad := strings.Repeat("x", 20_000)
		for i := range 200 {
			r.put(fmt.Sprintf("doc%d", i), `{"pad":"`+pad+`"}`)
		}
		conn := dial()
		if _, err := io.WriteString(conn, "GET /db/_changes?feed=continuous&include_docs=true&limit=200 HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(conn)
		for line := ""; line != "\r\n"; {
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		total := 0
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			n, err := strconv.ParseInt(strings.TrimSpace(line), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			if n > 8*outputChunk {
				t.Errorf("a chunk of %d bytes", n)
			}
			total += int(n)
			if _, err := in.Discard(int(n) + 2); err != nil {
				t.Fatal(err)
			}
		}
		if total < 200*20_000 {
			t.Errorf("%d bytes in all", total)
		}
	})
}

// TestStalledDownload: a client that stops reading a long answer is let go when its time is over; one that reads
// slowly but reads gets it all.
func TestStalledDownload(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		const size = 1 << 20
		r.a("PUT", "/db/doc/att", strings.Repeat("x", size)).is(201)
		slow := openClient(t, dial(), "GET", "/db/doc/att", "")
		for range 16 {
			pass(DefaultWriteTimeout * 3 / 4) // the bubble's time
			if n, err := slow.in.Discard(size / 16); err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
		}
		stalled := openClient(t, dial(), "GET", "/db/doc/att", "")
		pass(2 * DefaultWriteTimeout)
		if n, err := io.Copy(io.Discard, stalled.in); err == nil {
			t.Errorf("all %d bytes came after the time was over", n)
		}
	})
}

// TestStalledReaderGoesOn: a client that stalls for a minute finds everything when it reads again.
func TestStalledReaderGoesOn(t *testing.T) {
	bubble(t, rigOptions{}, func(t *testing.T, r *rig, dial func() net.Conn) {
		c := openClient(t, dial(), "GET", "/db/_changes?feed=continuous", "")
		for i := range 50 {
			r.put(fmt.Sprintf("doc%d", i), `{}`)
		}
		pass(time.Minute) // the bubble's time
		for i := range 50 {
			if got := c.line(); got != entry(i+1, fmt.Sprintf("doc%d", i)) {
				t.Fatalf("line %d: %q", i, got)
			}
		}
	})
}

// Over real connections, many listeners hear of every write.
func TestManyListeners(t *testing.T) {
	r := newRig(t, rigOptions{})
	srv := r.serveLoopback(r.admin)
	const listeners, writes = 50, 20
	got := make(chan error, listeners)
	for range listeners {
		resp, err := http.Get(srv.URL + "/db/_changes?feed=continuous&limit=" + fmt.Sprint(writes))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer resp.Body.Close()
			in := lines(resp.Body)
			for i := range writes {
				line, err := in.ReadString('\n')
				if err != nil || line != entry(i+1, fmt.Sprintf("doc%d", i))+"\n" {
					got <- fmt.Errorf("line %d: %q, %v", i, line, err)
					return
				}
			}
			got <- nil
		}()
	}
	for i := range writes {
		r.put(fmt.Sprintf("doc%d", i), `{}`)
	}
	for range listeners {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
}
