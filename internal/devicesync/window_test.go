package devicesync

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
)

// The example of the seed: 12 hours of history, paused for more or less than that.
func TestD24HistoryWindow(t *testing.T) {
	row := rowIn(Place{Disabled, Steady})
	row.Config.ChangeHistoryHours = 12
	row.Record.LastDisabled = noon.Unix()
	for hours, lost := range map[int]bool{11: false, 12: false, 13: true} {
		now := noon.Add(time.Duration(hours) * time.Hour)
		next, _, err := Decide(row, Change{Patch: StatePatch(Enabled)}, now)
		if lost && (AppCode(err) != CodeHistoryLost || tidegate.ErrorCode(err) != tidegate.Conflict) || !lost && (err != nil || next.Record.State != Enabled) {
			t.Errorf("after %d hours: %v", hours, err)
		}
		if row.MustTerminate(now) != lost {
			t.Errorf("after %d hours: must terminate %v", hours, !lost)
		}
	}
	if at := row.ResumeDeadline(); at == nil || !at.Equal(noon.Add(12*time.Hour)) {
		t.Errorf("deadline %v", at)
	}
	row.Config.ChangeHistoryHours = 0
	if row.ResumeDeadline() != nil || row.MustTerminate(noon.Add(1000*day)) {
		t.Error("a window without end has ended")
	}
}

func TestDeadlineWarnings(t *testing.T) {
	row := rowIn(Place{Disabled, Steady})
	row.Config.ChangeHistoryHours = 100
	row.Record.LastDisabled = noon.Unix()
	for hours, want := range map[int]string{79: "", 80: WarnResumeDeadline, 100: WarnResumeDeadline, 101: WarnMustTerminate} {
		got := row.Warnings(noon, noon.Add(time.Duration(hours)*time.Hour))
		if want == "" && len(got) > 0 || want != "" && !slices.Equal(got, []string{want}) {
			t.Errorf("after %d hours: %v, want %q", hours, got, want)
		}
	}
}

func TestD23AutoPauseAt(t *testing.T) {
	row := rowIn(Place{Enabled, Steady})
	if _, ok := row.AutoPauseAt(noon); ok {
		t.Error("an automatic database pauses by itself")
	}
	row.Config.AutoPauseDays = 30
	row.Record.EnabledAt, row.Record.LastActivity = noon.Add(-90*day), noon.Add(-31*day)
	if at, ok := row.AutoPauseAt(time.Time{}); !ok || at.After(noon) {
		t.Errorf("%v, %v", at, ok)
	}
	if at, _ := row.AutoPauseAt(noon.Add(-time.Hour)); !at.Equal(noon.Add(30*day - time.Hour)) {
		t.Errorf("with activity an hour ago: %v", at)
	}
	row.Record.EnabledAt = noon.Add(-2 * day)
	if at, _ := row.AutoPauseAt(time.Time{}); !at.Equal(noon.Add(28 * day)) {
		t.Errorf("enabled two days ago: %v", at)
	}
	if got := row.Warnings(time.Time{}, noon.Add(25*day)); !slices.Contains(got, WarnAutoPause) {
		t.Errorf("three days before: %v", got)
	}
	if got := row.Warnings(time.Time{}, noon.Add(24*day)); len(got) > 0 {
		t.Errorf("four days before: %v", got)
	}
}

// sampled plays hours of a database that gets writes a step.
func sampled(row *Row, from time.Time, hours int, last tidegate.Seq, step func(hour int) tidegate.Seq) tidegate.Seq {
	for h := range hours {
		last += step(h)
		row.Record.Samples = row.Sampled(from.Add(time.Duration(h)*time.Hour), last)
	}
	return last
}

func TestD26TrimByOfflineDays(t *testing.T) {
	row := rowIn(Place{Enabled, Steady})
	row.Config.ClientMaxOfflineDays = new(10)
	last := sampled(&row, noon, 24*20, 0, func(int) tidegate.Seq { return 1 })
	now := noon.Add(20 * day)
	p := row.PlanTrim(last, 0, now)
	// Ten days ago the last sequence was about 241; one sample a day is left of then.
	if !p.Marker || p.Floor < 216 || p.Floor > 240 {
		t.Fatalf("%+v", p)
	}
	row.Record.Markers = []tidegate.Seq{5, p.Floor, last + 1}
	row.Record.Trimmed(p, now)
	if row.Record.HistoryFloor != p.Floor || !slices.Equal(row.Record.Markers, []tidegate.Seq{last + 1}) {
		t.Errorf("%+v", row.Record)
	}
	if p := row.PlanTrim(last+1, 0, now); p.Marker || p.Floor != 0 {
		t.Errorf("again: %+v", p)
	}
	// Raising brings nothing back, lowering takes effect at the next run.
	row.Config.ClientMaxOfflineDays = new(100)
	if p := row.PlanTrim(last+1, 0, now); p.Floor != 0 {
		t.Errorf("raised: %+v", p)
	}
	row.Config.ClientMaxOfflineDays = new(2)
	if p := row.PlanTrim(last+1, 0, now); p.Floor <= row.Record.HistoryFloor {
		t.Errorf("lowered: %+v", p)
	}
	row.Config.ClientMaxOfflineDays = nil
	if p := row.PlanTrim(last+9, 0, now); p != (TrimPlan{}) {
		t.Errorf("never: %+v", p)
	}
}

