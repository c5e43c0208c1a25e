package console

import (
	"context"
	"net/http"
	"time"
)

// app is an app of the App Services API as pages show it: a view on the device sync of one database.
type app struct {
	Group, ID   string
	Name        string
	ClientAppID string
	Database    string // "": it has none yet
	Services    []service
	Service     service // the one that syncs, or that would
	Draft       *draft  // of whoever looks; nil: none
}

// service is a data source of an app.
type service struct {
	ID       string `json:"_id"`
	Name     string `json:"name"`
	Type     string `json:"type"`
	Modified int64  `json:"last_modified"` // Unix s
}

// draft is the private copy of an app's configuration that changes go into until it is deployed.
type draft struct {
	ID      string
	Diffs   []diffFile
	Notices []string
	State   string // of sync, that deploying it leads to
}

// URL is the address of a page of the app, for templates.
func (a *app) URL(rest ...string) string { return Base + a.Path(rest...) }

// Path is the path of a page of the app below Base, and that of the app's part of the API.
func (a *app) Path(rest ...string) string {
	return pathOf(append([]string{"groups", a.Group, "apps", a.ID}, rest...)...)
}

// SourceURL is the address of the page of a data source, which has all three ids.
func (a *app) SourceURL(s service) string { return a.URL("services", s.ID, "config") }

// Topic is what live pages of the app listen to.
func (a *app) Topic() string { return "sync:" + a.Group + "/" + a.ID }

// listedApp is an app as the API has it.
type listedApp struct {
	ID          string `json:"_id"`
	ClientAppID string `json:"client_app_id"`
	GroupID     string `json:"group_id"`
	Name        string `json:"name"`
	Database    string `json:"database"`
}

// openApp reads the app that the page's address names, and makes the page one about its database.
func (rq *request) openApp() (*app, error) {
	a := &app{Group: rq.PathValue("g"), ID: rq.PathValue("a")}
	ctx := rq.Context()
	var listed listedApp
	if err := rq.apps.get(ctx, a.Path(), nil, &listed); err != nil {
		return nil, err
	}
	a.Name, a.ClientAppID, a.Database = listed.Name, listed.ClientAppID, listed.Database
	if err := rq.apps.get(ctx, a.Path("services"), nil, &a.Services); err != nil {
		return nil, err
	}
	if err := rq.findService(a); err != nil {
		return nil, err
	}
	if err := rq.readDraft(a); err != nil {
		return nil, err
	}
	rq.db = a.Database
	for _, s := range a.Services {
		rq.sources = append(rq.sources, navItem{
			Label: s.Name, Icon: "source", Href: a.SourceURL(s), Manage: true, Nested: true, Current: s.ID == rq.PathValue("s"),
		})
	}
	return a, nil
}

// findService finds the service that syncs; without one, the first is that which would.
func (rq *request) findService(a *app) error {
	var cfg struct {
		ServiceID string `json:"service_id"`
	}
	if err := rq.apps.get(rq.Context(), a.Path("sync", "config"), nil, &cfg); err != nil {
		return err
	}
	for _, s := range a.Services {
		if s.ID == cfg.ServiceID || a.Service.ID == "" {
			a.Service = s
		}
	}
	return nil
}

// readDraft reads the draft of whoever looks, with what deploying it would change.
func (rq *request) readDraft(a *app) error {
	id, err := rq.draftID(rq.Context(), a)
	if err != nil || id == "" {
		return err
	}
	var diff struct {
		Diffs   []string `json:"diffs"`
		Notices []string `json:"notices"`
	}
	if err := rq.apps.get(rq.Context(), a.Path("drafts", id, "diff"), nil, &diff); err != nil {
		return err
	}
	a.Draft = &draft{ID: id, Notices: diff.Notices}
	for _, text := range diff.Diffs {
		a.Draft.Diffs = append(a.Draft.Diffs, parseDiff(text))
	}
	return nil
}

// draftID returns the id of the draft of whoever looks; "" if there is none.
func (rq *request) draftID(ctx context.Context, a *app) (string, error) {
	var drafts []struct {
		ID string `json:"_id"`
	}
	err := rq.apps.get(ctx, a.Path("drafts"), nil, &drafts)
	if err != nil || len(drafts) == 0 {
		return "", err
	}
	return drafts[0].ID, nil
}

