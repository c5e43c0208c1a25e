package appservices_test

import (
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/appservices"
)

// beside starts another node on the store of a rig, for whoever is logged in there.
func (r *rig) beside(node string) *rig {
	r.t.Helper()
	b := *r
	b.node = node
	b.start()
	return &b
}

// on is a fixture as another node shows it.
func (f *fixture) on(r *rig) *fixture {
	other := *f
	other.rig = r
	return &other
}

// Logins, drafts and deployments are those of the store: every node takes them, and one makes a change at a time.
func TestNodesShareAppsAndLogins(t *testing.T) {
	t.Parallel()
	a := newRigOf(t, "a", "todo")
	fa := a.automatic("todo")
	fb := fa.on(a.beside("b"))
	fb.call("GET", "/auth/profile", nil).want(200) // by a login of node a
	draft := fa.draft()
	fb.patch(map[string]any{"flexible_sync": map[string]any{"client_max_offline_days": 7}}).want(204) // goes into the draft
	if d := fb.deploy(draft); d["status"] != "successful" {
		t.Fatalf("deployed: %v", d)
	}
	fa.call("GET", fa.app+"/drafts/"+draft, nil).want(404)
	fa.patch(map[string]any{"flexible_sync": map[string]any{"change_history_hours": 12}}).want(204) // on top of what b deployed
	for _, f := range []*fixture{fa, fb} {
		deadline := time.After(10 * time.Second)
		for f.live().Config.ChangeHistoryHours != 12 {
			_, changed := f.deviceSync().Live().Watch()
			select {
			case <-changed:
			case <-deadline:
				t.Fatalf("the change is not live: %+v", f.live().Config)
			}
		}
		if days := f.live().Config.ClientMaxOfflineDays; days == nil || *days != 7 {
			t.Errorf("the change of the other node is lost: %+v", f.live().Config)
		}
	}

	var made [2]int
	var wg sync.WaitGroup
	for i, f := range []*fixture{fa, fb} {
		wg.Go(func() { made[i] = f.call("POST", f.app+"/drafts", nil).code })
	}
	wg.Wait()
	if made != [2]int{201, 409} && made != [2]int{409, 201} {
		t.Errorf("two drafts of one user: %v", made)
	}
}

// A deployment that a node left in the middle is settled by the next change on another node, without a restart.
func TestNodesSettleInterruptedDeployments(t *testing.T) {
	t.Parallel()
	a := newRigOf(t, "a", "todo")
	fa := a.automatic("todo")
	fb := fa.on(a.beside("b"))
	fa.patch(map[string]any{"flexible_sync": map[string]any{"client_max_offline_days": 3}}).want(204)
	id := fa.call("GET", fa.app+"/deployments", nil).want(200).list()[0].(map[string]any)["_id"].(string)
	if err := appservices.Interrupt(t.Context(), a.st, fa.appID, id, 3); err != nil {
		t.Fatal(err)
	}
	fb.draft()
	if d := fa.call("GET", fa.app+"/deployments/"+id, nil).want(200).json(); d["status"] != "successful" {
		t.Errorf("%v", d)
	}
}

// Who lost the right to change apps without knowing stores nothing.
func TestNodesFenceChanges(t *testing.T) {
	t.Parallel()
	a := newRigOf(t, "a", "todo")
	b := a.beside("b")
	late, release, err := a.api.Change(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := late(); err != nil {
		t.Errorf("by right: %v", err)
	}
	release()
	_, release, err = b.api.Change(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := late(); tidegate.ErrorCode(err) != tidegate.Unavailable {
		t.Errorf("after another node's change: %v", err)
	}
	release()
	// One that was held up between taking the lease and the fence does not set it back.
	if err := appservices.Fence(t.Context(), a.st, 1_000); err != nil {
		t.Fatal(err)
	}
	if _, release, err = b.api.Change(t.Context()); tidegate.ErrorCode(err) != tidegate.Unavailable {
		t.Errorf("under a lease that is older than the fence: %v", err)
	}
	if err == nil {
		release()
	}
}
