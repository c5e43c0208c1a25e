package console

import (
	"context"
	"net/http"
	"strings"
)

// overviewPages are the databases of the server, and making one.
func (c *Console) overviewPages() page {
	return page{
		routes: []route{
			{pattern: "GET /{$}", nav: "Databases", handler: c.showOverview},
			{pattern: "GET /overview/cards", handler: c.overviewCards, quiet: true},
			{pattern: "GET /new-database", nav: "Databases", handler: c.showNewDatabase},
			{pattern: "POST /new-database", nav: "Databases", handler: c.createDatabase},
			{pattern: "GET /open-database", nav: "Databases", handler: c.openDatabase},
		},
		nav:    []navEntry{{label: "Databases", icon: "databases", href: "/", section: navServer, order: 10}},
		topics: []topic{{name: "overview", open: c.openOverview}},
	}
}

// listedDatabase is a database in /_all_dbs?verbose=true.
type listedDatabase struct {
	Name          string `json:"db_name"`
	State         string `json:"state"`
	RequireResync bool   `json:"require_resync"`
}

type overviewView struct {
	Databases []databaseCard
	Hidden    bool // the account may not list databases
	Figures   bool // the account may read figures
	Version   string
}

type databaseCard struct {
	listedDatabase
	Sequence, Writes, Clients string
}

func (rq *request) databases(ctx context.Context) ([]listedDatabase, error) {
	var all []listedDatabase
	err := rq.api.get(ctx, "/_all_dbs", queryOf("verbose", "true"), &all)
	return all, err
}

func (c *Console) showOverview(rq *request) error {
	v, err := rq.overview()
	if err != nil {
		return err
	}
	rq.live = []string{"overview"}
	return rq.render("overview", "Databases", v)
}

// overviewCards answers with the databases alone, when one came or went.
func (c *Console) overviewCards(rq *request) error {
	v, err := rq.overview()
	if err != nil {
		return err
	}
	return rq.part("overview", "cards", v)
}

func (rq *request) overview() (overviewView, error) {
	all, err := rq.databases(rq.Context())
	if statusOf(err) == http.StatusForbidden {
		return overviewView{Hidden: true}, nil
	}
	if err != nil {
		return overviewView{}, err
	}
	figures, err := rq.expvar(rq.Context())
	v := overviewView{Figures: err == nil}
	for _, db := range all {
		card := databaseCard{listedDatabase: db}
		card.fill(figures)
		v.Databases = append(v.Databases, card)
	}
	v.Version = versionOf(all)
	return v, nil
}

// versionOf changes when a database comes or goes.
func versionOf(all []listedDatabase) string {
	var names []string
	for _, db := range all {
		names = append(names, db.Name)
	}
	return strings.Join(names, " ")
}

func (card *databaseCard) fill(figures *expvar) {
	f := figures.SyncGateway.PerDB[card.Name]
	card.Sequence = count(int64(f.database("high_seq_feed")))
	card.Writes = count(int64(f.database("num_doc_writes")))
	card.Clients = count(int64(f.database("num_replications_active")))
}

// openOverview keeps the cards of the overview up to date.
func (c *Console) openOverview(rq *request, _ string) (sampler, error) {
	return func(ctx context.Context) (any, error) {
		all, err := rq.databases(ctx)
		if err != nil {
			return nil, err
		}
		figures, _ := rq.expvar(ctx) // who may not read them sees the states
		data := map[string]any{}
		for _, db := range all {
			card := databaseCard{listedDatabase: db}
			card.fill(figures)
			data["state:"+db.Name] = db.State
			data["sequence:"+db.Name] = card.Sequence
			data["writes:"+db.Name] = card.Writes
			data["clients:"+db.Name] = card.Clients
		}
		data["version"] = versionOf(all)
		return data, nil
	}, nil
}

// openDatabase leads whoever may not list databases to the one they name.
func (c *Console) openDatabase(rq *request) error {
	return rq.redirect(pathOf("db", strings.TrimSpace(rq.FormValue("name")))+"/", "")
}

type newDatabaseView struct {
	Name, Sync, Collections string
	AllowConflicts, Offline bool
	Problem                 string
}

func (c *Console) showNewDatabase(rq *request) error {
	return rq.render("newdatabase", "New database", newDatabaseView{})
}

func (c *Console) createDatabase(rq *request) error {
	v := newDatabaseView{
		Name: strings.TrimSpace(rq.PostFormValue("name")), Sync: rq.PostFormValue("sync"), Collections: rq.PostFormValue("collections"),
		AllowConflicts: rq.PostFormValue("conflicts") != "", Offline: rq.PostFormValue("offline") != "",
	}
	cfg, problem := v.config()
	if problem == "" {
		err := rq.api.send(rq.Context(), http.MethodPut, pathOf(v.Name)+"/", nil, cfg, nil)
		if err == nil {
			return rq.redirect(pathOf("db", v.Name)+"/", "The database "+v.Name+" was created.")
		}
		problem = reasonOf(err)
	}
	v.Problem = problem
	return rq.renderStatus(http.StatusUnprocessableEntity, "newdatabase", "New database", v)
}

// config makes the config that the form asks for.
func (v newDatabaseView) config() (map[string]any, string) {
	if v.Name == "" {
		return nil, "The database needs a name."
	}
	cfg := map[string]any{"allow_conflicts": v.AllowConflicts, "offline": v.Offline}
	sync := strings.TrimSpace(v.Sync)
	scopes := map[string]map[string]map[string]any{}
	for _, name := range words(v.Collections) {
		scope, collection, ok := strings.Cut(name, ".")
		if !ok {
			return nil, "Write collections as scope.collection: " + name + " has no dot."
		}
		if scopes[scope] == nil {
			scopes[scope] = map[string]map[string]any{"collections": {}}
		}
		one := map[string]any{}
		if sync != "" {
			one["sync"] = sync
		}
		scopes[scope]["collections"][collection] = one
	}
	if len(scopes) > 0 {
		cfg["scopes"] = scopes
	} else if sync != "" {
		cfg["sync"] = sync
	}
	return cfg, ""
}
