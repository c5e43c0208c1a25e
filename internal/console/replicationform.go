package console

import (
	"net/http"
	"strconv"
	"strings"
)

// replicationForm is the definition of a replication as somebody fills it in.
type replicationForm struct {
	New                       bool
	ID, Remote                string
	Username                  string
	HasPassword               bool // one is stored; an empty box keeps it
	Direction                 string
	Continuous, Adhoc         bool
	Start                     bool // a new one starts at once
	Resolution, Resolver      string
	PurgeOnRemoval, Delta     bool
	Channels                  string // one in each line; "" for all
	Collections               bool
	Local, RemoteCollections  string
	MaxBackoff, Batch, RunAs  string
	Problem                   string
	OtherFilter               string // channels by collection, which the form does not change
	Resolutions, KnownIn      []string
	password                  string
	oldUsername, usernameName string // the name of the member that holds the user: the definition may have the older one
}

var resolutions = []string{"default", "localWins", "remoteWins", "custom"}

// newReplication answers the empty form.
func (c *Console) newReplication(rq *request) error {
	return rq.replicationForm(http.StatusOK, &replicationForm{
		New: true, Direction: "pushAndPull", Continuous: true, Start: true, Resolution: "default", MaxBackoff: "5", Batch: "200",
	})
}

// replicationForm answers with the form.
func (rq *request) replicationForm(status int, f *replicationForm) error {
	f.Resolutions = resolutions
	names, err := collections(rq.Context(), rq.api, rq.db)
	if err != nil && statusOf(err) != http.StatusForbidden {
		return err
	}
	f.KnownIn = names
	title := "New replication"
	if !f.New {
		title = "Edit " + f.ID
	}
	return rq.renderStatus(status, "replicationform", title, f)
}

// editReplication answers the form with the definition that there is.
func (c *Console) editReplication(rq *request) error {
	one, _, err := rq.replication()
	if err != nil {
		return err
	}
	return rq.replicationForm(http.StatusOK, replicationFormOf(one))
}

func replicationFormOf(r *replicationStatus) *replicationForm {
	c := &r.Config
	f := &replicationForm{
		ID: r.ID, Remote: c.Remote, Username: c.RemoteUsername, Direction: c.Direction, Continuous: c.Continuous, Adhoc: c.Adhoc,
		Resolution: c.ConflictResolution, Resolver: c.Resolver, PurgeOnRemoval: c.PurgeOnRemoval, Delta: c.Delta,
		Channels: strings.Join(c.Channels(), "\n"), Collections: c.Collections, Local: strings.Join(c.Local, "\n"), RemoteCollections: strings.Join(c.RemoteCollections, "\n"),
		RunAs: c.RunAs, usernameName: "remote_username",
	}
	if c.Username != "" {
		f.Username, f.usernameName = c.Username, "username"
	}
	f.oldUsername, f.HasPassword = f.Username, f.Username != ""
	if c.Filter != "" && f.Channels == "" {
		f.OtherFilter = pretty(c.QueryParams)
	}
	if c.MaxBackoff != nil {
		f.MaxBackoff = strconv.Itoa(*c.MaxBackoff)
	}
	if c.BatchSize != nil {
		f.Batch = strconv.Itoa(*c.BatchSize)
	}
	return f
}

// take puts what somebody sent into the form.
func (f *replicationForm) take(r *http.Request) {
	text := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	on := func(name string) bool { return r.PostFormValue(name) != "" }
	f.Remote, f.Username, f.password = text("remote"), text("username"), r.PostFormValue("password")
	f.Direction, f.Continuous = text("direction"), on("continuous")
	f.Resolution, f.Resolver = text("resolution"), r.PostFormValue("resolver")
	f.PurgeOnRemoval, f.Delta, f.Channels = on("purge"), on("delta"), r.PostFormValue("channels")
	f.Collections, f.Local, f.RemoteCollections = on("collections"), r.PostFormValue("local"), r.PostFormValue("remote_collections")
	f.MaxBackoff, f.Batch, f.RunAs = text("max_backoff"), text("batch"), text("run_as")
	if f.New {
		f.ID, f.Adhoc, f.Start = text("id"), on("adhoc"), on("start")
	}
}

