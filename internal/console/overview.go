package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
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
	Nodes     []nodeRow // of a store that several may serve from
	Hidden    bool      // the account may not list databases
	Figures   bool      // the account may read figures
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
	if v.Nodes, err = rq.nodes(rq.Context()); err != nil {
		return overviewView{}, err
	}
	v.Version = versionOf(all, v.Nodes)
	return v, nil
}

// nodeRow is a node in /_nodes.
type nodeRow struct {
	ID        string            `json:"id"`
	Self      bool              `json:"self"`
	Started   time.Time         `json:"started"`
	Version   string            `json:"version"`
	Host      string            `json:"host"`
	PID       int               `json:"pid"`
	Public    string            `json:"public"`
	Admin     string            `json:"admin"`
	Databases map[string]string `json:"databases"`
}

// Serves says in a few words which databases the node serves.
func (n nodeRow) Serves() string {
	online := 0
	for _, state := range n.Databases {
		if state == "Online" {
			online++
		}
	}
	return fmt.Sprintf("%d of %d online", online, len(n.Databases))
}

// nodes are the nodes of the store, if several can serve from it and the account may see them.
func (rq *request) nodes(ctx context.Context) ([]nodeRow, error) {
	var answer struct {
		Nodes []nodeRow `json:"nodes"`
	}
	err := rq.api.get(ctx, "/_nodes", nil, &answer)
	if statusOf(err) == http.StatusForbidden {
		return nil, nil
	}
	if len(answer.Nodes) == 1 && answer.Nodes[0].Host == "" { // a data directory is one process's alone, which says nothing of itself
		return nil, err
	}
	return answer.Nodes, err
}

// versionOf changes when a database or a node comes or goes.
func versionOf(all []listedDatabase, nodes []nodeRow) string {
	var names []string
	for _, db := range all {
		names = append(names, db.Name)
	}
	for _, n := range nodes {
		names = append(names, fmt.Sprintf("%s@%d:%s", n.ID, n.PID, n.Serves()))
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
		nodes, err := rq.nodes(ctx)
		if err != nil {
			return nil, err
		}
		data := map[string]any{}
		for _, db := range all {
			card := databaseCard{listedDatabase: db}
			card.fill(figures)
			data["state:"+db.Name] = db.State
			data["sequence:"+db.Name] = card.Sequence
			data["writes:"+db.Name] = card.Writes
			data["clients:"+db.Name] = card.Clients
		}
		data["version"] = versionOf(all, nodes)
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
