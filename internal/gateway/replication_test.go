package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/replicate"
)

// The table of inter-gateway.md §5 as an operator sees it.
func TestReplicationStates(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		g, stop := e.gateway(nil)
		defer stop()
		r := create(t, g, "db", `{}`)
		if !define(t, r, "r", pullAlways) {
			t.Error("it is new")
		}
		if s := wantRepl(t, r, "r", job.Running); !s.Wanted || s.Node != "node" || !s.Local {
			t.Errorf("%+v", s.ReplicationInfo)
		}
		act(t, r, "r", job.Start, job.Running)
		if _, err := r.Replications().Act(t.Context(), "r", job.Reset); !errors.Is(err, job.ErrMustStop) {
			t.Error(err)
		}
		// The connection is lost, and comes back.
		f := e.fakes.last("r")
		f.set(replicate.Reconnecting, errPlanned)
		if s := wantRepl(t, r, "r", job.Reconnecting); s.Error != "as planned" || s.ErrorAt.IsZero() {
			t.Errorf("%+v", s)
		}
		f.set(replicate.Running, nil)
		if s := wantRepl(t, r, "r", job.Running); s.Error != "" {
			t.Errorf("%+v", s)
		}
		act(t, r, "r", job.Stop, job.Stopped)
		act(t, r, "r", job.Stop, job.Stopped)
		if s := wantRepl(t, r, "r", job.Stopped); s.Wanted || s.LastSeqPull != "7" {
			t.Errorf("%+v", s)
		}
		f.o.Stats.Pull.Read.Add(3)
		if s := wantRepl(t, r, "r", job.Stopped); s.Counters["docs_read"] != 3 {
			t.Errorf("%v", s.Counters)
		}
		act(t, r, "r", job.Reset, job.Stopped)
		if s := wantRepl(t, r, "r", job.Stopped); s.Counters["docs_read"] != 0 || s.LastSeqPull != "" || e.fakes.last("r").resets != 1 {
			t.Errorf("%+v", s)
		}
		act(t, r, "r", job.Start, job.Running)
		for _, id := range []string{"x", ""} {
			if _, err := r.Replications().Act(t.Context(), id, job.Stop); !errors.Is(err, tidegate.ErrMissing) {
				t.Errorf("%q: %v", id, err)
			}
		}
	})
}

// An answer waits for what was asked for, but not for ever, and then says what was asked.
func TestReplicationActionsThatTakeLong(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		g, stop := e.gateway(nil)
		defer stop()
		r := create(t, g, "db", `{}`)
		slow := make(chan struct{})
		e.fakes.prepare = func(f *fake) { f.slow = slow }
		define(t, r, "r", pullAlways)
		wantRepl(t, r, "r", job.Running)
		begun := time.Now()
		act(t, r, "r", job.Stop, job.Stopping)
		if took := time.Since(begun); took != settlePatience {
			t.Errorf("it took %v", took)
		}
		// A start while it ends waits for that.
		started := make(chan error)
		go func() { _, err := r.Replications().Act(t.Context(), "r", job.Start); started <- err }()
		synctest.Wait()
		slow <- struct{}{}
		if err := <-started; err != nil {
			t.Error(err)
		}
		wantRepl(t, r, "r", job.Running)
		go func() { slow <- struct{}{} }()
		act(t, r, "r", job.Stop, job.Stopped)

		act(t, r, "r", job.Reset, job.Resetting)
		act(t, r, "r", job.Reset, job.Resetting)
		act(t, r, "r", job.Stop, job.Resetting)
		if _, err := r.Replications().Act(t.Context(), "r", job.Start); !errors.Is(err, job.ErrResetting) {
			t.Error(err)
		}
		slow <- struct{}{}
		wantRepl(t, r, "r", job.Stopped)
		e.fakes.prepare = func(f *fake) { f.resetErr = errPlanned }
		act(t, r, "r", job.Reset, job.Error)
		if s := wantRepl(t, r, "r", job.Error); s.Error != "as planned" {
			t.Errorf("%+v", s)
		}
		e.fakes.prepare = nil
		act(t, r, "r", job.Reset, job.Stopped)
	})
}

