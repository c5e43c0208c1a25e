package appservices

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// configVersion is the version of the form in which a configuration is exported.
const configVersion = 20210101

// appJSON is the whole configuration of an app in one object, as tools import and export it (device-sync.md §6.4).
type appJSON struct {
	ConfigVersion   int              `json:"config_version"`
	AppID           string           `json:"app_id"`
	Name            string           `json:"name"`
	Location        string           `json:"location"`
	DeploymentModel string           `json:"deployment_model"`
	Environment     string           `json:"environment,omitempty"`
	Sync            syncJSON         `json:"sync"`
	DataSources     []dataSourceJSON `json:"data_sources"`
}

type syncJSON struct {
	Config map[string]any `json:"config"`
}

type dataSourceJSON struct {
	Config serviceJSON      `json:"config"`
	Rules  []collectionJSON `json:"rules"`
}

type serviceJSON struct {
	Name    string         `json:"name"`
	Type    string         `json:"type"`
	Config  map[string]any `json:"config"`
	Version int            `json:"version"`
}

// collectionJSON is what is said of a collection: its schema. Access is the sync function's, so there are no rules.
type collectionJSON struct {
	Database      string          `json:"database"`
	Collection    string          `json:"collection"`
	Schema        json.RawMessage `json:"schema,omitempty"`
	Relationships json.RawMessage `json:"relationships,omitempty"`
}

// export returns the configuration in the form of tools.
func (n *snapshot) export() appJSON {
	a := n.App
	out := appJSON{
		ConfigVersion: configVersion, AppID: a.ClientAppID, Name: a.Name, Location: a.Location, DeploymentModel: a.DeploymentModel,
		Environment: a.Environment, Sync: syncJSON{n.syncConfig()}, DataSources: []dataSourceJSON{},
	}
	for _, svc := range a.Services {
		settings := svc.Settings
		if svc.Synced {
			settings = n.Settings
		}
		ds := dataSourceJSON{Config: serviceJSON{svc.Name, svc.Type, serviceConfig(settings), serviceVersion}, Rules: []collectionJSON{}}
		for _, s := range a.Schemas {
			if s.Metadata.DataSource == svc.Name {
				ds.Rules = append(ds.Rules, collectionJSON{s.Metadata.Database, s.Metadata.Collection, s.Schema, s.Relationships})
			}
		}
		out.DataSources = append(out.DataSources, ds)
	}
	return out
}

func serviceConfig(s devicesync.Service) map[string]any {
	m := map[string]any{"clusterName": s.Cluster(), "readPreference": "primary", "wireProtocolEnabled": s.WireProtocolEnabled}
	if s.ReadPreference != "" {
		m["readPreference"] = s.ReadPreference
	}
	if len(s.ReadPreferenceTagSets) > 0 {
		m["readPreferenceTagSets"] = s.ReadPreferenceTagSets
	}
	return m
}

// alwaysExported are the members of sync/config.json that are there also when they are empty.
var alwaysExported = []string{
	"client_max_offline_days", "is_recovery_mode_disabled", "queryable_fields_names", "indexed_queryable_fields_names",
	"collection_queryable_fields_names",
}

// syncConfig is sync/config.json. Before sync is configured it says of Development Mode only.
func (n *snapshot) syncConfig() map[string]any {
	m := map[string]any{"development_mode_enabled": n.developing()}
	if n.State == devicesync.Terminated {
		return m
	}
	row := &devicesync.Row{Record: devicesync.Record{State: n.State}, Config: n.Config}
	raw := row.FlexibleSync()
	m["type"] = "flexible"
	if n.Config.Mode == devicesync.Partition {
		raw, m["type"] = row.PartitionSync(), "partition"
	}
	var members map[string]json.RawMessage
	_ = json.Unmarshal(raw, &members) // it was just made
	for name, value := range members {
		m[name] = value
	}
	delete(m, "permissions")
	m["development_mode_enabled"] = n.developing()
	if svc := n.App.synced(); svc != nil {
		m["service_name"] = svc.Name
	}
	if n.Config.Mode == devicesync.Partition {
		return m
	}
	for _, name := range alwaysExported {
		if _, there := m[name]; there {
			continue
		}
		m[name] = []string{}
		if name == "collection_queryable_fields_names" {
			m[name] = map[string]any{}
		}
	}
	return m
}

// files returns the configuration as the files of a directory, by path.
func (n *snapshot) files() map[string][]byte {
	a := n.export()
	head := map[string]any{
		"app_id": a.AppID, "config_version": a.ConfigVersion, "name": a.Name, "location": a.Location, "deployment_model": a.DeploymentModel,
	}
	if a.Environment != "" {
		head["environment"] = a.Environment
	}
	files := map[string][]byte{"realm_config.json": pretty(head), "sync/config.json": pretty(a.Sync.Config)}
	for _, ds := range a.DataSources {
		dir := "data_sources/" + ds.Config.Name + "/"
		files[dir+"config.json"] = pretty(ds.Config)
		for _, coll := range ds.Rules {
			at := dir + pathSegment(coll.Database) + "/" + pathSegment(coll.Collection) + "/"
			files[at+"schema.json"] = pretty(coll.Schema)
			if string(coll.Relationships) != "{}" {
				files[at+"relationships.json"] = pretty(coll.Relationships)
			}
		}
	}
	return files
}

// pretty returns a value as indented JSON whose members are in order, so that it can be compared line by line.
func pretty(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var plain any
	if json.Unmarshal(raw, &plain) != nil {
		return nil
	}
	out, err := json.MarshalIndent(plain, "", "    ")
	if err != nil {
		return nil
	}
	return append(out, '\n')
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
