package replicate_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/replicate"
)

// syncEnv is an env with a lifecycle of device sync, and a func that changes it.
func syncEnv(t *testing.T) (*env, func(func(*devicesync.Row))) {
	t.Helper()
	live := devicesync.NewLive(devicesync.Automatic("test", "epoch-0", time.Now()))
	change := func(fn func(*devicesync.Row)) {
		row := *live.Row()
		row.Record.Version++
		fn(&row)
		live.Set(&row)
	}
	e := newEnv(t, database.Options{DeviceSync: live})
	for i := range 4 {
		e.put(fmt.Sprintf("d%d", i), `{"channels":["a"]}`)
	}
	return e, change
}

// closed waits until the server has closed the connection and returns the code.
func (c *client) closed() int {
	c.t.Helper()
	synctest.Wait()
	c.near.in.mu.Lock()
	defer c.near.in.mu.Unlock()
	return c.near.in.code
}

// trimmed makes every position up to floor one that is not honoured, below a marker.
func trimmed(floor tidegate.Seq) func(*devicesync.Row) {
	return func(r *devicesync.Row) { r.Record.HistoryFloor, r.Record.Markers = floor, []tidegate.Seq{floor + 1} }
}

// A client whose checkpoint is of a position that was trimmed away is told that there is none; it pulls from the start, labelled, and goes on.
func TestD31StaleCheckpointIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, change := syncEnv(t)
		c := e.dial(replicate.Peer{Admin: true})
		c.must("setCheckpoint", `{"local":1,"remote":"2"}`, "client", "cp")
		if res := c.must("getCheckpoint", "", "client", "cp"); !strings.Contains(res.body, `"remote":"2"`) {
			t.Fatalf("%s", res)
		}
		change(trimmed(3))
		c = e.dial(replicate.Peer{Admin: true})
		if res := c.call("getCheckpoint", "", "client", "cp"); res.err == nil || !strings.Contains(res.err.Error(), "404") {
			t.Errorf("%s", res)
		}
		p := c.pullAll()
		if got := fmt.Sprint(p.rows); !strings.HasPrefix(got, "[4:1 d0 ") {
			t.Errorf("%s", got)
		}
		c.must("setCheckpoint", `{"local":1,"remote":"4:3"}`, "client", "cp")
		c = e.dial(replicate.Peer{Admin: true})
		c.must("getCheckpoint", "", "client", "cp")
		if rows := c.pullAll("since", "4:3").rows; len(rows) != 1 {
			t.Errorf("%v", rows)
		}
	})
}

// The same where a connection names collections: the checkpoint is {}.
func TestD31StaleCheckpointOfACollection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, change := syncEnv(t)
		const ask = `{"collections":["_default._default"],"checkpoint_ids":["cp"]}`
		c := e.dial(replicate.Peer{Admin: true})
		c.must("getCollections", ask)
		c.must("setCheckpoint", `{"remote":"2"}`, "client", "cp", "collection", "0")
		change(trimmed(3))
		c = e.dial(replicate.Peer{Admin: true})
		if res := c.must("getCollections", ask); res.body != "[{}]" {
			t.Errorf("%s", res)
		}
	})
}

// A position that is not honoured and comes without its checkpoint: 503 and close 4001, and the client finds no checkpoint when it comes back.
func TestD31StaleSinceMakesTheClientReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, change := syncEnv(t)
		change(trimmed(3))
		c := e.dial(replicate.Peer{Admin: true})
		res := c.call("subChanges", "", "since", "2")
		if res.err == nil || !strings.Contains(res.err.Error(), "503") || !strings.Contains(res.err.Error(), "client_reset: reconnect") {
			t.Errorf("%s", res)
		}
		if code := c.closed(); code != devicesync.CloseRetry {
			t.Errorf("closed with %d", code)
		}
		// A gateway is sent everything again instead.
		c = e.dial(replicate.Peer{Admin: true, Gateway: true})
		if rows := c.pullAll("since", "2").rows; len(rows) != 4 {
			t.Errorf("%v", rows)
		}
	})
}

