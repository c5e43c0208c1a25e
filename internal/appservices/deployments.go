package appservices

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// Values of a deployment's status.
const (
	statusCreated    = "created"
	statusPending    = "pending"
	statusSuccessful = "successful"
	statusFailed     = "failed"
)

// deployment is a configuration that was put in force, or could not be.
type deployment struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	AppID      string   `json:"app_id"`
	DraftID    string   `json:"draft_id"`
	UserID     string   `json:"user_id"`
	DeployedAt int64    `json:"deployed_at"` // Unix s
	Origin     string   `json:"origin"`
	Status     string   `json:"status"`
	Error      string   `json:"error"`
	Notice     string   `json:"notice"`
	Next       snapshot `json:"next"`
}

// deploymentView is a deployment as clients see it.
type deploymentView struct {
	ID             string `json:"_id"`
	Name           string `json:"name"`
	AppID          string `json:"app_id"`
	DraftID        string `json:"draft_id"`
	UserID         string `json:"user_id"`
	DeployedAt     int64  `json:"deployed_at"`
	Origin         string `json:"origin"`
	Commit         string `json:"commit"`
	Status         string `json:"status"`
	Error          string `json:"status_error_message"`
	DiffURL        string `json:"diff_url"`
	RemoteLocation string `json:"remote_location"`
	Notice         string `json:"notice,omitempty"` // tidegate's own
}

func (d *deployment) view() deploymentView {
	return deploymentView{d.ID, d.Name, d.AppID, d.DraftID, d.UserID, d.DeployedAt, d.Origin, "", d.Status, d.Error, "", "", d.Notice}
}

// deploy puts a snapshot in force. meta is what is known of the deployment already; one with a DraftID ends that draft, and is
// returned together with its error when it fails. Any other leaves nothing behind when it fails.
//
// First the deployment is stored as pending, then the database's row is changed, and then the rest is stored: so what a crash
// interrupts can be finished (finishDeployments).
func (c *call) deploy(next *snapshot, meta deployment) (*deployment, error) {
	d := meta
	if d.ID == "" {
		d.ID = c.s.ids.next()
	}
	d.AppID, d.UserID, d.DeployedAt, d.Origin, d.Status = c.app.ID, c.who.UserID, c.s.now().Unix(), c.origin, statusPending
	live := c.s.current(c.app)
	d.Next = *next
	if err := c.breaking(&live, &d.Next); err != nil {
		return nil, err
	}
	d.Next.App = next.App.clone()
	d.Next.App.UIDraftsDisabled = c.app.UIDraftsDisabled // no part of a draft
	d.Next.App.Generation = c.app.Generation + 1
	d.Next.App.Modified = d.DeployedAt
	if err := c.begin(&d); err != nil {
		return nil, err
	}
	outcome, err := c.putInForce(&d)
	if err != nil {
		return c.failed(&d, err)
	}
	d.Status = statusSuccessful
	if err := c.s.finish(c.Context(), &d); err != nil {
		return nil, err
	}
	c.app = d.Next.App
	c.deployed(&d, outcome)
	return &d, nil
}

// begin stores a deployment as pending. The oldest beyond MaxDeployments go.
func (c *call) begin(d *deployment) error {
	w, err := putRow(d, rowDeployment, d.AppID, d.ID)
	if err != nil {
		return err
	}
	writes := []write{w, {rowKey(rowPending), []byte(d.ID)}}
	keys, err := keysOf(c.Context(), c.s.opts.Store, rowKey(rowDeployment, d.AppID))
	if err != nil {
		return err
	}
	for len(keys) >= MaxDeployments {
		writes = append(writes, write{keys[0], nil})
		keys = keys[1:]
	}
	if d.Next.App.Database != c.app.Database {
		// The app is bound first, so that the database it is about to make gets no app of its own.
		bound := c.app.clone()
		bound.Database = d.Next.App.Database
		w, err := putRow(bound, rowApp, bound.ID)
		if err != nil {
			return err
		}
		writes = append(writes, w)
	}
	return c.s.store(c.Context(), writes...)
}

// putInForce changes the database's row.
func (c *call) putInForce(d *deployment) (devicesync.Outcome, error) {
	var none devicesync.Outcome
	a := d.Next.App
	if a.Database == "" || c.s.running(a) == nil && d.Next.State == devicesync.Terminated {
		if svc := a.synced(); svc != nil {
			svc.Settings = d.Next.Settings // there is no row that could hold them
		}
		return none, nil
	}
	r, err := c.s.bind(c.Context(), a)
	if err != nil {
		return none, err
	}
	live := snapshotOf(a, r.DeviceSync().Live().Row())
	if a.Database != c.app.Database && live.State != devicesync.Terminated {
		d.Next.Settings.ClusterName = live.Settings.ClusterName // it syncs already, from where it does
	}
	patch, changed := patchTo(&live, &d.Next)
	if !changed {
		return none, nil
	}
	return r.DeviceSync().Apply(c.Context(), devicesync.Change{
		Patch: patch, By: c.who.by(), Origin: changeOrigins[c.origin], AllowDestructive: c.destructive(),
	})
}

