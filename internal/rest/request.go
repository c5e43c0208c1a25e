package rest

import (
	"context"
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/store"
)

// A request is an HTTP request together with what the steps of serve.go found out about it. Fields are set
// in the order below; a field that a step has not reached yet, or that the route does not have, is zero.
type request struct {
	*http.Request
	q query // the query parameters

	listener listener
	resource *resource // the pattern that matched
	route    *route    // the row of the table
	vars     pathVars

	// For routes under {db} or {ks}:
	keyspace keyspace
	running  *gateway.Running // the database; nil if there is none of that name
	db       *database.Database

	// Who asks. user is nil when admin is true, and on routes that need nobody.
	user    *access.User
	admin   bool
	session string // id of the session that user was found by; "" if it was not by one

	// For routes under {ks}:
	coll     store.Collection
	handle   *database.Handle
	admitted uint64 // the number of the epoch in which device sync let the request in, with syncs; else 0
	syncs    bool   // device sync let the request in

	ctx     context.Context // ends with the connection, and when the database cannot wait any longer
	leaving context.Context // also ends when the database leaves Online: for feeds
	release func()          // gives the database back; nil if nothing is held
	answer  *response
}

// Context ends when the client is gone. It replaces that of http.Request.
func (r *request) Context() context.Context { return r.ctx }

// pathVar returns a variable of the pattern, percent-decoded once; "" if the pattern has none of that name.
func (r *request) pathVar(name string) (string, error) {
	for i, n := range r.resource.vars {
		if n == name {
			return decodePath(r.vars.values[i])
		}
	}
	return "", nil
}

// docID returns the {docid} of the path.
func (r *request) docID() (string, error) {
	if r.route.pattern == "/{ks}/"+aliasDoc {
		return aliasDoc, nil
	}
	id, err := r.pathVar("docid")
	if err != nil {
		return "", err
	}
	return id, tidegate.ValidDocID(id)
}

// isGuest reports whether nobody is logged in.
func (r *request) isGuest() bool { return !r.admin && (r.user == nil || r.user.IsGuest()) }

// userName is the name of who asks: "" for the guest and for admin.
func (r *request) userName() string {
	if r.admin || r.user == nil {
		return ""
	}
	return r.user.PrincipalName()
}
