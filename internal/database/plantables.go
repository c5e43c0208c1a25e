package database

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
)

// plan is a dry run under way. One goroutine counts; others compute for it.
type plan struct {
	db          *Database
	o           PlanOptions
	now         time.Time
	workers     workerPool
	collections []planned

	sequence tidegate.Seq
	status   ResyncStatus
	toldAt   time.Time

	failed    int64
	documents []PlanDocument
	failures  []PlanFailure
	users     int64
	roles     int64
	losing    int64 // of both
	reach     []PlanReach
	visits    int64

	channels *channelCounts
	sets     *channelSets
	grants   *access.GrantChanges
}

func newPlanTables(db *Database, o PlanOptions) *plan {
	now := db.opts.Now()
	p := &plan{
		db: db, o: o, now: now, workers: workerPool(cmp.Or(o.Concurrency, db.workers())),
		documents: []PlanDocument{}, failures: []PlanFailure{}, reach: []PlanReach{},
		channels: newChannelCounts(planChannelBytes), sets: newChannelSets(planSetBytes), grants: access.NewGrantChanges(planGrantBytes),
	}
	p.status = ResyncStatus{State: ResyncRunning, Mode: ResyncDryRun, StartTime: now}
	return p
}

// tell tells how far it is.
func (p *plan) tell() {
	if p.o.Progress == nil {
		return
	}
	now := p.db.opts.Now()
	p.toldAt = now
	s := p.status
	for _, c := range p.collections {
		s.Collections = append(s.Collections, c.id)
	}
	if took := now.Sub(s.StartTime); took > 0 && s.DocsProcessed > 0 {
		s.DocsPerSecond = float64(s.DocsProcessed) / took.Seconds()
		s.TimeLeft = time.Duration(float64(max(s.DocsTotal-s.DocsProcessed, 0)) / s.DocsPerSecond * float64(time.Second))
	}
	p.o.Progress(s)
}

// tellSometimes tells how far it is.
func (p *plan) tellSometimes() {
	if p.o.Progress != nil && p.db.opts.Now().Sub(p.toldAt) >= planProgressWait {
		p.tell()
	}
}

// countFailures takes in for which branches of a document the function gave nothing.
func (p *plan) countFailures(ctx context.Context, c *planned, d *storedDoc, r *rerouted) {
	failed := false
	for _, leaf := range r.leaves {
		if leaf.err == nil {
			continue
		}
		kind := failureKind(script.Classify(leaf.err))
		failed = failed || kind != PlanRejected
		if len(p.failures) == maxPlanSamples {
			continue
		}
		in, err := d.syncInput(leaf.at, p.now)
		if err != nil {
			continue // it was there a moment ago
		}
		f := script.Trace(ctx, c.fn, in, leaf.err)
		p.addFailure(PlanFailure{
			Collection: c.fullName(), Doc: d.id, Rev: in.Rev.String(), Kind: kind,
			Status: f.Status, Error: f.Message, Line: f.Line, Column: f.Column,
		})
	}
	if failed {
		p.failed++
	}
}

// countGrants notes what a document would grant.
func (p *plan) countGrants(c *planned, d *storedDoc, r *rerouted) {
	if sameAccess(d.rec.grants.Access, r.out.access) && sameRoles(d.rec.grants.Roles, r.out.roles) {
		return
	}
	next := &record{}
	next.setGrants(d.rec, &r.out)
	p.grants.Add(c.id, &d.rec.grants, &next.grants)
}

// workerPool is how many goroutines work at once.
type workerPool int

