package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/job"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pgstore"
	"github.com/tidegate/tidegate/internal/store/pgstore/pgtest"
)

// replicationsFile is a section of a config file with continuous replications.
func replicationsFile(more string, ids ...string) string {
	list := ""
	for i, id := range ids {
		if i > 0 {
			list += ","
		}
		list += `"` + id + `":` + pullAlways
	}
	return `{` + more + `"replications":{` + list + `}}`
}

// High availability as the manual tells it, on gateways that share a PostgreSQL.
func TestReplicationsOnNodes(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, test := range map[string]func(*testing.T, *nodesEnv){
		"Example1": exampleHomogenous, "Example2": exampleNotReplicating, "Example3": exampleHeterogenous,
		"Example4": exampleAddingNodes, "Example5": exampleFailingNode,
		"Anywhere": askAnywhere, "Adhoc": adhocAnywhere, "Fenced": fenced, "Returns": nodeReturns, "Config": configFollowed,
		"Unreadable": othersGoOn, "Frozen": frozen,
	} {
		t.Run(name, func(t *testing.T) { test(t, newNodesEnv(t, server)) })
	}
}

// takesOver fails a node and checks that a replication goes on elsewhere within the stated time.
func (e *nodesEnv) takesOver(failed, id string, on ...string) {
	e.t.Helper()
	began := time.Now()
	e.fail(e.node(failed))
	if !slices.Contains(on, "") {
		e.until("the takeover of "+id, patience, func() bool { return slices.Contains(on, e.runner(id)) })
		if took := time.Since(began); took > testFailover {
			e.t.Errorf("it took %s; stated are %s", took, testFailover)
		}
	}
	e.settled("after the failure", id, on...)
}

// act does something to a replication on a node, which answers that it is so or becoming so, and waits until all nodes say that it is.
func (e *nodesEnv) act(n *testNode, id string, ev job.Event, becoming, want job.State) {
	e.t.Helper()
	s, err := n.running(e.t).Replications().Act(e.t.Context(), id, ev)
	if err != nil || s.State != want && s.State != becoming {
		e.t.Fatalf("%s on %s: %s, %v; want %s", ev, n.id, s.State, err, want)
	}
	e.say(id, fmt.Sprintf("%s after %s", want, ev), func(s ReplicationStatus) bool { return s.State == want })
}

// say waits until all nodes say something of a replication.
func (e *nodesEnv) say(id, what string, holds func(ReplicationStatus) bool) {
	e.t.Helper()
	for _, n := range e.nodes {
		e.until(id+" is "+what+" on "+n.id, patience, func() bool {
			s, err := n.running(e.t).Replications().Status(id)
			return err == nil && holds(s)
		})
	}
}

// Example 1: three nodes alike run one replication on one of them, and on another one when that goes down.
func exampleHomogenous(t *testing.T, e *nodesEnv) {
	file := replicationsFile("", "r1")
	for _, id := range []string{"node1", "node2", "node3"} {
		e.start(id, file)
	}
	on := e.settled("before", "r1", "node1", "node2", "node3")
	others := slices.DeleteFunc([]string{"node1", "node2", "node3"}, func(id string) bool { return id == on })
	e.takesOver(on, "r1", others...)
}

// Example 2: a node that has opted out never runs it, and tells all the same.
func exampleNotReplicating(t *testing.T, e *nodesEnv) {
	e.start("node1", replicationsFile("", "r1"))
	e.start("node2", replicationsFile("", "r1"))
	e.start("node3", replicationsFile(`"sgreplicate_enabled":"false",`, "r1"))
	on := e.settled("before", "r1", "node1", "node2")
	other := map[string]string{"node1": "node2", "node2": "node1"}[on]
	e.takesOver(on, "r1", other)
	e.takesOver(other, "r1", "")
	if n := e.node("node3").fakes.runs("r1"); n != 0 {
		t.Errorf("the node that has opted out ran it %d times", n)
	}
}

