package job

import (
	"maps"
	"slices"
)

// Distribute decides which node runs each replication. able lists, for each replication, the nodes that may run it; current is where
// each one is, as far as it is anywhere. The result has a node for every replication that any node may run, and nothing else.
//
// Of all such results it is one that is as even as able allows: the sum of the squares of the nodes' numbers is the smallest
// there is, which makes the fullest node as little full, and the emptiest as little empty, as can be; where every node may run
// everything, no two differ by more than one. Of those it is one that moves the fewest replications away from a node that may
// go on running them. The order of what is given does not matter, so all nodes that know the same decide the same.
func Distribute(able map[string][]string, current map[string]string) map[string]string {
	d := newDistribution(able, current)
	d.place()
	for d.improve() {
	}
	return d.result()
}

// distribution is a distribution in the making, with nodes and replications by number, in order of their ids.
type distribution struct {
	ids, nodes []string
	able       [][]int // of a replication: nodes, ascending
	home       []int   // of a replication: the node that it is to stay on if it can; -1: none
	at         []int   // of a replication: its node
	load       []int   // of a node
}

// newDistribution numbers what there is. What no node may run is left out.
func newDistribution(able map[string][]string, current map[string]string) *distribution {
	d := &distribution{}
	numbers := map[string]int{}
	for _, nodes := range able {
		for _, n := range nodes {
			numbers[n] = 0
		}
	}
	d.nodes = slices.Sorted(maps.Keys(numbers))
	for i, n := range d.nodes {
		numbers[n] = i
	}
	d.load = make([]int, len(d.nodes))
	for _, id := range slices.Sorted(maps.Keys(able)) {
		var can []int
		for _, n := range able[id] {
			can = append(can, numbers[n])
		}
		if len(can) == 0 {
			continue
		}
		slices.Sort(can)
		can = slices.Compact(can)
		home := -1
		if n, known := numbers[current[id]]; known && slices.Contains(can, n) {
			home = n
		}
		d.ids, d.able, d.home = append(d.ids, id), append(d.able, can), append(d.home, home)
	}
	return d
}

// place leaves each replication where it is, and puts those that are nowhere on the emptiest node that may run them.
func (d *distribution) place() {
	d.at = slices.Clone(d.home)
	for _, n := range d.at {
		if n >= 0 {
			d.load[n]++
		}
	}
	for r, n := range d.at {
		if n >= 0 {
			continue
		}
		best := d.able[r][0]
		for _, n := range d.able[r] {
			if d.load[n] < d.load[best] {
				best = n
			}
		}
		d.at[r] = best
		d.load[best]++
	}
}

// result names the nodes.
func (d *distribution) result() map[string]string {
	assigned := make(map[string]string, len(d.ids))
	for r, n := range d.at {
		assigned[d.ids[r]] = d.nodes[n]
	}
	return assigned
}

// The task is a flow of least cost: each replication is a unit that flows over one of its nodes into one sink. The k-th unit into
// the sink from a node costs 2k−1, times weight, so that k units cost k², and a replication that leaves its home costs 1. A flow
// has the least cost exactly if no circle of changes to it costs less than nothing. Since a circle passes each node at most once, what
// it does to homes is less than weight in either direction, and evenness comes first.

// hop moves one replication from its node to another one. r is -1 if there is none to move.
type hop struct{ r, cost int }

// improve finds a circle of changes that costs less than nothing and makes them; false: there is none.
func (d *distribution) improve() bool {
	hops := d.hops()
	n := len(d.nodes)
	sink := n
	cost := func(from, to int) (int, bool) {
		weight := 2 * (n + 1)
		switch {
		case from == sink: // one less flows from the node into the sink
			return -weight * (2*d.load[to] - 1), d.load[to] > 0
		case to == sink:
			return weight * (2*d.load[from] + 1), true
		}
		h := hops[from*n+to]
		return h.cost, h.r >= 0
	}
	circle := negativeCircle(n+1, cost)
	// The hops are of the distribution as it was, and each is of another node.
	for i, from := range circle {
		to := circle[(i+1)%len(circle)]
		if from == sink || to == sink {
			continue
		}
		d.at[hops[from*n+to].r] = to
		d.load[from]--
		d.load[to]++
	}
	return circle != nil
}

// hops lists, for every two nodes, the cheapest way to move a replication from the one to the other.
func (d *distribution) hops() []hop {
	n := len(d.nodes)
	hops := make([]hop, n*n)
	for i := range hops {
		hops[i].r = -1
	}
	for r, from := range d.at {
		for _, to := range d.able[r] {
			if to == from {
				continue
			}
			cost := 0
			switch d.home[r] {
			case from:
				cost = 1
			case to:
				cost = -1
			}
			if h := &hops[from*n+to]; h.r < 0 || cost < h.cost {
				*h = hop{r, cost}
			}
		}
	}
	return hops
}

// negativeCircle finds a circle through n points whose costs add up to less than nothing (Bellman and Ford); nil: there is none.
// cost is that of going from one point to another, and whether there is a way.
func negativeCircle(n int, cost func(from, to int) (int, bool)) []int {
	distance, before := make([]int, n), make([]int, n)
	last := -1
	for range n {
		last = -1
		for from := range n {
			for to := range n {
				if from == to {
					continue
				}
				if c, way := cost(from, to); way && distance[from]+c < distance[to] {
					distance[to], before[to], last = distance[from]+c, from, to
				}
			}
		}
		if last < 0 {
			return nil
		}
	}
	for range n { // whoever was still reached at less cost is behind a circle, or on it
		last = before[last]
	}
	circle := []int{last}
	for p := before[last]; p != last; p = before[p] {
		circle = append(circle, p)
	}
	slices.Reverse(circle)
	return circle
}
