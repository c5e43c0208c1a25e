package config

import (
	"fmt"
	"math"
	"net/url"
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
