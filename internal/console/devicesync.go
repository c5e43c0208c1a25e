package console

import (
	"encoding/json"
	"net/http"
	"time"
)

// terminateText is what has to be typed before sync is terminated.
const terminateText = "Terminate Sync"

// deviceSyncPages are the state of an app's device sync and what changes it (device-sync.md §9.1).
func (c *Console) deviceSyncPages() page {
	const path, nav = "/groups/{g}/apps/{a}/sync", "Device Sync"
	post := func(rest string, handler func(*request, *app) error) route {
		return route{pattern: "POST " + path + rest, nav: nav, handler: withApp(handler)}
	}
	return page{
		routes: []route{
			{pattern: "GET /db/{db}/sync", handler: c.toApp("sync")},
			{pattern: "GET " + path, nav: nav, handler: withApp(c.showSync)},
			{pattern: "GET " + path + "/panel", nav: nav, handler: withApp(c.syncPanel), quiet: true},
			{pattern: "GET " + path + "/config", nav: nav, handler: withApp(c.showSyncConfig)},
			post("/pause", c.pauseSync), post("/resume", c.resumeSync), post("/terminate", c.terminateSync),
			post("/config", c.saveSyncConfig), post("/enable", c.enableSync),
			post("/trim", c.trimSync), post("/reset-all", c.resetAllClients),
		},
		nav:    []navEntry{{label: nav, icon: "sync", href: "/db/{db}/sync", section: navSync, order: 80}},
		topics: []topic{{name: "sync", open: c.openSyncTopic}},
	}
}

// syncView is what the Device Sync page shows.
type syncView struct {
	App      *app
	Tab      string
	Live     *lifecycle
	Figures  map[string]any
	Config   *serviceConfig // as the draft has it, if there is one
	DraftNow string         // the state that the draft leads to, in words; "" if the draft does not change it
	By       string         // who paused or terminated
	AtRisk   []string       // replications that a termination ends
	Guide    *syncForm      // to enable sync; nil: there is nothing to enable
	Review   []advice       // what is said before sync is enabled; nil: the guide is still being filled in
	Problem  string
	Near     bool  // most of the time for resuming is over
	Lead     int64 // hours of the history window; 0: without end

	Databases []string // that a guide may name
}

// serviceConfig is the configuration of a data source.
type serviceConfig struct {
	ClusterID           string          `json:"clusterId"`
	ClusterName         string          `json:"clusterName"`
	ClusterType         string          `json:"clusterType"`
	GroupName           string          `json:"groupName"`
	OrgName             string          `json:"orgName"`
	ReadPreference      string          `json:"readPreference"`
	WireProtocolEnabled bool            `json:"wireProtocolEnabled"`
	FlexibleSync        flexibleSync    `json:"flexible_sync"`
	Sync                json.RawMessage `json:"sync"` // the older mode; nil if it is not configured
	raw                 json.RawMessage
}

// State is the state of sync, in whatever mode.
func (s *serviceConfig) State() string {
	if s.Sync == nil {
		return s.FlexibleSync.State
	}
	var part struct {
		State string `json:"state"`
	}
	_ = json.Unmarshal(s.Sync, &part) // it is a part of JSON that was read
	return part.State
}

// statePatch is a change of the state alone, in the mode that is configured.
func (s *serviceConfig) statePatch(state string) (map[string]any, error) {
	if s.Sync == nil {
		return map[string]any{"flexible_sync": map[string]any{"state": state}}, nil
	}
	var part map[string]any
	if err := json.Unmarshal(s.Sync, &part); err != nil {
		return nil, err
	}
	return map[string]any{"sync": map[string]any{"state": state, "partition": part["partition"]}}, nil
}

// readServiceConfig reads the configuration of a data source, as the draft of whoever looks has it.
func (rq *request) readServiceConfig(a *app, s service) (*serviceConfig, error) {
	var raw json.RawMessage
	if err := rq.apps.get(rq.Context(), a.Path("services", s.ID, "config"), nil, &raw); err != nil {
		return nil, err
	}
	cfg := &serviceConfig{raw: raw}
	return cfg, json.Unmarshal(raw, cfg)
}

