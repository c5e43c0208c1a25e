package job

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
)

// The table of inter-gateway.md §5, row by row.
func TestReplicationMoves(t *testing.T) {
	for _, tt := range []struct {
		from []State
		ev   Event
		to   State
		err  error
	}{
		{[]State{Stopped, Error}, Start, Starting, nil},
		{[]State{Starting}, Start, Starting, nil},
		{[]State{Running}, Start, Running, nil},
		{[]State{Reconnecting}, Start, Reconnecting, nil},
		{[]State{Resetting}, Start, Resetting, ErrResetting},
		{[]State{Stopped, Starting, Running, Reconnecting, Error, Unassigned}, Stop, Stopped, nil},
		{[]State{Stopped, Error}, Reset, Resetting, nil},
		{[]State{Running}, Reset, Running, ErrMustStop},
		{[]State{Reconnecting}, Reset, Reconnecting, ErrMustStop},
		{[]State{Starting}, Reset, Starting, ErrMustStop},
		{[]State{Error}, ResetActive, Error, ErrMustStop},
		{[]State{Resetting}, ResetDone, Stopped, nil},
		{[]State{Starting, Reconnecting}, Connected, Running, nil},
		{[]State{Starting, Running}, Lost, Reconnecting, nil},
		{[]State{Running, Starting, Reconnecting}, Completed, Stopped, nil},
		{[]State{Starting, Running, Reconnecting, Resetting}, Failed, Error, nil},
		{[]State{Stopped, Running, Error}, Unassign, Unassigned, nil},
		{[]State{Unassigned}, Assign, Stopped, nil},
		{[]State{Unassigned}, Start, Unassigned, nil},
		// What comes late changes nothing.
		{[]State{Stopped}, Connected, Stopped, nil},
		{[]State{Stopped}, Failed, Stopped, nil},
		{[]State{Running}, ResetDone, Running, nil},
		{[]State{Running}, Assign, Running, nil},
	} {
		for _, from := range tt.from {
			got, err := Next(from, tt.ev)
			if got != tt.to || !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Errorf("%s, %s: %s, %v; want %s, %v", from, tt.ev, got, err, tt.to, tt.err)
			}
		}
	}
}

// Every state has a move, or a refusal of a known kind, for every event, and no move leads out of the states.
func TestTableIsTotal(t *testing.T) {
	for _, s := range States() {
		for _, ev := range Events() {
			m, ok := moves[s][ev]
			if !ok {
				t.Errorf("%s, %s: nothing is said", s, ev)
				continue
			}
			if (m.err == nil) == (m.to == 0) {
				t.Errorf("%s, %s: %+v is neither a move nor a refusal", s, ev, m)
			}
			if m.err == nil && !slices.Contains(States(), m.to) {
				t.Errorf("%s, %s: leads to %s", s, ev, m.to)
			}
		}
		if len(moves[s]) != len(Events()) {
			t.Errorf("%s: %d events, want %d", s, len(moves[s]), len(Events()))
		}
	}
	if len(moves) != len(States()) {
		t.Errorf("%d states in the table, want %d", len(moves), len(States()))
	}
}

func TestNextRefusesWhatIsNoState(t *testing.T) {
	for _, s := range []State{0, Stopping, Removed, 99} {
		if got, err := Next(s, Start); got != s || tidegate.ErrorCode(err) != tidegate.Conflict {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
	if got, err := Next(Running, 99); got != Running || tidegate.ErrorCode(err) != tidegate.Conflict {
		t.Errorf("%s, %v", got, err)
	}
}

// From any state a replication can be stopped, and started from there; and a refusal changes nothing.
func TestRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(States()).Draw(t, "from")
		for _, ev := range rapid.SliceOfN(rapid.SampledFrom(Events()), 0, 30).Draw(t, "events") {
			next, err := Next(s, ev)
			if err != nil && next != s {
				t.Fatalf("%s, %s: refused, and yet %s", s, ev, next)
			}
			if !slices.Contains(States(), next) {
				t.Fatalf("%s, %s: %s is no state", s, ev, next)
			}
			s = next
		}
		for _, ev := range []Event{ResetDone, Stop} {
			var err error
			if s, err = Next(s, ev); err != nil {
				t.Fatalf("%s: %v", ev, err)
			}
		}
		if s != Stopped {
			t.Fatalf("stopped: %s", s)
		}
		if s, _ = Next(s, Start); s != Starting {
			t.Fatalf("started: %s", s)
		}
	})
}

// Whatever the API answers is either the state of the table or the word for its being left, and it is settled exactly
// when the state is the answer.
func TestAnswers(t *testing.T) {
	for _, from := range States() {
		for _, ev := range []Event{Start, Stop, Reset, ResetActive} {
			to, err := Next(from, ev)
			if err != nil {
				continue
			}
			for _, now := range []State{from, to} {
				got := Answer(ev, now, false)
				switch {
				case ev == Stop && now.Active():
					if got != Stopping || Settled(ev, now) {
						t.Errorf("%s, %s, now %s: %s, settled %v", from, ev, now, got, Settled(ev, now))
					}
				case got != now:
					t.Errorf("%s, %s, now %s: %s", from, ev, now, got)
				}
				if Answer(Stop, now, true) != Removed {
					t.Errorf("%s: an ad hoc one is stopped and stays", now)
				}
			}
		}
	}
	for now, settled := range map[State]bool{Starting: false, Running: true, Error: true, Reconnecting: true} {
		if Settled(Start, now) != settled {
			t.Errorf("start, %s: %v", now, !settled)
		}
	}
	if Settled(Reset, Resetting) || !Settled(Reset, Stopped) || !Settled(Connected, Starting) {
		t.Error("a reset is settled when it is not resetting any more")
	}
}

func TestCombine(t *testing.T) {
	for _, tt := range []struct{ push, pull, want State }{
		{Stopped, Stopped, Stopped},
		{Running, Error, Running},
		{Error, Stopped, Error},
		{Reconnecting, Error, Error},
		{Reconnecting, Starting, Reconnecting},
		{Starting, Stopped, Starting},
		{Stopped, Running, Running},
		{0, Reconnecting, Reconnecting},
		{Error, 0, Error},
	} {
		if got := Combine(tt.push, tt.pull); got != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.push, tt.pull, got, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SampledFrom(States()).Draw(t, "push"), rapid.SampledFrom(States()).Draw(t, "pull")
		got := Combine(a, b)
		if got != Combine(b, a) || got != a && got != b || Combine(a, a) != a {
			t.Fatalf("%s, %s: %s", a, b, got)
		}
	})
}

func TestStateNames(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range append(States(), Stopping, Removed) {
		if name := s.String(); name == "" || seen[name] || ParseState(name) != s {
			t.Errorf("%d: %q", s, name)
		} else {
			seen[name] = true
		}
	}
	if ParseState("") != 0 || ParseState("gone") != 0 || State(200).String() == "" || Event(200).String() == "" {
		t.Error("a name that is none")
	}
	for _, ev := range Events() {
		if name := ev.String(); name == "" || seen["event "+name] {
			t.Errorf("%d: %q", ev, name)
		} else {
			seen["event "+name] = true
		}
	}
}
