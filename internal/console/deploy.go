package console

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// deployPages are drafts and deployments (device-sync.md §9.2).
func (c *Console) deployPages() page {
	const path, nav = "/groups/{g}/apps/{a}/deploy", "Deployment"
	return page{
		routes: []route{
			{pattern: "GET /db/{db}/deploy", handler: c.toApp("deploy")},
			{pattern: "GET " + path, nav: nav, handler: withApp(c.showDeploy)},
			{pattern: "POST " + path, nav: nav, handler: withApp(c.deploy)},
			{pattern: "POST " + path + "/discard", nav: nav, handler: withApp(c.discard)},
			{pattern: "POST " + path + "/redeploy", nav: nav, handler: withApp(c.redeploy)},
			{pattern: "POST " + path + "/drafts", nav: nav, handler: withApp(c.setDrafts)},
			{pattern: "GET " + path + "/export", nav: nav, handler: withApp(c.exportState)},
		},
		nav: []navEntry{{label: nav, icon: "deploy", href: "/db/{db}/deploy", section: navSync, order: 82}},
	}
}

// deployment is a configuration that was put in force, or could not be.
type deployment struct {
	ID         string `json:"_id"`
	Name       string `json:"name"`
	UserID     string `json:"user_id"`
	DeployedAt int64  `json:"deployed_at"`
	Origin     string `json:"origin"`
	Status     string `json:"status"`
	Error      string `json:"status_error_message"`
	Notice     string `json:"notice"`

	By string `json:"-"` // who, by name
}

// At is when it was deployed.
func (d deployment) At() time.Time { return unixTime(d.DeployedAt) }

type deployView struct {
	App         *app
	Deployments []deployment
	DraftsOff   bool
	Development bool // which turns drafts off, too
}

// showDeploy answers the Deployment page.
func (c *Console) showDeploy(rq *request, a *app) error {
	v := deployView{App: a}
	ctx := rq.Context()
	if err := rq.apps.get(ctx, a.Path("deployments"), nil, &v.Deployments); err != nil {
		return err
	}
	names := rq.userNames()
	for i := range v.Deployments {
		v.Deployments[i].By = names.of(v.Deployments[i].UserID)
	}
	var cfg struct {
		DraftsOff bool `json:"ui_drafts_disabled"`
	}
	if err := rq.apps.get(ctx, a.Path("deploy", "config"), nil, &cfg); err != nil {
		return err
	}
	v.DraftsOff = cfg.DraftsOff
	var sync struct {
		Development bool `json:"development_mode_enabled"`
	}
	if err := rq.apps.get(ctx, a.Path("sync", "config"), nil, &sync); err != nil {
		return err
	}
	v.Development = sync.Development
	rq.live = []string{a.Topic()}
	return rq.render("deploy", "Deployment", v)
}

// deploy answers POST …/deploy. The form says which draft was looked at: what came to it since is not deployed unseen.
func (c *Console) deploy(rq *request, a *app) error {
	back := a.Path("deploy")
	if rq.PostFormValue("back") == "sync" {
		back = a.Path("sync")
	}
	if a.Draft == nil || a.Draft.ID != rq.PostFormValue("draft") {
		rq.session.addFlash("error", "The draft that you looked at is not there any more. Nothing was deployed.")
		return rq.redirect(back, "")
	}
	return rq.deployDraft(a, rq.PostFormValue("name"), back, "The draft is deployed.")
}

// deployDraft deploys the draft of an app and goes to a page that says how it went.
func (rq *request) deployDraft(a *app, name, back, done string) error {
	var made deployment
	body := map[string]string{}
	if name != "" {
		body["name"] = name
	}
	if err := rq.apps.send(rq.Context(), http.MethodPost, a.Path("drafts", a.Draft.ID, "deployment"), nil, body, &made); err != nil {
		return rq.sayRefusal(err, back)
	}
	made, err := rq.awaitDeployment(a, made)
	switch {
	case err != nil:
		return err
	case made.Status == "failed":
		rq.session.addFlash("error", "The deployment failed, and nothing was changed: "+made.Error)
		return rq.redirect(back, "")
	case made.Status != "successful":
		done = "The draft is being deployed."
	case made.Notice != "":
		done += " Note: " + made.Notice + "."
	}
	return rq.redirect(back, done)
}

// deploymentWait is how long a page waits for a deployment to end, deploymentPoll how often it looks.
const (
	deploymentWait = 10 * time.Second
	deploymentPoll = 100 * time.Millisecond
)

// awaitDeployment waits until a deployment has ended, or for a while.
func (rq *request) awaitDeployment(a *app, d deployment) (deployment, error) {
	ctx, cancel := context.WithTimeout(rq.Context(), deploymentWait)
	defer cancel()
	tick := time.NewTicker(deploymentPoll)
	defer tick.Stop()
	for {
		if err := rq.apps.get(rq.Context(), a.Path("deployments", d.ID), nil, &d); err != nil {
			return d, err
		}
		if d.Status != "created" && d.Status != "pending" {
			return d, nil
		}
		select {
		case <-ctx.Done():
			return d, nil
		case <-tick.C:
		}
	}
}

// discardDraft deletes the draft of an app.
func (rq *request) discardDraft(a *app) error {
	return rq.apps.send(rq.Context(), http.MethodDelete, a.Path("drafts", a.Draft.ID), nil, nil, nil)
}

// discard answers POST …/deploy/discard.
func (c *Console) discard(rq *request, a *app) error {
	back := a.Path("deploy")
	if rq.PostFormValue("back") == "sync" {
		back = a.Path("sync")
	}
	if a.Draft != nil {
		if err := rq.discardDraft(a); err != nil {
			return rq.sayRefusal(err, back)
		}
	}
	return rq.redirect(back, "The draft is discarded. Nothing was changed.")
}

// redeploy answers POST …/deploy/redeploy.
func (c *Console) redeploy(rq *request, a *app) error {
	id := rq.PostFormValue("id")
	if err := rq.apps.send(rq.Context(), http.MethodPost, a.Path("deployments", id, "redeploy"), nil, nil, nil); err != nil {
		return rq.sayRefusal(err, a.Path("deploy"))
	}
	return rq.redirect(a.Path("deploy"), "The older configuration is in force again. Whether sync is on has not changed.")
}

// setDrafts answers POST …/deploy/drafts: the switch Disable Drafts.
func (c *Console) setDrafts(rq *request, a *app) error {
	off := rq.PostFormValue("disabled") != ""
	if err := rq.apps.send(rq.Context(), http.MethodPatch, a.Path("deploy", "config"), nil, map[string]bool{"ui_drafts_disabled": off}, nil); err != nil {
		return rq.sayRefusal(err, a.Path("deploy"))
	}
	if off {
		return rq.redirect(a.Path("deploy"), "Drafts are disabled: changes in the console take effect at once.")
	}
	return rq.redirect(a.Path("deploy"), "Drafts are enabled: changes in the console take effect when you deploy them.")
}

// exportState answers GET …/deploy/export with the configuration as a zip file, as whoever has a draft sees it.
func (c *Console) exportState(rq *request, a *app) error {
	query := url.Values{"version": {"20210101"}, "source_control": {"true"}}
	got, err := rq.apps.call(rq.Context(), http.MethodGet, a.Path("export"), query, nil, nil)
	if err != nil {
		return err
	}
	h := rq.w.Header()
	h.Set("Content-Type", got.Header.Get("Content-Type"))
	h.Set("Content-Disposition", got.Header.Get("Content-Disposition"))
	_, _ = rq.w.Write(got.Body) // a browser that went away needs no answer
	return nil
}
