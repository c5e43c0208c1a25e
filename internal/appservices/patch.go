package appservices

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// snapshot is what an app and its sync configuration are, or are to be: what drafts hold and deployments put in force.
type snapshot struct {
	App      *app               `json:"app"`
	State    devicesync.State   `json:"state"`
	Config   devicesync.Config  `json:"config"`
	Settings devicesync.Service `json:"settings"` // of the synced service
}

// snapshotOf is an app as it is now, with the row of its database.
func snapshotOf(a *app, row *devicesync.Row) snapshot {
	n := snapshot{a.clone(), row.Record.State, row.Config, row.Service}
	if n.State == devicesync.Terminated {
		n.Config = devicesync.Config{} // what is still there of it goes with the termination
	}
	return n
}

// developing reports whether Development Mode is on.
func (n *snapshot) developing() bool {
	if n.State == devicesync.Terminated {
		return n.App.DevelopmentMode
	}
	return n.Config.DevelopmentMode
}

// same reports whether two values are the same in JSON.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// sameSync reports whether two snapshots have the same sync configuration.
func sameSync(a, b *snapshot) bool {
	return a.State == b.State && same(a.members(), b.members()) && same(a.Settings, b.Settings)
}

// members are the members of the sync configuration, by their names on the wire, without state and those that are read only.
func (n *snapshot) members() map[string]json.RawMessage {
	if n.State == devicesync.Terminated {
		return map[string]json.RawMessage{}
	}
	return membersOf(n.Config, "mode", "automatic")
}

// membersOf returns a struct as a map of its members, without some.
func membersOf(v any, without ...string) map[string]json.RawMessage {
	m := map[string]json.RawMessage{}
	b, err := json.Marshal(v)
	if err == nil {
		_ = json.Unmarshal(b, &m) // it is an object: it was a struct
	}
	for _, name := range without {
		delete(m, name)
	}
	return m
}

// patchTo returns the change of the sync configuration that makes next of live; changed is false if there is none. A termination
// says nothing but that: the configuration is erased.
func patchTo(live, next *snapshot) (p devicesync.Patch, changed bool) {
	if next.State != live.State {
		p.State, changed = &next.State, true
	}
	if p.Service = differing(membersOf(live.Settings), membersOf(next.Settings)); len(p.Service) > 0 {
		changed = true
	}
	if next.State == devicesync.Terminated {
		return p, changed
	}
	members := differing(live.members(), next.members())
	if len(members) == 0 && p.State == nil {
		return p, changed
	}
	part := &devicesync.Part{State: p.State, Members: members}
	p.State = nil
	if next.Config.Mode == devicesync.Partition {
		p.Partition = part
	} else {
		p.Flexible = part
	}
	return p, true
}

// differing returns the members of next that are not the same in old; those that next has no more are null.
func differing(old, next map[string]json.RawMessage) map[string]json.RawMessage {
	d := map[string]json.RawMessage{}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		if !bytes.Equal(old[name], next[name]) {
			d[name] = next[name]
		}
	}
	for name := range old {
		if _, there := next[name]; !there {
			d[name] = json.RawMessage("null")
		}
	}
	return d
}
