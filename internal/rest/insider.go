package rest

import (
	"context"
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
)

// Insider is somebody for whom a part of this process calls the admin API: the console, after a login of its own.
type Insider struct {
	Name     string
	Admin    *access.Admin // what they may do; nil: everything
	ReadOnly bool          // only GET and HEAD
}

type insiderKey struct{}

// AsInsider returns r as a request of who, for the handler of Server.Admin. Host, Origin and Authorization are not
// looked at; what who may do is.
func AsInsider(r *http.Request, who Insider) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), insiderKey{}, &who))
}

// insider returns who a request within this process is for; nil if it came from the network.
func (r *request) insider() *Insider {
	who, _ := r.Request.Context().Value(insiderKey{}).(*Insider)
	return who
}

var errReadOnlyInsider = tidegate.Errorf(tidegate.Forbidden, "this account may read, not change")

// check refuses what the insider may not do.
func (who *Insider) check(r *request) error {
	if who.ReadOnly && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errReadOnlyInsider
	}
	if who.Admin == nil {
		return nil
	}
	return r.checkRole(who.Admin)
}
