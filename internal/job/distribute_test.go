package job

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// loads counts the replications of each node of a set.
func loads(assigned map[string]string, nodes []string) map[string]int {
	n := map[string]int{}
	for _, node := range nodes {
		n[node] = 0
	}
	for _, node := range assigned {
		n[node]++
	}
	return n
}

// squares is what Distribute makes as small as can be.
func squares(load map[string]int) (sum int) {
	for _, n := range load {
		sum += n * n
	}
	return sum
}

// movesFrom counts the replications that leave a node which may run them.
func movesFrom(current, assigned map[string]string, able map[string][]string) (n int) {
	for id, node := range current {
		if slices.Contains(able[id], node) && assigned[id] != node {
			n++
		}
	}
	return n
}

// best tries all there is, for small cases: the smallest sum of squares, and with that the fewest moves.
func best(able map[string][]string, current map[string]string) (sum, moved int) {
	ids := slices.Sorted(maps.Keys(able))
	sum = -1
	assigned := map[string]string{}
	var try func(i int)
	try = func(i int) {
		if i == len(ids) {
			s, m := squares(loads(assigned, nil)), movesFrom(current, assigned, able)
			if sum < 0 || s < sum || s == sum && m < moved {
				sum, moved = s, m
			}
			return
		}
		if len(able[ids[i]]) == 0 {
			try(i + 1)
			return
		}
		for _, node := range able[ids[i]] {
			assigned[ids[i]] = node
			try(i + 1)
		}
		delete(assigned, ids[i])
	}
	try(0)
	return sum, moved
}

func names(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(prefix, i)
	}
	return all
}

// drawCurrent puts some replications somewhere, perhaps on a node that is gone.
func drawCurrent(t *rapid.T, ids, nodes []string) map[string]string {
	current := map[string]string{}
	for _, id := range ids {
		if node := rapid.SampledFrom(append(slices.Clone(nodes), "", "gone")).Draw(t, "current"); node != "" {
			current[id] = node
		}
	}
	return current
}

func checkValid(t *rapid.T, able map[string][]string, assigned map[string]string) {
	for id, nodes := range able {
		if node, ok := assigned[id]; ok != (len(nodes) > 0) || ok && !slices.Contains(nodes, node) {
			t.Fatalf("%s is on %q; %v may run it", id, node, nodes)
		}
	}
	for id := range assigned {
		if _, ok := able[id]; !ok {
			t.Fatalf("%s is assigned, and there is none", id)
		}
	}
}

// Where every node may run everything: within one, and no more moves than that takes.
func TestDistributeAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := names("n", rapid.IntRange(1, 8).Draw(t, "nodes"))
		ids := names("r", rapid.IntRange(0, 40).Draw(t, "replications"))
		able := map[string][]string{}
		for _, id := range ids {
			able[id] = nodes
		}
		current := drawCurrent(t, ids, nodes)
		assigned := Distribute(able, current)
		checkValid(t, able, assigned)
		low, high := len(ids)/len(nodes), (len(ids)+len(nodes)-1)/len(nodes)
		kept := loads(nil, nodes)
		for _, node := range current {
			if _, alive := kept[node]; alive {
				kept[node]++
			}
		}
		// What must go: what is above the higher number; and of those that are at the higher number, as many as there must not be.
		must, full := 0, 0
		for _, n := range kept {
			must += max(0, n-high)
			if n >= high {
				full++
			}
		}
		if low < high {
			must += max(0, full-len(ids)%len(nodes))
		}
		for node, n := range loads(assigned, nodes) {
			if n < low || n > high {
				t.Fatalf("%s has %d of %d on %d nodes", node, n, len(ids), len(nodes))
			}
		}
		if got := movesFrom(current, assigned, able); got != must {
			t.Fatalf("%d moved, %d had to: %v, %v", got, must, current, assigned)
		}
	})
}

// Whoever may run what: it is the best of all there are.
func TestDistributeIsBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := names("n", rapid.IntRange(1, 4).Draw(t, "nodes"))
		ids := names("r", rapid.IntRange(0, 6).Draw(t, "replications"))
		able := map[string][]string{}
		for _, id := range ids {
			able[id] = rapid.SliceOfDistinct(rapid.SampledFrom(nodes), rapid.ID[string]).Draw(t, id)
		}
		current := drawCurrent(t, ids, nodes)
		assigned := Distribute(able, current)
		checkValid(t, able, assigned)
		sum, moved := best(able, current)
		if s, m := squares(loads(assigned, nil)), movesFrom(current, assigned, able); s != sum || m != moved {
			t.Fatalf("squares %d, %d moved; the best is %d, %d: able %v, current %v, got %v", s, m, sum, moved, able, current, assigned)
		}
	})
}

// The order of what is given does not matter, and what is distributed well stays as it is.
func TestDistributeIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := names("n", rapid.IntRange(1, 9).Draw(t, "nodes"))
		ids := names("r", rapid.IntRange(0, 60).Draw(t, "replications"))
		able, turned := map[string][]string{}, map[string][]string{}
		for _, id := range ids {
			able[id] = rapid.SliceOfDistinct(rapid.SampledFrom(nodes), rapid.ID[string]).Draw(t, id)
			turned[id] = append(slices.Clone(able[id]), able[id]...)
			slices.Reverse(turned[id])
		}
		current := drawCurrent(t, ids, nodes)
		assigned := Distribute(able, current)
		if again := Distribute(turned, current); !maps.Equal(again, assigned) {
			t.Fatalf("%v; in another order %v", assigned, again)
		}
		if again := Distribute(able, assigned); !maps.Equal(again, assigned) {
			t.Fatalf("%v moves to %v", assigned, again)
		}
	})
}

// A node that dies costs only its own moves, and one that joins only what it gets, where all may run everything.
func TestDistributeJoinAndFail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 8).Draw(t, "nodes")
		nodes := names("n", n)
		ids := names("r", rapid.IntRange(0, 50).Draw(t, "replications"))
		all, some := map[string][]string{}, map[string][]string{}
		for _, id := range ids {
			all[id], some[id] = nodes, nodes[:n-1]
		}
		without := Distribute(some, nil)
		with := Distribute(all, without)
		if got, want := movesFrom(without, with, all), len(ids)/n; got != want {
			t.Fatalf("%d moved to the node that joined, want %d", got, want)
		}
		after := Distribute(some, with)
		for id, node := range with {
			if node != nodes[n-1] && after[id] != node {
				t.Fatalf("%s moved from %s to %s when another one died", id, node, after[id])
			}
		}
	})
}

// A chain of moves is needed, as none may go directly where there is room.
func TestDistributeThroughAChain(t *testing.T) {
	able := map[string][]string{"r1": {"a", "b"}, "r2": {"a", "b"}, "r3": {"b", "c"}, "r4": {"b", "c"}, "r5": {"a"}, "r6": {"a", "b"}}
	got := Distribute(able, map[string]string{"r1": "a", "r2": "a", "r5": "a", "r6": "a", "r3": "b", "r4": "b"})
	if load := loads(got, []string{"a", "b", "c"}); load["a"] != 2 || load["b"] != 2 || load["c"] != 2 {
		t.Errorf("%v", got)
	}
}

func BenchmarkDistribute(b *testing.B) {
	nodes, able := names("n", 20), map[string][]string{}
	for i, id := range names("r", 2000) {
		able[id] = nodes[i%3:]
	}
	first := Distribute(able, nil)
	for id := range able {
		able[id] = able[id][:len(able[id])-1]
	}
	for b.Loop() {
		Distribute(able, first)
	}
}
