// Package goblip tests our BLIP against couchbase/go-blip, the one that Sync Gateway uses, over real WebSockets. It
// is a module of its own: nothing that is shipped depends on go-blip.
package goblip
