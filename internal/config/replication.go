package config

import (
	"cmp"
	"strconv"

	"github.com/go-json-experiment/json"
)

// Replications are replication definitions by id. Input may also be an array of definitions with their id in
// replication_id.
type Replications map[string]*Replication

// Replication is one replication definition (inter-gateway.md §2), under its canonical names: what was given by others
// is moved to them when it is read.
type Replication struct {
	ID             string    `json:"replication_id,omitzero"`
	Remote         RemoteURL `json:"remote,omitzero"`
	RemoteUsername string    `json:"remote_username,omitzero"`
	RemotePassword Secret    `json:"remote_password,omitzero"`
	// Username and Password are the names of 2.8. They are set here only where RemoteUsername or RemotePassword was given
	// too, which Validate refuses.
	Username               string       `json:"username,omitzero" alias:"user"`
	Password               Secret       `json:"password,omitzero"`
	Direction              string       `json:"direction,omitzero"`
	Continuous             *bool        `json:"continuous,omitzero"`
	Adhoc                  *bool        `json:"adhoc,omitzero"`
	InitialState           string       `json:"initial_state,omitzero" alias:"state"`
	ConflictResolutionType string       `json:"conflict_resolution_type,omitzero"`
	CustomConflictResolver JavaScript   `json:"custom_conflict_resolver,omitzero"`
	PurgeOnRemoval         *bool        `json:"purge_on_removal,omitzero" alias:"purge-on-removal"`
	EnableDeltaSync        *bool        `json:"enable_delta_sync,omitzero"`
	MaxBackoffTime         *int         `json:"max_backoff_time,omitzero"` // minutes
	Filter                 string       `json:"filter,omitzero"`
	QueryParams            *QueryParams `json:"query_params,omitzero"`
	BatchSize              *int         `json:"batch_size,omitzero"`
	RunAs                  string       `json:"run_as,omitzero"`
	CollectionsEnabled     *bool        `json:"collections_enabled,omitzero"`
	CollectionsLocal       []string     `json:"collections_local,omitzero"`
	CollectionsRemote      []string     `json:"collections_remote,omitzero"`
	Cancel                 *bool        `json:"cancel,omitzero"`

	// Output only: input may have them, which is ignored.
	ClusterUUID  string `json:"cluster_uuid,omitzero"`
	AssignedNode string `json:"assigned_node,omitzero"`
	TargetState  string `json:"target_state,omitzero"`
	CreatedAt    string `json:"created_at,omitzero"`
	UpdatedAt    string `json:"updated_at,omitzero"`
}

// QueryParams are the channels of a filter: a plain list, a list under "channels", or lists by collection.
type QueryParams struct {
	Channels            []string
	CollectionsChannels map[string][]string
	// Plain says that Channels were given as a plain array.
	Plain bool
}

// decodeNode takes a list of channels, {"channels": list} or {"collections_channels": {collection: list}}.
func (q *QueryParams) decodeNode(d *decoder, n *node, path string) {
	*q = QueryParams{} // replaced as a whole, also in a merge
	if n.kind == kindArray {
		q.Plain = true
		d.decodeChannels(n, &q.Channels, path)
		return
	}
	if n.kind != kindObject {
		d.add(n.at, path, badChannels)
		return
	}
	for _, m := range n.members {
		at := join(path, m.name)
		switch m.name {
		case "channels":
			d.decodeChannels(m.value, &q.Channels, at)
		case "collections_channels":
			if !d.want(m.value, kindObject, at) {
				continue
			}
			q.CollectionsChannels = map[string][]string{}
			for _, c := range m.value.members {
				var list []string
				d.decodeChannels(c.value, &list, join(at, c.name))
				q.CollectionsChannels[c.name] = list
			}
		default:
			d.unknown(m.at, at, "%s", unknownKey(m.name, []string{"channels", "collections_channels"}))
		}
	}
}

