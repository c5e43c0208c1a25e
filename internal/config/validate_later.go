package config

import (
	"fmt"
	"math"
	"net/url"
	"slices"
)

// checkLater refuses settings of parts that this version does not have where ignoring them would change who
// gets in, and checks the form of the others.
func (d *Database) checkLater(c *check) {
	const missing = "is not supported in this version"
	if d.OIDC != nil {
		c.fail("oidc", missing)
	}
	if d.LocalJWT != nil {
		c.fail("local_jwt", missing)
	}
	if value(value(value(d.Unsupported).OIDCTestProvider).Enabled) {
		c.fail("unsupported.oidc_test_provider", missing)
	}
	if value(d.Logging).Audit != nil && value(d.Logging.Audit.Enabled) {
		c.fail("logging.audit.enabled", "audit logging %s", missing)
	}
	if h := d.EventHandlers; h != nil {
		between(c, "event_handlers.max_processes", h.MaxProcesses, 1, math.MaxInt32)
		checkWebhooks(c, "event_handlers.document_changed", h.DocumentChanged)
		checkWebhooks(c, "event_handlers.db_state_changed", h.DBStateChanged)
	}
}

func checkWebhooks(c *check, path string, hooks []Webhook) {
	for i, h := range hooks {
		at := fmt.Sprintf("%s[%d]", path, i)
		if h.Handler != "webhook" {
			c.fail(at+".handler", `expected "webhook"`)
		}
		if u, err := url.Parse(h.URL.Reveal()); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			c.fail(at+".url", "expected an http(s) URL")
		}
		between(c, at+".timeout", h.Timeout, 0, 3600)
	}
}

// Warnings names settings that are kept but do nothing in this version, one sentence each. They are logged
// when a database is created, changed or loaded.
func (d *Database) Warnings() []string {
	var w []string
	warn := func(given bool, text string) {
		if given {
			w = append(w, text)
		}
	}
	warn(len(d.Replications) > 0, "replications: this version keeps the definitions and does not run them")
	warn(d.EventHandlers != nil, "event_handlers: this version calls no webhooks")
	warn(d.hasImportFilter(), "import_filter: this version has no link that imports documents, so the filter is never asked")
	warn(d.UserXattrKey != "", "user_xattr_key: documents get extended attributes only by import, which this version does not have")
	warn(value(d.Suspendable), "suspendable: this version suspends no databases")
	warn(value(value(value(d.Unsupported).UserViews).Enabled), "unsupported.user_views: there are no views")
	warn(value(d.Logging).Console != nil, "logging.console: databases have no log level of their own in this version; set the one of the process")
	return w
}

func (d *Database) hasImportFilter() bool {
	found := d.ImportFilter != ""
	for _, scope := range d.Scopes {
		for _, coll := range scope.Collections {
			found = found || coll.ImportFilter != ""
		}
	}
	return found
}

// maxReplicationIDBytes bounds a replication's id (inter-gateway.md §2).
const maxReplicationIDBytes = 160

// check applies the rules of inter-gateway.md §2 in their order, with its texts.
func (r *Replication) check(c *check, path string) {
	if len(r.ID) > maxReplicationIDBytes {
		c.fail(path, "Replication ID must be less than 160 characters")
	}
	if value(r.Adhoc) {
		c.fail(path+".adhoc", "adhoc=true is invalid for replication in Sync Gateway configuration")
	}
	c.oneOf(path+".initial_state", r.InitialState, "running", "stopped")
	r.checkResolver(c, path)
	r.checkRemote(c, path)
	switch r.Direction {
	case "push", "pull", "pushAndPull":
	case "":
		c.fail(path+".direction", "Replication direction must be specified")
	default:
		c.fail(path+".direction", "Invalid replication direction %q, valid values are push/pull/pushAndPull", shorten(r.Direction))
	}
	switch {
	case r.Filter == "sync_gateway/bychannel" && (r.QueryParams == nil || r.QueryParams.Channels == nil && r.QueryParams.CollectionsChannels == nil):
		c.fail(path+".query_params", "Replication specifies sync_gateway/bychannel filter but is missing query_params")
	case r.Filter != "" && r.Filter != "sync_gateway/bychannel":
		c.fail(path+".filter", "Unknown replication filter; try sync_gateway/bychannel")
	}
	between(c, path+".max_backoff_time", r.MaxBackoffTime, 0, math.MaxInt32)
	between(c, path+".batch_size", r.BatchSize, 1, 100000)
	r.checkCollections(c, path)
}

func (r *Replication) checkResolver(c *check, path string) {
	types := []string{"", "default", "localWins", "remoteWins", "custom"}
	if !slices.Contains(types, r.ConflictResolutionType) {
		c.fail(path+".conflict_resolution_type", "Conflict resolution type is invalid, valid values are localWins/remoteWins/default/custom")
	}
	if r.ConflictResolutionType == "custom" && r.CustomConflictResolver == "" {
		c.fail(path+".custom_conflict_resolver", "the type is custom, but no resolver function is defined")
	}
}

func (r *Replication) checkRemote(c *check, path string) {
	if r.Remote.IsZero() {
		c.fail(path+".remote", "Replication remote must be specified")
		return
	}
	u, err := url.Parse(r.Remote.Reveal())
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "ws", "wss"}, u.Scheme) {
		c.fail(path+".remote", "Replication remote URL is invalid")
		return
	}
	if r.RemoteUsername != "" && r.Username != "" {
		c.fail(path+".username", "is the older spelling of remote_username, which is given too")
	}
	if u.User != nil && (r.RemoteUsername != "" || r.Username != "" || !r.RemotePassword.IsZero() || !r.Password.IsZero()) {
		c.fail(path+".remote", "Auth credentials can be specified using remote_username and remote_password or in the URL, not both")
	}
}

func (r *Replication) checkCollections(c *check, path string) {
	if !value(r.CollectionsEnabled) && (r.CollectionsLocal != nil || r.CollectionsRemote != nil) {
		c.fail(path+".collections_enabled", "collections_local and collections_remote need collections_enabled")
	}
	if r.CollectionsRemote != nil && len(r.CollectionsRemote) != len(r.CollectionsLocal) {
		c.fail(path+".collections_remote", "must be as long as collections_local")
	}
	for key, list := range map[string][]string{"collections_local": r.CollectionsLocal, "collections_remote": r.CollectionsRemote} {
		sorted := slices.Sorted(slices.Values(list))
		if len(slices.Compact(sorted)) != len(list) {
			c.fail(path+"."+key, "names a collection twice")
		}
	}
}
