package devicesync

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
)

func TestPosition(t *testing.T) {
	for text, want := range map[string]tidegate.Seq{"": 0, "7": 7, "5:7": 5, "3:5:7": 3, "9:5:7": 5, "3::7": 3, "9::7": 7} {
		since, err := tidegate.ParseSince(text)
		if err != nil || Position(since) != want {
			t.Errorf("%q: %d, %v; want %d", text, Position(since), err, want)
		}
	}
}

func TestNextBase(t *testing.T) {
	for last, want := range map[tidegate.Seq]tidegate.Seq{0: 1 << 32, 1: 1 << 32, 1<<32 - 1: 1 << 32, 1 << 32: 2 << 32, 3<<32 + 5: 4 << 32} {
		if got := NextBase(last); got != want {
			t.Errorf("%d: %d", last, got)
		}
	}
}

// The table of device-sync.md §12.5.
func TestVerdicts(t *testing.T) {
	row := rowIn(Place{Enabled, Steady})
	row.Record.Epoch.Base, row.Record.HistoryFloor, row.Record.LedgerFloor = 1000, 1200, 500
	const last = 2000
	at := func(s tidegate.Seq) tidegate.Since { return tidegate.Since{Seq: s} }
	for name, c := range map[string]struct {
		claim    Claim
		disabled bool
		want     Verdict
	}{
		"nothing known":            {Claim{}, false, Verdict{Fresh, ""}},
		"known, no token":          {Claim{Known: true}, false, Verdict{OK, ""}},
		"in history":               {Claim{Token: at(1201), Known: true}, false, Verdict{OK, ""}},
		"in history, unknown id":   {Claim{Token: at(1201)}, false, Verdict{OK, ""}},
		"last":                     {Claim{Token: at(last)}, false, Verdict{OK, ""}},
		"ahead":                    {Claim{Token: at(last + 1)}, false, Verdict{ResetRecover, ServerBehind}},
		"trimmed":                  {Claim{Token: at(1200)}, false, Verdict{ResetRecover, HistoryTrimmed}},
		"older epoch":              {Claim{Token: at(999)}, false, Verdict{ResetRecover, EpochChanged}},
		"at the ledger floor":      {Claim{Token: at(500)}, false, Verdict{ResetRecover, EpochChanged}},
		"beyond the ledger":        {Claim{Token: at(499)}, false, Verdict{ResetWipe, EpochChanged}},
		"retired":                  {Claim{Retired: true, RetiredLast: 900}, false, Verdict{ResetRecover, EpochChanged}},
		"retired by a trim":        {Claim{Retired: true, RetiredLast: 1100}, false, Verdict{ResetRecover, HistoryTrimmed}},
		"retired, ledger expired":  {Claim{Retired: true, RetiredLast: 10}, false, Verdict{ResetWipe, EpochChanged}},
		"forced":                   {Claim{Token: at(1500), Known: true, Forced: true}, false, Verdict{ResetRecover, Forced}},
		"recovery disabled":        {Claim{Token: at(999)}, true, Verdict{ResetWipe, EpochChanged}},
		"recovery disabled, fresh": {Claim{}, true, Verdict{Fresh, ""}},
		"a peer is never wiped":    {Claim{Token: at(10), Peer: true}, true, Verdict{ResetRecover, EpochChanged}},
		"a label of a marker":      {Claim{Token: tidegate.Since{Trigger: 1500, Seq: 20}}, false, Verdict{OK, ""}},
		"a label of an old marker": {Claim{Token: tidegate.Since{Trigger: 1100, Seq: 20}}, false, Verdict{ResetRecover, HistoryTrimmed}},
	} {
		row.Config.IsRecoveryModeDisabled = c.disabled
		if got := row.Judge(c.claim, last); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	for reason, want := range map[Reason]int{EpochChanged: 208, HistoryTrimmed: 222, ServerBehind: 209, Forced: 208, "": 0} {
		if code, _ := reason.RealmCode(); code != want {
			t.Errorf("%s: %d", reason, code)
		}
	}
}

// Every token that was given out before an epoch began is stale in it, and none given out in it is.
func TestEpochsSplitTokens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rec := rowIn(Place{Enabled, Steady}).Record
		last := tidegate.Seq(rapid.Uint64Range(0, 1<<34).Draw(rt, "last"))
		// A restore may have lost the tail: what clients have seen is ahead of last.
		seen := last + tidegate.Seq(rapid.Uint64Range(0, 1<<32-1).Draw(rt, "lost"))
		base := NextBase(last)
		rec.BeginEpoch(base, "x", EpochRestored, noon)
		old := tidegate.Seq(rapid.Uint64Range(1, uint64(max(last, 1))).Draw(rt, "token"))
		if last > 0 && !rec.Stale(old) {
			rt.Fatalf("token %d of before epoch %d is honoured", old, base)
		}
		if seen < base && seen > 0 && !rec.Stale(seen) {
			rt.Fatalf("token %d, lost by a restore, is honoured", seen)
		}
		fresh := base + tidegate.Seq(rapid.Uint64Range(0, 1<<20).Draw(rt, "fresh"))
		if rec.Stale(fresh) || rec.Stale(Position(tidegate.Since{Trigger: base, Seq: old})) {
			rt.Fatal("a token of this epoch is stale")
		}
	})
}

