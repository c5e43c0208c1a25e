package console

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLifecycleInWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		l    lifecycle
		want string
	}{
		{lifecycle{State: "enabled", Phase: "steady"}, "Sync on"},
		{lifecycle{State: "disabled", Phase: "steady"}, "Paused"},
		{lifecycle{State: "disabled", Phase: "pausing"}, "Pausing"},
		{lifecycle{Phase: "terminating"}, "Terminating"},
		{lifecycle{Phase: "steady", LastDisabled: 1}, "Terminated"},
		{lifecycle{Phase: "steady"}, "Not configured"},
		{lifecycle{State: "enabled", Phase: "building"}, "Preparing"},
		{lifecycle{State: "disabled", Phase: "error"}, "Error"},
	} {
		if got := c.l.Label(); got != c.want {
			t.Errorf("%q %q is shown as %q, not %q", c.l.State, c.l.Phase, got, c.want)
		}
	}
}

func TestTerminationProgress(t *testing.T) {
	t.Parallel()
	last := -1
	for _, s := range terminationSteps {
		for _, done := range []int64{0, 5, 10} {
			l := lifecycle{Phase: "terminating", Termination: &termination{Step: s.id, Done: done, Total: 10}}
			f := l.figures(time.Now())
			percent, ok := f["percent"].(int)
			if !ok || percent < last || percent > 100 {
				t.Errorf("step %s, %d of 10: %v percent after %d", s.id, done, f["percent"], last)
			}
			if last = percent; f["terminating"] != true || !strings.Contains(f["step"].(string), s.words) {
				t.Errorf("step %s is shown as %v", s.id, f)
			}
		}
	}
	if last != 100 {
		t.Errorf("the last step ends at %d percent", last)
	}
}

func TestDeadlineNear(t *testing.T) {
	t.Parallel()
	paused := time.Unix(1_000_000, 0)
	end := paused.Add(10 * time.Hour)
	l := lifecycle{State: "disabled", LastDisabled: paused.Unix(), ResumeDeadline: &end}
	for after, want := range map[time.Duration]bool{0: false, 7 * time.Hour: false, 8*time.Hour + time.Minute: true, 11 * time.Hour: true} {
		if got := l.DeadlineNear(paused.Add(after)); got != want {
			t.Errorf("%v after the pause: %v", after, got)
		}
	}
	if (&lifecycle{State: "disabled"}).DeadlineNear(end) {
		t.Error("a window without an end is near its end")
	}
}

func TestDiffs(t *testing.T) {
	t.Parallel()
	f := parseDiff("--- sync/config.json\n+++ sync/config.json\n@@ -1,2 +1,2 @@\n {\n-  \"state\": \"enabled\"\n+  \"state\": \"\"\n")
	var kinds []string
	for _, l := range f.Lines {
		kinds = append(kinds, l.Kind)
	}
	if f.Name != "sync/config.json" || !slices.Equal(kinds, []string{"hunk", "same", "del", "add"}) {
		t.Errorf("read as %+v", f)
	}
	var text []string
	for _, l := range diffTexts("a\nb\nc\n", "a\nx\nc\nd\n") {
		text = append(text, l.Text)
	}
	if want := []string{" a", "-b", "+x", " c", "+d"}; !slices.Equal(text, want) {
		t.Errorf("the difference is %q, not %q", text, want)
	}
	big := strings.Repeat("line\n", 3000)
	if n := len(diffTexts(big, big+"more\n")); n != 6001 {
		t.Errorf("texts that are too long to be compared have %d lines", n)
	}
}

func TestSyncFormReadsAndWritesTheSame(t *testing.T) {
	t.Parallel()
	days, hours := 45, 72
	f := syncFormOf(&flexibleSync{Database: "todo", OfflineDays: &days, HistoryHours: &hours, RecoveryDisabled: true, Terminated: "stop", PausePeers: true, Queryable: []string{"a", "b"}})
	patch, err := f.patch()
	if err != nil {
		t.Fatal(err)
	}
	m := patch["flexible_sync"].(map[string]any)
	for member, want := range map[string]any{
		"client_max_offline_days": 45, "change_history_hours": 72, "is_recovery_mode_disabled": true, "terminated_clients": "stop", "pause_peers": true,
		"auto_pause_days": defaultAutoPauseDays, "ledger_retention_days": nil, "state": "enabled", "database_name": "todo",
	} {
		if got := m[member]; got != want {
			t.Errorf("%s is %v, not %v", member, got, want)
		}
	}
	f.NeverTrim, f.Mode, f.PartitionKey = true, "partition", "owner"
	if patch, err = f.patch(); err != nil || patch["sync"].(map[string]any)["client_max_offline_days"] != nil {
		t.Errorf("partition mode, never trimmed: %v %v", patch, err)
	}
	f.OfflineDays, f.NeverTrim = "3.5", false
	if _, err = f.patch(); err == nil {
		t.Error("a fraction of a day is taken")
	}
}

func TestLagOfReplications(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ direction, pushed, want string }{
		{"push", "10", "caught up"}, {"push", "7", "3 sequences"}, {"pushAndPull", "9:4", "1 sequence"}, {"push", "", "10 sequences"}, {"pull", "3", "–"},
	} {
		r := replicationStatus{LastSeqPush: c.pushed, Seq: 10}
		r.Config.Direction = c.direction
		if got := r.Lag(); got != c.want {
			t.Errorf("%s up to %q: %q, not %q", c.direction, c.pushed, got, c.want)
		}
	}
}