func TestReplicationFails(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		g, stop := e.gateway(nil)
		r := create(t, g, "db", `{}`)
		e.fakes.prepare = func(f *fake) { f.refuse = errPlanned }
		define(t, r, "r", pullAlways)
		if s := wantRepl(t, r, "r", job.Error); s.Error != "as planned" || s.ErrorAt.IsZero() || !s.Wanted {
			t.Errorf("%+v", s)
		}
		if _, err := r.Replications().Act(t.Context(), "r", job.Reset); !errors.Is(err, job.ErrMustStop) {
			t.Error(err)
		}
		// A change of the definition starts it again, and so does a start, and a restart of the process.
		define(t, r, "r", `{"batch_size":5}`)
		wantRepl(t, r, "r", job.Error)
		act(t, r, "r", job.Start, job.Error)
		if n := e.fakes.runs("r"); n != 3 {
			t.Errorf("%d runs", n)
		}
		stop()
		e.fakes.prepare = nil
		g, stop = e.gateway(nil)
		defer stop()
		wantRepl(t, get(t, g, "db"), "r", job.Running)
	})
}

func TestAdhocReplication(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		const adhoc = `{"remote":"http://h/d","direction":"push","adhoc":true}`
		g, stop := e.gateway(nil)
		r := create(t, g, "db", `{}`)
		space := r.definition().Space
		gone := func(id string) {
			t.Helper()
			synctest.Wait()
			if _, err := r.Replications().Status(id); !errors.Is(err, tidegate.ErrMissing) {
				t.Errorf("%s: %v", id, err)
			}
			time.Sleep(2 * saveEvery)
			if rows := e.rows(space); rows != "" {
				t.Errorf("%s left %s", id, rows)
			}
		}
		define(t, r, "completed", adhoc)
		wantRepl(t, r, "completed", job.Running)
		e.fakes.last("completed").end <- nil
		gone("completed")
		define(t, r, "stopped", adhoc)
		act(t, r, "stopped", job.Stop, job.Removed)
		gone("stopped")
		define(t, r, "canceled", adhoc)
		if created := define(t, r, "canceled", `{"cancel":true,"direction":"nonsense"}`); created {
			t.Error("a cancellation creates nothing")
		}
		gone("canceled")
		// One that is changed goes on, and one that is left from a run before is dropped.
		define(t, r, "left", adhoc)
		define(t, r, "left", `{"batch_size":9}`)
		wantRepl(t, r, "left", job.Running)
		stop()
		g, stop = e.gateway(nil)
		defer stop()
		r = get(t, g, "db")
		gone("left")
	})
}

// A one-shot runs once; again when it is asked to, and when the cluster starts.
func TestOneShotReplication(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		g, stop := e.gateway(nil)
		r := create(t, g, "db", `{}`)
		complete := func(id string) {
			t.Helper()
			wantRepl(t, r, id, job.Running)
			e.fakes.last(id).end <- nil
			wantRepl(t, r, id, job.Stopped)
		}
		define(t, r, "r", pullOnce)
		define(t, r, "user", pullOnce)
		define(t, r, "later", strings.Replace(pullOnce, "{", `{"initial_state":"stopped",`, 1))
		wantRepl(t, r, "later", job.Stopped)
		act(t, r, "later", job.Start, job.Running)
		complete("later")
		complete("r")
		act(t, r, "user", job.Stop, job.Stopped)
		// A reload, and a time offline, are no start of the cluster.
		if _, err := update(t, g, "db", "", `{"revs_limit":20}`); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.TakeOffline(t.Context(), "db"), g.BringOnline(t.Context(), "db", 0, true)); err != nil {
			t.Fatal(err)
		}
		wantRepl(t, r, "r", job.Stopped)
		act(t, r, "r", job.Start, job.Running)
		complete("r")
		if n := e.fakes.runs("r"); n != 2 {
			t.Errorf("%d runs", n)
		}
		stop()
		g, stop = e.gateway(nil)
		defer stop()
		r = get(t, g, "db")
		wantRepl(t, r, "r", job.Running)
		wantRepl(t, r, "user", job.Stopped)
		wantRepl(t, r, "later", job.Stopped)
	})
}