func TestD27PauseSuspendsTrimming(t *testing.T) {
	row := rowIn(Place{Enabled, Steady})
	row.Config.ClientMaxOfflineDays = new(1)
	last := sampled(&row, noon, 72, 0, func(int) tidegate.Seq { return 10 })
	now := noon.Add(3 * day)
	if p := row.PlanTrim(last, 0, now); p.Floor == 0 {
		t.Fatal("nothing to trim in this test")
	}
	row.Record.State, row.Record.Phase, row.Record.LastDisabled = Disabled, Steady, now.Unix()
	row.Config.ChangeHistoryHours = 48
	if p := row.PlanTrim(last, 0, now.Add(47*time.Hour)); p != (TrimPlan{}) {
		t.Errorf("paused: %+v", p)
	}
	if p := row.PlanTrim(last, 0, now.Add(49*time.Hour)); p.Floor == 0 {
		t.Errorf("past the window: %+v", p)
	}
}

func TestOpenSessionsHoldTheFloor(t *testing.T) {
	row := rowIn(Place{Enabled, Steady})
	row.Config.ClientMaxOfflineDays = new(2)
	last := sampled(&row, noon, 24*6, 0, func(int) tidegate.Seq { return 1 })
	now := noon.Add(6 * day)
	p := row.PlanTrim(last, 20, now)
	if !p.Held || p.Evict || p.Floor != 19 {
		t.Fatalf("%+v", p)
	}
	row.Record.Trimmed(p, now)
	if p := row.PlanTrim(last, 20, now.Add(2*day)); !p.Held || p.Evict {
		t.Errorf("%+v", p)
	}
	if p := row.PlanTrim(last, 20, now.Add(2*day+time.Hour)); !p.Evict || p.Floor <= 20 {
		t.Errorf("%+v", p)
	}
}

func TestLedgerRetention(t *testing.T) {
	row := rowIn(Place{Enabled, Steady})
	row.Config.LedgerRetentionDays = new(5)
	p := row.PlanTrim(100, 0, noon)
	if !p.Marker || !p.Forget.Equal(noon.Add(-5*day)) || p.Floor != 0 {
		t.Fatalf("%+v", p)
	}
	p.Ledger = 50
	row.Record.Trimmed(p, noon)
	if row.Record.LedgerFloor != 50 || row.Record.HistoryFloor != 50 || *row.Record.Trim != (TrimRun{0, 50}) {
		t.Errorf("%+v", row.Record)
	}
}

// A trim that was cut short is made good by the next one.
func TestTrimsAddUp(t *testing.T) {
	rec := rowIn(Place{Enabled, Steady}).Record
	rec.Trimmed(TrimPlan{Floor: 10}, noon)
	rec.Trimmed(TrimPlan{Floor: 20}, noon)
	if *rec.Trim != (TrimRun{0, 20}) {
		t.Errorf("%+v", rec.Trim)
	}
	rec.TrimEnded()
	rec.Trimmed(TrimPlan{Floor: 30}, noon)
	if *rec.Trim != (TrimRun{20, 30}) {
		t.Errorf("%+v", rec.Trim)
	}
}

// A client that had caught up less than the limit ago is never stale, however writes and markers fell, and a database that
// nobody writes to any more keeps the clients that have caught up.
func TestTrimKeepsWhoIsInTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		days := rapid.IntRange(1, 6).Draw(rt, "days")
		row := rowIn(Place{Enabled, Steady})
		row.Config.ClientMaxOfflineDays = &days
		last, token := tidegate.Seq(0), tidegate.Seq(0)
		type caught struct {
			at    time.Time
			token tidegate.Seq
		}
		var clients []caught
		now := noon
		for range rapid.IntRange(1, 24*14).Draw(rt, "hours") {
			now = now.Add(time.Hour)
			if n := rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(rt, "writes"); n > 0 {
				last += tidegate.Seq(n)
				token = last
			}
			clients = append(clients, caught{now, token})
			row.Record.Samples = row.Sampled(now, last)
			if now.Hour() == 3 {
				p := row.PlanTrim(last, 0, now)
				if p.Marker {
					last++
					row.Record.Markers = append(slices.Clone(row.Record.Markers), last)
				}
				row.Record.Trimmed(p, now)
			}
			for _, c := range clients {
				if row.Record.Stale(c.token) && (now.Sub(c.at) < time.Duration(days)*day || c.token == token) {
					rt.Fatalf("a client that had %d at %s is stale at %s: floor %d", c.token, c.at, now, row.Record.HistoryFloor)
				}
			}
			for _, m := range row.Record.Markers {
				if m <= row.Record.HistoryFloor {
					rt.Fatalf("marker %d below the floor %d", m, row.Record.HistoryFloor)
				}
			}
			if row.Record.HistoryFloor > 0 && row.Record.Marker() == 0 {
				rt.Fatal("a feed that starts at nothing has no marker to stand on")
			}
		}
	})
}
