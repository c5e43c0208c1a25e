package appservices

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// configView is the service config object (device-sync.md §4.1).
type configView struct {
	ClusterID             string          `json:"clusterId"`
	ClusterName           string          `json:"clusterName"`
	ClusterType           string          `json:"clusterType"`
	FlexibleSync          json.RawMessage `json:"flexible_sync"`
	Sync                  json.RawMessage `json:"sync,omitempty"`
	GroupName             string          `json:"groupName"`
	OrgName               string          `json:"orgName"`
	ReadPreference        string          `json:"readPreference"`
	ReadPreferenceTagSets json.RawMessage `json:"readPreferenceTagSets,omitempty"`
	WireProtocolEnabled   bool            `json:"wireProtocolEnabled"`
}

// view is a service config as clients see it.
func (p *plan) configView(svc *service) configView {
	settings, row := svc.Settings, &devicesync.Row{Record: devicesync.Record{State: devicesync.Terminated}}
	if svc.Synced {
		settings, row = p.row.Service, &p.row
	}
	v := configView{
		ClusterID: p.c.s.clusterID(), ClusterName: settings.Cluster(), ClusterType: clusterType,
		FlexibleSync: row.FlexibleSync(), Sync: row.PartitionSync(),
		GroupName: groupName, OrgName: orgName,
		ReadPreference: settings.ReadPreference, ReadPreferenceTagSets: settings.ReadPreferenceTagSets,
		WireProtocolEnabled: settings.WireProtocolEnabled,
	}
	if v.ReadPreference == "" {
		v.ReadPreference = "primary"
	}
	return v
}

// clusterID is the id of the cluster that services name: that of the tidegate cluster, shortened to the length of an id.
func (s *Server) clusterID() string { return derivedID("cluster", s.opts.Gateway.ClusterUUID()) }

func (c *call) handleGetConfig() error {
	p, err := c.plan()
	if err != nil {
		return err
	}
	svc, err := c.service(p.app)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, p.configView(svc))
}

func (c *call) handlePatchConfig() error {
	if len(bytes.TrimSpace(c.raw)) == 0 {
		return errNotObject
	}
	_, err := c.change(func(p *plan) error {
		svc, err := c.service(p.app)
		if err != nil {
			return err
		}
		return p.patchService(svc.ID, c.raw)
	})
	return c.afterNoContent(err)
}

// handleGetSyncConfig answers sync/config.
func (c *call) handleGetSyncConfig() error {
	p, err := c.plan()
	if err != nil {
		return err
	}
	n := p.snapshot()
	view := struct {
		DevelopmentMode bool   `json:"development_mode_enabled"`
		ServiceID       string `json:"service_id,omitempty"`
	}{DevelopmentMode: n.developing()}
	if svc := p.app.synced(); svc != nil && n.State != devicesync.Terminated {
		view.ServiceID = svc.ID
	}
	return c.reply(http.StatusOK, view)
}

// handlePutSyncConfig turns Development Mode on or off.
func (c *call) handlePutSyncConfig() error {
	var body struct {
		DevelopmentMode *bool `json:"development_mode_enabled"`
		AllowGuest      bool  `json:"allow_guest"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	switch {
	case body.DevelopmentMode == nil:
		return missing("development_mode_enabled")
	case body.AllowGuest:
		return invalid("allow_guest: the guest of a database is enabled with its own API, PUT /{db}/_user/GUEST")
	}
	_, err := c.change(func(p *plan) error { return p.develop(*body.DevelopmentMode) })
	return c.afterNoContent(err)
}

// develop turns Development Mode on or off in the plan. Before sync is configured it is the app's.
func (p *plan) develop(on bool) error {
	if p.row.Record.State == devicesync.Terminated {
		p.app.DevelopmentMode = on
		return nil
	}
	members := map[string]json.RawMessage{"development_mode_enabled": json.RawMessage("false")}
	if on {
		members["development_mode_enabled"] = json.RawMessage("true")
	}
	part := &devicesync.Part{Members: members}
	patch := devicesync.Patch{Flexible: part}
	if p.row.Config.Mode == devicesync.Partition {
		patch = devicesync.Patch{Partition: part}
	}
	return p.decide(patch)
}
