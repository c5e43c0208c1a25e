package database_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/store"
)

// The model of device sync: an operator who trims, pauses, terminates and resets, applications that write on the server's side, and devices
// of both protocols that edit while they are away and whose connections break. It holds the invariants of device-sync.md §15 against what
// happens. A fault planted into it must break one.

// syncFault is something that is done wrong on purpose.
type syncFault string

const (
	faultNone        syncFault = ""
	faultForget      syncFault = "deletions are forgotten instead of remembered"
	faultLoseWrite   syncFault = "an acknowledged write is lost"
	faultSameEpoch   syncFault = "a termination does not move the floor"
	faultWipe        syncFault = "clients are told to discard their databases"
	faultResetTwice  syncFault = "a reset never ends"
	faultIdents      syncFault = "numbers of clients are given out again"
	faultNoRemovals  syncFault = "a client that starts again is not told what it has lost"
	faultMarkerSkips syncFault = "an entry before a marker is left out"
)

// syncModel is one run.
type syncModel struct {
	t     testing.TB
	rng   *rand.Rand
	e     *env
	live  *devicesync.Live
	fault syncFault

	open    bool // the gate
	devices []*device
	n       int // makes revisions and bodies different

	acked  map[string]map[tidegate.RevID]bool // revisions whose storing was acknowledged to a device
	made   map[tidegate.RevID]bool            // revisions that somebody made on purpose
	dead   map[string]tidegate.RevID          // documents that are deleted, as far as the model knows, and by which revision
	idents map[int64]string
	last   tidegate.Seq
	events int // after which a client may have to reset
	broken string
	story  []string
}

func (m *syncModel) logf(format string, args ...any) {
	m.story = append(m.story, fmt.Sprintf(format, args...))
}

// violated notes the first broken invariant.
func (m *syncModel) violated(format string, args ...any) {
	if m.broken == "" {
		m.broken = fmt.Sprintf(format, args...)
		m.logf("VIOLATED: %s", m.broken)
	}
}

func (m *syncModel) must(err error) {
	if err != nil {
		m.t.Helper()
		m.t.Fatalf("%v\n%s", err, strings.Join(m.story, "\n"))
	}
}

// runSyncModel runs the model for a seed and returns what was broken, and the story.
func runSyncModel(t testing.TB, seed uint64, fault syncFault) (broken string, story []string) {
	rng := rand.New(rand.NewPCG(seed, 7))
	row := devicesync.Automatic("db", "epoch-0", newClock().t)
	if rng.IntN(3) == 0 {
		row.Config.ResetDeletedEdits = devicesync.EditWins
	}
	row.Config.IsRecoveryModeDisabled = fault == faultWipe
	live := devicesync.NewLive(row)
	e := open(t, database.Options{DeviceSync: live})
	m := &syncModel{
		t: t, rng: rng, e: e, live: live, fault: fault, open: true, acked: map[string]map[tidegate.RevID]bool{},
		made: map[tidegate.RevID]bool{}, dead: map[string]tidegate.RevID{}, idents: map[int64]string{},
	}
	e.user("all", "a", "b")
	e.user("half", "a")
	for i, d := range []device{
		{name: "lite-all", user: "all", blip: true}, {name: "lite-half", user: "half", blip: true},
		{name: "pouch-1", user: "all"}, {name: "pouch-2", user: "all"},
	} {
		d.m, d.number = m, i
		d.reset()
		m.devices = append(m.devices, &d)
	}
	for range 60 + rng.IntN(60) {
		m.step()
		if m.broken != "" {
			return m.broken, m.story
		}
	}
	m.finish()
	return m.broken, m.story
}

var modelIDs = []string{"d1", "d2", "d3", "d4", "d5"}

func (m *syncModel) step() {
	switch n := m.rng.IntN(100); {
	case n < 30:
		m.crud(modelIDs[m.rng.IntN(len(modelIDs))])
	case n < 50:
		d := m.devices[m.rng.IntN(len(m.devices))]
		d.edit(modelIDs[m.rng.IntN(len(modelIDs))])
	case n < 82:
		m.devices[m.rng.IntN(len(m.devices))].session(m.rng.IntN(3) == 0)
	case n < 88:
		m.trim()
	case n < 91:
		m.pause()
	case n < 95:
		m.terminate()
	case n < 97:
		m.forceReset()
	case n < 98:
		m.resetAll()
	default:
		m.compact()
	}
	m.checkNumbers()
}

// crud writes on the server's side.
func (m *syncModel) crud(id string) {
	raw, err := m.e.admin.Raw(m.t.Context(), id)
	if err != nil && tidegate.ErrorCode(err) != tidegate.NotFound {
		m.must(err)
	}
	w := &database.Write{ID: id, NewEdits: true}
	deleted := raw == nil || raw.Deleted
	if raw != nil {
		w.Parent = raw.Rev
	}
	if !deleted && m.rng.IntN(3) == 0 {
		w.Deleted = true
	} else {
		w.Body = m.body("all")
	}
	res, err := m.e.admin.Put(m.t.Context(), w)
	m.must(err)
	m.made[res.Rev] = true
	m.note(id)
	m.logf("server: %s is %s deleted=%v", id, res.Rev, w.Deleted)
}

