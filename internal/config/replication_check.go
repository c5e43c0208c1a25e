package config

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
)

// Where a definition comes from makes a difference to what it may say.
type replicationSource uint8

const (
	fromConfig replicationSource = iota
	fromAPI
)

// Validate checks a definition that the API is about to store. known reports whether the database has the collection
// "scope.collection". Invalid: with the words of inter-gateway.md §2, the first problem in its order.
func (r *Replication) Validate(known func(collection string) bool) error {
	v := replicationCheck{source: fromAPI, known: known}
	r.check(&v)
	if len(v.found) == 0 {
		return nil
	}
	first := v.found[0]
	if first.exact {
		return tidegate.Errorf(tidegate.Invalid, "%s", first.text)
	}
	return tidegate.Errorf(tidegate.Invalid, "%s: %s", first.field, first.text)
}

// checkReplications checks the definitions of a config.
func (d *Database) checkReplications(c *check) {
	for id, r := range sortedMap(d.Replications) {
		v := replicationCheck{source: fromConfig, known: d.HasCollection}
		r.check(&v)
		for _, p := range v.found {
			c.fail(join(join("replications", id), p.field), "%s", p.text)
		}
	}
}

// HasCollection reports whether the collection "scope.collection" is configured.
func (d *Database) HasCollection(name string) bool {
	scope, coll, _ := strings.Cut(name, ".")
	if scope == DefaultName && coll == DefaultName {
		return d.HasDefaultCollection()
	}
	_, ok := d.Scopes[scope].Collections[coll]
	return ok
}

// replicationCheck collects what is wrong with a definition, in the order of inter-gateway.md §2.
type replicationCheck struct {
	source replicationSource
	known  func(collection string) bool
	found  []replicationProblem
}

type replicationProblem struct {
	field, text string
	exact       bool // the text says it all, in words that scripts know
}

// fail notes a problem whose words are given.
func (v *replicationCheck) fail(field, format string, args ...any) {
	v.found = append(v.found, replicationProblem{field, fmt.Sprintf(format, args...), true})
}

// between checks a number that is given.
func (v *replicationCheck) between(field string, n *int, low, high int) {
	c := &check{}
	between(c, field, n, low, high)
	for _, p := range c.problems {
		v.found = append(v.found, replicationProblem{field, p.Message, false})
	}
}

// maxReplicationIDBytes bounds a replication's id (inter-gateway.md §2).
const maxReplicationIDBytes = 160

// byChannel is the one filter there is.
const byChannel = "sync_gateway/bychannel"

func (r *Replication) check(v *replicationCheck) {
	if len(r.ID) > maxReplicationIDBytes {
		v.fail("", "Replication ID must be less than 160 characters")
	}
	if value(r.Adhoc) && v.source == fromConfig {
		v.fail("adhoc", "adhoc=true is invalid for replication in Sync Gateway configuration")
	}
	if value(r.Adhoc) && r.InitialState == "stopped" {
		v.fail("adhoc", "adhoc=true is not valid with initial_state=stopped: an ad hoc replication is gone once it is stopped")
	}
	if r.InitialState != "" && r.InitialState != "running" && r.InitialState != "stopped" {
		v.fail("initial_state", "Invalid initial_state %q, valid values are running/stopped", shorten(r.InitialState))
	}
	if r.Remote.IsZero() {
		v.fail("remote", "Replication remote must be specified")
	}
	r.checkResolver(v)
	r.checkRemote(v)
	switch r.Direction {
	case "push", "pull", "pushAndPull":
	case "":
		v.fail("direction", "Replication direction must be specified")
	default:
		v.fail("direction", "Invalid replication direction %q, valid values are push/pull/pushAndPull", shorten(r.Direction))
	}
	r.checkFilter(v)
	v.between("max_backoff_time", r.MaxBackoffTime, 0, math.MaxInt32)
	v.between("batch_size", r.BatchSize, 1, 100000)
	r.checkCollections(v)
}

