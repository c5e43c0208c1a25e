package chaos

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
)

// TestMeshDeltas: of a document of 100 KiB with one field changed, little is sent between gateways that both have delta
// sync, and all of it if one has not.
func TestMeshDeltas(t *testing.T) {
	on, off := map[string]any{"delta_sync": map[string]any{"enabled": true}}, map[string]any{}
	for _, tt := range []struct {
		name        string
		here, there map[string]any
		enabled     bool
		small       bool
	}{
		{"on", on, on, true, true},
		{"not asked for", on, on, false, false},
		{"not at the other end", on, off, true, false},
	} {
		for _, direction := range []string{"push", "pull"} {
			t.Run(tt.name+" "+direction, func(t *testing.T) {
				t.Parallel()
				here, there := startGateway(t, "here"), startGateway(t, "there")
				here.database(tt.here)
				there.database(tt.there)
				source := here
				if direction == "pull" {
					source = there
				}
				l := there.link()
				here.replicate("r", l, direction, map[string]any{"enable_delta_sync": tt.enabled})
				noise := make([]byte, 50<<10)
				for i := range noise {
					noise[i] = byte(rand.Uint32())
				}
				doc := map[string]any{"channels": "c", "n": 1, "noise": hex.EncodeToString(noise)}
				doc["_rev"] = source.put("big", doc)
				m := &mesh{t: t, gateways: []*gateway{here, there}}
				m.converge()
				before := l.bytes.Load()
				doc["n"] = 2
				source.put("big", doc)
				m.converge()
				if n := l.bytes.Load() - before; tt.small && n > 2<<10 || !tt.small && n < 50<<10 {
					t.Errorf("%d bytes on the wire", n)
				}
				st, err := here.status("r")
				if err != nil {
					t.Fatal(err)
				}
				if n := st.DeltasSent + st.DeltasRecv; n != map[bool]int{true: 1}[tt.small] {
					t.Errorf("%d deltas: %+v", n, st)
				}
			})
		}
	}
}

// TestMeshStrangers: a remote that is none, or not trusted, leaves a replication with a state and a reason that an operator
// can use, and without harm.
func TestMeshStrangers(t *testing.T) {
	g := startGateway(t, "a")
	g.database(nil)
	for _, s := range strangers(t) {
		t.Run(s.name, func(t *testing.T) {
			id := fmt.Sprintf("to-%s", s.name)
			mustCall(t, http.MethodPut, g.url("/_replication/"+id), map[string]any{
				"remote": s.url, "direction": "pull", "continuous": true, "remote_username": replUser, "remote_password": replPassword,
			})
			eventually(t, id+" says what is wrong", func() error { return g.says(id, s.states, s.reason) })
			mustCall(t, http.MethodDelete, g.url("/_replication/"+id), nil)
		})
	}
	if n, err := g.updateSeq(); err != nil || n > 2 { // the user's document
		t.Errorf("the strangers wrote something: update_seq %d, %v", n, err)
	}
}