// Example 3: each runs only where it is configured.
func exampleHeterogenous(t *testing.T, e *nodesEnv) {
	e.start("node1", replicationsFile("", "r1"))
	e.start("node2", replicationsFile("", "r1"))
	e.start("node3", replicationsFile("", "r2"))
	e.settled("before", "r2", "node3")
	on := e.settled("before", "r1", "node1", "node2")
	other := map[string]string{"node1": "node2", "node2": "node1"}[on]
	e.takesOver(on, "r1", other)
	e.settled("after the failure", "r2", "node3")
	e.takesOver("node3", "r2", "")
	e.settled("after the other failure", "r1", other)
}

// Example 4: a node that joins takes one of two, and the other one is not disturbed.
func exampleAddingNodes(t *testing.T, e *nodesEnv) {
	file := replicationsFile("", "r1", "r2")
	first := e.start("node1", file)
	e.settled("before", "r1", "node1")
	e.settled("before", "r2", "node1")
	second := e.start("node2", file)
	e.until("one moves", patience, func() bool { return (e.runner("r1") == "node2") != (e.runner("r2") == "node2") })
	e.settled("after node2 has joined", "r1", "node1", "node2")
	if n, m := first.fakes.runs("r1")+first.fakes.runs("r2"), second.fakes.runs("r1")+second.fakes.runs("r2"); n != 2 || m != 1 {
		t.Errorf("%d runs on node1, %d on node2: more than one has moved", n, m)
	}
}

// Example 5: one on each of three nodes; when one fails, the others keep theirs and one of them takes its.
func exampleFailingNode(t *testing.T, e *nodesEnv) {
	file := replicationsFile("", "r1", "r2", "r3")
	for _, id := range []string{"node1", "node2", "node3"} {
		e.start(id, file)
	}
	all := []string{"r1", "r2", "r3"}
	e.until("one on each", patience, func() bool {
		on := []string{e.runner("r1"), e.runner("r2"), e.runner("r3")}
		slices.Sort(on)
		return slices.Equal(on, []string{"node1", "node2", "node3"})
	})
	before, runs := map[string]string{}, map[string]int{}
	for _, id := range all {
		before[id] = e.settled("before", id, "node1", "node2", "node3")
		runs[id] = e.node(before[id]).fakes.runs(id)
	}
	for _, id := range all {
		if before[id] == "node3" {
			e.takesOver("node3", id, "node1", "node2")
		}
	}
	for _, id := range all {
		if before[id] == "node3" {
			continue
		}
		if now := e.runner(id); now != before[id] || e.node(now).fakes.runs(id) != runs[id] {
			t.Errorf("%s was on %s, is on %q, and was disturbed", id, before[id], now)
		}
	}
}

// here is the node that runs a replication, other one that does not.
func (e *nodesEnv) here(id string) (here, other *testNode) {
	on := e.runner(id)
	for _, n := range e.nodes {
		if n.id == on {
			here = n
		} else {
			other = n
		}
	}
	if here == nil || other == nil {
		e.t.Fatalf("%s runs on %q", id, on)
	}
	return here, other
}

