package chaos

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// op is an operation on the register "r" between two moments.
func op(call, ret int64, in regInput, out regOutput) porcupine.Operation {
	in.doc = "r"
	return porcupine.Operation{Input: in, Output: out, Call: call, Return: ret}
}

func swap(from, to string) regInput { return regInput{swap: true, from: from, to: to} }

// TestRegisterChecker: histories that can be, and histories that cannot.
func TestRegisterChecker(t *testing.T) {
	var (
		read     = func(v string) regOutput { return regOutput{value: v} }
		done     = regOutput{}
		conflict = regOutput{conflict: true}
		unknown  = regOutput{unknown: true}
	)
	for _, c := range []struct {
		name string
		ops  []porcupine.Operation
		ok   bool
	}{
		{"one after another", []porcupine.Operation{op(0, 1, swap("", "1"), done), op(2, 3, swap("1", "2"), done), op(4, 5, regInput{}, read("2"))}, true},
		{"a stale read", []porcupine.Operation{op(0, 1, swap("", "1"), done), op(2, 3, swap("1", "2"), done), op(4, 5, regInput{}, read("1"))}, false},
		{"a lost write", []porcupine.Operation{op(0, 1, swap("", "1"), done), op(2, 3, regInput{}, read(""))}, false},
		{"two writers that both won", []porcupine.Operation{op(0, 1, swap("", "1"), done), op(2, 5, swap("1", "2"), done), op(3, 6, swap("1", "3"), done)}, false},
		{"two writers of whom one won", []porcupine.Operation{op(0, 1, swap("", "1"), done), op(2, 5, swap("1", "2"), done), op(3, 6, swap("1", "3"), conflict)}, true},
		{"a conflict with nobody", []porcupine.Operation{op(0, 1, swap("", "1"), done), op(2, 3, swap("1", "2"), conflict)}, false},
		{"a swapped order", []porcupine.Operation{op(0, 1, swap("", "1"), done), op(2, 9, swap("1", "2"), done), op(3, 4, regInput{}, read("2")), op(5, 6, regInput{}, read("1"))}, false},
		{"no answer, and it happened", []porcupine.Operation{op(0, 1, swap("", "1"), unknown), op(2, 3, regInput{}, read("1"))}, true},
		{"no answer, and it happened late", []porcupine.Operation{op(0, 1, swap("", "1"), unknown), op(2, 3, regInput{}, read("")), op(4, 5, regInput{}, read("1"))}, true},
		{"no answer, and it did not happen", []porcupine.Operation{op(0, 1, swap("", "1"), unknown), op(2, 3, regInput{}, read("")), op(4, 5, swap("", "2"), done)}, true},
		{"no answer, and it was taken back", []porcupine.Operation{op(0, 1, swap("", "1"), unknown), op(2, 3, regInput{}, read("1")), op(4, 5, regInput{}, read(""))}, false},
		{"no answer, over another's write", []porcupine.Operation{op(0, 1, swap("", "1"), done), op(2, 3, swap("", "2"), unknown), op(4, 5, regInput{}, read("2"))}, false},
		{"a delete without an answer", []porcupine.Operation{op(0, 1, swap("", "1"), done), op(2, 3, swap("1", ""), unknown), op(4, 5, regInput{}, read("")), op(6, 7, swap("", "3"), done)}, true},
		{"a deleted one that came back", []porcupine.Operation{op(0, 1, swap("", "1"), done), op(2, 3, swap("1", ""), done), op(4, 5, regInput{}, read("1"))}, false},
	} {
		if last := c.ops[len(c.ops)-1]; c.ok && last.Input.(regInput).swap { // as the harness does
			end := last.Output.(regOutput)
			value := last.Input.(regInput).to
			if end.conflict {
				value = "2"
			}
			c.ops = append(c.ops, op(100, 101, regInput{}, regOutput{value: value}))
		}
		err := linearizable(c.ops, time.Minute)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, errNotLinearizable) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestRegisterCheckerManySilences: many writes without answers among many that have one are decided in good time.
func TestRegisterCheckerManySilences(t *testing.T) {
	var ops []porcupine.Operation
	at := ""
	for i := range int64(3000) {
		next := strconv.FormatInt(i+1, 10)
		switch i % 10 {
		case 3: // it happened
			ops = append(ops, op(10*i, 10*i+5, swap(at, next), regOutput{unknown: true}), op(10*i+6, 10*i+7, regInput{}, regOutput{value: next}))
			at = next
		case 7: // it did not
			ops = append(ops, op(10*i, 10*i+5, swap(at, "never"+next), regOutput{unknown: true}))
		default:
			ops = append(ops, op(10*i, 10*i+5, swap(at, next), regOutput{}))
			at = next
		}
	}
	if err := linearizable(ops, time.Minute); err != nil {
		t.Error(err)
	}
	ops = append(ops, op(math.MaxInt32, math.MaxInt32+1, regInput{}, regOutput{value: "17"}))
	if err := linearizable(ops, time.Minute); !errors.Is(err, errNotLinearizable) {
		t.Errorf("a stale read at the end: %v", err)
	}
}

func feedEntry(seq, id, rev string) entry {
	return entry{Seq: json.RawMessage(seq), ID: id, Changes: []struct{ Rev string }{{rev}}}
}

// TestFeedCheckers: a feed with a gap, in the wrong order, with a repetition or a sequence of two documents is found out.
func TestFeedCheckers(t *testing.T) {
	full := []entry{feedEntry("1", "a", "1-a"), feedEntry("2", "b", "1-b"), feedEntry("4", "c", "2-c")}
	known := map[string]acked{"a": {rev: "1-a"}, "b": {rev: "1-b"}, "c": {rev: "1-c"}}
	for _, c := range []struct {
		name  string
		heard []entry
		want  error
	}{
		{"all", full, nil},
		{"more than at the end", slices.Insert(slices.Clone(full), 2, feedEntry("3", "c", "1-c")), nil},
		{"a gap", slices.Delete(slices.Clone(full), 1, 2), errGap},
		{"an end too early", full[:2], errGap},
		{"swapped", []entry{full[1], full[0], full[2]}, errOrder},
		{"twice", []entry{full[0], full[1], full[1], full[2]}, errOrder},
		{"a document that is not there", append(slices.Clone(full), feedEntry("5", "d", "1-d")), errGap},
		{"an old revision", []entry{full[0], full[1], feedEntry("3", "c", "1-c")}, errGap},
		{"two for one number", []entry{feedEntry("1", "a", "1-a"), feedEntry("2", "x", "1-x"), feedEntry("3", "b", "1-b"), full[2]}, errReused},
	} {
		f, other := newFeedLog(nil, "the feed"), newFeedLog(nil, "another")
		if err := other.take(full); err != nil {
			t.Fatal(err)
		}
		err := f.take(c.heard)
		if err == nil {
			err = agreeOnSequences(other, f)
		}
		if err == nil {
			err = f.compare(other)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	f := newFeedLog(nil, "the feed")
	if err := errors.Join(f.take(full), f.hasAcknowledged(known)); err != nil {
		t.Error(err)
	}
	for name, plant := range map[string]acked{"c": {rev: "3-c"}, "a": {rev: "1-other"}, "nobody": {rev: "1-n"}} {
		more := maps.Clone(known)
		more[name] = plant
		if err := f.hasAcknowledged(more); !errors.Is(err, errGap) {
			t.Errorf("%s at %s was acknowledged and not heard of: %v", name, plant.rev, err)
		}
	}
}

// TestRunsChecker: two owners of a replication at once are found out.
func TestRunsChecker(t *testing.T) {
	const lease = 3 * time.Second
	at := func(seconds float64) time.Time {
		return time.Unix(1000, 0).Add(time.Duration(seconds * float64(time.Second)))
	}
	for _, c := range []struct {
		name string
		runs []replicationRun
		want error
	}{
		{"one", []replicationRun{{1, "a", at(0), time.Time{}}}, nil},
		{"one after another", []replicationRun{{1, "a", at(0), at(5)}, {2, "b", at(5), at(7)}, {4, "a", at(8), time.Time{}}}, nil},
		{"one that was killed", []replicationRun{{1, "a", at(0), time.Time{}}, {2, "b", at(4), time.Time{}}}, nil},
		{"one that started again soon", []replicationRun{{1, "a", at(0), time.Time{}}, {2, "a", at(1), time.Time{}}}, nil},
		{"two at once", []replicationRun{{1, "a", at(0), at(5)}, {2, "b", at(3.9), at(7)}}, errTwoOwners},
		{"one that stood still and noticed", []replicationRun{{1, "a", at(0), at(5)}, {2, "b", at(4.9), at(7)}}, nil},
		{"a lease that was not waited for", []replicationRun{{1, "a", at(0), time.Time{}}, {2, "b", at(1), time.Time{}}}, errTwoOwners},
		{"the same epoch", []replicationRun{{2, "a", at(0), at(5)}, {2, "b", at(6), at(7)}}, errTwoOwners},
		{"an epoch that went back", []replicationRun{{2, "a", at(0), at(5)}, {1, "b", at(6), at(7)}}, errTwoOwners},
	} {
		if err := oneAtATime(c.runs, lease); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := oneAtATime(nil, lease); err == nil {
		t.Error("a replication that nobody has run is fine")
	}
}

// TestReplicaCheckers: a write that was lost or undone and replicas that differ are found out.
func TestReplicaCheckers(t *testing.T) {
	held := map[string]replica{"a": {rev: "2-a"}, "b": {rev: "2-b", deleted: true}, "c": {rev: "1-c", conflicts: "1-d "}}
	told := map[string]acked{"a": {rev: "2-a"}, "b": {rev: "2-b", deleted: true}}
	if err := checkAcked(told, held); err != nil {
		t.Error(err)
	}
	for name, plant := range map[string]replica{
		"a later one is lost": {rev: "1-a"}, "it is deleted": {rev: "2-a", deleted: true}, "another one": {rev: "2-x"},
	} {
		other := maps.Clone(held)
		other["a"] = plant
		if err := checkAcked(told, other); !errors.Is(err, errLost) {
			t.Errorf("%s: %v", name, err)
		}
		if err := sameReplicas("x", held, "y", other, true); !errors.Is(err, errDiffer) {
			t.Errorf("replicas: %s: %v", name, err)
		}
	}
	for name, plant := range map[string]func(map[string]replica){
		"a missing document": func(m map[string]replica) { delete(m, "a") },
		"a delete came back": func(m map[string]replica) { m["b"] = replica{rev: "1-b"} },
		"a conflict less":    func(m map[string]replica) { m["c"] = replica{rev: "1-c"} },
		"a document more":    func(m map[string]replica) { m["d"] = replica{rev: "1-d"} },
	} {
		other := maps.Clone(held)
		plant(other)
		if err := errors.Join(sameReplicas("x", held, "y", other, true), sameReplicas("x", other, "y", held, true)); !errors.Is(err, errDiffer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	late := maps.Clone(held)
	delete(late, "b")
	if err := sameReplicas("x", held, "y", late, false); err != nil {
		t.Errorf("a client that came after a delete: %v", err)
	}
}
