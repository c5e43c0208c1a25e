package devicesync

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// This file is step 2 of the PATCH algorithm (device-sync.md §4.3): members replace members at the first level of the object, null
// is the default, what is absent stays. Each member is checked by itself here; validate.go has what they say of each other.

// Bounds of numbers in a config.
const (
	maxDays  = 36_500
	maxHours = maxDays * 24
)

// merge returns the config that a part makes of c.
func (c Config) merge(part *Part) (Config, error) {
	if part == nil {
		return c, nil
	}
	def := DefaultConfig()
	m := merger{members: part.Members}
	m.text("database_name", &c.DatabaseName, "")
	m.object("permissions", &c.Permissions)
	m.days("client_max_offline_days", &c.ClientMaxOfflineDays)
	m.flag("is_recovery_mode_disabled", &c.IsRecoveryModeDisabled)
	m.names("queryable_fields_names", &c.QueryableFields)
	m.names("indexed_queryable_fields_names", &c.IndexedQueryableFields)
	m.namesByCollection("collection_queryable_fields_names", &c.CollectionQueryableFields)
	m.texts("asymmetric_tables", &c.AsymmetricTables)
	m.flag("development_mode_enabled", &c.DevelopmentMode)
	m.number("change_history_hours", &c.ChangeHistoryHours, def.ChangeHistoryHours, 0, maxHours)
	m.number("auto_pause_days", &c.AutoPauseDays, def.AutoPauseDays, 0, maxDays)
	m.choice("terminated_clients", &c.TerminatedClients, ClientsWait, ClientsStop)
	m.choice("reset_deleted_edits", &c.ResetDeletedEdits, DeleteWins, EditWins)
	m.days("ledger_retention_days", &c.LedgerRetentionDays)
	m.number("quarantine_days", &c.QuarantineDays, def.QuarantineDays, 1, maxDays)
	m.flag("pause_peers", &c.PausePeers)
	m.partition("partition", &c.Partition)
	return c, m.err
}

// merge returns what a patch makes of the members of a service.
func (s Service) merge(members map[string]json.RawMessage) (Service, error) {
	m := merger{members: members}
	m.clusterName("clusterName", &s.ClusterName)
	m.choice("readPreference", &s.ReadPreference, "primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest")
	m.array("readPreferenceTagSets", &s.ReadPreferenceTagSets)
	m.flag("wireProtocolEnabled", &s.WireProtocolEnabled)
	return s, m.err
}

// merger takes members one by one and keeps the first error.
type merger struct {
	members map[string]json.RawMessage
	err     error
}

// take returns a member if it is there and nothing was wrong so far. null: it stands for the default.
func (m *merger) take(name string) (raw json.RawMessage, null, ok bool) {
	raw, ok = m.members[name]
	return raw, isNull(raw), ok && m.err == nil
}

func (m *merger) fail(name, what string) { m.err = invalid(name, "%s", what) }

// decode reads a member into v, which is of the right type.
func (m *merger) decode(name string, raw json.RawMessage, v any, what string) bool {
	if err := json.Unmarshal(raw, v); err != nil {
		m.fail(name, "must be "+what)
		return false
	}
	return true
}

func (m *merger) text(name string, to *string, def string) {
	raw, null, ok := m.take(name)
	switch {
	case !ok:
	case null:
		*to = def
	default:
		var v string
		if m.decode(name, raw, &v, "a string") {
			*to = v
		}
	}
}

func (m *merger) flag(name string, to *bool) {
	raw, null, ok := m.take(name)
	switch {
	case !ok:
	case null:
		*to = false
	default:
		var v bool
		if m.decode(name, raw, &v, "true or false") {
			*to = v
		}
	}
}

// choice takes one of a few words, the first of which is the default.
func (m *merger) choice(name string, to *string, words ...string) {
	v := *to
	m.text(name, &v, words[0])
	if _, _, ok := m.take(name); ok && !slices.Contains(words, v) {
		m.fail(name, "must be one of "+quoted(words))
		return
	}
	*to = v
}

func quoted(words []string) string {
	var b bytes.Buffer
	for i, w := range words {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(w))
	}
	return b.String()
}

// integer reads a whole number that is written as one.
func (m *merger) integer(name string, raw json.RawMessage, low, high int) (int, bool) {
	v, err := strconv.Atoi(string(raw))
	if err != nil || v < low || v > high {
		m.fail(name, "must be a whole number from "+strconv.Itoa(low)+" to "+strconv.Itoa(high))
		return 0, false
	}
	return v, true
}