// What runs stops with its database and comes back with it, and so over restarts; counters go on.
func TestReplicationFollowsItsDatabase(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		g, stop := e.gateway(nil)
		r := create(t, g, "db", `{}`)
		define(t, r, "r", pullAlways)
		define(t, r, "s", pullAlways)
		act(t, r, "s", job.Stop, job.Stopped)
		wantRepl(t, r, "r", job.Running)
		e.fakes.last("r").o.Stats.Pull.Read.Add(5)
		if err := g.TakeOffline(t.Context(), "db"); err != nil {
			t.Fatal(err)
		}
		if s := wantRepl(t, r, "r", job.Stopped); !s.Wanted {
			t.Error("it is meant to run")
		}
		if err := g.BringOnline(t.Context(), "db", 0, true); err != nil {
			t.Fatal(err)
		}
		wantRepl(t, r, "r", job.Running)
		e.fakes.last("r").o.Stats.Pull.Read.Add(2)
		// The status is stored while it runs: what is lost by a crash is not much.
		time.Sleep(saveEvery + time.Second)
		if rows := e.rows(r.definition().Space); !strings.Contains(rows, `"docs_read":7`) || !strings.Contains(rows, `"state":"running"`) {
			t.Error(rows)
		}
		stop()
		g, stop = e.gateway(nil)
		r = get(t, g, "db")
		wantRepl(t, r, "s", job.Stopped)
		wantRepl(t, r, "r", job.Running)
		e.fakes.last("r").o.Stats.Pull.Read.Add(10)
		if s := wantRepl(t, r, "r", job.Running); s.Counters["docs_read"] != 17 || s.LastSeqPull != "7" {
			t.Errorf("%+v", s)
		}
		for id, figures := range r.Replications().Figures() {
			if id == "r" && figures["sgr_num_docs_pulled"] != 10 {
				t.Errorf("statistics are of this process: %v", figures)
			}
		}
		space := r.definition().Space
		done := e.logs.expect("old data deleted")
		if err := g.Delete(t.Context(), "db", true); err != nil {
			t.Fatal(err)
		}
		<-done
		if rows := e.rows(space); rows != "" {
			t.Errorf("left: %s", rows)
		}
		stop()
	})
}

func TestReplicationUpdate(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		g, stop := e.gateway(nil)
		defer stop()
		r := create(t, g, "db", `{}`)
		define(t, r, "r", pullAlways)
		wantRepl(t, r, "r", job.Running)
		if define(t, r, "r", `{"batch_size":7,"initial_state":"stopped"}`) {
			t.Error("it is not new")
		}
		s := wantRepl(t, r, "r", job.Running)
		if f := e.fakes.last("r"); f.o.BatchSize != 7 || !f.o.Continuous || e.fakes.runs("r") != 2 || s.Config.InitialState != "stopped" {
			t.Errorf("%+v, %d runs", f.o, e.fakes.runs("r"))
		}
		if _, err := tryDefine(r, "r", `{"direction":"sideways"}`); !strings.Contains(tidegate.ErrorReason(err), "Invalid replication direction") {
			t.Error(err)
		}
		if _, err := tryDefine(r, "r", `{"conflict_resolution_type":"custom","custom_conflict_resolver":"function(c) {"}`); tidegate.ErrorCode(err) != tidegate.Invalid {
			t.Error(err)
		}
		if wantRepl(t, r, "r", job.Running); e.fakes.runs("r") != 2 {
			t.Error("what is refused stops nothing")
		}
		if _, err := tryDefine(r, "none", `{"cancel":true}`); !errors.Is(err, tidegate.ErrMissing) {
			t.Error(err)
		}
		define(t, r, "r", `{"cancel":true}`)
		wantRepl(t, r, "r", job.Stopped)
		define(t, r, "r", `{"batch_size":8}`)
		wantRepl(t, r, "r", job.Stopped)

		if _, err := update(t, g, "db", "", `{"unsupported":{"replication_update_requires_stop":true}}`); err != nil {
			t.Fatal(err)
		}
		define(t, r, "r", `{"batch_size":9}`)
		act(t, r, "r", job.Start, job.Running)
		_, err := tryDefine(r, "r", `{"batch_size":10}`)
		wantCode(t, err, tidegate.Invalid, "Replication must be stopped before updating config")
	})
}

func TestReplicationDelete(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		g, stop := e.gateway(nil)
		defer stop()
		r := create(t, g, "db", `{}`)
		define(t, r, "r", pullAlways)
		wantRepl(t, r, "r", job.Running)
		time.Sleep(saveEvery)
		if err := r.Replications().Delete(t.Context(), "r"); err != nil {
			t.Fatal(err)
		}
		if e.fakes.last("r").resets != 1 || e.rows(r.definition().Space) != "" || len(r.Replications().List()) != 0 {
			t.Errorf("%d resets, %s", e.fakes.last("r").resets, e.rows(r.definition().Space))
		}
		if err := r.Replications().Delete(t.Context(), "r"); !errors.Is(err, tidegate.ErrMissing) {
			t.Error(err)
		}
		if !define(t, r, "r", pullAlways) {
			t.Error("it is new again")
		}
	})
}

