package console_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/console"
)

// listen opens a connection for live figures.
func (c *httpClient) listen(ctx context.Context, path string) (*http.Response, *bufio.Reader) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+c.s.address+"/_console"+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	answer, err := c.c.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = answer.Body.Close() })
	return answer, bufio.NewReader(answer.Body)
}

// nextEvent reads the next event with that name and returns its data; "" when the connection ends before.
func nextEvent(r *bufio.Reader, name string) string {
	event := ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return ""
		}
		line = strings.TrimSpace(line)
		if after, ok := strings.CutPrefix(line, "event: "); ok {
			event = after
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok && event == name {
			return data
		}
	}
}

func TestLiveFigures(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	c := newHTTPClient(t, s)
	c.login("admin", "correct horse")
	answer, events := c.listen(t.Context(), "/events?t=database:world&t=overview&t=database:none")
	if ct := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || ct != "text/event-stream" {
		t.Fatalf("%d %s", answer.StatusCode, ct)
	}
	for seen := map[string]bool{}; len(seen) < 3; {
		data := nextEvent(events, "message")
		switch {
		case data == "":
			t.Fatal("the connection ended")
		case strings.Contains(data, `"topic":"database:world"`) && strings.Contains(data, `"state":"Online"`):
			seen["world"] = true
		case strings.Contains(data, `"topic":"overview"`) && strings.Contains(data, `"state:world":"Online"`):
			seen["overview"] = true
		case strings.Contains(data, `"topic":"database:none"`) && strings.Contains(data, `"error":`):
			seen["none"] = true
		}
	}
	s.do("PUT", "/world/d", `{}`)
	for !strings.Contains(nextEvent(events, "message"), `"writes":"1"`) {
	}
	if got := c.get("/events?t=nothing"); got.StatusCode != http.StatusNotFound {
		t.Errorf("a topic that does not exist: %d", got.StatusCode)
	}
	// A server that shuts down need not wait for live pages.
	s.console.Close()
	for nextEvent(events, "message") != "" {
	}
}

func TestLiveConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var err error
	if s.console, err = console.New(console.Options{Gateway: s.admin, Logins: s.logins, MaxStreams: 1, Now: s.clock.Now, LocalOnly: true}); err != nil {
		t.Fatal(err)
	}
	s.server.Handler = s.console
	c := newHTTPClient(t, s)
	c.login("admin", "correct horse")
	ctx, cancel := context.WithCancel(t.Context())
	_, events := c.listen(ctx, "/events")
	if nextEvent(events, "hello") == "" {
		t.Fatal("the first is refused")
	}
	if got := c.get("/events"); got.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the second: %d", got.StatusCode)
	}
	cancel()
	for {
		ctx, cancel := context.WithCancel(t.Context())
		answer, _ := c.listen(ctx, "/events")
		cancel()
		if answer.StatusCode == http.StatusOK {
			break // the place of the first is free
		}
	}
}

// TestLiveEndsWithTheSession shows that a connection tells that its session has ended, and ends.
func TestLiveEndsWithTheSession(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := newHTTPClient(t, s)
	c.login("admin", "correct horse")
	_, events := c.listen(t.Context(), "/events?t=overview")
	if nextEvent(events, "hello") == "" {
		t.Fatal("refused")
	}
	s.clock.forward(console.DefaultIdleTimeout)
	if nextEvent(events, "expired") == "" {
		t.Error("the page is not told")
	}
}

// TestFiguresNeedTheRight shows that live figures tell nobody what the API would not.
func TestFiguresNeedTheRight(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	s.do("PUT", "/other/", `{}`)
	c := newHTTPClient(t, s)
	c.login("worlds", "one database")
	_, events := c.listen(t.Context(), "/events?t=overview&t=metrics&t=database:other&t=log:&t=database:world")
	for range 5 {
		data := nextEvent(events, "message")
		if strings.Contains(data, `"topic":"database:world"`) {
			if !strings.Contains(data, `"state":"Online"`) {
				t.Errorf("their own: %s", data)
			}
		} else if !strings.Contains(data, `"error":`) {
			t.Errorf("told: %s", data)
		}
	}
}
