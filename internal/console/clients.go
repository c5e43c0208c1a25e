package console

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// clientPages are the clients of an app, those that are connected among them.
func (c *Console) clientPages() page {
	const path, nav = "/groups/{g}/apps/{a}/sync/clients", "Device Sync"
	return page{
		routes: []route{
			{pattern: "GET /db/{db}/clients", handler: c.toApp("sync", "clients")},
			{pattern: "GET " + path, nav: nav, handler: withApp(c.showClients)},
			{pattern: "GET " + path + "/sessions", nav: nav, handler: withApp(c.clientSessions), quiet: true},
			{pattern: "POST " + path + "/reset", nav: nav, handler: withApp(c.resetClient)},
		},
		topics: []topic{{name: "sessions", open: c.openSessionsTopic}},
	}
}

// syncClient is one local database that replicates through one checkpoint.
type syncClient struct {
	FileIdent  int64     `json:"file_ident"`
	Kind       string    `json:"kind"`
	Peer       bool      `json:"peer"`
	User       string    `json:"user"`
	Checkpoint string    `json:"checkpoint_id"`
	Epoch      uint64    `json:"epoch"`
	FirstSeen  time.Time `json:"first_seen"`
	LastSeen   time.Time `json:"last_seen"`
	LastSince  string    `json:"last_since"`
	Reset      *string   `json:"reset"`
	Reason     string    `json:"reason"`
}

// ResetWords is the state of the client's reset in words; "" if it never had one.
func (s *syncClient) ResetWords() string {
	if s.Reset == nil {
		return ""
	}
	switch *s.Reset {
	case "pending":
		return "resets at its next connection"
	case "running":
		return "is resetting"
	case "done":
		return "has reset"
	case "wipe":
		return "must discard its database"
	}
	return *s.Reset
}

// ResetTag is the look of the state.
func (s *syncClient) ResetTag() string {
	switch {
	case s.Reset == nil || *s.Reset == "done":
		return ""
	case *s.Reset == "wipe":
		return "bad"
	}
	return "warn"
}

// ReasonWords says why a client has to reset.
func (s *syncClient) ReasonWords() string {
	switch s.Reason {
	case "epoch_changed":
		return "a new epoch began"
	case "history_trimmed":
		return "it was away too long"
	case "server_behind":
		return "it has seen more than the server has"
	case "forced":
		return "an administrator asked for it"
	case "permissions":
		return "its permissions changed"
	}
	return s.Reason
}

// kindWords says what speaks a protocol.
func kindWords(kind string, peer bool) string {
	switch {
	case kind == "blip" && peer:
		return "Gateway"
	case kind == "blip":
		return "Couchbase Lite"
	case peer:
		return "CouchDB"
	case kind == "couch":
		return "PouchDB / CouchDB"
	case kind == "changes":
		return "Changes feed"
	}
	return kind
}

// KindWords says what the client is.
func (s *syncClient) KindWords() string { return kindWords(s.Kind, s.Peer) }

// syncSession is an open replication.
type syncSession struct {
	Kind     string    `json:"kind"`
	User     string    `json:"user"`
	Admin    bool      `json:"admin"`
	Peer     bool      `json:"peer"`
	ClientID string    `json:"client_id"`
	Since    string    `json:"since"`
	Remote   string    `json:"remote"`
	Started  time.Time `json:"started"`
}

// KindWords says what the session is.
func (s *syncSession) KindWords() string { return kindWords(s.Kind, s.Peer) }

// UserWords is whose it is.
func (s *syncSession) UserWords() string {
	switch {
	case s.User != "":
		return s.User
	case s.Admin:
		return "an administrator"
	}
	return "guest"
}

type clientsView struct {
	App      *app
	Sessions []syncSession
	Version  string // of the sessions
	Clients  []syncClient
	State    string // that is filtered by
	States   []clientFilter
	Pager    pager
	NoData   bool // the app has no database
}

// clientFilter is a choice of clients by the state of their reset.
type clientFilter struct{ State, Label string }

var clientFilters = []clientFilter{{"", "All"}, {"pending", "Waiting to reset"}, {"running", "Resetting"}, {"done", "Reset done"}, {"wipe", "Must discard"}}

// clientsPerPage is how many clients a page lists.
const clientsPerPage = 50

// showClients answers the list of clients and sessions.
func (c *Console) showClients(rq *request, a *app) error {
	v := clientsView{App: a, State: rq.FormValue("state"), States: clientFilters, NoData: a.Database == ""}
	if v.NoData {
		return rq.render("clients", "Clients", v)
	}
	var err error
	if v.Sessions, v.Version, err = rq.readSessions(rq.Context(), a); err != nil {
		return err
	}
	query := queryOf("state", v.State, "after", rq.FormValue("after"), "limit", strconv.Itoa(clientsPerPage+1))
	if err := rq.apps.get(rq.Context(), a.Path("sync", "clients"), query, &v.Clients); err != nil {
		return err
	}
	if rq.FormValue("after") != "" {
		v.Pager.First = address(queryOf("state", v.State), "groups", a.Group, "apps", a.ID, "sync", "clients")
	}
	if len(v.Clients) > clientsPerPage {
		v.Clients = v.Clients[:clientsPerPage]
		last := strconv.FormatInt(v.Clients[clientsPerPage-1].FileIdent, 10)
		v.Pager.Next = address(queryOf("state", v.State, "after", last), "groups", a.Group, "apps", a.ID, "sync", "clients")
	}
	rq.live = []string{"sessions:" + a.Group + "/" + a.ID}
	return rq.render("clients", "Clients", v)
}

// clientSessions answers with the sessions alone, when some came or went.
func (c *Console) clientSessions(rq *request, a *app) error {
	v := clientsView{App: a}
	var err error
	if v.Sessions, v.Version, err = rq.readSessions(rq.Context(), a); err != nil {
		return err
	}
	return rq.part("clients", "sessions", v)
}

// readSessions lists the open sessions, and a text that is another one whenever some came or went.
func (rq *request) readSessions(ctx context.Context, a *app) ([]syncSession, string, error) {
	var all []syncSession
	if err := rq.apps.get(ctx, a.Path("sync", "sessions"), nil, &all); err != nil {
		return nil, "", err
	}
	version := strconv.Itoa(len(all))
	for _, s := range all {
		version += " " + s.Remote + s.Started.Format(time.RFC3339Nano)
	}
	return all, version, nil
}

// openSessionsTopic tells pages when sessions come and go; arg is "group/app".
func (c *Console) openSessionsTopic(rq *request, arg string) (sampler, error) {
	a := appOfTopic(arg)
	return func(ctx context.Context) (any, error) {
		all, version, err := rq.readSessions(ctx, a)
		return map[string]any{"sessions": count(len(all)), "version": version}, err
	}, nil
}

// resetClient answers POST …/clients/reset.
func (c *Console) resetClient(rq *request, a *app) error {
	ident, err := strconv.ParseInt(rq.PostFormValue("file_ident"), 10, 64)
	if err != nil {
		return &pageError{http.StatusBadRequest, "No such client", "The client’s number is not one."}
	}
	if err := rq.apps.send(rq.Context(), http.MethodPut, a.Path("sync", "force_reset"), nil, map[string]int64{"file_ident": ident}, nil); err != nil {
		return rq.sayRefusal(err, a.Path("sync", "clients"))
	}
	return rq.redirect(a.Path("sync", "clients"), "Client "+strconv.FormatInt(ident, 10)+" resets at its next connection.")
}