func (r *Replication) checkResolver(v *replicationCheck) {
	types := []string{"", "default", "localWins", "remoteWins", "custom"}
	if !slices.Contains(types, r.ConflictResolutionType) {
		v.fail("conflict_resolution_type", "Conflict resolution type is invalid, valid values are localWins/remoteWins/default/custom")
	}
	switch source := r.CustomConflictResolver; {
	case r.ConflictResolutionType != "custom":
	case strings.TrimSpace(string(source)) == "":
		v.fail("custom_conflict_resolver", "Conflict resolution type is custom, but no resolver function is defined in custom_conflict_resolver")
	case v.source == fromAPI && !source.IsSource() && !source.IsURL():
		v.fail("custom_conflict_resolver", "custom_conflict_resolver is neither a JavaScript function nor an http(s) URL")
	}
}

func (r *Replication) checkRemote(v *replicationCheck) {
	if r.Remote.IsZero() {
		return
	}
	u, err := url.Parse(r.Remote.Reveal())
	if err != nil || u.Host == "" || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "ws", "wss"}, strings.ToLower(u.Scheme)) {
		v.fail("remote", "Replication remote URL is invalid")
		u = &url.URL{}
	}
	if r.RemoteUsername != "" && r.Username != "" {
		v.fail("username", "username is the older spelling of remote_username, which is given too")
	}
	if !r.RemotePassword.IsZero() && !r.Password.IsZero() {
		v.fail("password", "password is the older spelling of remote_password, which is given too")
	}
	if u.User != nil && (r.RemoteUsername != "" || r.Username != "" || !r.RemotePassword.IsZero() || !r.Password.IsZero()) {
		v.fail("remote", "Auth credentials can be specified using remote_username and remote_password, or in the remote URL, but not both")
	}
}

func (r *Replication) checkFilter(v *replicationCheck) {
	q := r.QueryParams
	switch {
	case r.Filter == "":
	case r.Filter != byChannel:
		v.fail("filter", "Unknown replication filter; try sync_gateway/bychannel")
	case q == nil || q.Channels == nil && q.CollectionsChannels == nil:
		v.fail("query_params", "Replication specifies sync_gateway/bychannel filter but is missing query_params")
	case q.Channels != nil && len(q.Channels) == 0: // it would copy nothing, or be taken for no filter at all
		v.fail("query_params", badChannels)
	case q.CollectionsChannels == nil:
	case !value(r.CollectionsEnabled):
		v.fail("query_params", "collections_channels in query_params needs collections_enabled")
	case q.Channels != nil:
		v.fail("query_params", "query_params has channels and collections_channels")
	case !r.namesAllChannels():
		v.fail("query_params", "collections_channels in query_params must name each of collections_local, and no other, with its channels")
	}
}

// namesAllChannels reports whether collections_channels has channels for each of the collections, and for no other.
func (r *Replication) namesAllChannels() bool {
	for _, name := range r.CollectionsLocal {
		if len(r.QueryParams.CollectionsChannels[name]) == 0 {
			return false
		}
	}
	return len(r.QueryParams.CollectionsChannels) == len(r.CollectionsLocal)
}

func (r *Replication) checkCollections(v *replicationCheck) {
	if !value(r.CollectionsEnabled) {
		if r.CollectionsLocal != nil || r.CollectionsRemote != nil {
			v.fail("collections_enabled", "collections_local and collections_remote need collections_enabled")
		}
		return
	}
	if r.CollectionsRemote != nil && len(r.CollectionsRemote) != len(r.CollectionsLocal) {
		v.fail("collections_remote", "collections_remote must be as long as collections_local")
	}
	for _, l := range []struct {
		field string
		list  []string
	}{{"collections_local", r.CollectionsLocal}, {"collections_remote", r.CollectionsRemote}} {
		seen := map[string]bool{}
		for _, name := range l.list {
			scope, coll, ok := strings.Cut(name, ".")
			switch {
			case !ok || scope == "" || coll == "" || strings.Contains(coll, "."):
				v.fail(l.field, "%s: %q is not of the form scope.collection", l.field, shorten(name))
			case seen[name]:
				v.fail(l.field, "%s names a collection twice: %q", l.field, shorten(name))
			case l.field == "collections_local" && !v.known(name):
				v.fail(l.field, "collections_local: the database has no collection %q", shorten(name))
			}
			seen[name] = true
		}
	}
}
