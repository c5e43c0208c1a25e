package appservices

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/devicesync"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/store"
)

// What apps and services are called where nobody named them.
const (
	groupName      = "Project 0"
	orgName        = "tidegate"
	serviceName    = "mongodb-atlas"
	serviceType    = "mongodb-atlas"
	serviceMongo   = "mongodb" // what test harnesses for local servers make
	clusterName    = "Cluster0"
	clusterType    = "atlas"
	productName    = "standard"
	appLocation    = "local"
	appDeployment  = "LOCAL"
	serviceVersion = 1
)

// app is an app as it is stored. What its sync configuration says is in its database's own row.
type app struct {
	ID              string `json:"_id"`
	ClientAppID     string `json:"client_app_id"`
	GroupID         string `json:"group_id"`
	Name            string `json:"name"`
	Location        string `json:"location"`
	DeploymentModel string `json:"deployment_model"`
	Environment     string `json:"environment"`
	Automatic       bool   `json:"automatic"` // made with its database
	// Database is the gateway database that the app is bound to; "": none yet.
	Database string `json:"database"`
	Created  int64  `json:"created"` // Unix s
	Modified int64  `json:"modified"`
	// Generation counts the deployments.
	Generation       uint64 `json:"generation"`
	UIDraftsDisabled bool   `json:"ui_drafts_disabled"`
	// DevelopmentMode holds while sync is not configured; then the database's row has it.
	DevelopmentMode bool       `json:"development_mode"`
	Services        []*service `json:"services"`
	Schemas         []*schema  `json:"schemas"`
}

// service is a linked data source of an app.
type service struct {
	ID       string `json:"_id"`
	Name     string `json:"name"`
	Type     string `json:"type"`
	Modified int64  `json:"modified"`
	// Synced: device sync is configured on this one. At most one service of an app is.
	Synced bool `json:"synced"`
	// Settings are the service's own; while it is synced, those in the database's row count.
	Settings devicesync.Service `json:"settings"`
}

// clone returns a copy that can be changed without changing the app.
func (a *app) clone() *app {
	c := *a
	c.Services = nil
	for _, svc := range a.Services {
		one := *svc
		c.Services = append(c.Services, &one)
	}
	c.Schemas = slices.Clone(a.Schemas) // a schema is replaced, not changed
	return &c
}

// service returns the service of an id; nil if there is none.
func (a *app) service(id string) *service {
	return a.find(func(s *service) bool { return s.ID == id })
}

// synced returns the service that sync is, or was last, configured on; nil if there is none.
func (a *app) synced() *service { return a.find(func(s *service) bool { return s.Synced }) }

func (a *app) find(match func(*service) bool) *service {
	if i := slices.IndexFunc(a.Services, match); i >= 0 {
		return a.Services[i]
	}
	return nil
}

// newAutomatic makes the app of a database (device-sync.md §1).
func (s *Server) newAutomatic(database string) *app {
	now := s.now().Unix()
	return &app{
		ID: s.ids.next(), ClientAppID: clientAppID(database), GroupID: s.server.GroupID, Name: database, Location: appLocation,
		DeploymentModel: appDeployment, Automatic: true, Database: database, Created: now, Modified: now,
		Services: []*service{{ID: s.ids.next(), Name: serviceName, Type: serviceType, Modified: now, Synced: true}},
	}
}

// apps returns all apps that are there, in the order in which they were made. A database that has none gets one first.
func (s *Server) apps(ctx context.Context) ([]*app, error) {
	all, err := readRows[app](ctx, s.opts.Store, rowKey(rowApp), 0, false)
	if err != nil {
		return nil, err
	}
	need, err := s.without(ctx, all)
	if err != nil {
		return nil, err
	}
	if len(need) > 0 {
		if err := s.makeAutomatic(ctx, need); err != nil {
			return nil, err
		}
		if all, err = readRows[app](ctx, s.opts.Store, rowKey(rowApp), 0, false); err != nil {
			return nil, err
		}
	}
	all = slices.DeleteFunc(all, func(a *app) bool { return a.Automatic && s.running(a) == nil })
	slices.SortStableFunc(all, func(a, b *app) int { return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.Name, b.Name)) })
	return all, nil
}

// without returns the databases of the gateway that no app is bound to, and that are to have one. Whoever lists apps asks, devices with an
// address that leads nowhere among them, so it only reads.
func (s *Server) without(ctx context.Context, all []*app) ([]string, error) {
	bound := map[string]bool{}
	for _, a := range all {
		bound[a.Database] = true
	}
	need := slices.DeleteFunc(s.opts.Gateway.Names(), func(name string) bool { return bound[name] })
	if len(need) == 0 {
		return nil, nil
	}
	err := s.opts.Store.View(ctx, func(r store.Reader) (err error) {
		need = slices.DeleteFunc(need, func(name string) bool {
			gone, failed := r.Get(rowKey(rowAppless, name))
			err = cmp.Or(err, failed)
			return gone != nil
		})
		return err
	})
	return need, err
}

