package devicesync

import (
	"testing"

	"github.com/tidegate/tidegate"
)

// The table of device-sync.md §2.2, with the phases of §2.3.
func TestTransitions(t *testing.T) {
	legal := map[Place]map[Event]Place{
		{Enabled, Steady}:         {Pause: {Disabled, Pausing}, Resume: {Enabled, Steady}, Enable: {Enabled, Steady}, Terminate: {Terminated, Terminating}, BuildStart: {Enabled, Building}, Fail: {Enabled, Faulty}},
		{Enabled, Building}:       {Pause: {Disabled, Pausing}, Resume: {Enabled, Building}, Enable: {Enabled, Building}, Terminate: {Terminated, Terminating}, BuildEnd: {Enabled, Steady}, Fail: {Enabled, Faulty}},
		{Enabled, Faulty}:         {Pause: {Disabled, Faulty}, Resume: {Enabled, Faulty}, Enable: {Enabled, Faulty}, Terminate: {Terminated, Terminating}, Retry: {Enabled, Steady}, Fail: {Enabled, Faulty}},
		{Disabled, Steady}:        {Pause: {Disabled, Steady}, Resume: {Enabled, Steady}, Enable: {Enabled, Steady}, Terminate: {Terminated, Terminating}, Fail: {Disabled, Faulty}},
		{Disabled, Pausing}:       {Pause: {Disabled, Pausing}, Resume: {Enabled, Steady}, Enable: {Enabled, Steady}, Terminate: {Terminated, Terminating}, SessionsGone: {Disabled, Steady}, Fail: {Disabled, Faulty}},
		{Disabled, Faulty}:        {Pause: {Disabled, Faulty}, Resume: {Enabled, Faulty}, Enable: {Enabled, Faulty}, Terminate: {Terminated, Terminating}, Retry: {Disabled, Steady}, Fail: {Disabled, Faulty}},
		{Terminated, Steady}:      {Terminate: {Terminated, Steady}, Enable: {Enabled, Steady}},
		{Terminated, Terminating}: {Terminate: {Terminated, Terminating}, TerminationEnd: {Terminated, Steady}},
	}
	if len(legal) != len(Places()) {
		t.Fatalf("%d places, %d in the table", len(Places()), len(legal))
	}
	for _, p := range Places() {
		for _, ev := range Events() {
			got, err := Next(p, ev)
			want, ok := legal[p][ev]
			if ok && (err != nil || got != want) {
				t.Errorf("%s in %v: %v, %v; want %v", ev, p, got, err, want)
			}
			if !ok && (err == nil || got != p) {
				t.Errorf("%s in %v: %v, %v; want an error, and no move", ev, p, got, err)
			}
		}
	}
}

func TestRefusedTransitions(t *testing.T) {
	for _, c := range []struct {
		in   Place
		ev   Event
		app  string
		code tidegate.Code
	}{
		{Place{Terminated, Steady}, Pause, CodeInvalidParameter, tidegate.Invalid},
		{Place{Terminated, Steady}, Resume, CodeInvalidParameter, tidegate.Invalid},
		{Place{Terminated, Terminating}, Enable, CodeSyncTerminating, tidegate.Conflict},
		{Place{Terminated, Terminating}, Pause, CodeInvalidParameter, tidegate.Invalid},
		{Place{Enabled, Steady}, TerminationEnd, CodeInvalidParameter, tidegate.Conflict},
	} {
		if _, err := Next(c.in, c.ev); AppCode(err) != c.app || tidegate.ErrorCode(err) != c.code {
			t.Errorf("%s in %v: %v, %s", c.ev, c.in, err, AppCode(err))
		}
	}
}

func TestSteps(t *testing.T) {
	var walked []Step
	for s := Steps()[0]; s != ""; s = s.After() {
		walked = append(walked, s)
	}
	if len(walked) != 6 || walked[5] != StepFinish || Step("x").After() != "" {
		t.Errorf("steps %v", walked)
	}
}