// Configured definitions are added; the stored one counts from then on.
func TestConfiguredReplications(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		files := func(extra string) map[string]*config.Database {
			return fileDBs(t, `{"db":{"replications":{"a":{"remote":"http://u:p@h/d","direction":"push_and_pull","continuous":true`+extra+`},
				"b":{"remote":"http://h/d","direction":"pull","state":"stopped"}}}}`)
		}
		g, stop := e.gateway(files(""))
		r := get(t, g, "db")
		wantRepl(t, r, "a", job.Running)
		wantRepl(t, r, "b", job.Stopped)
		if f := e.fakes.last("a"); !f.o.Push || !f.o.Pull || f.o.Username != "u" || f.o.Password != "p" || f.o.Remote.String() != "http://h/d" || f.o.MaxBackoff != 5*time.Minute {
			t.Errorf("%+v", f.o)
		}
		define(t, r, "a", `{"batch_size":3}`)
		stop()
		g, stop = e.gateway(files(`,"batch_size":99`))
		r = get(t, g, "db")
		if s := wantRepl(t, r, "a", job.Running); *s.Config.BatchSize != 3 || !e.logs.has("differs from the configured one") {
			t.Errorf("%s", s.Config.Masked())
		}
		// One that is taken out of the config stays; one that was deleted comes back with the next load.
		if err := r.Replications().Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := update(t, g, "db", "", `{"replications":{"b":null}}`); err != nil {
			t.Fatal(err)
		}
		if s := wantRepl(t, r, "a", job.Running); *s.Config.BatchSize != 99 {
			t.Errorf("%s", s.Config.Masked())
		}
		wantRepl(t, r, "b", job.Stopped)
		stop()
	})
}

func TestReplicationsOffOnThisNode(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		g, stop := e.gateway(nil)
		defer stop()
		r := create(t, g, "db", `{"sgreplicate_enabled":"false"}`)
		define(t, r, "r", pullAlways)
		if s := wantRepl(t, r, "r", job.Unassigned); s.Node != "" || s.Local || !s.Wanted {
			t.Errorf("%+v", s)
		}
		act(t, r, "r", job.Start, job.Unassigned)
		if e.fakes.last("r") != nil {
			t.Error("it ran")
		}
		if _, err := update(t, g, "db", "", `{"sgreplicate_enabled":true}`); err != nil {
			t.Fatal(err)
		}
		wantRepl(t, r, "r", job.Running)
		if _, err := update(t, g, "db", "", `{"sgreplicate_enabled":false,"sgreplicate_websocket_heartbeat_secs":9,"unsupported":{"sgr_tls_skip_verify":true}}`); err != nil {
			t.Fatal(err)
		}
		wantRepl(t, r, "r", job.Unassigned)
		act(t, r, "r", job.Stop, job.Stopped)
		if _, err := update(t, g, "db", "", `{"sgreplicate_enabled":null}`); err != nil {
			t.Fatal(err)
		}
		act(t, r, "r", job.Start, job.Running)
		if o := e.fakes.last("r").o; o.Heartbeat != 9*time.Second || !o.SkipTLSVerify {
			t.Errorf("%v, %v", o.Heartbeat, o.SkipTLSVerify)
		}
	})
}

// A thousand replications do not all start in the same moment, and not one starts late.
func TestManyReplicationsAreSpread(t *testing.T) {
	bubble(t, func(t *testing.T, e *replEnv) {
		const n = 1000
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"replication_id":"r%d","remote":"http://h/d","direction":"push","continuous":true}`, i))
		}
		g, stop := e.gateway(fileDBs(t, `{"db":{"replications":[`+strings.Join(list, ",")+`]}}`))
		defer stop()
		begun := time.Now()
		time.Sleep(startMost)
		synctest.Wait()
		r := get(t, g, "db")
		for _, s := range r.Replications().Statuses() {
			if s.State != job.Running {
				t.Fatalf("%s is %s", s.ID, s.State)
			}
		}
		most, in := 0, map[time.Duration]int{}
		for _, at := range e.fakes.starts {
			slot := at.Sub(begun) / (100 * time.Millisecond)
			in[slot]++
			most = max(most, in[slot])
		}
		if len(e.fakes.starts) != n || most > n/5 {
			t.Errorf("%d started, up to %d in a tenth of a second", len(e.fakes.starts), most)
		}
	})
}
