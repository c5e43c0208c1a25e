package console

import (
	"errors"
	"net/http"
	"strconv"
)

// showSyncConfig answers the Configuration tab.
func (c *Console) showSyncConfig(rq *request, a *app) error {
	v, err := rq.syncView(a, "config")
	if err != nil {
		return err
	}
	v.Guide = syncFormOf(&v.Config.FlexibleSync)
	rq.live = []string{a.Topic()}
	return rq.render("syncconfig", "Device Sync configuration", v)
}

// saveSyncConfig answers POST …/sync/config: the advanced configuration.
func (c *Console) saveSyncConfig(rq *request, a *app) error {
	form := postedSyncForm(rq.Request)
	members, err := form.advanced()
	if err == nil {
		members["queryable_fields_names"] = words(form.Queryable)
		members["development_mode_enabled"] = form.Development
		err = rq.apps.send(rq.Context(), http.MethodPatch, a.Path("services", a.Service.ID, "config"), nil, map[string]any{"flexible_sync": members}, nil)
	}
	if err == nil {
		return rq.afterChange(a, "The configuration is saved.", "The changed configuration is in your draft.", "sync", "config")
	}
	words, refused := refusal(err)
	if !refused {
		return err
	}
	v, err := rq.syncView(a, "config")
	if err != nil {
		return err
	}
	v.Guide, v.Problem = form, words
	v.Guide.Database = v.Config.FlexibleSync.Database
	rq.live = []string{a.Topic()}
	return rq.renderStatus(http.StatusUnprocessableEntity, "syncconfig", "Device Sync configuration", v)
}

// refusal returns the words to show in a form, if an error is about what was sent in it.
func refusal(err error) (words string, ok bool) {
	if e, is := errors.AsType[formError](err); is {
		return string(e), true
	}
	switch statusOf(err) {
	case http.StatusBadRequest, http.StatusConflict, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusNotFound, http.StatusPreconditionFailed, http.StatusServiceUnavailable:
		return reasonOf(err), true
	}
	return "", false
}

// advice is something to think of before sync is enabled.
type advice struct{ Kind, Title, Text string }

// enableSync answers POST …/sync/enable: the guide, its review with recommendations, and the enabling itself.
func (c *Console) enableSync(rq *request, a *app) error {
	form := postedSyncForm(rq.Request)
	if s := a.serviceByID(form.Service); s != nil {
		a.Service = *s
	}
	v, err := rq.syncView(a, "overview")
	if err != nil {
		return err
	}
	if !v.Guided() {
		rq.session.addFlash("error", "Sync is not terminated, or a termination runs: there is nothing to enable. Look at the state below.")
		return rq.redirect(a.Path("sync"), "")
	}
	v.Guide = form
	patch, err := form.patch()
	step := rq.PostFormValue("step")
	if err == nil && step == "enable" {
		err = rq.apps.send(rq.Context(), http.MethodPatch, a.Path("services", a.Service.ID, "config"), nil, patch, nil)
		if err == nil {
			return rq.afterChange(a, "Device sync is enabled. Clients that synced before reset once.", "Your draft enables sync.", "sync")
		}
	}
	if err != nil {
		words, refused := refusal(err)
		if !refused {
			return err
		}
		v.Problem = words
		return rq.renderSync(http.StatusUnprocessableEntity, v)
	}
	if step == "review" {
		v.Review = rq.recommendations(a, form)
	}
	return rq.renderSync(http.StatusOK, v)
}

func (a *app) serviceByID(id string) *service {
	for i := range a.Services {
		if a.Services[i].ID == id {
			return &a.Services[i]
		}
	}
	return nil
}

// recommendations are what is said before sync is enabled. There is always at least one line.
func (rq *request) recommendations(a *app, f *syncForm) []advice {
	var all []advice
	warn := func(title, text string) { all = append(all, advice{"warn", title, text}) }
	var schemas []struct{}
	if rq.apps.get(rq.Context(), a.Path("schemas"), nil, &schemas) == nil && len(schemas) == 0 {
		all = append(all, advice{"info", "No schema", "No collection of this app has a schema. Documents are taken as they are; breaking changes of their form are not noticed."})
	}
	if h, err := strconv.Atoi(f.HistoryHours); err == nil && h > 0 && h < recommendedHistory {
		warn("A short history window", "A pause of more than "+f.HistoryHours+" hours could only be ended by terminating sync. At least "+strconv.Itoa(recommendedHistory)+" hours are recommended.")
	}
	if !f.Recovery {
		warn("Client recovery is off", "Clients that have to reset must discard what they had not yet sent. Leave it on unless such changes must not come in.")
	}
	if f.Development {
		warn("Development Mode is on", "Devices can make collections. Turn it off before the app is released.")
	}
	if rq.publicTLSOff() {
		warn("No TLS", "The public listener of this server speaks plain HTTP. Passwords and documents of devices can be read on the way, unless a proxy in front of it encrypts them.")
	}
	if len(all) == 0 {
		all = append(all, advice{"ok", "Nothing to recommend", "This configuration looks good."})
	}
	return all
}

// publicTLSOff reports whether it is known that devices reach this server without TLS.
func (rq *request) publicTLSOff() bool {
	var cfg struct {
		API struct {
			HTTPS struct {
				Cert string `json:"tls_cert_path"`
			} `json:"https"`
		} `json:"api"`
	}
	err := rq.api.get(rq.Context(), "/_config", nil, &cfg)
	return err == nil && cfg.API.HTTPS.Cert == ""
}