// syncView reads everything for the page.
func (rq *request) syncView(a *app, tab string) (*syncView, error) {
	v := &syncView{App: a, Tab: tab, Config: &serviceConfig{}}
	var err error
	if v.Live, err = rq.readLifecycle(rq.Context(), a); err != nil {
		return nil, err
	}
	if a.Service.ID != "" {
		if v.Config, err = rq.readServiceConfig(a, a.Service); err != nil {
			return nil, err
		}
	}
	now := rq.c.o.Now()
	v.Figures, v.Near = v.Live.figures(now), v.Live.DeadlineNear(now)
	id := ""
	if a.Draft != nil {
		id = a.Draft.ID
		if v.Config.State() != v.Live.State {
			v.DraftNow = stateLabel(v.Config.State(), true)
		}
	}
	v.Figures["version"] = v.Figures["version"].(string) + "/" + id
	if v.Live.State != "enabled" {
		v.By = rq.userNames().of(v.Live.DisabledBy)
	}
	v.Lead = defaultHistoryHours
	if h := v.Config.FlexibleSync.HistoryHours; h != nil {
		v.Lead = int64(*h)
	}
	return v, nil
}

// Guided reports whether sync can be configured and enabled now.
func (v *syncView) Guided() bool {
	return v.Live.State == "" && v.Live.Phase == "steady" && v.DraftNow == ""
}

// CanPause, CanResume and CanTerminate say which buttons there are. With a draft they are about what it would lead to.
func (v *syncView) CanPause() bool {
	return v.Config.State() == "enabled" && v.Live.State == "enabled" && v.Live.Phase != "error"
}

// CanResume reports whether sync is paused and history still reaches back to the pause.
func (v *syncView) CanResume() bool {
	return v.Config.State() == "disabled" && v.Live.State == "disabled" && !v.Live.MustTerminate && v.Live.Phase != "error"
}

// CanTerminate reports whether there is something to terminate.
func (v *syncView) CanTerminate() bool { return v.Config.State() != "" && v.Live.State != "" }

// Cancels reports whether the draft holds a termination that is not deployed: what is enabled in the same draft would cancel it out.
func (v *syncView) Cancels() bool { return v.DraftNow != "" && v.Config.State() == "" }

// showSync answers the Device Sync page.
func (c *Console) showSync(rq *request, a *app) error {
	v, err := rq.syncView(a, "overview")
	if err != nil {
		return err
	}
	if v.Guided() {
		v.Guide = newSyncForm(a.Service.ID)
	}
	return rq.renderSync(http.StatusOK, v)
}

// renderSync answers with the page, whatever is in v.
func (rq *request) renderSync(status int, v *syncView) error {
	rq.live = []string{v.App.Topic()}
	if rq.db != "" {
		v.AtRisk = rq.runningReplications()
	}
	if v.Guide != nil {
		v.Databases = rq.freeDatabases(v.App)
	}
	return rq.renderStatus(status, "devicesync", "Device Sync", v)
}

// syncPanel answers with the part of the page that depends on the state, when that has changed.
func (c *Console) syncPanel(rq *request, a *app) error {
	v, err := rq.syncView(a, "overview")
	if err != nil {
		return err
	}
	if v.Guided() {
		v.Guide = newSyncForm(a.Service.ID)
		v.Databases = rq.freeDatabases(a)
	}
	return rq.part("devicesync", "panel", v)
}