// Whatever node is asked: definitions, actions and answers are those of the whole.
func askAnywhere(t *testing.T, e *nodesEnv) {
	e.start("node1", "{}")
	e.start("node2", "{}")
	e.start("node3", "{}")
	if !define(t, e.nodes[2].running(t), "r", pullAlways) {
		t.Error("it is new")
	}
	e.settled("defined on node3", "r", "node1", "node2", "node3")
	here, other := e.here("r")
	r := other.running(t)
	here.fakes.last("r").o.Stats.Pull.Read.Add(5)
	e.until("figures of another node", patience, func() bool {
		s, err := r.Replications().Status("r")
		return err == nil && s.Counters["docs_read"] == 5 && !s.Local && s.Node == here.id
	})
	e.act(other, "r", job.Start, job.Starting, job.Running)
	if _, err := r.Replications().Act(t.Context(), "r", job.Reset); !errors.Is(err, job.ErrMustStop) {
		t.Error(err)
	}
	define(t, r, "r", `{"batch_size":7}`)
	e.until("the change", patience, func() bool { f := here.fakes.last("r"); return f.o.BatchSize == 7 && e.runner("r") == here.id })
	e.settled("changed on another node", "r", here.id)
	e.act(other, "r", job.Stop, job.Stopping, job.Stopped)
	e.say("r", "stopped, with its figures", func(s ReplicationStatus) bool {
		return s.State == job.Stopped && !s.Wanted && s.Counters["docs_read"] == 5 && s.LastSeqPull == "7" && s.Node != ""
	})
	e.act(other, "r", job.Reset, job.Resetting, job.Stopped)
	e.say("r", "reset", func(s ReplicationStatus) bool {
		return s.State == job.Stopped && s.Counters["docs_read"] == 0 && s.LastSeqPull == ""
	})
	e.act(other, "r", job.Start, job.Starting, job.Running)
	here, other = e.here("r")
	here.fakes.last("r").o.Stats.Pull.Read.Add(2)
	runs, err := other.running(t).Replications().Runs(t.Context(), "r")
	if err != nil || len(runs) < 4 || runs[len(runs)-1].Node != here.id || !runs[len(runs)-1].Ended.IsZero() {
		t.Errorf("%+v, %v", runs, err)
	}
	for i := 1; i < len(runs); i++ {
		if runs[i].Epoch <= runs[i-1].Epoch || runs[i-1].Ended.IsZero() || runs[i].Started.Before(runs[i-1].Ended) {
			t.Errorf("%+v", runs)
		}
	}
	here.fakes.last("r").refuseNext(errPlanned)
	e.until("the failure", patience, func() bool {
		s, err := other.running(t).Replications().Status("r")
		return err == nil && s.State == job.Error && s.Error == "as planned" && s.Counters["docs_read"] == 2
	})
	e.act(other, "r", job.Start, job.Starting, job.Running)
	if err := other.running(t).Replications().Delete(t.Context(), "r"); err != nil {
		t.Fatal(err)
	}
	for _, n := range e.nodes {
		if _, err := n.running(t).Replications().Status("r"); !errors.Is(err, tidegate.ErrMissing) || e.runner("r") != "" {
			t.Errorf("%s: %v, runs on %q", n.id, err, e.runner("r"))
		}
	}
	if !define(t, r, "r", pullAlways) {
		t.Error("it is new again")
	}
	e.settled("defined again", "r", "node1", "node2", "node3")
}

// refuseNext ends a run with an error.
func (r *fake) refuseNext(err error) { r.end <- err }

// One-shots and ad hoc replications run once, whatever node they are asked of, and their end is known on all.
func adhocAnywhere(t *testing.T, e *nodesEnv) {
	const adhoc = `{"remote":"http://h/d","direction":"push","adhoc":true}`
	e.start("node1", "{}")
	e.start("node2", "{}")
	runs := func(id string) int { return e.nodes[0].fakes.runs(id) + e.nodes[1].fakes.runs(id) }
	for _, id := range []string{"a", "b"} { // one on each
		define(t, e.nodes[0].running(t), id, adhoc)
	}
	for _, id := range []string{"a", "b"} {
		e.settled("defined", id, "node1", "node2")
		here, other := e.here(id)
		f := here.fakes.last(id)
		f.o.Stats.Push.Written.Add(3)
		f.end <- nil
		e.until("the end of "+id, patience, func() bool {
			s, ended := other.running(t).Replications().Ended(id)
			_, err := other.running(t).Replications().Status(id)
			return ended && s.State == job.Stopped && s.Counters["docs_written"] == 3 && errors.Is(err, tidegate.ErrMissing)
		})
		if runs(id) != 1 {
			t.Errorf("%s ran %d times", id, runs(id))
		}
	}
	define(t, e.nodes[0].running(t), "c", adhoc)
	e.settled("defined", "c", "node1", "node2")
	_, other := e.here("c")
	act(t, other.running(t), "c", job.Stop, job.Removed)
	for _, n := range e.nodes {
		if s, ended := n.running(t).Replications().Ended("c"); !ended || s.State != job.Removed || e.runner("c") != "" {
			t.Errorf("%s: %+v, %v", n.id, s, ended)
		}
	}
	define(t, e.nodes[1].running(t), "once", pullOnce)
	e.settled("defined", "once", "node1", "node2")
	here, other := e.here("once")
	here.fakes.last("once").end <- nil
	e.until("the end", patience, func() bool {
		s, err := other.running(t).Replications().Status("once")
		return err == nil && s.State == job.Stopped && !s.Wanted
	})
	e.act(other, "once", job.Start, job.Starting, job.Running)
	if n := runs("once"); n != 2 {
		t.Errorf("%d runs", n)
	}
}

