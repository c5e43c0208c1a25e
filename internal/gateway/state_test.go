package gateway

import (
	"testing"

	"github.com/tidegate/tidegate"
)

// The picture of resync.md §1, as pairs.
var legal = map[State]map[event]State{
	Offline:   {evLoad: Starting, evResync: Resyncing},
	Starting:  {evLoaded: Online, evFailed: Offline},
	Online:    {evStop: Stopping},
	Stopping:  {evStopped: Offline},
	Resyncing: {evResynced: Offline},
}

func TestStateTable(t *testing.T) {
	for s := range State(len(stateNames)) {
		for ev := range event(len(eventNames)) {
			got, err := next(s, ev)
			want, ok := legal[s][ev]
			switch {
			case ok && (err != nil || got != want):
				t.Errorf("%s on %s: %s, %v; want %s", s, ev, got, err, want)
			case !ok && (tidegate.ErrorCode(err) != tidegate.Conflict || got != s):
				t.Errorf("%s on %s: %s, %v; want a refusal", s, ev, got, err)
			}
		}
	}
}

func TestStateErrors(t *testing.T) {
	for s, want := range map[State]string{
		Offline:   "DB is currently under maintenance",
		Starting:  "DB is Starting - try again later",
		Stopping:  "DB is Stopping - try again later",
		Resyncing: "DB is Resyncing - try again later",
	} {
		if err := stateError(s); tidegate.ErrorCode(err) != tidegate.Unavailable || tidegate.ErrorReason(err) != want {
			t.Errorf("%s: %v", s, err)
		}
	}
}
