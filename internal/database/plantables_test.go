package database

import (
	"fmt"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/store"
)

// TestChannelCountsAreBounded: what there is no room for is counted together, and the list says so.
func TestChannelCountsAreBounded(t *testing.T) {
	db := &Database{}
	c := &collection{scope: "s", name: "c"}
	db.byID = map[store.Collection]*collection{0: c}
	counts := newChannelCounts(10 * (countBytes + 3))
	for i := range 20 {
		counts.add(0, tidegate.ChannelSet{fmt.Sprintf("c%02d", i)}, nil)
		counts.add(0, nil, tidegate.ChannelSet{fmt.Sprintf("c%02d", i)})
	}
	list, others := counts.list(db)
	if counts.exact || len(counts.counts) != 10 || len(list) != 10 || others != (PlanOthers{Gained: 10, Lost: 10}) {
		t.Errorf("exact %v, %d counted, %d listed, others %+v", counts.exact, len(counts.counts), len(list), others)
	}
	if list[0] != (PlanChannel{Collection: "s.c", Channel: "c00", Gained: 1, Lost: 1}) {
		t.Errorf("first %+v", list[0])
	}
	many := newChannelCounts(planChannelBytes)
	for i := range maxPlanChannels + 5 {
		many.count(0, fmt.Sprint(i), int64(i), 1)
	}
	list, others = many.list(db)
	if !many.exact || len(list) != maxPlanChannels || others.Channels != 5 || others.Lost != 5 || list[0].Gained != maxPlanChannels+4 {
		t.Errorf("%d listed, the first %+v, others %+v", len(list), list[0], others)
	}
}

// TestChannelSetsAreBounded: without room counts become too low, never too high, and it is said.
func TestChannelSetsAreBounded(t *testing.T) {
	sets := newChannelSets(10_000)
	for i := range 1000 {
		sets.add(0, tidegate.ChannelSet{"before"}, tidegate.ChannelSet{fmt.Sprintf("own-%d", i)})
	}
	s := sets.colls[0]
	s.index()
	var visits int64
	gained, lost := s.compare(1, tidegate.Grants{"before": 1}, nil, true, &visits)
	if sets.exact || gained != 0 || lost != int64(len(s.pairs)) || lost < 10 || lost > 100 || visits == 0 {
		t.Errorf("exact %v, %d pairs, gained %d, lost %d, %d visits", sets.exact, len(s.pairs), gained, lost, visits)
	}
	for _, mark := range s.marks {
		if mark != 0 {
			t.Fatal("a mark has stayed for the next one")
		}
	}
}

// TestCompareCountsEachDocumentOnce, by whatever number of channels it is seen, and "*" sees all.
func TestCompareCountsEachDocumentOnce(t *testing.T) {
	sets := newChannelSets(planSetBytes)
	for range 3 {
		sets.add(0, tidegate.ChannelSet{"a", "b"}, tidegate.ChannelSet{"b", "c"})
	}
	sets.add(0, tidegate.ChannelSet{"a"}, tidegate.ChannelSet{"a"})
	sets.add(0, nil, tidegate.ChannelSet{"!"})
	sets.add(0, tidegate.ChannelSet{"*"}, tidegate.ChannelSet{"*"})
	s := sets.colls[0]
	s.index()
	for who, c := range []struct {
		before, after tidegate.Grants
		gained, lost  int64
	}{
		{tidegate.Grants{"a": 1}, tidegate.Grants{"a": 1}, 1, 3}, // the public one; three have left a
		{tidegate.Grants{"b": 1}, tidegate.Grants{"b": 1}, 1, 0},
		{nil, tidegate.Grants{"a": 1, "b": 1, "c": 1}, 5, 0},
		{tidegate.Grants{"a": 1, "b": 1}, nil, 1, 4},
		{nil, tidegate.Grants{"*": 1}, 6, 0},
		{tidegate.Grants{"*": 1}, tidegate.Grants{"c": 1}, 0, 2},
		{tidegate.Grants{"*": 1}, tidegate.Grants{"*": 1}, 0, 0},
		{nil, nil, 1, 0},
	} {
		var visits int64
		changed := fmt.Sprint(c.before) != fmt.Sprint(c.after)
		if gained, lost := s.compare(int64(who+1), c.before, c.after, changed, &visits); gained != c.gained || lost != c.lost {
			t.Errorf("%v to %v: gained %d, lost %d, want %d, %d", c.before, c.after, gained, lost, c.gained, c.lost)
		}
	}
}

// TestReachSamplesAreTheLargest: of many principals those with most documents are shown.
func TestReachSamplesAreTheLargest(t *testing.T) {
	p := &plan{}
	for i := range 500 {
		p.addReach(PlanReach{Kind: "user", Name: fmt.Sprintf("u%03d", i*7%500), DocsLost: int64(i * 7 % 500)})
	}
	if len(p.reach) != maxPlanSamples || p.reach[0].Name != "u499" || p.reach[maxPlanSamples-1].Name != "u400" {
		t.Errorf("%d samples, from %+v to %+v", len(p.reach), p.reach[0], p.reach[len(p.reach)-1])
	}
}

// TestGrantChangesAreBounded: without room it says that it does not know all.
func TestGrantChangesAreBounded(t *testing.T) {
	g := access.NewGrantChanges(10_000)
	for i := range 1000 {
		g.Add(0, nil, &access.DocGrants{Access: map[string]tidegate.Grants{fmt.Sprintf("u%d", i): {"c": 1}}})
	}
	if g.Exact() || g.Roles() {
		t.Errorf("exact %v, roles %v", g.Exact(), g.Roles())
	}
}