// body makes the body of a document, in channels that its writer reads.
func (m *syncModel) body(user string) []byte {
	m.n++
	channels := []string{`"a"`, `"a","b"`, `"b"`}[m.rng.IntN(3)]
	if user == "half" {
		channels = `"a"`
	}
	return fmt.Appendf(nil, `{"channels":[%s],"v":%d}`, channels, m.n)
}

// newRev makes a revision on a device.
func (m *syncModel) newRev(parent tidegate.RevID) tidegate.RevID {
	m.n++
	rev := tidegate.RevID{Generation: parent.Generation + 1, Digest: fmt.Sprintf("%032x", m.rng.Uint64N(1<<60)<<3|uint64(m.n%8))}
	m.made[rev] = true
	return rev
}

// note notes whether the document is deleted now.
func (m *syncModel) note(id string) {
	raw, err := m.e.admin.Raw(m.t.Context(), id)
	if err != nil {
		delete(m.dead, id)
		return
	}
	if raw.Deleted {
		m.dead[id] = raw.Rev
		return
	}
	delete(m.dead, id)
}

// change stores a new lifecycle record.
func (m *syncModel) change(fn func(*devicesync.Record)) {
	row := *m.live.Row()
	row.Record.Markers = slices.Clone(row.Record.Markers)
	row.Record.Version++
	fn(&row.Record)
	m.live.Set(&row)
}

func (m *syncModel) lastSeq() tidegate.Seq {
	seq, err := m.e.db.LastSequence(m.t.Context())
	m.must(err)
	return seq
}

// trim does what the gateway's daily job does.
func (m *syncModel) trim() {
	var marker tidegate.Seq
	m.must(m.e.st.Update(m.t.Context(), func(tx store.Tx) (err error) {
		marker, err = tx.NextSequence(space)
		return err
	}))
	m.change(func(r *devicesync.Record) { r.Markers = append(r.Markers, marker) })
	floor := m.live.Row().Record.HistoryFloor
	if span := int64(marker - 1 - floor); span > 0 && m.rng.IntN(3) > 0 {
		floor += tidegate.Seq(m.rng.Int64N(min(span, 12) + 1))
		if span > 12 && m.rng.IntN(2) == 0 {
			floor = marker - 1 - tidegate.Seq(m.rng.Int64N(6))
		}
	}
	before := m.live.Row().Record.HistoryFloor
	if floor <= before {
		m.logf("trim: marker %d", marker)
		return
	}
	m.events++
	m.change(func(r *devicesync.Record) { r.Trimmed(devicesync.TrimPlan{Floor: floor}, m.e.clock.now()) })
	m.forgetHistory(before, floor)
	m.change(func(r *devicesync.Record) { r.TrimEnded() })
	m.logf("trim: marker %d, floor %d", marker, floor)
}

// forgetHistory makes ledger records and drops old bodies.
func (m *syncModel) forgetHistory(after, through tidegate.Seq) {
	k := m.e.db.Keeper()
	if m.fault == faultForget {
		for id := range m.dead {
			_, err := m.e.admin.Purge(m.t.Context(), []string{id})
			m.must(err)
		}
	}
	_, err := k.Remember(m.t.Context(), after, through, nil)
	m.must(err)
	_, err = k.Collapse(m.t.Context(), after, through, nil)
	m.must(err)
}

// pause closes the gate for a while, in which both sides write.
func (m *syncModel) pause() {
	m.open = false
	m.logf("pause")
	m.meanwhile(6)
	m.open = true
	m.logf("resume")
}

// meanwhile lets things happen that no gate stops.
func (m *syncModel) meanwhile(n int) {
	for range m.rng.IntN(n) {
		id := modelIDs[m.rng.IntN(len(modelIDs))]
		if m.rng.IntN(2) == 0 {
			m.crud(id)
		} else {
			m.devices[m.rng.IntN(len(m.devices))].edit(id)
		}
		m.devices[m.rng.IntN(len(m.devices))].session(true) // in vain
	}
}

// terminate does the steps of §8.2, some of them more than once, with writes in between, and enables sync again.
func (m *syncModel) terminate() {
	m.open = false
	m.logf("terminate")
	m.events++
	base := m.newEpoch(devicesync.EpochReenabled)
	k, ctx := m.e.db.Keeper(), m.t.Context()
	steps := []func() error{
		func() error { _, err := k.RetireClients(ctx, nil); return err },
		func() error { m.forgetHistory(0, base); return nil },
		func() error { _, err := k.Collapse(ctx, 0, base, nil); return err },
	}
	for i := 0; i < len(steps); i++ {
		m.must(steps[i]())
		m.meanwhile(3)
		if m.rng.IntN(4) == 0 && i > 0 {
			i -= 2 // the process died and the step before is done again
		}
	}
	if m.fault == faultIdents {
		m.must(m.e.st.Update(ctx, func(tx store.Tx) error {
			return tx.Delete(store.NewKey(space, store.KindMeta).Name("client_idents"))
		}))
	}
	for _, d := range m.devices {
		for _, r := range d.resets {
			r.unseen = true // what was known of it is gone
		}
	}
	m.meanwhile(4)
	m.open = true
	m.logf("enabled again; epoch %d", m.live.Row().Record.Epoch.No)
}