// groups returns the ids of the groups that the account has a role in.
func (rq *request) groups() ([]string, error) {
	var profile struct {
		Roles []struct {
			GroupID string `json:"group_id"`
		} `json:"roles"`
	}
	if err := rq.apps.get(rq.Context(), "/auth/profile", nil, &profile); err != nil {
		return nil, err
	}
	var ids []string
	for _, r := range profile.Roles {
		ids = append(ids, r.GroupID)
	}
	return ids, nil
}

// allApps lists the apps of all groups.
func (rq *request) allApps() ([]listedApp, error) {
	groups, err := rq.groups()
	if err != nil {
		return nil, err
	}
	var all []listedApp
	for _, g := range groups {
		var some []listedApp
		if err := rq.apps.get(rq.Context(), pathOf("groups", g, "apps"), nil, &some); err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

var errNoApp = &pageError{http.StatusNotFound, "No app", "No app is bound to this database: its app was deleted. Its device sync goes on as it is, and cannot be administered here. “tidegate device-sync” can do it."}

// appOf finds the app of a database.
func (rq *request) appOf(db string) (*app, error) {
	all, err := rq.allApps()
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		if one.Database == db {
			return &app{Group: one.GroupID, ID: one.ID}, nil
		}
	}
	return nil, errNoApp
}

// toApp makes the handler that leads from a database to a page of its app.
func (c *Console) toApp(rest ...string) func(*request) error {
	return func(rq *request) error {
		a, err := rq.appOf(rq.db)
		if err != nil {
			return err
		}
		return rq.redirect(a.Path(rest...), "")
	}
}

// withApp makes a handler of one that needs the app that the address names.
func withApp(handler func(rq *request, a *app) error) func(*request) error {
	return func(rq *request) error {
		a, err := rq.openApp()
		if err != nil {
			return err
		}
		return handler(rq, a)
	}
}

// afterChange goes to a page after a change of an app's configuration: it is in force, or in the draft.
func (rq *request) afterChange(a *app, done, drafted string, rest ...string) error {
	id, err := rq.draftID(rq.Context(), a)
	if err != nil {
		return err
	}
	if id != "" {
		done = drafted + " Nothing has happened yet: review your draft and deploy it."
	}
	return rq.redirect(a.Path(rest...), done)
}

// sayRefusal goes to a page with the reason of a refusal as a message. What is no refusal stays an error.
func (rq *request) sayRefusal(err error, path string) error {
	s := statusOf(err)
	if s < 400 || s == http.StatusUnauthorized || s >= 500 && s != http.StatusServiceUnavailable {
		return err
	}
	rq.session.addFlash("error", reasonOf(err))
	return rq.redirect(path, "")
}

// names finds out who ids of users belong to.
type names map[string]string

// userNames returns the names of API keys, and that of whoever looks, by their ids. Who may not read them sees ids.
func (rq *request) userNames() names {
	all := names{}
	var keys []struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	if rq.api.get(rq.Context(), "/_admin_api_keys", nil, &keys) == nil {
		for _, k := range keys {
			all[k.ID] = k.Name
		}
	}
	var me struct {
		UserID string `json:"user_id"`
	}
	if rq.apps.get(rq.Context(), "/auth/profile", nil, &me) == nil && me.UserID != "" {
		all[me.UserID] = rq.session.identity.Name()
	}
	return all
}

// of is who did something, as it is recorded: "user:<id>", "auto", "system" or "".
func (n names) of(by string) string {
	switch by {
	case "":
		return "somebody"
	case "auto":
		return "the server, because nothing had synced for long"
	case "system":
		return "the server"
	}
	id := by
	if len(by) > 5 && by[:5] == "user:" {
		id = by[5:]
	}
	if name := n[id]; name != "" {
		return name
	}
	return id
}

// unixTime is a time in Unix seconds; zero for 0.
func unixTime(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0)
}

// boolText is a switch in a query.
func boolText(on bool) string {
	if on {
		return "true"
	}
	return ""
}
