package database

import (
	"context"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/store"
)

// walkPrincipals finds those whose reach would change: who has other channels or roles, or sees other documents with the
// same.
func (p *plan) walkPrincipals(ctx context.Context, r store.Reader) error {
	for _, s := range p.sets.colls {
		s.index()
	}
	walked := int64(0)
	return p.db.access.Plan(ctx, r, p.grants, func(who *access.PlannedPrincipal) error {
		walked++
		p.tellSometimes()
		reach := PlanReach{Kind: who.Kind.String(), Name: who.Name}
		changed := false
		if who.Changed {
			changed = p.compareChannels(&reach, who)
			reach.RolesGained, reach.More.RolesGained = firstNames(who.RolesGained)
			reach.RolesLost, reach.More.RolesLost = firstNames(who.RolesLost)
			changed = changed || len(who.RolesGained)+len(who.RolesLost) > 0
		}
		for coll, s := range p.sets.colls {
			if p.visits >= maxPlanVisits {
				break
			}
			gained, lost := s.compare(walked, who.Before[coll], who.After[coll], who.Changed, &p.visits)
			reach.DocsGained += gained
			reach.DocsLost += lost
		}
		if !changed && reach.size() == 0 {
			return nil
		}
		if reach.DocsLost > 0 || len(reach.ChannelsLost)+len(reach.RolesLost) > 0 {
			p.losing++
		}
		if who.Kind == tidegate.Role {
			p.roles++
		} else {
			p.users++
		}
		p.addReach(reach)
		return nil
	})
}

// compareChannels notes which channels a principal gains and loses, and reports whether there are any.
func (p *plan) compareChannels(reach *PlanReach, who *access.PlannedPrincipal) bool {
	var gained, lost []string
	for _, c := range p.db.collections {
		prefix := c.fullName() + ":"
		if c.id == 0 {
			prefix = ""
		}
		gained = append(gained, namesWithout(prefix, who.After[c.id], who.Before[c.id])...)
		lost = append(lost, namesWithout(prefix, who.Before[c.id], who.After[c.id])...)
	}
	reach.ChannelsGained, reach.More.ChannelsGained = firstNames(gained)
	reach.ChannelsLost, reach.More.ChannelsLost = firstNames(lost)
	return len(gained)+len(lost) > 0
}

// namesWithout returns the names of a that are not in b, in order, each with a prefix.
func namesWithout(prefix string, a, b tidegate.Grants) (names []string) {
	for name := range a {
		if _, ok := b[name]; !ok {
			names = append(names, prefix+name)
		}
	}
	slices.Sort(names)
	return names
}

// index makes what compare needs.
func (s *collectionSets) index() {
	n := len(s.numbers)
	s.with, s.differing = make([][]int32, n), make([][]int32, n)
	s.marks, s.visited = make([]uint8, n), make([]int64, len(s.pairs))
	for i := range s.pairs {
		pair := &s.pairs[i]
		same := slices.Equal(pair.before, pair.after)
		sides := [][]uint32{pair.before}
		if !same {
			sides = append(sides, pair.after)
		}
		for _, numbers := range sides {
			for _, c := range numbers {
				s.with[c] = append(s.with[c], int32(i))
				if !same {
					s.differing[c] = append(s.differing[c], int32(i))
				}
			}
		}
	}
}

// Marks of a channel while a principal is compared.
const (
	hadChannel uint8 = 1 << iota
	hasChannel
)

// compare counts the documents that a principal would see and does not, and the other way round. who is another number for
// each principal. changed: before and after differ, so documents that stay where they are count too.
func (s *collectionSets) compare(who int64, before, after tidegate.Grants, changed bool, visits *int64) (gained, lost int64) {
	_, sawAll := before[tidegate.AllChannels]
	_, seesAll := after[tidegate.AllChannels]
	if sawAll && seesAll {
		return 0, 0
	}
	marked := s.mark(before, after)
	visit := func(i int32) {
		if s.visited[i] == who {
			return
		}
		s.visited[i] = who
		*visits++
		pair := &s.pairs[i]
		saw, sees := sawAll || s.marked(pair.before, hadChannel), seesAll || s.marked(pair.after, hasChannel)
		switch {
		case sees && !saw:
			gained += pair.docs
		case saw && !sees:
			lost += pair.docs
		}
	}
	if sawAll != seesAll {
		for i := range s.pairs {
			visit(int32(i))
		}
	} else {
		for _, c := range marked {
			lists := s.differing
			if changed {
				lists = s.with
			}
			*visits += int64(len(lists[c]))
			for _, i := range lists[c] {
				visit(i)
			}
		}
	}
	for _, c := range marked {
		s.marks[c] = 0
	}
	return gained, lost
}

// mark marks the channels of a principal, and the public one, and returns them.
func (s *collectionSets) mark(before, after tidegate.Grants) (marked []uint32) {
	set := func(name string, as uint8) {
		if c, ok := s.numbers[name]; ok {
			if s.marks[c] == 0 {
				marked = append(marked, c)
			}
			s.marks[c] |= as
		}
	}
	for name := range before {
		set(name, hadChannel)
	}
	for name := range after {
		set(name, hasChannel)
	}
	set(tidegate.PublicChannel, hadChannel|hasChannel)
	return marked
}

// marked reports whether one of the channels is marked so.
func (s *collectionSets) marked(channels []uint32, as uint8) bool {
	return slices.ContainsFunc(channels, func(c uint32) bool { return s.marks[c]&as != 0 })
}