// newEpoch begins an epoch.
func (m *syncModel) newEpoch(why devicesync.EpochReason) tidegate.Seq {
	base := devicesync.NextBase(m.lastSeq())
	m.must(m.e.st.Update(m.t.Context(), func(tx store.Tx) error { return store.AdvanceSequence(tx, space, base) }))
	m.change(func(r *devicesync.Record) {
		floor := r.HistoryFloor
		r.BeginEpoch(base, fmt.Sprintf("epoch-%d", r.Epoch.No+1), why, m.e.clock.now())
		if m.fault == faultSameEpoch {
			r.HistoryFloor = floor
		}
	})
	return base
}

func (m *syncModel) resetAll() {
	m.events++
	m.logf("reset all")
	m.newEpoch(devicesync.EpochForced)
}

func (m *syncModel) forceReset() {
	k := m.e.db.Keeper()
	clients, err := k.Clients(m.t.Context(), database.ClientFilter{})
	m.must(err)
	if len(clients) == 0 {
		return
	}
	one := clients[m.rng.IntN(len(clients))]
	m.events++
	if len(m.live.Row().Record.Markers) == 0 {
		m.trim() // as the gateway does: a reset needs a marker to start before
	}
	m.must(k.ForceReset(m.t.Context(), one.FileIdent))
	m.logf("forced reset of %s", one.Checkpoint)
}

// compact lets time pass: old tombstones are remembered, old bodies go.
func (m *syncModel) compact() {
	m.e.clock.add(4 * 24 * 60 * 60 * 1e9)
	if m.fault == faultForget {
		return
	}
	m.e.compact(database.CompactTombstones, database.CompactOptions{})
	m.e.sweep()
	m.logf("compacted")
}

// checkNumbers checks that sequences only grow and that no number of a client is given twice (invariant 5).
func (m *syncModel) checkNumbers() {
	last := m.lastSeq()
	if last < m.last {
		m.violated("5: sequences went back from %d to %d", m.last, last)
	}
	m.last = last
	clients, err := m.e.db.Keeper().Clients(m.t.Context(), database.ClientFilter{})
	m.must(err)
	for _, c := range clients {
		who := fmt.Sprintf("%s since %v", c.Checkpoint, c.FirstSeen)
		if was, known := m.idents[c.FileIdent]; known && was != who {
			m.violated("5: file_ident %d was %s and is %s", c.FileIdent, was, who)
		}
		m.idents[c.FileIdent] = who
	}
}

// finish lets every device come to rest and compares everything (invariants 1 and 8).
func (m *syncModel) finish() {
	if m.fault == faultLoseWrite {
		m.loseWrite()
	}
	m.logf("at rest:")
	for range 8 {
		for _, d := range m.devices {
			d.session(false)
		}
	}
	for id, revs := range m.acked {
		raw, err := m.e.admin.Raw(m.t.Context(), id)
		if err != nil {
			m.violated("1: %s, which a device wrote, is gone: %v", id, err)
			continue
		}
		for rev := range revs {
			if _, ok := raw.Tree.Find(rev); !ok && raw.Tree.Len() < 20 { // else it may be too old to be remembered
				m.violated("1: %s of %s was acknowledged and is not there", rev, id)
			}
		}
	}
	for _, d := range m.devices {
		d.compare()
	}
	if m.broken == "" {
		m.e.check()
	}
}

// loseWrite plants that fault.
func (m *syncModel) loseWrite() {
	for id := range m.acked {
		_, err := m.e.admin.Purge(m.t.Context(), []string{id})
		m.must(err)
		return
	}
}

// TestD43DeviceSyncModel runs the model over hundreds of seeds: random offline edits, deletions, trims, pauses, terminations, forced resets and
// broken connections, with clients of both protocols.
func TestD43DeviceSyncModel(t *testing.T) {
	for seed := range uint64(modelSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if broken, story := runSyncModel(t, seed, faultNone); broken != "" {
				t.Fatalf("invariant %s\n%s", broken, strings.Join(story, "\n"))
			}
		})
	}
}

// TestDeviceSyncModelFindsFaults shows that the model is not blind: each fault breaks the invariant that it is about.
func TestDeviceSyncModelFindsFaults(t *testing.T) {
	for fault, invariant := range map[syncFault]string{
		faultForget: "2", faultLoseWrite: "1", faultSameEpoch: "3", faultWipe: "7", faultResetTwice: "9", faultIdents: "5",
		faultNoRemovals: "8", faultMarkerSkips: "8",
	} {
		t.Run(string(fault), func(t *testing.T) {
			seen := map[string]int{}
			for seed := range uint64(150) {
				broken, _ := runSyncModel(t, seed, fault)
				if strings.HasPrefix(broken, invariant+":") {
					return
				}
				seen[broken]++
			}
			t.Errorf("no history breaks invariant %s; %v", invariant, seen)
		})
	}
}