func (m *merger) number(name string, to *int, def, low, high int) {
	raw, null, ok := m.take(name)
	switch {
	case !ok:
	case null:
		*to = def
	default:
		if v, ok := m.integer(name, raw, low, high); ok {
			*to = v
		}
	}
}

// days takes a number of days, where null is without end.
func (m *merger) days(name string, to **int) {
	raw, null, ok := m.take(name)
	switch {
	case !ok:
	case null:
		*to = nil
	default:
		if v, ok := m.integer(name, raw, 1, maxDays); ok {
			*to = &v
		}
	}
}

func (m *merger) object(name string, to *json.RawMessage) { m.raw(name, to, '{', "an object") }

func (m *merger) array(name string, to *json.RawMessage) { m.raw(name, to, '[', "an array") }

// raw takes a member as it is, if it begins as it must.
func (m *merger) raw(name string, to *json.RawMessage, first byte, what string) {
	raw, null, ok := m.take(name)
	switch {
	case !ok:
	case null:
		*to = nil
	case raw[0] != first:
		m.fail(name, "must be "+what)
	default:
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			m.fail(name, "must be "+what)
			return
		}
		*to = b.Bytes()
	}
}

func (m *merger) texts(name string, to *[]string) {
	raw, null, ok := m.take(name)
	switch {
	case !ok:
	case null:
		*to = nil
	default:
		var v []*string
		if !m.decode(name, raw, &v, "an array of strings") {
			return
		}
		list, ok := plain(v)
		if !ok {
			m.fail(name, "must be an array of strings, none of them empty")
			return
		}
		*to = list
	}
}

// plain returns strings of which none is null or empty; nil for no strings.
func plain(v []*string) ([]string, bool) {
	var list []string
	for _, s := range v {
		if s == nil || *s == "" {
			return nil, false
		}
		list = append(list, *s)
	}
	return list, true
}

// names takes a list of field names.
func (m *merger) names(name string, to *[]string) {
	list := *to
	m.texts(name, &list)
	if _, _, ok := m.take(name); !ok {
		return
	}
	if err := checkNames(name, list); err != nil {
		m.err = err
		return
	}
	*to = list
}

func (m *merger) namesByCollection(name string, to *map[string][]string) {
	raw, null, ok := m.take(name)
	switch {
	case !ok:
		return
	case null:
		*to = nil
		return
	}
	var v map[string][]*string
	if !m.decode(name, raw, &v, "an object of arrays of strings") {
		return
	}
	var all map[string][]string
	for coll, fields := range v {
		list, ok := plain(fields)
		if !ok || coll == "" {
			m.fail(name, "must be an object of arrays of strings, none of them empty")
			return
		}
		if err := checkNames(name, list); err != nil {
			m.err = err
			return
		}
		if all == nil {
			all = map[string][]string{}
		}
		all[coll] = list
	}
	*to = all
}

// partition takes the partition of the older mode.
func (m *merger) partition(name string, to **PartitionConfig) {
	raw, null, ok := m.take(name)
	switch {
	case !ok:
		return
	case null:
		*to = nil
		return
	}
	var v PartitionConfig
	if !m.decode(name, raw, &v, "an object with key, type, required and permissions") {
		return
	}
	switch {
	case v.Key == "":
		m.fail(name, "key must name a field")
	case !slices.Contains(partitionTypes, v.Type):
		m.fail(name, "type must be one of "+quoted(partitionTypes))
	case len(v.Permissions) > 0 && v.Permissions[0] != '{' && !isNull(v.Permissions):
		m.fail(name, "permissions must be an object")
	default:
		*to = &v
	}
}

// partitionTypes are the types that a partition key may have.
var partitionTypes = []string{"string", "int", "long", "objectId", "uuid"}

// maxClusterName bounds the name of a cluster, in characters.
const maxClusterName = 64

func (m *merger) clusterName(name string, to *string) {
	v := *to
	m.text(name, &v, "")
	if _, _, ok := m.take(name); !ok {
		return
	}
	if len(v) > maxClusterName || slices.ContainsFunc([]byte(v), func(b byte) bool { return !isNameByte(b) }) {
		m.fail(name, "must be at most "+strconv.Itoa(maxClusterName)+" ASCII letters, digits, '_' and '-'")
		return
	}
	*to = v
}

func isNameByte(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '_' || b == '-'
}
