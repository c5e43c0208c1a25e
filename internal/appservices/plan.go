package appservices

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// plan is a configuration under change: the caller's draft, or what is live. Its methods change it by the rules of package
// devicesync, each wholly or not at all; what they make is put in force by deploy, or kept in the draft.
type plan struct {
	c    *call
	app  *app           // may be changed
	row  devicesync.Row // as it would be
	live *devicesync.Row
	// draft is the draft that the plan is of; nil: what is changed is deployed at once.
	draft       *draft
	destructive bool // what hurts synced clients was asked for by name
}

// liveRow is the row of an app's database; that of a terminated one if it has none.
func (s *Server) liveRow(a *app) *devicesync.Row {
	if r := s.running(a); r != nil {
		return r.DeviceSync().Live().Row()
	}
	row := &devicesync.Row{Record: devicesync.Record{State: devicesync.Terminated, Phase: devicesync.Steady}}
	if svc := a.synced(); svc != nil {
		row.Service = svc.Settings
	}
	return row
}

// current returns the snapshot of what is live.
func (s *Server) current(a *app) snapshot { return snapshotOf(a, s.liveRow(a)) }

// plan returns what the caller's changes go into: their draft, or what is live.
func (c *call) plan() (*plan, error) {
	d, err := c.s.draftOf(c.Context(), c.app.ID, c.who.UserID)
	if err != nil {
		return nil, err
	}
	p := &plan{c: c, draft: d, live: c.s.liveRow(c.app), destructive: c.destructive()}
	if d == nil {
		p.app, p.row = c.app.clone(), *p.live
		return p, nil
	}
	p.app = d.Next.App.clone()
	p.row = rowOf(&d.Next, p.live)
	return p, nil
}

// rowOf is a database's row as it would be with the sync configuration of a snapshot.
func rowOf(n *snapshot, live *devicesync.Row) devicesync.Row {
	row := *live
	if n.State != live.Record.State {
		row.Record.State, row.Record.Phase, row.Record.Termination = n.State, devicesync.Steady, nil
	}
	row.Config, row.Service = n.Config, n.Settings
	return row
}

// destructive reports whether the request asks by name for what would hurt synced clients (device-sync.md §7.1).
func (c *call) destructive() bool {
	q := c.URL.Query()
	switch q.Get("bypass_service_change") {
	case "SyncProtocolVersionIncrease", "DestructiveSyncProtocolVersionIncrease", "SyncSchemaVersionIncrease":
		return true
	}
	return q.Get("allow_destructive_changes") == "true"
}

// seen returns the app as the caller sees it: their draft's, if there is one.
func (c *call) seen() (*app, error) {
	p, err := c.plan()
	if err != nil {
		return nil, err
	}
	return p.app, nil
}

// snapshot is what the plan amounts to.
func (p *plan) snapshot() snapshot { return snapshotOf(p.app, &p.row) }

// change makes a change of the app's configuration: into the caller's draft, which the console's first change makes, or else into
// what is live. It returns the deployment of the latter; nil if there was none. If fn fails nothing is changed.
func (c *call) change(fn func(*plan) error) (*deployment, error) {
	p, err := c.plan()
	if err != nil {
		return nil, err
	}
	if p.draft == nil && c.origin == originUI && !c.app.UIDraftsDisabled && !c.s.developing(c.app) {
		if p.draft, err = c.newDraft(); err != nil {
			return nil, err
		}
	}
	before := p.snapshot()
	if err := fn(p); err != nil {
		return nil, err
	}
	if err := p.app.checkSize(); err != nil {
		return nil, err
	}
	next := p.snapshot()
	if p.draft != nil {
		p.draft.take(next)
		return nil, c.s.saveDraft(c.Context(), p.draft)
	}
	if sameSync(&before, &next) && same(before.App, next.App) {
		return nil, nil
	}
	return c.deploy(&next, deployment{})
}

// developing reports whether an app is in Development Mode, as it is live.
func (s *Server) developing(a *app) bool {
	n := s.current(a)
	return n.developing()
}

// patchService merges a service configuration, the body of a PATCH, into that of a service (device-sync.md §4.3).
func (p *plan) patchService(id string, body []byte) error {
	patch, err := devicesync.ParsePatch(body)
	if err != nil {
		return err
	}
	if p.row.Config.Mode == devicesync.Partition && p.row.Record.State != devicesync.Terminated && patch.Partition == nil && onlySync(body) {
		patch.Partition, patch.Flexible = patch.Flexible, nil // a sync object that leaves the partition as it is
	}
	svc, synced, asks := p.app.service(id), p.app.synced(), asked(patch)
	switch {
	case svc.Synced:
	case !asks: // what such a service says of sync is that there is none
		svc.Settings, err = mergeService(svc.Settings, patch.Service)
		return err
	case synced != nil && p.row.Record.State != devicesync.Terminated:
		return invalid("device sync is configured on service %q (%s) of this app; only one service can have it", synced.Name, synced.ID)
	default:
		p.moveSync(svc)
	}
	before := p.snapshot()
	if err := p.decide(patch); err != nil {
		return err
	}
	if after := p.snapshot(); !sameSync(&before, &after) {
		svc.Modified = p.c.s.now().Unix()
	}
	return nil
}

