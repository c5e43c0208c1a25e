package gateway

import (
	"context"
	"errors"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
)

func join(t *testing.T, r *Running) *Session {
	t.Helper()
	s, err := r.DeviceSync().Join(t.Context(), devicesync.Session{Kind: "blip"}, devicesync.Access{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A pause on one node ends the sessions of all, and is over when the last of all has gone.
func TestFleetPauseEndsSessionsOfAllNodes(t *testing.T) {
	f := newFleet(t)
	a, b := f.node("a"), f.node("b")
	ra := create(t, a.Gateway, "db", `{}`)
	rb := b.on(t, "db")
	here, there := join(t, ra), join(t, rb)
	eventually(t, "count of the sessions of both nodes", func() bool {
		st, err := ra.DeviceSync().Status(t.Context())
		return err == nil && st.Sessions == 2
	})
	must(t, ra.DeviceSync(), pauseBody)
	for _, s := range []*Session{here, there} {
		await(t, s.Context().Done(), "end of the session")
		if gate, ok := errors.AsType[*devicesync.GateError](context.Cause(s.Context())); !ok || gate.Code != devicesync.SyncPaused {
			t.Errorf("ended with %v", context.Cause(s.Context()))
		}
	}
	if _, err := rb.DeviceSync().Join(t.Context(), devicesync.Session{}, devicesync.Access{}); tidegate.ErrorCode(err) != tidegate.Unavailable {
		t.Errorf("let in on the other node while paused: %v", err)
	}
	here.Leave()
	if phase := ra.DeviceSync().Live().Row().Record.Phase; phase != devicesync.Pausing {
		t.Errorf("phase %s while a session of the other node is open", phase)
	}
	there.Leave()
	settled(t, ra.DeviceSync(), paused)
	settled(t, rb.DeviceSync(), paused)
	must(t, rb.DeviceSync(), resumeBody)
	settled(t, ra.DeviceSync(), devicesync.Place{State: devicesync.Enabled, Phase: devicesync.Steady})
}

// What a session pushes is refused from the commit of another epoch on, whether or not its node has heard of it.
func TestFleetPushesOfAnOlderEpochAreRefused(t *testing.T) {
	f := newFleet(t)
	a, b := f.node("a"), f.node("b")
	ra := create(t, a.Gateway, "db", `{}`)
	rb := b.on(t, "db")
	s := join(t, rb)
	defer s.Leave()
	db, _, release, err := rb.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	h := s.Admit(db.Admin(0))
	push := func(id string) error {
		_, err := h.Put(context.Background(), &database.Write{ID: id, NewEdits: true})
		return err
	}
	if err := push("before"); err != nil {
		t.Fatal(err)
	}
	if err := ra.DeviceSync().ResetAll(t.Context(), "test", "test"); err != nil {
		t.Fatal(err)
	}
	if err := push("after"); !errors.Is(err, database.ErrNotAdmitted) {
		t.Errorf("pushed in an older epoch: %v", err)
	}
	await(t, s.Context().Done(), "end of the session")
	if !errors.Is(context.Cause(s.Context()), errEpochChanged) {
		t.Errorf("ended with %v", context.Cause(s.Context()))
	}
}

// A termination outlives the node that began it: another takes it over when the lease has ended, and the sessions of the dead one do not count.
func TestFleetTerminationOutlivesItsNode(t *testing.T) {
	f := newFleet(t)
	a, b := f.node("a"), f.node("b")
	ra := create(t, a.Gateway, "db", `{}`)
	rb := b.on(t, "db")
	checkpoint(t, ra, "phone")
	s := join(t, ra) // which does not end, so that the termination stands still
	must(t, ra.DeviceSync(), terminateBody)
	await(t, s.Context().Done(), "end of the session")
	settled(t, rb.DeviceSync(), devicesync.Place{State: devicesync.Terminated, Phase: devicesync.Terminating})
	a.link.set(true)
	settled(t, rb.DeviceSync(), terminated)
	if st, err := rb.DeviceSync().Status(t.Context()); err != nil || st.Sessions != 0 || st.Clients != 0 || st.Epoch.No != 1 {
		t.Errorf("%+v, %v", st, err)
	}
	must(t, rb.DeviceSync(), enableBody)
	checkpoint(t, rb, "tablet")
	a.link.set(false)
	s.Leave()
	eventually(t, "news of it at the node that was away", func() bool {
		row := ra.DeviceSync().Live().Row()
		return row.Record.State == devicesync.Enabled && row.Record.Epoch.No == 1
	})
	if clients, err := ra.DeviceSync().Clients(t.Context(), database.ClientFilter{}); err != nil || len(clients) != 1 {
		t.Errorf("%d clients, %v: the node that was away has gone on with the termination", len(clients), err)
	}
}

// What a session of another node still needs holds back a trim here, until that node is dead; and one node at a time does what is due.
func TestFleetTrimsMindAllNodes(t *testing.T) {
	f := newFleet(t)
	a, b := f.node("a"), f.node("b")
	ra := create(t, a.Gateway, "db", `{}`)
	rb := b.on(t, "db")
	s := join(t, rb)
	s.Needs(7)
	need := func(want tidegate.Seq) func() bool {
		return func() bool {
			got, err := ra.DeviceSync().lowestNeed(t.Context())
			return err == nil && got == want
		}
	}
	eventually(t, "need of the other node's session", need(7))
	err := ra.DeviceSync().lead(t.Context(), func(ctx context.Context) error {
		return rb.DeviceSync().tryLead(ctx, func(context.Context) error {
			t.Error("two nodes do at once what is due")
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
	if err := rb.DeviceSync().Trim(t.Context()); err != nil {
		t.Error(err)
	}
	b.link.set(true)
	eventually(t, "end of what a dead node needs", need(0))
	s.Leave()
}