// body is what makes or changes the definition.
func (f *replicationForm) body() (map[string]any, error) {
	if f.Remote == "" {
		return nil, formError("Remote: the address of the other database is needed.")
	}
	m := map[string]any{
		"remote": f.Remote, "direction": f.Direction, "continuous": f.Continuous, "conflict_resolution_type": f.Resolution,
		"purge_on_removal": f.PurgeOnRemoval, "enable_delta_sync": f.Delta, "run_as": f.RunAs,
	}
	if f.New {
		m["adhoc"] = f.Adhoc
		m["initial_state"] = "stopped"
		if f.Start || f.Adhoc {
			m["initial_state"] = "running"
		}
	}
	if f.Resolution == "custom" {
		m["custom_conflict_resolver"] = f.Resolver
	}
	f.credentials(m)
	for _, n := range []struct{ member, label, text string }{{"max_backoff_time", "Longest pause between attempts", f.MaxBackoff}, {"batch_size", "Batch size", f.Batch}} {
		v, err := whole(n.label, n.text)
		if err != nil {
			return nil, err
		}
		if v != nil {
			m[n.member] = v
		}
	}
	channels := words(f.Channels)
	switch {
	case len(channels) > 0:
		m["filter"], m["query_params"] = "sync_gateway/bychannel", channels
	case f.OtherFilter == "":
		m["filter"] = ""
	}
	m["collections_enabled"] = f.Collections
	if f.Collections {
		if local := words(f.Local); len(local) > 0 {
			m["collections_local"] = local
		}
		if remote := words(f.RemoteCollections); len(remote) > 0 {
			m["collections_remote"] = remote
		}
	}
	return m, nil
}

// credentials adds the user and the password. An empty password keeps the stored one.
func (f *replicationForm) credentials(m map[string]any) {
	name, secret := "remote_username", "remote_password"
	if f.usernameName == "username" {
		name, secret = "username", "password"
	}
	if f.Username != "" || f.oldUsername != "" {
		m[name] = f.Username
	}
	switch {
	case f.password != "":
		m[secret] = f.password
	case f.Username == "" && f.oldUsername != "":
		m[secret] = ""
	}
}

// createReplication answers POST of the empty form.
func (c *Console) createReplication(rq *request) error {
	f := &replicationForm{New: true}
	f.take(rq.Request)
	body, err := f.body()
	id := f.ID
	if err == nil && id != "" {
		// POST would change one that is there already.
		if e := rq.api.get(rq.Context(), pathOf(rq.db, "_replication", id), nil, nil); e == nil {
			err = formError("Name: there is a replication “" + id + "” already.")
		}
	}
	if err == nil {
		if id != "" {
			body["replication_id"] = id
		}
		var made struct {
			ID string `json:"replication_id"`
		}
		err = rq.api.send(rq.Context(), http.MethodPost, pathOf(rq.db, "_replication")+"/", nil, body, &made)
		if id == "" {
			id = made.ID
		}
	}
	return rq.afterForm(f, err, "The replication "+id+" was made.")
}

// saveReplication answers POST of the form of one that there is.
func (c *Console) saveReplication(rq *request) error {
	one, _, err := rq.replication()
	if err != nil {
		return err
	}
	f := replicationFormOf(one)
	f.take(rq.Request)
	body, err := f.body()
	if err == nil {
		err = rq.api.send(rq.Context(), http.MethodPut, pathOf(rq.db, "_replication", f.ID), nil, body, nil)
	}
	return rq.afterForm(f, err, "The replication "+f.ID+" was changed.")
}

// afterForm goes to the list, or shows the form again with what is wrong with it.
func (rq *request) afterForm(f *replicationForm, err error, done string) error {
	if err == nil {
		return rq.redirect(pathOf("db", rq.db, "replications"), done)
	}
	words, refused := refusal(err)
	if !refused {
		return err
	}
	f.Problem = words
	return rq.replicationForm(http.StatusUnprocessableEntity, f)
}
