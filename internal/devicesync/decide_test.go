package devicesync

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// rowIn returns a row in a place, with a config of its own unless it is terminated.
func rowIn(p Place) Row {
	row := *Automatic("todo", "e0", noon.Add(-100*day))
	row.Record.State, row.Record.Phase = p.State, p.Phase
	switch p.State {
	case Disabled:
		row.Record.LastDisabled = noon.Add(-time.Hour).Unix()
	case Terminated:
		row.Config = Config{}
		if p.Phase == Terminating {
			row.Record.Termination = &Termination{From: Enabled, Step: StepClients}
		}
	}
	return row
}

func patch(t testing.TB, body string) Patch {
	t.Helper()
	p, err := ParsePatch([]byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return p
}

func decide(t testing.TB, row Row, body string) (Row, Outcome, error) {
	t.Helper()
	return Decide(row, Change{Patch: patch(t, body), By: "user:a"}, noon)
}

const seedConfig = `"database_name":"todo","permissions":{"rules":{},"defaultRoles":[]},"client_max_offline_days":30,"is_recovery_mode_disabled":false`

// The JSON of the seed, pasted in as it stands there.
func TestD03PauseOfTheSeed(t *testing.T) {
	row, out, err := decide(t, rowIn(Place{Enabled, Steady}), `{"flexible_sync":{"state":"disabled",`+seedConfig+`}}`)
	if err != nil || out.From != Enabled || out.To != Disabled || !out.Changed {
		t.Fatalf("%+v, %v", out, err)
	}
	if row.Record.Phase != Pausing || row.Record.LastDisabled != noon.Unix() || row.Record.DisabledBy != "user:a" || *row.Config.ClientMaxOfflineDays != 30 {
		t.Errorf("%+v", row)
	}
}

func TestD05ResumeSameEpochSameConfig(t *testing.T) {
	for _, phase := range []Phase{Steady, Pausing} {
		before := rowIn(Place{Disabled, phase})
		row, _, err := decide(t, before, `{"flexible_sync":{"state":"enabled"}}`)
		if err != nil || row.Record.Epoch != before.Record.Epoch || row.Record.Phase != Steady {
			t.Fatalf("%+v, %v", row.Record, err)
		}
		before.Config.Automatic = false
		if !reflect.DeepEqual(row.Config, before.Config) || !row.Record.EnabledAt.Equal(noon) {
			t.Errorf("%+v", row)
		}
	}
}

// The seed sends the whole object with state "": the other members are ignored, even malformed ones.
func TestD06TerminateWithOtherMembers(t *testing.T) {
	for _, members := range []string{"", "," + seedConfig, `,"client_max_offline_days":-5,"database_name":7,"queryable_fields_names":["limit"]`} {
		row, out, err := decide(t, rowIn(Place{Disabled, Steady}), `{"flexible_sync":{"state":""`+members+`}}`)
		if err != nil || !out.Terminating || row.Record.State != Terminated || row.Record.LiveState() != Disabled {
			t.Errorf("%s: %+v, %v", members, out, err)
		}
	}
}

func TestD07ConfigIsShownErasedWhileStateLags(t *testing.T) {
	row, _, err := decide(t, rowIn(Place{Enabled, Steady}), `{"flexible_sync":{"state":""}}`)
	if err != nil {
		t.Fatal(err)
	}
	const erased = `{"state":"","database_name":"","permissions":{"rules":{},"defaultRoles":[]},"client_max_offline_days":30,` +
		`"is_recovery_mode_disabled":false,"queryable_fields_names":[],"last_disabled":1795176000}`
	if got := string(row.FlexibleSync()); got != erased || row.Record.LiveState() != Enabled {
		t.Errorf("%s, %q", got, row.Record.LiveState())
	}
	row.Record.BeginEpoch(NextBase(10), "e1", EpochReenabled, noon)
	if err := row.EndTermination(noon); err != nil {
		t.Fatal(err)
	}
	if got := string(row.FlexibleSync()); got != erased || row.Record.LiveState() != Terminated || !reflect.DeepEqual(row.Config, Config{}) {
		t.Errorf("%s, %q", got, row.Record.LiveState())
	}
	if row.Record.HistoryFloor != 1<<32-1 || row.Record.Epoch.No != 1 || row.Record.Marker() != 1<<32 {
		t.Errorf("%+v", row.Record)
	}
}

func TestD08EnableAfterTermination(t *testing.T) {
	start := rowIn(Place{Terminated, Steady})
	if _, _, err := decide(t, start, `{"flexible_sync":{"state":"enabled"}}`); AppCode(err) != CodeMissingParameter {
		t.Errorf("without database_name: %v", err)
	}
	if _, _, err := decide(t, rowIn(Place{Terminated, Terminating}), `{"flexible_sync":{"state":"enabled",`+seedConfig+`}}`); AppCode(err) != CodeSyncTerminating || tidegate.ErrorCode(err) != tidegate.Conflict {
		t.Errorf("while terminating: %v", err)
	}
	row, _, err := decide(t, start, `{"flexible_sync":{"state":"enabled",`+seedConfig+`}}`)
	if err != nil || row.Record.State != Enabled || row.Config.Mode != Flexible || row.Config.AutoPauseDays != 30 || row.Record.Epoch.Reason != EpochReenabled {
		t.Errorf("%+v, %v", row, err)
	}
	if _, _, err := Decide(start, Change{Patch: patch(t, `{"flexible_sync":{"state":"enabled","database_name":"x"}}`), Serverless: true}, noon); AppCode(err) != CodeInvalidParameter {
		t.Errorf("serverless: %v", err)
	}
}

// D09: what is refused, with its code, leaves the row as it was.
func TestD09RefusedChangesNothing(t *testing.T) {
	on, paused, off := Place{Enabled, Steady}, Place{Disabled, Steady}, Place{Terminated, Steady}
	for _, c := range []struct {
		in   Place
		body string
		app  string
	}{
		{off, `{"flexible_sync":{"state":"disabled"}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"database_name":"other"}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"state":"disabled","database_name":null}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"client_max_offline_days":0}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"client_max_offline_days":-1}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"client_max_offline_days":1.5}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"client_max_offline_days":"30"}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"state":"disabled","is_recovery_mode_disabled":"yes"}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"permissions":[]}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"queryable_fields_names":["a.b"]}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"queryable_fields_names":["ENDSwith"]}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"queryable_fields_names":["uuid"]}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"queryable_fields_names":[""]}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"collection_queryable_fields_names":{"c":["true"]}}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"queryable_fields_names":["a"],"indexed_queryable_fields_names":["a"]}}`, CodeInvalidParameter},
		{paused, `{"flexible_sync":{"indexed_queryable_fields_names":["a"]}}`, CodeInvalidParameter},
		{paused, `{"flexible_sync":{"queryable_fields_names":["a","b"],"indexed_queryable_fields_names":["a","b"]}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"asymmetric_tables":["t"]}}`, CodeDestructive},
		{on, `{"flexible_sync":{"change_history_hours":-1}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"terminated_clients":"perish"}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"reset_deleted_edits":""}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"client_max_offline_days":30,"ledger_retention_days":59}}`, CodeInvalidParameter},
		{on, `{"flexible_sync":{"quarantine_days":0}}`, CodeInvalidParameter},
		{on, `{"clusterName":"Other"}`, CodeInvalidParameter},
		{off, `{"clusterName":"Øre"}`, CodeInvalidParameter},
		{off, `{"clusterName":"` + strings.Repeat("a", 65) + `"}`, CodeInvalidParameter},
		{on, `{"readPreference":"nowhere"}`, CodeInvalidParameter},
		{on, `{"readPreferenceTagSets":{}}`, CodeInvalidParameter},
		{on, `{"sync":{"state":"enabled","partition":{"key":"k","type":"string"}}}`, CodeModeSwitch},
		{off, `{"sync":{"state":"enabled","database_name":"x","partition":{"key":"k","type":"float"}}}`, CodeInvalidParameter},
		{off, `{"sync":{"state":"enabled","database_name":"x","partition":{"key":"","type":"string"}}}`, CodeInvalidParameter},
		{off, `{"flexible_sync":{"state":"enabled","database_name":"x"},"sync":{"state":"enabled","partition":{"key":"k","type":"string"}}}`, CodeModeSwitch},
	} {
		before := rowIn(c.in)
		row, out, err := decide(t, before, c.body)
		if AppCode(err) != c.app || err == nil {
			t.Errorf("%s: %v (%s), want %s", c.body, err, AppCode(err), c.app)
		}
		if !reflect.DeepEqual(row, before) || out.Changed {
			t.Errorf("%s: refused, and changed something", c.body)
		}
	}
}

func TestD10PartialPatch(t *testing.T) {
	row := rowIn(Place{Enabled, Steady})
	steps := []struct {
		body string
		ok   func(Config) bool
	}{
		{`{"clusterId":"x","clusterType":"serverless","groupName":7,"flexible_sync":{"last_disabled":"12","unknown":[]}}`, func(c Config) bool { return c.ClientMaxOfflineDays == nil }},
		{`{"flexible_sync":{"client_max_offline_days":10}}`, func(c Config) bool { return *c.ClientMaxOfflineDays == 10 }},
		{`{"flexible_sync":{"queryable_fields_names":["a","b"]}}`, func(c Config) bool { return len(c.QueryableFields) == 2 && *c.ClientMaxOfflineDays == 10 }},
		{`{"flexible_sync":{"queryable_fields_names":["a"]}}`, func(c Config) bool { return len(c.QueryableFields) == 1 }},
		{`{"flexible_sync":{"queryable_fields_names":null,"client_max_offline_days":null}}`, func(c Config) bool { return c.QueryableFields == nil && c.ClientMaxOfflineDays == nil }},
		{`{"flexible_sync":{"auto_pause_days":3,"pause_peers":true}}`, func(c Config) bool { return c.AutoPauseDays == 3 && c.PausePeers }},
		{`{"sync":{"is_recovery_mode_disabled":true}}`, func(c Config) bool { return c.IsRecoveryModeDisabled }},
		{`{"flexible_sync":null}`, func(c Config) bool { return c.IsRecoveryModeDisabled }},
	}
	for _, s := range steps {
		var err error
		if row, _, err = decide(t, row, s.body); err != nil || !s.ok(row.Config) || row.Record.State != Enabled {
			t.Fatalf("%s: %+v, %v", s.body, row, err)
		}
	}
	// What was answered can be sent back.
	again, out, err := decide(t, row, `{"clusterName":"Cluster0","flexible_sync":`+string(row.FlexibleSync())+`}`)
	if err != nil || !reflect.DeepEqual(again.Config.AutoPauseDays, 3) || out.From != out.To {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestParsePatchRefuses(t *testing.T) {
	for body, app := range map[string]string{
		``: CodeMalformedJSON, `[]`: CodeMalformedJSON, `{`: CodeMalformedJSON, `{"flexible_sync":[]}`: CodeInvalidParameter,
		`{"flexible_sync":{"state":"on"}}`: CodeInvalidParameter, `{"flexible_sync":{"state":null}}`: CodeInvalidParameter,
		`{"flexible_sync":{"state":1}}`: CodeInvalidParameter, `{"sync":{"state":"paused"}}`: CodeInvalidParameter,
	} {
		if _, err := ParsePatch([]byte(body)); AppCode(err) != app {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestDestructiveChangeTerminates(t *testing.T) {
	row, out, err := Decide(rowIn(Place{Enabled, Steady}), Change{Patch: patch(t, `{"flexible_sync":{"asymmetric_tables":["t"]}}`), AllowDestructive: true}, noon)
	if err != nil || !out.Terminating || row.Record.State != Terminated {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestD29ModeSwitchNeedsTermination(t *testing.T) {
	row, _, err := decide(t, rowIn(Place{Terminated, Steady}), `{"sync":{"state":"enabled","database_name":"todo","partition":{"key":"owner","type":"string","required":true}}}`)
	if err != nil || row.Config.Mode != Partition || row.Config.Partition.Key != "owner" {
		t.Fatalf("%+v, %v", row, err)
	}
	if _, _, err := decide(t, row, `{"flexible_sync":{"state":"enabled","database_name":"todo"}}`); AppCode(err) != CodeModeSwitch || tidegate.ErrorCode(err) != tidegate.Conflict {
		t.Errorf("%v", err)
	}
	if _, out, err := decide(t, row, `{"flexible_sync":{"state":""}}`); err != nil || out.Changed {
		t.Errorf("terminating a mode that is not configured: %+v, %v", out, err)
	}
	if row.Record.Phase != Building || row.RoutingFunction() == "" || row.Gate(Access{}) == nil {
		t.Errorf("%+v", row.Record)
	}
	if _, _, err := decide(t, row, `{"sync":{"partition":{"key":"other","type":"string","required":true}}}`); AppCode(err) != CodeInvalidParameter {
		t.Errorf("another key: %v", err)
	}
	if row, _, err = decide(t, row, `{"sync":{"state":"disabled","partition":{"key":"owner","type":"string","required":true}}}`); err != nil || row.Record.State != Disabled {
		t.Errorf("%+v, %v", row, err)
	}
	if !json.Valid(row.PartitionSync()) || !strings.Contains(string(row.FlexibleSync()), `"state":""`) {
		t.Errorf("%s %s", row.PartitionSync(), row.FlexibleSync())
	}
}

// Whatever is asked for, in whatever order: a refusal changes nothing, the place is always one of the table, the epoch never falls
// and a terminated sync has no config to show.
func TestAnySequenceOfChanges(t *testing.T) {
	bodies := []string{
		`{"flexible_sync":{"state":"disabled"}}`, `{"flexible_sync":{"state":"enabled"}}`, `{"flexible_sync":{"state":""}}`,
		`{"flexible_sync":{"state":"enabled",` + seedConfig + `}}`, `{"flexible_sync":{"client_max_offline_days":7}}`,
		`{"sync":{"state":"enabled","database_name":"todo","partition":{"key":"k","type":"int"}}}`, `{"sync":{"state":""}}`,
		`{"flexible_sync":{"asymmetric_tables":["x"]}}`, `{"flexible_sync":{"queryable_fields_names":["bad.name"]}}`,
	}
	rapid.Check(t, func(rt *rapid.T) {
		row := *Automatic("todo", "e", noon)
		now, last := noon, tidegate.Seq(100)
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 900).Draw(rt, "hours")) * time.Hour)
			before := row
			change := Change{Patch: patch(t, rapid.SampledFrom(bodies).Draw(rt, "body")), AllowDestructive: rapid.Bool().Draw(rt, "allow")}
			next, out, err := Decide(row, change, now)
			if err != nil && !reflect.DeepEqual(next, before) {
				rt.Fatalf("refused, and changed: %v", err)
			}
			if err == nil && out.From == Disabled && out.To == Enabled && before.MustTerminate(now) {
				rt.Fatal("resumed after the window")
			}
			row = next
			if row.Record.Phase == Pausing && rapid.Bool().Draw(rt, "gone") {
				must(rt, row.Record.Happen(SessionsGone, nil))
			}
			if row.Record.Phase == Terminating && rapid.Bool().Draw(rt, "end") {
				row.Record.BeginEpoch(NextBase(last), "n", EpochReenabled, now)
				last = row.Record.Epoch.Base + 5
				must(rt, row.EndTermination(now))
			}
			if _, ok := moves[row.Record.Place()]; !ok {
				rt.Fatalf("place %v", row.Record.Place())
			}
			if row.Record.Epoch.No < before.Record.Epoch.No || row.Record.Epoch.Base < before.Record.Epoch.Base {
				rt.Fatal("the epoch went back")
			}
			if row.Record.State == Terminated && !strings.Contains(string(row.FlexibleSync()), `"database_name":""`) {
				rt.Fatalf("a config of a terminated sync: %s", row.FlexibleSync())
			}
			b, err := row.Encode()
			must(rt, err)
			again, err := DecodeRow(b)
			must(rt, err)
			if b2, _ := again.Encode(); string(b2) != string(b) {
				rt.Fatalf("%s\n%s", b, b2)
			}
		}
	})
}

func must(rt *rapid.T, err error) {
	if err != nil {
		rt.Fatal(err)
	}
}

func FuzzParsePatch(f *testing.F) {
	f.Add([]byte(`{"flexible_sync":{"state":"enabled",` + seedConfig + `},"sync":{"partition":{}},"clusterName":null}`))
	f.Add([]byte(`{"flexible_sync":{"permissions":{"a":[1]},"collection_queryable_fields_names":{"c":[null]}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ParsePatch(body)
		if err != nil {
			return
		}
		for _, place := range Places() {
			before := rowIn(place)
			next, _, err := Decide(before, Change{Patch: p}, noon)
			if err != nil {
				continue
			}
			if _, err := next.Encode(); err != nil {
				t.Fatalf("%s cannot be stored: %v", body, err)
			}
			if !json.Valid(next.FlexibleSync()) {
				t.Fatalf("%s", next.FlexibleSync())
			}
		}
	})
}

func TestDecodeRowRefuses(t *testing.T) {
	for _, b := range []string{``, `{}`, `{"format":2}`, `{"format":1,"record":{"state":"enabled","phase":"pausing"}}`} {
		if _, err := DecodeRow([]byte(b)); tidegate.ErrorCode(err) != tidegate.Corrupt {
			t.Errorf("%q: %v", b, err)
		}
	}
}
