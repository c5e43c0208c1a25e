package console

import (
	"net/http"
)

// sourcePages are the apps, and the pages of their data sources, whose addresses hold the three ids (device-sync.md §1, §9.1).
func (c *Console) sourcePages() page {
	const path, nav = "/groups/{g}/apps/{a}/services/{s}/config", "Linked Data Sources"
	return page{
		routes: []route{
			{pattern: "GET /apps", nav: "Apps", handler: c.showApps},
			{pattern: "GET /db/{db}/sources", handler: c.toApp("services")},
			{pattern: "GET /groups/{g}/apps/{a}/services", nav: nav, handler: withApp(c.showSources)},
			{pattern: "GET " + path, handler: withApp(c.showSource)},
			{pattern: "POST " + path, handler: withApp(c.saveSource)},
		},
		nav: []navEntry{
			{label: "Apps", icon: "client", href: "/apps", section: navServer, order: 15},
			{label: nav, icon: "source", href: "/db/{db}/sources", section: navManage, order: 84},
		},
	}
}

// appRow is an app in the list of all.
type appRow struct {
	listedApp
	App   *app
	State string // in words
}

// showApps answers the list of all apps.
func (c *Console) showApps(rq *request) error {
	all, err := rq.allApps()
	if err != nil {
		return err
	}
	rows := []appRow{}
	for _, one := range all {
		row := appRow{listedApp: one, App: &app{Group: one.GroupID, ID: one.ID, Database: one.Database}}
		l, err := rq.readLifecycle(rq.Context(), row.App)
		if err != nil {
			return err
		}
		row.State = l.Label()
		rows = append(rows, row)
	}
	return rq.render("apps", "Apps", rows)
}

// sourceRow is a data source in the list of an app's.
type sourceRow struct {
	Service service
	State   string // of sync, in words
}

// showSources answers the list of an app's data sources.
func (c *Console) showSources(rq *request, a *app) error {
	v := struct {
		App     *app
		Sources []sourceRow
	}{App: a}
	for _, s := range a.Services {
		cfg, err := rq.readServiceConfig(a, s)
		if err != nil {
			return err
		}
		v.Sources = append(v.Sources, sourceRow{s, stateLabel(cfg.State(), s.ID == a.Service.ID)})
	}
	rq.live = []string{a.Topic()}
	return rq.render("sources", "Linked Data Sources", v)
}

// readPreferences are the values of a data source's read preference.
var readPreferences = []string{"primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"}

type sourceView struct {
	App         *app
	Service     service
	Config      *serviceConfig
	JSON        string
	State       string
	Preferences []string
	Problem     string
}

// showSource answers the page of a data source.
func (c *Console) showSource(rq *request, a *app) error {
	v, err := rq.sourceView(a)
	if err != nil {
		return err
	}
	return rq.renderSource(http.StatusOK, v)
}

func (rq *request) renderSource(status int, v *sourceView) error {
	rq.live = []string{v.App.Topic()}
	return rq.renderStatus(status, "source", v.Service.Name, v)
}

func (rq *request) sourceView(a *app) (*sourceView, error) {
	s := a.serviceByID(rq.PathValue("s"))
	if s == nil {
		return nil, &pageError{http.StatusNotFound, "Not found", "This app has no data source with that id."}
	}
	cfg, err := rq.readServiceConfig(a, *s)
	if err != nil {
		return nil, err
	}
	return &sourceView{
		App: a, Service: *s, Config: cfg, JSON: pretty(cfg.raw), State: stateLabel(cfg.State(), s.ID == a.Service.ID), Preferences: readPreferences,
	}, nil
}

// saveSource answers POST of the page of a data source.
func (c *Console) saveSource(rq *request, a *app) error {
	v, err := rq.sourceView(a)
	if err != nil {
		return err
	}
	patch := map[string]any{"readPreference": rq.PostFormValue("read_preference"), "wireProtocolEnabled": rq.PostFormValue("wire_protocol") != ""}
	if name := rq.PostFormValue("cluster"); name != "" {
		patch["clusterName"] = name
	}
	err = rq.apps.send(rq.Context(), http.MethodPatch, a.Path("services", v.Service.ID, "config"), nil, patch, nil)
	if err == nil {
		return rq.afterChange(a, "The data source is saved.", "The changed data source is in your draft.", "services", v.Service.ID, "config")
	}
	words, refused := refusal(err)
	if !refused {
		return err
	}
	v.Problem = words
	v.Config.ClusterName, v.Config.ReadPreference = rq.PostFormValue("cluster"), rq.PostFormValue("read_preference")
	v.Config.WireProtocolEnabled = rq.PostFormValue("wire_protocol") != ""
	return rq.renderSource(http.StatusUnprocessableEntity, v)
}
