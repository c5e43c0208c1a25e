package console

import (
	"net/http"
	"strings"
)

// A route is one address of the console. A page's file has a function that returns its routes; pages lists them.
type route struct {
	pattern string // "METHOD /path" below Base, in the form of http.ServeMux
	nav     string // label of the navigation entry that is current here
	handler func(*request) error
	open    bool // reachable without a login
	quiet   bool // does not keep the session from expiring
}

// navEntry is a line of the navigation.
type navEntry struct {
	label   string
	icon    string // name of a symbol in templates/icons.html
	href    string // below Base; "{db}" stands for the database, escaped
	section navSection
	order   int // within the section
}

// navSection is a part of the navigation.
type navSection int

// The sections: what concerns the server, and what concerns the database that the page is about.
const (
	navServer navSection = iota
	navDatabase
	navSync   // of the database: its device sync
	navManage // of the database: what an app is made of
)

// page is what a page's file contributes.
type page struct {
	routes []route
	nav    []navEntry
	topics []topic
}

// pages lists everything that the console has.
func (c *Console) pages() []page {
	return []page{
		c.loginPages(),
		c.overviewPages(),
		c.databasePages(),
		c.documentsPages(),
		c.documentPages(),
		c.channelPages(),
		c.whyPages(),
		c.usersPages(),
		c.rolesPages(),
		c.logPages(),
		c.metricsPages(),
		c.configPages(),
		c.deviceSyncPages(),
		c.deployPages(),
		c.sourcePages(),
		c.clientPages(),
		c.quarantinePages(),
		c.syncLogPages(),
		c.replicationPages(),
		c.resyncPages(),
	}
}

// register fills the tables from the pages.
func (c *Console) register() {
	c.mux = http.NewServeMux()
	for _, p := range c.pages() {
		for _, rt := range p.routes {
			method, path, _ := strings.Cut(rt.pattern, " ")
			c.mux.Handle(method+" "+Base+path, c.serve(rt))
		}
		for _, t := range p.topics {
			c.topics[t.name] = t
		}
		c.nav = append(c.nav, p.nav...)
	}
	c.mux.Handle("GET "+Base+"/assets/{name}", c.assets)
	c.mux.Handle("GET "+Base+"/events", c.serve(route{handler: c.handleEvents, quiet: true}))
	c.mux.Handle("GET "+Base+"/pulse", c.serve(route{handler: c.handlePulse, quiet: true}))
	c.mux.Handle(Base+"/", c.serve(route{handler: func(*request) error { return errNoPage }}))
}