// badChannels is what is said of channels that are no list of names.
const badChannels = "Bad channels array in query_params for sync_gateway/bychannel filter"

// decodeChannels reads a list of channels.
func (d *decoder) decodeChannels(n *node, into *[]string, path string) {
	bad := n.kind != kindArray
	for _, e := range n.elems {
		bad = bad || e.kind != kindString
	}
	if bad {
		d.add(n.at, path, badChannels)
		return
	}
	d.decodeStrings(n, into, path)
}

// MarshalJSON writes the form that was read.
func (q QueryParams) MarshalJSON() ([]byte, error) {
	if q.Plain {
		return json.Marshal(q.Channels)
	}
	return json.Marshal(struct {
		Channels            []string            `json:"channels,omitzero"`
		CollectionsChannels map[string][]string `json:"collections_channels,omitzero"`
	}{q.Channels, q.CollectionsChannels}, json.Deterministic(true))
}

// decodeNode takes a map of definitions, or an array of definitions that name their id.
func (r *Replications) decodeNode(d *decoder, n *node, path string) {
	if *r == nil || !d.merge {
		*r = Replications{}
	}
	given := map[string]bool{}
	if n.kind == kindArray {
		for i, elem := range n.elems {
			r.decodeOne(d, elem, given, "", path+"["+strconv.Itoa(i)+"]")
		}
		return
	}
	if n.kind != kindObject {
		d.add(n.at, path, "expected an object or an array, found %s", n.kind)
		return
	}
	for _, m := range n.members {
		r.decodeOne(d, m.value, given, m.name, join(path, m.name))
	}
}

// decodeOne reads one definition; given holds the ids of this text. id is "" where the definition names it.
func (r Replications) decodeOne(d *decoder, n *node, given map[string]bool, id, path string) {
	if n.kind == kindNull && d.merge && id != "" {
		delete(r, id)
		return
	}
	if !d.want(n, kindObject, path) {
		return
	}
	inner := ""
	if m := n.get("replication_id"); m != nil && m.value.kind == kindString {
		inner = m.value.text
	}
	switch {
	case id == "" && inner == "":
		d.add(n.at, path, "replication_id is missing")
		return
	case id != "" && inner != "" && id != inner:
		d.add(n.at, path, "replication_id %q differs from the key", shorten(inner))
		return
	}
	id = cmp.Or(id, inner)
	if given[id] {
		d.add(n.at, path, "replication_id %q is given twice", shorten(id))
		return
	}
	given[id] = true
	one := &Replication{}
	if old := r[id]; old != nil {
		one = old // only in a merge: into a copy that is ours
	}
	one.decodeMembers(d, n, path)
	one.ID = id
	r[id] = one
}

// decodeMembers reads a definition's object over what is there and moves other spellings to their places
// (inter-gateway.md §2, §15). What is output only is dropped.
func (r *Replication) decodeMembers(d *decoder, n *node, path string) {
	user, password := r.RemoteUsername, r.RemotePassword
	r.RemoteUsername, r.RemotePassword, r.Username, r.Password = "", Secret{}, "", Secret{}
	d.decodeValue(n, r, path)
	given := func(names ...string) bool {
		for _, name := range names {
			if n.get(name) != nil {
				return true
			}
		}
		return false
	}
	switch older := given("username", "user"); {
	case older && !given("remote_username"):
		r.RemoteUsername, r.Username = r.Username, ""
	case !older && !given("remote_username"):
		r.RemoteUsername = user
	}
	switch older := given("password"); {
	case older && !given("remote_password"):
		r.RemotePassword, r.Password = r.Password, Secret{}
	case !older && !given("remote_password"):
		r.RemotePassword = password
	}
	if r.Direction == "push_and_pull" {
		r.Direction = "pushAndPull"
	}
	if !d.stored {
		r.ClusterUUID, r.AssignedNode, r.TargetState, r.CreatedAt, r.UpdatedAt = "", "", "", "", ""
	}
}