// onlySync reports whether a service configuration has a sync object, and no flexible_sync.
func onlySync(body []byte) bool {
	var members map[string]json.RawMessage
	_ = json.Unmarshal(body, &members) // it was parsed
	_, flexible := members["flexible_sync"]
	_, sync := members["sync"]
	return sync && !flexible
}

// asked reports whether a patch asks for a state in which sync is configured.
func asked(patch devicesync.Patch) bool {
	states := []*devicesync.State{patch.State}
	for _, part := range []*devicesync.Part{patch.Flexible, patch.Partition} {
		if part != nil {
			states = append(states, part.State)
		}
	}
	for _, state := range states {
		if state != nil && *state != devicesync.Terminated {
			return true
		}
	}
	return false
}

// mergeService returns what members make of the settings of a service on which sync is not configured.
func mergeService(old devicesync.Service, members map[string]json.RawMessage) (devicesync.Service, error) {
	none := devicesync.Row{Record: devicesync.Record{State: devicesync.Terminated, Phase: devicesync.Steady}, Service: old}
	row, _, err := devicesync.Decide(none, devicesync.Change{Patch: devicesync.Patch{Service: members}}, time.Time{})
	return row.Service, err
}

// moveSync makes a service the one that sync is configured on.
func (p *plan) moveSync(to *service) {
	if from := p.app.synced(); from != nil {
		from.Synced, from.Settings = false, p.row.Service
	}
	to.Synced = true
	p.row.Service = to.Settings
}

// decide applies a patch to the plan's row by the rules, and what it means for the app.
func (p *plan) decide(patch devicesync.Patch) error {
	was := p.row.Record.State
	row, _, err := devicesync.Decide(p.row, p.devChange(patch), p.c.s.now())
	if err != nil {
		return err
	}
	switch is := row.Record.State; {
	case is == devicesync.Terminated && was != devicesync.Terminated:
		p.settle(&row)
	case is != devicesync.Terminated && was == devicesync.Terminated:
		if err := p.mayBind(row.Config.DatabaseName, row.Config.DevelopmentMode); err != nil {
			return err
		}
		p.app.Database, p.app.DevelopmentMode = row.Config.DatabaseName, false
	}
	p.row = row
	return nil
}

// devChange is the change that a patch asks for. Development Mode is an app's before sync is configured, and then goes with it.
func (p *plan) devChange(patch devicesync.Patch) devicesync.Change {
	if p.row.Record.State == devicesync.Terminated && p.app.DevelopmentMode && asked(patch) {
		for _, part := range []**devicesync.Part{&patch.Flexible, &patch.Partition} {
			if *part == nil {
				continue
			}
			members := map[string]json.RawMessage{"development_mode_enabled": json.RawMessage("true")}
			maps.Copy(members, (*part).Members)
			*part = &devicesync.Part{State: (*part).State, Members: members}
		}
	}
	return devicesync.Change{
		Patch: patch, By: p.c.who.by(), Origin: changeOrigins[p.c.origin], AllowDestructive: p.destructive,
	}
}

// changeOrigins are the names that changes have for where a deployment came from.
var changeOrigins = map[string]string{originUI: "UI", originCLI: "CLI", originAPI: "API"}

// settle makes of a row whose termination was decided one whose termination has ended, as it is for whoever plans.
func (p *plan) settle(row *devicesync.Row) {
	row.Record.Phase, row.Record.Termination = devicesync.Steady, nil
	row.Config = devicesync.Config{}
	p.app.DevelopmentMode = false
	if p.draft != nil {
		p.draft.ThroughTerminated = true
	}
}

// terminate ends sync in the plan.
func (p *plan) terminate() error {
	return p.decide(devicesync.StatePatch(devicesync.Terminated))
}

// mayBind checks whether the app's sync can be configured for a database.
func (p *plan) mayBind(name string, development bool) error {
	if p.app.Database == name && p.c.s.running(p.app) != nil {
		return nil
	}
	if p.app.Automatic {
		return invalid("database_name: this app is that of the database %q", p.app.Database)
	}
	return p.c.s.mayBind(p.c.Context(), p.app, name, development)
}