// With recovery disabled: 410, and a second later close 4002, whichever way the client comes. One with a new database is served.
func TestD34RecoveryDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, change := syncEnv(t)
		e.dial(replicate.Peer{Admin: true}).must("setCheckpoint", `{"remote":"2"}`, "client", "cp")
		change(trimmed(3))
		change(func(r *devicesync.Row) { r.Config.IsRecoveryModeDisabled = true })
		for name, come := range map[string]func(*client) result{
			"getCheckpoint": func(c *client) result { return c.call("getCheckpoint", "", "client", "cp") },
			"getCollections": func(c *client) result {
				return c.call("getCollections", `{"collections":["_default"],"checkpoint_ids":["cp"]}`)
			},
			"subChanges": func(c *client) result { return c.call("subChanges", "", "since", "2") },
		} {
			c := e.dial(replicate.Peer{Admin: true})
			began := time.Now()
			res := come(c)
			if res.err == nil || !strings.Contains(res.err.Error(), "410") || !strings.Contains(res.err.Error(), "client_reset_required: history_trimmed") {
				t.Errorf("%s: %s", name, res)
			}
			if code := c.closed(); code != 0 {
				t.Errorf("%s: closed at once with %d", name, code)
			}
			if err := <-c.over; err == nil && time.Since(began) != time.Second {
				t.Errorf("%s: ended after %v: %v", name, time.Since(began), err)
			}
			if code := c.closed(); code != devicesync.CloseStop {
				t.Errorf("%s: closed with %d", name, code)
			}
		}
		c := e.dial(replicate.Peer{Admin: true})
		if res := c.call("getCheckpoint", "", "client", "new"); res.err == nil || !strings.Contains(res.err.Error(), "404") {
			t.Errorf("%s", res)
		}
		if rows := c.pullAll().rows; len(rows) != 4 {
			t.Errorf("%v", rows)
		}
	})
}

// After a restore a client finds no checkpoint until it has pulled everything and offered nothing for a minute, or has closed in the normal way.
func TestD36ResetsRepeatUntilAllIsOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, change := syncEnv(t)
		change(func(r *devicesync.Row) { r.Record.Epoch.No, r.Record.Epoch.Reason = 1, devicesync.EpochRestored })
		missing := func(want bool) *client {
			t.Helper()
			c := e.dial(replicate.Peer{Admin: true})
			res := c.call("getCheckpoint", "", "client", "cp")
			if (res.err != nil) != want {
				t.Fatalf("%s, want missing %v", res, want)
			}
			return c
		}
		c := missing(true)
		c.must("setCheckpoint", `{"remote":"1"}`, "client", "cp")
		c.conn.Drop(errConnectionLost)
		<-c.over
		c = missing(true) // the connection broke half-way
		c.pullAll()
		time.Sleep(50 * time.Second)
		c.must("proposeChanges", `[["x","1-aa"]]`)
		c.must("setCheckpoint", `{"remote":"1"}`, "client", "cp")
		time.Sleep(20 * time.Second) // more than a minute after it had everything, less after its last offer
		missing(true)
		c.must("setCheckpoint", `{"remote":"1"}`, "client", "cp")
		time.Sleep(50 * time.Second)
		synctest.Wait()
		missing(false)
		// The normal end of another client's connection.
		c = e.dial(replicate.Peer{Admin: true})
		if res := c.call("getCheckpoint", "", "client", "other"); res.err == nil {
			t.Fatal("it is there")
		}
		c.pullAll()
		c.must("setCheckpoint", `{"remote":"4"}`, "client", "other")
		c.conn.Close(1000, "")
		<-c.over
		c = e.dial(replicate.Peer{Admin: true})
		c.must("getCheckpoint", "", "client", "other")
	})
}

var errConnectionLost = tidegate.Errorf(tidegate.Unavailable, "the connection is lost")

// A connection says how much history it still needs, and that it needs none when it has caught up.
func TestConnectionSaysWhatItNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, change := syncEnv(t)
		change(func(r *devicesync.Row) { r.Record.Markers = []tidegate.Seq{4} })
		var told []tidegate.Seq
		c := e.dial(replicate.Peer{Admin: true, Needs: func(pos tidegate.Seq) { told = append(told, pos) }})
		c.must("subChanges", "", "batch", "10")
		c.expect("changes").answer("[]")
		c.expect("changes").r.Release()
		synctest.Wait()
		if fmt.Sprint(told) != "[4 0 0]" && fmt.Sprint(told) != "[4 0]" {
			t.Errorf("%v", told)
		}
	})
}
