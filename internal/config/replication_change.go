package config

import (
	"iter"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/tidegate/tidegate"
)

// ReplicationMask is what takes a password's place in definitions and statuses of replications.
const ReplicationMask = "****"

// Defaults of definitions (inter-gateway.md §2).
const (
	defaultBackoffMinutes = 5
	defaultBatchSize      = 200
)

// sortedMap yields a map in the order of its keys.
func sortedMap[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// A ReplicationPatch is the body of a request that makes or changes a definition.
type ReplicationPatch struct {
	ID     string // replication_id of the body; "" if it has none
	Cancel bool   // cancel: true

	members *node
}

// ParseReplicationPatch reads a body. id is the one of the URL, "" if that has none: the member that GET adds under that
// name is left out, so that what was read can be written back. A member that is null counts as not given.
//
// The error is an *Error: of the form, a name that does not exist, or a value of another type.
func ParseReplicationPatch(body []byte, id string) (*ReplicationPatch, error) {
	n, err := parse(body, nil)
	if err != nil {
		return nil, err
	}
	d := &decoder{}
	if !d.want(n, kindObject, "") {
		return nil, d.err()
	}
	if m := n.get("replication_id"); m != nil && id == "" && m.value.kind == kindString {
		id = m.value.text
	}
	n.members = slices.DeleteFunc(n.members, func(m member) bool {
		return m.value.kind == kindNull || id != "" && m.name == id && m.value.kind == kindObject && !IsReplicationField(id)
	})
	var given Replication
	given.decodeMembers(d, n, "")
	if err := d.err(); err != nil {
		return nil, err
	}
	return &ReplicationPatch{ID: given.ID, Cancel: value(given.Cancel), members: n}, nil
}

// Apply returns the definition that the body makes of old, which is not changed; of a new one if old is nil. id is the
// definition's. Members that the body does not have stay, or take their defaults. Masked passwords stand for the stored ones.
//
// The error is an *Error that names a mask which stands for nothing. Validate checks the rest.
func (p *ReplicationPatch) Apply(old *Replication, id string) (*Replication, error) {
	next := &Replication{}
	if old != nil {
		next = old.Clone()
	}
	cancel := next.Cancel // what was stored with it stays (inter-gateway.md §3)
	next.decodeMembers(&decoder{merge: true}, p.members, "")
	next.ID, next.Cancel = id, cancel
	if err := next.keepSecrets(old); err != nil {
		return nil, err
	}
	next.FillDefaults()
	return next, nil
}

// Clone returns a deep copy.
func (r *Replication) Clone() *Replication {
	c := *r
	deepCopy(reflect.ValueOf(&c).Elem())
	return &c
}

// FillDefaults sets what is stored with its default.
func (r *Replication) FillDefaults() {
	r.InitialState = orString(r.InitialState, "running")
	r.ConflictResolutionType = orString(r.ConflictResolutionType, "default")
	fill(&r.MaxBackoffTime, defaultBackoffMinutes)
	fill(&r.BatchSize, defaultBatchSize)
}

// keepSecrets puts old's passwords in place of masked ones: they stay as long as they go to the same host as the same user.
func (r *Replication) keepSecrets(old *Replication) error {
	if old == nil {
		old = &Replication{}
	}
	var ps problems
	if strings.Contains(r.Remote.Reveal(), "@") {
		v := reflect.ValueOf(&r.Remote).Elem()
		keepPassword(&ps, v, r.Remote, reflect.ValueOf(old.Remote), "remote")
	}
	for _, s := range []struct {
		field         string
		secret        *Secret
		before, after string // the user it is for
		stored        Secret
	}{
		{"remote_password", &r.RemotePassword, old.RemoteUsername, r.RemoteUsername, old.RemotePassword},
		{"password", &r.Password, old.Username, r.Username, old.Password},
	} {
		if !IsMask(s.secret.Reveal()) {
			continue
		}
		if s.stored.IsZero() || hostOf(old.Remote) != hostOf(r.Remote) || s.before != s.after {
			ps.add(pos{}, s.field, "a masked secret means the stored one, and none is stored for this host and user")
			continue
		}
		*s.secret = s.stored
	}
	return ps.err()
}

// hostOf is the host and port of a URL; "" if it does not parse.
func hostOf(r RemoteURL) string {
	u, err := url.Parse(r.Reveal())
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// Endpoint returns where a replication that was validated goes: the http(s) URL of the remote database without user
// information, and the credentials; "" is the guest. Unavailable: the password was encrypted with a key that is not there;
// the URL is returned all the same.
func (r *Replication) Endpoint() (remote *url.URL, username, password string, err error) {
	u, err := url.Parse(r.Remote.Reveal())
	if err != nil {
		return nil, "", "", tidegate.Errorf(tidegate.Invalid, "Replication remote URL is invalid")
	}
	username, password = r.RemoteUsername, r.RemotePassword.Reveal()
	if u.User != nil {
		username = u.User.Username()
		password, _ = u.User.Password()
	}
	u.User = nil
	switch strings.ToLower(u.Scheme) {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	if id, locked := r.lockedBy(); locked {
		err = tidegate.Errorf(tidegate.Unavailable,
			"The stored credentials cannot be decrypted: they were encrypted with the key %s, which is not among the configured ones", id)
	}
	return u, username, password, err
}

// lockedBy is the id of the key that is missing to read the credentials.
func (r *Replication) lockedBy() (id string, locked bool) {
	if r.RemotePassword.Locked() {
		return sealingKeyOf(*r.RemotePassword.text), true
	}
	return r.Remote.sealedWith(), r.Remote.Locked()
}

// Channels are those of the filter; nil if there is none, or if each collection has its own.
func (r *Replication) Channels() []string {
	if r.Filter == "" || r.QueryParams == nil {
		return nil
	}
	return r.QueryParams.Channels
}

// CollectionsChannels are the channels of the filter by local collection; nil if there are none.
func (r *Replication) CollectionsChannels() map[string][]string {
	if r.Filter == "" || r.QueryParams == nil {
		return nil
	}
	return r.QueryParams.CollectionsChannels
}

// Push reports whether local changes go to the remote.
func (r *Replication) Push() bool { return r.Direction == "push" || r.Direction == "pushAndPull" }

// Pull reports whether the remote's changes come here.
func (r *Replication) Pull() bool { return r.Direction == "pull" || r.Direction == "pushAndPull" }

// IsContinuous reports whether the replication goes on when it has caught up.
func (r *Replication) IsContinuous() bool { return value(r.Continuous) }

// IsAdhoc reports whether the replication is deleted when it stops.
func (r *Replication) IsAdhoc() bool { return value(r.Adhoc) }

// Seal returns the definition as compact JSON for storage, its secrets encrypted unless k is nil.
func (r *Replication) Seal(k *Keyring) []byte { return encode(r, sealing(k)) }

// DecodeReplication reads what Seal wrote. Secrets that no key of k decrypts come Locked, which is no error.
func DecodeReplication(src []byte, k *Keyring) (*Replication, error) {
	r := &Replication{}
	return r, decodeStored(src, k, r)
}

// Masked returns the definition as compact JSON with passwords masked as replications mask them. Optional members that
// are false, 0 or empty are left out.
func (r *Replication) Masked() []byte {
	c := r.withoutFalse()
	for _, n := range []**int{&c.MaxBackoffTime, &c.BatchSize} {
		if value(*n) == 0 {
			*n = nil
		}
	}
	fill(&c.Continuous, false)
	return encode(c, json.WithMarshalers(json.JoinMarshalers(
		json.MarshalFunc(func(s Secret) ([]byte, error) { return appendString(nil, s.masked(ReplicationMask)), nil }),
		json.MarshalFunc(func(r RemoteURL) ([]byte, error) { return appendString(nil, r.Masked(ReplicationMask)), nil }),
	)))
}

// withoutFalse returns a copy in which optional members that are false are not given.
func (r *Replication) withoutFalse() *Replication {
	c := r.Clone()
	for _, b := range []**bool{&c.Continuous, &c.Adhoc, &c.PurgeOnRemoval, &c.EnableDeltaSync, &c.CollectionsEnabled} {
		if !value(*b) {
			*b = nil
		}
	}
	return c
}

// Same reports whether two definitions ask for the same.
func (r *Replication) Same(other *Replication) bool {
	a, b := r.withoutFalse(), other.withoutFalse()
	for _, c := range []*Replication{a, b} {
		c.FillDefaults()
		c.Cancel = nil
	}
	return string(a.Seal(nil)) == string(b.Seal(nil))
}

// IsReplicationField reports whether definitions have a field of this name.
func IsReplicationField(name string) bool {
	return slices.Contains(keyNames(structFields(reflect.TypeFor[Replication]())), name)
}