// each calls fn for 0 to n-1, several at once.
func (w workerPool) each(n int, fn func(i int)) {
	var next atomic.Int64
	work := func() {
		for i := next.Add(1) - 1; int(i) < n; i = next.Add(1) - 1 {
			fn(int(i))
		}
	}
	var wg sync.WaitGroup
	for range min(int(w), n) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// channelCounts count the documents that channels gain and lose, as far as there is room.
type channelCounts struct {
	room   int // bytes
	exact  bool
	counts map[channelIn]*PlanChannel
	beyond PlanOthers // those that there was no room for
}

type channelIn struct {
	coll    store.Collection
	channel string
}

func newChannelCounts(bytes int) *channelCounts {
	return &channelCounts{room: bytes, exact: true, counts: map[channelIn]*PlanChannel{}}
}

// countBytes is what a count takes beside its name, about.
const countBytes = 128

func (t *channelCounts) add(coll store.Collection, before, after tidegate.ChannelSet) {
	for _, name := range after {
		if !before.Has(name) {
			t.count(coll, name, 1, 0)
		}
	}
	for _, name := range before {
		if !after.Has(name) {
			t.count(coll, name, 0, 1)
		}
	}
}

func (t *channelCounts) count(coll store.Collection, name string, gained, lost int64) {
	c := t.counts[channelIn{coll, name}]
	if c == nil {
		if t.room -= countBytes + len(name); t.room < 0 {
			t.room, t.exact = 0, false
			t.beyond.Gained += gained
			t.beyond.Lost += lost
			return
		}
		c = &PlanChannel{Channel: strings.Clone(name)}
		t.counts[channelIn{coll, c.Channel}] = c
	}
	c.Gained += gained
	c.Lost += lost
}

// list returns the channels with most documents, and the others together.
func (t *channelCounts) list(db *Database) ([]PlanChannel, PlanOthers) {
	all := make([]PlanChannel, 0, len(t.counts))
	for in, c := range t.counts {
		c.Collection = db.byID[in.coll].fullName()
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b PlanChannel) int {
		return cmp.Or(cmp.Compare(b.Gained+b.Lost, a.Gained+a.Lost), cmp.Compare(a.Collection, b.Collection), cmp.Compare(a.Channel, b.Channel))
	})
	others := t.beyond
	for _, c := range all[min(len(all), maxPlanChannels):] {
		others.Channels++
		others.Gained += c.Gained
		others.Lost += c.Lost
	}
	return all[:min(len(all), maxPlanChannels)], others
}

// channelSets count live documents by the channels that they are in and would be in. Of how many documents a principal
// gains and loses only these pairs of sets matter, and there are few of them, unless each document has a channel of its own.
type channelSets struct {
	room  int // bytes
	exact bool
	colls map[store.Collection]*collectionSets
}

// collectionSets are those of one collection. Channels are numbers.
type collectionSets struct {
	numbers map[string]uint32
	byKey   map[string]int // place in pairs
	pairs   []setPair
	// Made by index, once all are there: the pairs that have a channel before or after, and those of them that differ.
	with, differing [][]int32
	marks           []uint8 // of channels, while a principal is compared
	visited         []int64 // of pairs: the last principal that was compared
}

// setPair is how many documents are in the same channels now and would be in the same.
type setPair struct {
	before, after []uint32
	docs          int64
}

func newChannelSets(bytes int) *channelSets {
	return &channelSets{room: bytes, exact: true, colls: map[store.Collection]*collectionSets{}}
}

// Bytes that a channel and a pair take beside their names and numbers, about, with the indexes.
const (
	numberBytes = 96
	pairBytes   = 160
	memberBytes = 16
)

// add counts a document.
func (t *channelSets) add(coll store.Collection, before, after tidegate.ChannelSet) {
	s := t.colls[coll]
	if s == nil {
		s = &collectionSets{numbers: map[string]uint32{}, byKey: map[string]int{}}
		t.colls[coll] = s
	}
	var room [128]byte
	key := room[:0]
	for _, set := range []tidegate.ChannelSet{before, after} {
		key = binary.AppendUvarint(key, uint64(len(set)))
		for _, name := range set {
			n, ok := s.numbers[name]
			if !ok {
				if !t.take(numberBytes + len(name)) {
					return
				}
				n = uint32(len(s.numbers))
				s.numbers[strings.Clone(name)] = n
			}
			key = binary.AppendUvarint(key, uint64(n))
		}
	}
	if i, ok := s.byKey[string(key)]; ok {
		s.pairs[i].docs++
		return
	}
	if !t.take(pairBytes + len(key) + memberBytes*(len(before)+len(after))) {
		return
	}
	pair := setPair{before: s.numbersOf(before), after: s.numbersOf(after), docs: 1}
	if slices.Equal(pair.before, pair.after) {
		pair.after = pair.before
	}
	s.byKey[string(key)] = len(s.pairs)
	s.pairs = append(s.pairs, pair)
}

// take takes room; false: there is none, and from now on counts are too low.
func (t *channelSets) take(bytes int) bool {
	if t.room < bytes {
		t.exact = false
		return false
	}
	t.room -= bytes
	return true
}

func (s *collectionSets) numbersOf(set tidegate.ChannelSet) []uint32 {
	numbers := make([]uint32, len(set))
	for i, name := range set {
		numbers[i] = s.numbers[name]
	}
	return numbers
}