// failed notes that a deployment failed; what is live was not changed.
func (c *call) failed(d *deployment, cause error) (*deployment, error) {
	w, err := putRow(c.app, rowApp, c.app.ID)
	if err != nil {
		return nil, err
	}
	last := write{rowKey(rowDeployment, d.AppID, d.ID), nil}
	if d.DraftID != "" {
		d.Status, d.Error = statusFailed, asAPIError(cause).text
		if last, err = putRow(d, rowDeployment, d.AppID, d.ID); err != nil {
			return nil, err
		}
	}
	if err := c.s.store(c.Context(), w, last, write{rowKey(rowPending), nil}); err != nil {
		return nil, err
	}
	c.s.log.Warn("a deployment failed", "app", c.app.ClientAppID, "deployment", d.ID, "error", cause)
	if d.DraftID == "" {
		return nil, cause
	}
	c.s.logs.add(c.s.entry(c.app, LogEntry{
		CoID: c.id, Type: LogOther, UserID: c.who.UserID, Error: d.Error, ErrorCode: asAPIError(cause).code,
		Messages: []string{"deployment " + d.ID + " failed"},
	}))
	return d, cause
}

// finish stores what a deployment that was put in force has made of the app, and that it has ended. Its draft is gone with it.
func (s *Server) finish(ctx context.Context, d *deployment) error {
	app, err := putRow(d.Next.App, rowApp, d.AppID)
	if err != nil {
		return err
	}
	own, err := putRow(d, rowDeployment, d.AppID, d.ID)
	if err != nil {
		return err
	}
	writes := []write{app, own, {rowKey(rowPending), nil}}
	if d.DraftID != "" {
		writes = append(writes, write{rowKey(rowDraft, d.AppID, d.UserID), nil})
	}
	return s.store(ctx, writes...)
}

// deployed tells of a deployment in the log.
func (c *call) deployed(d *deployment, outcome devicesync.Outcome) {
	if outcome.From == outcome.To {
		return
	}
	text := fmt.Sprintf("device sync: %s, was %s; by %s, deployment %s", outcome.To.Word(), outcome.From.Word(), c.who.Name, d.ID)
	c.s.log.Info("device sync was changed", "app", c.app.ClientAppID, "database", c.app.Database, "from", outcome.From.Word(), "to", outcome.To.Word(), "by", c.who.Name)
	c.s.logs.add(c.s.entry(c.app, LogEntry{CoID: c.id, Type: LogOther, UserID: c.who.UserID, Messages: []string{text}}))
}

// finishDeployments settles what a crash interrupted: a deployment whose sync configuration is live was put in force, and the rest of
// it is stored; any other has changed nothing, and has failed.
func (s *Server) finishDeployments(ctx context.Context) error {
	all, err := readRows[deployment](ctx, s.opts.Store, rowKey(rowDeployment), 0, false)
	if err != nil {
		return err
	}
	for _, d := range all {
		if d.Status != statusPending {
			continue
		}
		if r := s.running(d.Next.App); r != nil {
			if err := r.DeviceSync().Refresh(ctx); err != nil {
				return err
			}
		}
		if live := s.current(d.Next.App); sameSync(&live, &d.Next) {
			d.Status = statusSuccessful
			err = s.finish(ctx, d)
		} else {
			d.Status, d.Error = statusFailed, "the server was stopped before anything was changed"
			err = put(ctx, s, d, rowDeployment, d.AppID, d.ID)
		}
		if err != nil {
			return err
		}
		s.log.Warn("a deployment that was interrupted is settled", "deployment", d.ID, "status", d.Status)
	}
	return s.store(ctx, write{rowKey(rowPending), nil})
}

func (c *call) handleListDeployments() error {
	q := c.URL.Query()
	limit := deploymentsPerPage
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return invalid("limit: expected a number from 1 to %d", deploymentsPerPage)
		}
		limit = min(n, deploymentsPerPage)
	}
	before, err := beforeOf(q.Get("before"))
	if err != nil {
		return err
	}
	all, err := readRows[deployment](c.Context(), c.s.opts.Store, rowKey(rowDeployment, c.app.ID), 0, true)
	if err != nil {
		return err
	}
	views := []deploymentView{}
	for _, d := range all {
		other := q.Get("draft_id") != "" && d.DraftID != q.Get("draft_id") || q.Get("user_id") != "" && d.UserID != q.Get("user_id")
		if !other && before(d) && len(views) < limit {
			views = append(views, d.view())
		}
	}
	return c.reply(http.StatusOK, views)
}

