package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/store/pgstore/pgtest"
	"github.com/tidegate/tidegate/internal/testkit"
)

// TestMoveWhileServing moves a gateway that is written to into PostgreSQL: every acknowledged write is there, the old process ends and its data
// directory is not served from again. Movers that are killed before change nothing.
func TestMoveWhileServing(t *testing.T) {
	server, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	data := filepath.Join(t.TempDir(), "old")
	p := start(t, data)
	g := &gateway{t: t, name: "old", p: p}
	g.database(map[string]any{"sync": "function (doc) { channel(doc.channels); }"})
	large := strings.Repeat("attachment ", 10_000)
	for i := range 300 {
		doc := map[string]any{"channels": []string{"a"}, "n": i, "pad": strings.Repeat("x", 2000)}
		if i%50 == 0 {
			doc["_attachments"] = map[string]any{"file": map[string]any{"data": []byte(fmt.Sprint(i) + large)}}
		}
		mustCall(t, http.MethodPut, g.url(fmt.Sprintf("/doc%d", i)), doc)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var writing sync.WaitGroup
	var scribes []*scribe
	for i := range uint64(3) {
		s := newScribe(fmt.Sprintf("w%d", i), *seed, newLedger(), g.url)
		scribes = append(scribes, s)
		writing.Go(func() {
			if err := s.run(ctx, 20*time.Millisecond); err != nil {
				t.Error(err)
			}
		})
	}
	killMovers(t, p, server)
	before := total(scribes)
	eventually(t, "writes go on after movers were killed", func() error {
		if total(scribes) < before+20 {
			return errors.New("few writes")
		}
		return nil
	})
	out := tidegate(t, "move", "--admin", p.admin, "--to", server.URL(), "--write-stop", "60s")
	t.Log(out)
	if !strings.Contains(out, "compared as a whole") {
		t.Errorf("move: %s", out)
	}
	<-p.done
	end()
	writing.Wait()
	if code := p.cmd.ProcessState.ExitCode(); code == 0 {
		t.Error("the gateway ended as if it had been asked to")
	}
	if out, err := command(t, "serve", "--data", data, "--public", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"); err == nil || !strings.Contains(out, "was moved to postgres://") {
		t.Errorf("the old data directory: %v: %s", err, out)
	}
	fsck(t, "--store", server.URL(), "--blobs")
	checkMoved(t, g, start(t, t.TempDir(), "--store", server.URL(), "--takeover-after", "2s"), scribes)
}

// killMovers has movers begin and be killed at several points. Their way to the database is slow, so that they do not come to their end before.
func killMovers(t *testing.T, p *process, server *pgtest.Server) {
	t.Helper()
	bin, err := testkit.Binary()
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	slow := newLink(t)
	slow.to(to.Host)
	to.Host = slow.addr()
	const begins, stops, over = "a move to another store begins", "writes are stopped for the end of a move", "did not come to its end"
	for i, when := range []string{begins, begins, stops} {
		slow.slow(time.Duration([]int{10, 10, 2}[i])*time.Millisecond, 0)
		count := func(text string) int { return strings.Count(p.log.String(), text) }
		before := count(when)
		cmd := exec.Command(bin, "move", "--admin", p.admin, "--to", to.String(), "--store-schema", fmt.Sprintf("killed%d", i), "--write-stop", "60s")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a mover is where it is to be killed", func() error {
			if count(when) == before {
				return fmt.Errorf("the log does not say: %s", when)
			}
			return nil
		})
		pause(t.Context(), time.Duration(i%2)*300*time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		eventually(t, "the killed mover is noticed", func() error {
			if begun, ended := count(begins), count(over); begun != ended {
				return fmt.Errorf("%d moves have begun, %d have ended", begun, ended)
			}
			return nil
		})
	}
}

func total(scribes []*scribe) (n int) {
	for _, s := range scribes {
		s.l.mu.Lock()
		n += s.l.total
		s.l.mu.Unlock()
	}
	return n
}

// checkMoved looks for everything in the new place.
func checkMoved(t *testing.T, g *gateway, p *process, scribes []*scribe) {
	t.Helper()
	g.mu.Lock()
	g.p = p
	g.mu.Unlock()
	acknowledged := 0
	for _, s := range scribes {
		if err := s.settle(); err != nil {
			t.Error(err)
		}
		held, err := replicas(g)
		if err == nil {
			err = errors.Join(checkAcked(s.l.acked, held), s.l.check(p))
		}
		if err != nil {
			t.Error(err)
		}
		acknowledged += s.l.total
	}
	if n, err := g.readAttachments(); err != nil || n < 6 {
		t.Errorf("%d attachments, %v", n, err)
	}
	g.put("after", map[string]any{"channels": []string{"a"}})
	t.Logf("%d writes were acknowledged while it was moved", acknowledged)
}
