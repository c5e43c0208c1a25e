package devicesync

import (
	"encoding/json"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// Patch is a change of a service config, as the members that it names (device-sync.md §4.3).
type Patch struct {
	// State is a state asked for whatever mode is configured; nil: none, or one in Flexible or Partition.
	State *State
	// Flexible is the flexible_sync object, or a sync object without a partition; Partition a sync object with one. nil: not given.
	Flexible, Partition *Part
	// Service are the other members that can be changed.
	Service map[string]json.RawMessage
}

// Part is the configuration of a mode. A member that is absent is unchanged, null is the default.
type Part struct {
	State   *State // nil: unchanged
	Members map[string]json.RawMessage
}

// StatePatch is a Patch of the state alone, in whatever mode is configured.
func StatePatch(s State) Patch { return Patch{State: &s} }

// serviceMembers are the members of a service config that are stored; those that are read-only are ignored.
var serviceMembers = []string{"clusterName", "readPreference", "readPreferenceTagSets", "wireProtocolEnabled"}

// maxPatch bounds the body of a change, in bytes (§3.3).
const maxPatch = 16 << 20

// ParsePatch reads the body of a PATCH of a service config. Refused with [CodeMalformedJSON]: it is not a JSON object. With
// [CodeInvalidParameter]: flexible_sync or sync is not one, or holds no legal state. Members that it does not know are ignored.
func ParsePatch(body []byte) (Patch, error) {
	members, err := parseObject(body)
	if err != nil {
		return Patch{}, err
	}
	var p Patch
	if raw, ok := members["flexible_sync"]; ok && !isNull(raw) {
		if p.Flexible, err = parsePart("flexible_sync", raw); err != nil {
			return Patch{}, err
		}
	}
	if raw, ok := members["sync"]; ok && !isNull(raw) {
		part, err := parsePart("sync", raw)
		if err != nil {
			return Patch{}, err
		}
		switch {
		case !isNull(part.Members["partition"]):
			p.Partition = part
		case p.Flexible == nil:
			p.Flexible = part
		}
	}
	for _, name := range serviceMembers {
		if raw, ok := members[name]; ok {
			if p.Service == nil {
				p.Service = map[string]json.RawMessage{}
			}
			p.Service[name] = raw
		}
	}
	return p, nil
}

// ParseConfig reads a flexible_sync object by itself, as sync/config.json and the gateway's own API have it. Errors are those of
// ParsePatch.
func ParseConfig(body []byte) (Patch, error) {
	if _, err := parseObject(body); err != nil {
		return Patch{}, err
	}
	part, err := parsePart("config", body)
	if err != nil {
		return Patch{}, err
	}
	if !isNull(part.Members["partition"]) {
		return Patch{Partition: part}, nil
	}
	return Patch{Flexible: part}, nil
}

// parseObject reads the members of a JSON object.
func parseObject(body []byte) (map[string]json.RawMessage, error) {
	if err := jsondoc.Check(body, jsondoc.Limits{Bytes: maxPatch}); err != nil {
		if tidegate.ErrorCode(err) == tidegate.TooLarge {
			return nil, err
		}
		return nil, refuse(tidegate.Invalid, CodeMalformedJSON, "%s", tidegate.ErrorReason(err))
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return nil, refuse(tidegate.Invalid, CodeMalformedJSON, "the body must be a JSON object")
	}
	return members, nil
}

// parsePart reads the object of a mode.
func parsePart(name string, raw json.RawMessage) (*Part, error) {
	part := &Part{}
	if err := json.Unmarshal(raw, &part.Members); err != nil || part.Members == nil {
		return nil, invalid(name, "must be an object")
	}
	state, given := part.Members["state"]
	if !given {
		return part, nil
	}
	delete(part.Members, "state")
	var text *string
	if err := json.Unmarshal(state, &text); err != nil || text == nil || !State(*text).Valid() {
		return nil, invalid("state", `must be "enabled", "disabled" or ""`)
	}
	part.State = new(State(*text))
	return part, nil
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// invalid says what is wrong with a member.
func invalid(name, format string, args ...any) error {
	return refuse(tidegate.Invalid, CodeInvalidParameter, name+": "+format, args...)
}