// beforeOf reads the parameter before: a time in Unix seconds, or the id of a deployment.
func beforeOf(text string) (func(*deployment) bool, error) {
	if text == "" {
		return func(*deployment) bool { return true }, nil
	}
	if isID(text) {
		return func(d *deployment) bool { return d.ID < text }, nil
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, invalid("before: expected a time in Unix seconds, or the id of a deployment")
	}
	return func(d *deployment) bool { return d.DeployedAt < at }, nil
}

// deployment returns the deployment that the path names.
func (c *call) deployment() (*deployment, error) {
	id := c.vars["deployment"]
	d, err := readRow[deployment](c.Context(), c.s.opts.Store, rowKey(rowDeployment, c.app.ID, id))
	if err == nil && d == nil {
		err = fail(http.StatusNotFound, codeDeploymentNotFound, "deployment not found: %q", printable(id))
	}
	return d, err
}

func (c *call) handleGetDeployment() error {
	d, err := c.deployment()
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, d.view())
}

// handleRedeploy puts the configuration of an old deployment in force again. Whether sync is on is no part of that: state, and with it
// the database, stay as they are live, and so does everything of sync while it is terminated (device-sync.md §6.3).
func (c *call) handleRedeploy() error {
	d, err := c.deployment()
	if err != nil {
		return err
	}
	if d.Status != statusSuccessful {
		return fail(http.StatusNotFound, codeDeploymentNotFound, "deployment %s was not successful: there is nothing to deploy again", d.ID)
	}
	live := c.s.current(c.app)
	next := live
	next.App = c.app.clone()
	next.App.Schemas = slices.Clone(d.Next.App.Schemas)
	if err := keepServices(next.App, d.Next.App); err != nil {
		return err
	}
	if live.State != devicesync.Terminated && d.Next.State != devicesync.Terminated && live.Config.Mode == d.Next.Config.Mode {
		database := live.Config.DatabaseName
		next.Config = d.Next.Config
		next.Config.DatabaseName, next.Config.Automatic = database, live.Config.Automatic
		next.Settings = d.Next.Settings
		next.Settings.ClusterName = live.Settings.ClusterName
	}
	_, err = c.deploy(&next, deployment{Name: "redeployment of " + d.ID})
	return c.afterNoContent(err)
}

// keepServices takes over the services of an older configuration, except that the one with sync stays.
func keepServices(a, older *app) error {
	synced := a.synced()
	var services []*service
	if synced != nil {
		services = append(services, synced)
	}
	for _, svc := range older.Services {
		if synced != nil && (svc.ID == synced.ID || svc.Name == synced.Name) {
			continue
		}
		one := *svc
		one.Synced = false
		services = append(services, &one)
	}
	if len(services) > MaxServices {
		return tidegate.Errorf(tidegate.Invalid, "an app has at most %d services", MaxServices)
	}
	a.Services = services
	return nil
}

// deployConfig is the body of …/deploy/config.
type deployConfig struct {
	UIDraftsDisabled bool                `json:"ui_drafts_disabled"`
	Automatic        automaticDeployment `json:"automatic_deployment"`
}

type automaticDeployment struct {
	Enabled         bool     `json:"enabled"`
	Provider        string   `json:"provider"`
	InstallationIDs []string `json:"installation_ids"`
	LastModified    int64    `json:"last_modified"`
}

func (c *call) handleGetDeployConfig() error {
	off := c.app.UIDraftsDisabled || c.s.developing(c.app)
	return c.reply(http.StatusOK, deployConfig{off, automaticDeployment{InstallationIDs: []string{}}})
}

func (c *call) handleSetDeployConfig() error {
	var body struct {
		UIDraftsDisabled *bool                `json:"ui_drafts_disabled"`
		Automatic        *automaticDeployment `json:"automatic_deployment"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.Automatic != nil && body.Automatic.Enabled {
		return invalid("automatic_deployment: there is no deployment from a repository here")
	}
	if body.UIDraftsDisabled != nil && *body.UIDraftsDisabled != c.app.UIDraftsDisabled {
		a := c.app.clone()
		a.UIDraftsDisabled = *body.UIDraftsDisabled
		if err := c.s.saveApp(c.Context(), a); err != nil {
			return err
		}
	}
	return c.noContent()
}