// makeAutomatic makes the apps of databases, except of those whose app was deleted. It may be called by several at once: an app
// that is there in the transaction is not made again.
func (s *Server) makeAutomatic(ctx context.Context, databases []string) error {
	fresh := map[string]write{}
	for _, name := range databases {
		a := s.newAutomatic(name)
		w, err := putRow(a, rowApp, a.ID)
		if err != nil {
			return err
		}
		fresh[name] = w
	}
	return s.opts.Store.Update(context.WithoutCancel(ctx), func(tx store.Tx) error {
		missing := maps.Clone(fresh)
		it := tx.Scan(store.Prefix(rowKey(rowApp)))
		for it.Next() {
			a, err := decodeRow[app](it.Value())
			if err != nil {
				_ = it.Close()
				return err
			}
			delete(missing, a.Database)
		}
		if err := cmp.Or(it.Err(), it.Close()); err != nil {
			return err
		}
		for name, w := range missing {
			gone, err := tx.Get(rowKey(rowAppless, name))
			if err == nil && gone == nil {
				err = tx.Put(w.key, w.value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// findApp returns the app of an id. AppNotFound: there is none, or it went with its database.
func (s *Server) findApp(ctx context.Context, id string) (*app, error) {
	notThere := fail(http.StatusNotFound, codeAppNotFound, "app not found: %q", printable(id))
	if !isID(id) {
		return nil, notThere
	}
	a, err := readRow[app](ctx, s.opts.Store, rowKey(rowApp, id))
	if err != nil {
		return nil, err
	}
	if a == nil || a.Automatic && s.running(a) == nil {
		return nil, notThere
	}
	return a, nil
}

// running returns the database that an app is bound to; nil if there is none, or it is gone.
func (s *Server) running(a *app) *gateway.Running {
	if a.Database == "" {
		return nil
	}
	r, err := s.opts.Gateway.Database(a.Database)
	if err != nil {
		return nil
	}
	return r
}

// appView is an app as clients see it.
type appView struct {
	ID              string `json:"_id"`
	ClientAppID     string `json:"client_app_id"`
	GroupID         string `json:"group_id"`
	DomainID        string `json:"domain_id"`
	Name            string `json:"name"`
	Location        string `json:"location"`
	ProviderRegion  string `json:"provider_region"`
	DeploymentModel string `json:"deployment_model"`
	LastUsed        int64  `json:"last_used"`
	LastModified    int64  `json:"last_modified"`
	Product         string `json:"product"`
	Environment     string `json:"environment"`
	Database        string `json:"database,omitempty"` // tidegate's own: that the app is bound to
}

func (c *call) appView(a *app) appView {
	return appView{
		a.ID, a.ClientAppID, a.GroupID, c.s.server.DomainID, a.Name, a.Location, "", a.DeploymentModel, a.Modified, a.Modified, productName, a.Environment, a.Database,
	}
}

// products are the values of the product parameter. All apps here are of the first kind.
var products = []string{productName, "atlas", "data-api", "device-sync"}

func (c *call) handleListApps() error {
	product := c.URL.Query().Get("product")
	wanted := product == ""
	for p := range strings.SplitSeq(product, ",") {
		if product != "" && !slices.Contains(products, p) {
			return invalid("product: expected some of %s", strings.Join(products, ", "))
		}
		wanted = wanted || p == productName
	}
	views := []appView{}
	if wanted {
		all, err := c.s.apps(c.Context())
		if err != nil {
			return err
		}
		for _, a := range all {
			views = append(views, c.appView(a))
		}
	}
	return c.reply(http.StatusOK, views)
}

func (c *call) handleGetApp() error { return c.reply(http.StatusOK, c.appView(c.app)) }

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func validName(what, name string) error {
	if name == "" {
		return missing("name")
	}
	if len(name) > maxNameChars || !namePattern.MatchString(name) {
		return invalid("%s: a name has 1 to %d ASCII letters, digits, _ and -", what, maxNameChars)
	}
	return nil
}

// newApp is the body that makes an app.
type newApp struct {
	Name            string      `json:"name"`
	Location        string      `json:"location"`
	DeploymentModel string      `json:"deployment_model"`
	Environment     string      `json:"environment"`
	TemplateID      string      `json:"template_id"`
	DataSource      *newService `json:"data_source"`
}

// environments are the values of an app's environment.
var environments = []string{"", "no-environment", "development", "testing", "qa", "production"}

func (c *call) handleCreateApp() error {
	var body newApp
	if err := c.decode(&body); err != nil {
		return err
	}
	if err := validName("app", body.Name); err != nil {
		return err
	}
	switch {
	case body.TemplateID != "":
		return invalid("template_id: there are no templates here")
	case !slices.Contains(environments, body.Environment):
		return invalid("environment: expected one of %s", strings.Join(environments[1:], ", "))
	case len(body.Location) > maxNameChars || len(body.DeploymentModel) > maxNameChars:
		return invalid("location and deployment_model have at most %d characters", maxNameChars)
	}
	all, err := c.s.apps(c.Context())
	if err != nil {
		return err
	}
	if n := countOf(all, func(a *app) bool { return !a.Automatic }); n >= MaxApps {
		return invalid("there are %d apps already", n)
	}
	now := c.s.now().Unix()
	a := &app{
		ID: c.s.ids.next(), ClientAppID: clientAppID(body.Name), GroupID: c.s.server.GroupID, Name: body.Name,
		Location: cmp.Or(body.Location, appLocation), DeploymentModel: cmp.Or(body.DeploymentModel, appDeployment),
		Environment: body.Environment, Created: now, Modified: now,
	}
	c.app = a
	if body.DataSource != nil {
		svc, err := c.newService(body.DataSource)
		if err != nil {
			return err
		}
		a.Services = append(a.Services, svc)
	}
	if err := c.s.saveApp(c.Context(), a); err != nil {
		return err
	}
	return c.reply(http.StatusCreated, c.appView(a))
}

func countOf[T any](all []T, match func(T) bool) int {
	n := 0
	for _, v := range all {
		if match(v) {
			n++
		}
	}
	return n
}

// saveApp stores an app that was changed.
func (s *Server) saveApp(ctx context.Context, a *app) error {
	if err := a.checkSize(); err != nil {
		return err
	}
	a.Modified = s.now().Unix()
	return put(ctx, s, a, rowApp, a.ID)
}

// checkSize refuses an app whose configuration is too large.
func (a *app) checkSize() error {
	if n := len(a.Services); n > MaxServices {
		return invalid("an app has at most %d services", MaxServices)
	}
	if n := len(a.Schemas); n > MaxSchemas {
		return invalid("an app has at most %d schemas", MaxSchemas)
	}
	b, err := encodeRow(a)
	if err == nil && len(b) > MaxConfigBytes {
		err = fail(http.StatusRequestEntityTooLarge, codeBadRequest, "the configuration of an app has at most %d bytes", MaxConfigBytes)
	}
	return err
}

// handleDeleteApp deletes an app with its drafts, deployments and log. Its database stays, and syncs as it did.
func (c *call) handleDeleteApp() error {
	writes := []write{{rowKey(rowApp, c.app.ID), nil}}
	for _, kind := range []string{rowDraft, rowDeployment} {
		keys, err := keysOf(c.Context(), c.s.opts.Store, rowKey(kind, c.app.ID))
		if err != nil {
			return err
		}
		for _, k := range keys {
			writes = append(writes, write{k, nil})
		}
	}
	if c.app.Database != "" {
		w, err := putRow(c.app.Database, rowAppless, c.app.Database)
		if err != nil {
			return err
		}
		writes = append(writes, w)
	}
	if err := c.s.store(c.Context(), writes...); err != nil {
		return err
	}
	c.s.logs.drop(c.app.ID)
	c.s.log.Info("an app was deleted", "app", c.app.ClientAppID, "database", c.app.Database, "by", c.who.Name)
	c.app = nil
	return c.noContent()
}

func keysOf(ctx context.Context, st store.Store, prefix store.Key) ([]store.Key, error) {
	var keys []store.Key
	err := st.View(ctx, func(r store.Reader) error {
		keys = nil
		it := r.Scan(store.Prefix(prefix))
		defer it.Close()
		for it.Next() {
			keys = append(keys, store.Key(it.Key()).Clone())
		}
		return it.Err()
	})
	return keys, err
}

// mayBind checks whether the sync of an app can be configured for a database: an existing one that no other app is bound to, or, in
// Development Mode, one that does not exist yet.
func (s *Server) mayBind(ctx context.Context, a *app, name string, development bool) error {
	all, err := s.apps(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Database == name && other.ID != a.ID {
			return invalid("database_name: the database %q belongs to app %s (%s); configure sync there", printable(name), other.ClientAppID, other.ID)
		}
	}
	_, err = s.opts.Gateway.Database(name)
	if err == nil || tidegate.ErrorCode(err) != tidegate.NotFound {
		return err
	}
	if !development {
		return invalid("database_name: there is no database %q; it is made only in Development Mode", printable(name))
	}
	return config.ValidDatabaseName(name)
}

// bind returns the database that an app was bound to; it is made if it does not exist, which mayBind has allowed.
func (s *Server) bind(ctx context.Context, a *app) (*gateway.Running, error) {
	r, err := s.opts.Gateway.Database(a.Database)
	if err == nil || tidegate.ErrorCode(err) != tidegate.NotFound {
		return r, err
	}
	if _, err := s.opts.Gateway.Create(ctx, a.Database, &config.Database{}); err != nil {
		return nil, err
	}
	return s.opts.Gateway.Database(a.Database)
}