// The table of device-sync.md §12.4.
func TestGate(t *testing.T) {
	device, peer, feed, mark := Access{}, Access{Peer: true}, Access{AdminFeed: true}, Access{CheckpointWrite: true}
	for _, c := range []struct {
		in         Place
		stop, peer bool // terminated_clients stop; pause_peers
		who        Access
		want       GateCode
		code       int
	}{
		{Place{Enabled, Steady}, false, false, device, "", 0},
		{Place{Disabled, Pausing}, false, false, device, SyncPaused, 4001},
		{Place{Disabled, Steady}, false, false, device, SyncPaused, 4001},
		{Place{Disabled, Steady}, false, false, peer, "", 0},
		{Place{Disabled, Steady}, false, true, peer, SyncPaused, 4001},
		{Place{Disabled, Steady}, false, false, feed, "", 0},
		{Place{Terminated, Terminating}, false, false, device, SyncTerminated, 4001},
		{Place{Terminated, Steady}, false, false, device, SyncTerminated, 4001},
		{Place{Terminated, Steady}, false, false, peer, SyncTerminated, 4001},
		{Place{Terminated, Steady}, false, false, feed, SyncTerminated, 4001},
		{Place{Terminated, Steady}, true, false, device, SyncTerminated, 4002},
		{Place{Terminated, Steady}, true, false, mark, SyncTerminated, 4001},
		{Place{Enabled, Building}, false, false, device, SyncNotReady, 4001},
		{Place{Enabled, Faulty}, false, false, device, SyncError, 4001},
		{Place{Disabled, Faulty}, false, false, device, SyncError, 4001},
	} {
		row := rowIn(c.in)
		row.Config.PausePeers = c.peer
		if c.stop {
			row.Record.TerminatedClients = ClientsStop
		}
		got := row.Gate(c.who)
		if c.want == "" {
			if got != nil {
				t.Errorf("%+v: %v", c, got)
			}
			continue
		}
		if got == nil || got.Code != c.want {
			t.Errorf("%+v: %v", c, got)
			continue
		}
		status := 503
		if c.code == CloseStop {
			status = 403
		}
		var err error = got
		code, reason := got.Close()
		if code != c.code || reason != string(c.want) || tidegate.ErrorCode(err).HTTPStatus() != status {
			t.Errorf("%+v: %d %s, %d", c, code, reason, tidegate.ErrorCode(err).HTTPStatus())
		}
		if e, ok := errors.AsType[*tidegate.Error](err); !ok || e.Reason != got.Error() {
			t.Errorf("reason %v", e)
		}
	}
}

// D44: no refusal of a checkpoint write is a 4xx, whatever the state and the settings.
func TestD44CheckpointWritesAreNever4xx(t *testing.T) {
	for _, p := range Places() {
		row := rowIn(p)
		row.Record.TerminatedClients = ClientsStop
		for _, peer := range []bool{false, true} {
			if err := row.Gate(Access{CheckpointWrite: true, Peer: peer}); err != nil && tidegate.ErrorCode(err) != tidegate.Unavailable {
				t.Errorf("%v: %v", p, err)
			}
		}
	}
}

func TestLive(t *testing.T) {
	first := rowIn(Place{Enabled, Steady})
	live := NewLive(&first)
	row, changed := live.Watch()
	if row != &first {
		t.Fatal("another row")
	}
	second := first
	second.Record.Version = 2
	live.Set(&second)
	<-changed
	live.Set(&first)
	if live.Row() != &second {
		t.Error("an older version took the place of a newer one")
	}
}
