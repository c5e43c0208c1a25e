package gateway

import (
	"strings"
	"sync"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/store"
)

func newKeys(t *testing.T) *config.Keyring {
	t.Helper()
	keys, err := config.ParseKeys([]byte(config.NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// everything returns all that is stored, as one text.
func (e *replEnv) everything() string {
	e.t.Helper()
	var b strings.Builder
	err := e.st.View(e.t.Context(), func(r store.Reader) error {
		b.Reset()
		it := r.Scan(store.Range{})
		defer it.Close()
		for it.Next() {
			b.Write(it.Value())
			b.WriteByte('\n')
		}
		return it.Err()
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return b.String()
}

// No password of a remote is stored in the clear, neither in definitions nor in configs; without its key a definition stays,
// with an error that says so; and what was stored before there were keys still opens.
func TestStoredCredentials(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		const cfg = `{"replications":{"a":{"remote":"http://u:hush-one@h/d","direction":"pull","continuous":true}},"password":"hush-two"}`
		g, stop := e.gateway(nil)
		create(t, g, "old", cfg)
		stop()
		if !strings.Contains(e.everything(), "hush-one") {
			t.Fatal("this test would find nothing")
		}
		first := newKeys(t)
		e.keys = first
		g, stop = e.gateway(nil)
		r := get(t, g, "old")
		wantRepl(t, r, "a", job.Running)
		if p := e.fakes.last("a").o.Password; p != "hush-one" {
			t.Errorf("the password is %q", p)
		}
		if err := g.Delete(t.Context(), "old", true); err != nil {
			t.Fatal(err)
		}
		r = create(t, g, "db", cfg)
		define(t, r, "b", `{"remote":"http://h/d","direction":"push","continuous":true,"user":"u","password":"hush-three"}`)
		wantRepl(t, r, "b", job.Running)
		stop()
		g, stop = e.gateway(nil) // whose start ends the destruction of the old one
		if all := e.everything(); strings.Contains(all, "hush") || !strings.Contains(all, first.ID()) {
			t.Errorf("stored in the clear: %s", all)
		}
		wantRepl(t, get(t, g, "db"), "b", job.Running)
		stop()

		e.keys = newKeys(t)
		g, stop = e.gateway(nil)
		r = get(t, g, "db")
		for _, id := range []string{"a", "b"} {
			if s := wantRepl(t, r, id, job.Error); !strings.Contains(s.Error, "cannot be decrypted") || !strings.Contains(s.Error, first.ID()) {
				t.Errorf("%s: %q", id, s.Error)
			}
		}
		define(t, r, "b", `{"batch_size":5}`) // keeps the password
		define(t, r, "a", `{"remote":"http://u:again@h/d"}`)
		wantRepl(t, r, "b", job.Error)
		wantRepl(t, r, "a", job.Running)
		if err := r.Replications().Delete(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		stop()

		e.keys = first
		g, stop = e.gateway(nil)
		defer stop()
		wantRepl(t, get(t, g, "db"), "b", job.Running)
		if p := e.fakes.last("b").o.Password; p != "hush-three" {
			t.Errorf("the password is %q", p)
		}
	})
}

// Whatever comes together, a replication is there or is not, at most one of it runs, and nothing hangs.
func TestReplicationRaces(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		g, stop := e.gateway(nil)
		r := create(t, g, "db", `{}`)
		m := r.Replications()
		var running, most int
		var mu sync.Mutex
		e.fakes.prepare = func(f *fake) {
			count := f.onRun
			f.onRun = func() {
				count()
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
			}
			f.ended = func() { mu.Lock(); running--; mu.Unlock() }
		}
		var wg sync.WaitGroup
		ok := func(err error) {
			if code := tidegate.ErrorCode(err); err != nil && code != tidegate.NotFound && code != tidegate.Invalid {
				t.Error(err)
			}
		}
		for i := range 4 {
			wg.Go(func() {
				for range 25 {
					body := `{"remote":"http://h/d","direction":"pull","adhoc":false}`
					if i%2 == 0 {
						body = `{"remote":"http://h/d","direction":"pull","adhoc":true}`
					}
					_, err := tryDefine(r, "r", body)
					ok(err)
					for _, ev := range []job.Event{job.Stop, job.Start, job.Reset} {
						_, err := m.Act(t.Context(), "r", ev)
						ok(err)
					}
					if f := e.fakes.last("r"); f != nil {
						select {
						case f.end <- nil:
						default:
						}
					}
					if i == 3 {
						ok(m.Delete(t.Context(), "r"))
					}
				}
			})
		}
		wg.Wait()
		ok(m.Delete(t.Context(), "r"))
		stop()
		mu.Lock()
		defer mu.Unlock()
		if most != 1 || running != 0 {
			t.Errorf("%d ran at once, %d at the end", most, running)
		}
		if rows := e.rows(r.definition().Space); rows != "" {
			t.Errorf("left: %s", rows)
		}
	})
}