// laterLease is a lease that somebody has after the one that a run holds.
type laterLease struct {
	store.Lease
	epoch uint64
}

func (l laterLease) Epoch() uint64 { return l.epoch }

// A node that stood still while a process had the store alone writes nothing more when it goes on, and ends.
func frozen(t *testing.T, e *nodesEnv) {
	n := e.start("node1", replicationsFile("", "r"))
	e.settled("before", "r", "node1")
	tool, err := pgstore.Open(t.Context(), e.server.URL(), pgstore.Options{Schema: e.schema, Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer tool.Close()
	if _, err := cluster.Exclusive(t.Context(), tool); tidegate.ErrorCode(err) != tidegate.Unavailable {
		t.Fatalf("the store alone beside a node: %v", err)
	}
	e.fail(n)
	alone, err := cluster.Exclusive(t.Context(), tool)
	if err != nil {
		t.Fatal(err)
	}
	alone.Release()
	n.link.set(false)
	await(t, n.g.ctx.Done(), "the end of the node")
	if err := context.Cause(n.g.ctx); !errors.Is(err, store.ErrFenced) {
		t.Errorf("it ended with %v", err)
	}
	err = n.st.Update(t.Context(), func(tx store.Tx) error { return tx.Put(store.NewKey(0, store.KindMeta).Name("late"), nil) })
	if !errors.Is(err, store.ErrFenced) {
		t.Errorf("a write after that: %v", err)
	}
	e.start("node2", replicationsFile("", "r"))
	e.settled("after", "r", "node2")
}

// A definition that a node cannot read, of a newer version say, holds up that replication alone, and is told once.
func othersGoOn(t *testing.T, e *nodesEnv) {
	file := replicationsFile("", "r1", "r2")
	first, second := e.start("node1", file), e.start("node2", file)
	e.settled("before", "r1", "node1", "node2")
	space := first.running(t).Replications().space()
	err := first.st.Update(t.Context(), func(tx store.Tx) error {
		if err := tx.Put(replicationKey(space, "r1"), []byte(`{"format":99}`)); err != nil {
			return err
		}
		return first.g.nodes.Note(tx, replicationTopic(space))
	})
	if err != nil {
		t.Fatal(err)
	}
	const told = "a replication cannot be read and stays as it is on this node"
	for _, n := range e.nodes {
		e.until("it is told on "+n.id, patience, func() bool { return n.logs.has(told) })
	}
	e.act(second, "r2", job.Stop, job.Stopping, job.Stopped)
	e.act(first, "r2", job.Start, job.Starting, job.Running)
	for _, n := range e.nodes {
		n.logs.mu.Lock()
		if times := strings.Count(strings.Join(n.logs.lines, "\n"), told); times != 1 {
			t.Errorf("%s told it %d times", n.id, times)
		}
		n.logs.mu.Unlock()
		if s, err := n.running(t).Replications().Status("r1"); err != nil || !s.Wanted {
			t.Errorf("r1 on %s: %+v, %v", n.id, s, err)
		}
	}
}

// What a node writes that has been held up, while another one has claimed what it runs, is refused.
func fenced(t *testing.T, e *nodesEnv) {
	n := e.start("node1", replicationsFile("", "r"))
	e.settled("before", "r", "node1")
	m := n.running(t).Replications()
	p, err := m.find("r")
	if err != nil {
		t.Fatal(err)
	}
	claim := n.fakes.last("r").o.Claim
	check := func() error { return n.st.View(t.Context(), claim.Check) }
	if claim.Node != "node1" || check() != nil {
		t.Errorf("%+v, %v", claim, check())
	}
	db := n.running(t).DB()
	if _, err := db.Admin(0).PutLocalIf(t.Context(), "checkpoint/x", "", []byte(`{"last_sequence":"1"}`), claim.Check); err != nil {
		t.Fatal(err)
	}
	if _, err := p.take(t.Context(), laterLease{epoch: claim.Epoch}, time.Now()); !errors.Is(err, errMoved) {
		t.Errorf("an epoch is claimed twice: %v", err)
	}
	if _, err := p.take(t.Context(), laterLease{epoch: claim.Epoch + 1}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := check(); !errors.Is(err, errMoved) {
		t.Error(err)
	}
	if _, err := db.Admin(0).PutLocalIf(t.Context(), "checkpoint/x", "0-1", []byte(`{"last_sequence":"2"}`), claim.Check); !errors.Is(err, errMoved) {
		t.Errorf("a checkpoint of the old holder: %v", err)
	}
	if doc, err := db.Admin(0).GetLocal(t.Context(), "checkpoint/x"); err != nil || string(doc.Body) != `{"last_sequence":"1"}` {
		t.Errorf("%s, %v", doc.Body, err)
	}
	// Nor does its status come into the store, or what becomes of its definition.
	n.fakes.last("r").o.Stats.Pull.Read.Add(9)
	if err := m.saveProgress(t.Context(), []*replication{p}); err != nil {
		t.Fatal(err)
	}
	if err := m.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	stored := p.stored
	p.mu.Unlock()
	if stored.Counters["docs_read"] != 0 || stored.Epoch != claim.Epoch {
		t.Errorf("%+v", stored)
	}
	if err := p.erase(t.Context(), p.claimCheck()); !errors.Is(err, errMoved) {
		t.Errorf("a deletion: %v", err)
	}
}

// A node that was cut off and comes back takes part again, and has stopped what it ran meanwhile.
func nodeReturns(t *testing.T, e *nodesEnv) {
	file := replicationsFile("", "r1", "r2")
	e.start("node1", file)
	e.start("node2", file)
	e.settled("before", "r1", "node1", "node2")
	lost := e.runner("r1")
	other := map[string]string{"node1": "node2", "node2": "node1"}[lost]
	e.takesOver(lost, "r1", other)
	n := e.node(lost)
	n.link.set(false)
	n.up = true
	e.until("one on each", patience, func() bool { return e.runner("r1") != e.runner("r2") && e.runner("r1") != "" && e.runner("r2") != "" })
	e.settled("after its return", "r1", "node1", "node2")
	e.settled("after its return", "r2", "node1", "node2")
}

// A config that is changed on one node is in force on all: a reload moves nothing, and what says that replications are not to run stops them.
func configFollowed(t *testing.T, e *nodesEnv) {
	e.start("node1", "")
	e.start("node2", "")
	create(t, e.nodes[0].g, "db", `{}`)
	e.until("the database on node2", patience, func() bool {
		r, err := e.nodes[1].g.Database("db")
		return err == nil && r.State() == Online
	})
	for _, id := range []string{"r1", "r2"} {
		define(t, e.nodes[1].running(t), id, pullAlways)
	}
	e.settled("before", "r1", "node1", "node2")
	on := e.settled("before", "r2", "node1", "node2")
	n := e.node(on)
	was := n.fakes.runs("r2")
	if _, err := update(t, e.nodes[0].g, "db", "", `{"revs_limit":30}`); err != nil {
		t.Fatal(err)
	}
	e.until("a reload", patience, func() bool { return n.fakes.runs("r2") > was })
	e.settled("after a reload", "r2", on)
	if n.fakes.runs("r1") > 0 {
		t.Errorf("a reload moves r1 to %s", on)
	}
	if _, err := update(t, e.nodes[1].g, "db", "", `{"sgreplicate_enabled":false}`); err != nil {
		t.Fatal(err)
	}
	e.settled("switched off", "r1", "")
	e.settled("switched off", "r2", "")
	act(t, e.nodes[0].running(t), "r1", job.Start, job.Unassigned)
	if _, err := update(t, e.nodes[0].g, "db", "", `{"sgreplicate_enabled":true}`); err != nil {
		t.Fatal(err)
	}
	e.settled("switched on", "r1", "node1", "node2")
}