// runningReplications are the ids of the database's replications with other gateways that run.
func (rq *request) runningReplications() []string {
	var all []replicationStatus
	// Who may not read them, or whose database is offline, sees none.
	_ = rq.api.get(rq.Context(), pathOf(rq.db, "_replicationStatus")+"/", nil, &all)
	var ids []string
	for _, r := range all {
		if r.Status != "stopped" {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// freeDatabases are the databases that an app's sync may be configured for: those that are bound to no other app.
func (rq *request) freeDatabases(a *app) []string {
	all, err := rq.allApps()
	if err != nil {
		return nil
	}
	var free []string
	for _, one := range all {
		if one.ID == a.ID && one.Database != "" {
			free = append(free, one.Database)
		}
	}
	return free
}

// patchState asks for a state of sync and goes back to the page.
func (rq *request) patchState(a *app, state, done, drafted string) error {
	cfg, err := rq.readServiceConfig(a, a.Service)
	if err != nil {
		return err
	}
	patch, err := cfg.statePatch(state)
	if err != nil {
		return err
	}
	if err := rq.apps.send(rq.Context(), http.MethodPatch, a.Path("services", a.Service.ID, "config"), nil, patch, nil); err != nil {
		return rq.sayRefusal(err, a.Path("sync"))
	}
	return rq.afterChange(a, done, drafted, "sync")
}

// pauseSync answers POST …/sync/pause.
func (c *Console) pauseSync(rq *request, a *app) error {
	return rq.patchState(a, "disabled", "Device sync is paused. Clients are disconnected; they keep their changes and come back by themselves.", "Your draft pauses sync.")
}

// resumeSync answers POST …/sync/resume: nothing has to be configured again.
func (c *Console) resumeSync(rq *request, a *app) error {
	return rq.patchState(a, "enabled", "Device sync is on again. Clients go on where they were.", "Your draft enables sync.")
}

// terminateSync answers POST …/sync/terminate: the text has to be typed exactly.
func (c *Console) terminateSync(rq *request, a *app) error {
	if rq.PostFormValue("confirm") != terminateText {
		return &pageError{http.StatusBadRequest, "Not confirmed", "“" + terminateText + "” was not typed exactly. Nothing was terminated."}
	}
	if rq.PostFormValue("now") != "" && a.Draft != nil {
		if err := rq.discardDraft(a); err != nil {
			return err
		}
		a.Draft = nil
	}
	if rq.PostFormValue("now") == "" {
		return rq.patchState(a, "", "Device sync is being terminated.", "Your draft terminates sync.")
	}
	cfg, err := rq.readServiceConfig(a, a.Service)
	if err != nil {
		return err
	}
	patch, err := cfg.statePatch("")
	if err != nil {
		return err
	}
	if err := rq.apps.send(rq.Context(), http.MethodPatch, a.Path("services", a.Service.ID, "config"), nil, patch, nil); err != nil {
		return rq.sayRefusal(err, a.Path("sync"))
	}
	if err := rq.readDraft(a); err != nil {
		return err
	}
	if a.Draft == nil {
		return rq.redirect(a.Path("sync"), "Device sync is being terminated.")
	}
	return rq.deployDraft(a, "terminate sync", a.Path("sync"), "The termination is deployed. When it has ended you can enable sync anew.")
}

// trimSync answers POST …/sync/trim: history older than the window is trimmed now.
func (c *Console) trimSync(rq *request, a *app) error {
	if err := rq.apps.send(rq.Context(), http.MethodPost, a.Path("sync", "trim"), nil, nil, nil); err != nil {
		return rq.sayRefusal(err, a.Path("sync"))
	}
	return rq.redirect(a.Path("sync"), "A trim of the history has begun.")
}

// resetAllClients answers POST …/sync/reset-all: a new epoch, without a termination.
func (c *Console) resetAllClients(rq *request, a *app) error {
	if rq.PostFormValue("confirm") != resetAllText {
		return &pageError{http.StatusBadRequest, "Not confirmed", "“" + resetAllText + "” was not typed exactly. No client was reset."}
	}
	body := map[string]string{"reason": rq.PostFormValue("reason")}
	if err := rq.apps.send(rq.Context(), http.MethodPost, a.Path("sync", "reset_all"), nil, body, nil); err != nil {
		return rq.sayRefusal(err, a.Path("sync"))
	}
	return rq.redirect(a.Path("sync"), "A new epoch has begun: every client resets at its next connection.")
}

// resetAllText is what has to be typed before all clients are reset.
const resetAllText = "Reset All Clients"

// Since is when the state began.
func (v *syncView) Since() time.Time { return v.Live.Since() }
