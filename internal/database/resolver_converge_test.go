package database_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate/internal/database"
)

// tick moves the time everywhere.
func (p *peers) tick() {
	for _, e := range p.dbs {
		e.clock.add(time.Second)
	}
}

// settle lets each database pull from the one before it, round after round, until nothing changes. It returns how
// many rounds wrote something. crossing: in a round all are sent what was there before it.
func (p *peers) settle(id string, r database.Resolver, crossing bool, most int) (rounds int, err error) {
	for rounds = range most {
		quiet := true
		sent := make([]*database.Write, len(p.dbs))
		send := func(i int) { sent[i] = p.transfer(p.dbs[(i+len(p.dbs)-1)%len(p.dbs)], id) }
		for i := range p.dbs {
			send(i)
		}
		for i, e := range p.dbs {
			if !crossing {
				send(i)
			}
			p.tick()
			sent[i].Resolver = r
			w, err := e.admin.Put(p.t.Context(), sent[i])
			if err != nil {
				return rounds, err
			}
			quiet = quiet && w.Existed
		}
		if quiet {
			return rounds, nil
		}
	}
	return most, fmt.Errorf("not quiet after %d rounds", most)
}

// TestDefaultPolicyConverges edits, deletes and delivers in any order. In the end all databases have the same. Deleted
// documents stay deleted: see DESIGN.md on what is not promised.
func TestDefaultPolicyConverges(t *testing.T) {
	for _, vectors := range []bool{false, true} {
		p := openPeers(t, 3, vectors, false)
		n := 0
		rapid.Check(t, func(t *rapid.T) {
			n++
			id := fmt.Sprint(n)
			p.edit(0, id, `{"channels":"a"}`, false)
			p.push(0, 1, id)
			p.push(0, 2, id)
			for range rapid.IntRange(1, 12).Draw(t, "steps") {
				i, j := rapid.IntRange(0, 2).Draw(t, "database"), rapid.IntRange(0, 2).Draw(t, "other")
				if j != i {
					p.tick()
					if _, err := p.pull(i, j, id, database.DefaultPolicy); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if !p.dbs[i].raw(id).Deleted {
					p.tick()
					p.edit(i, id, fmt.Sprintf(`{"n":%d}`, rapid.IntRange(0, 2).Draw(t, "n")), rapid.IntRange(0, 2).Draw(t, "deleted") == 2)
				}
			}
			rounds, err := p.settle(id, database.DefaultPolicy, rapid.Bool().Draw(t, "crossing"), 20)
			if err != nil {
				t.Fatal(err)
			}
			want := p.shown(0, id)
			for i := range p.dbs {
				got := p.shown(i, id)
				got.Rev = want.Rev // the same version may have been put on top of two revisions, each of the two known elsewhere
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("database %d has %+v, the first %+v after %d rounds", i, got, want, rounds)
				}
			}
		})
		p.check()
	}
}

// TestRingGoesQuiet: three databases in a ring that merge what they pull, edited at the same time, come to an end.
func TestRingGoesQuiet(t *testing.T) {
	for k := range 4 {
		vectors, crossing := k&1 != 0, k&2 != 0
		for name, source := range map[string]string{
			"merges": mergesBoth, "merges the other way": `function (c) { return _.extend({}, c.RemoteDocument, c.LocalDocument); }`,
			"merges without names": `function (c) { var d = _.extend({}, c.LocalDocument, c.RemoteDocument); delete d._rev; return d; }`,
			"keeps the one":        `function (c) { return c.LocalDocument.by0 ? c.LocalDocument : c.RemoteDocument; }`,
		} {
			p := openPeers(t, 3, vectors, false)
			p.edit(0, "d", `{"channels":"a"}`, false)
			p.push(0, 1, "d")
			p.push(0, 2, "d")
			for i := range p.dbs {
				p.edit(i, "d", fmt.Sprintf(`{"by%d":1}`, i), false)
			}
			rounds, err := p.settle("d", custom(t, source), crossing, 30)
			if err != nil {
				t.Errorf("%s, vectors %v, crossing %v: %v", name, vectors, crossing, err)
				continue
			}
			t.Logf("%s, vectors %v, crossing %v: quiet after %d rounds", name, vectors, crossing, rounds)
			p.equalBut("d", vectors && crossing) // the version that is kept goes on top of what each pulled
			if got := p.shown(0, "d").Body; source == mergesBoth && !sameJSON(t, got, `{"by0":1,"by1":1,"by2":1}`) {
				t.Errorf("vectors %v: merged into %s", vectors, got)
			}
			p.check()
		}
	}
}
