package devicesync

import (
	"encoding/json"
)

// Patch is a change of a service config, as the members that it names.
type Patch struct {
	// State is the state asked for; nil: unchanged.
	State *State
	// Flexible are the members of flexible_sync (or of a sync object without a partition), Sync those of a sync object with
	// one, Service the others that can be changed. A member that is absent is unchanged, null is the default.
	Flexible, Sync, Service map[string]json.RawMessage
}

// StatePatch is a Patch of the state alone.
func StatePatch(s State) Patch { return Patch{State: &s} }
