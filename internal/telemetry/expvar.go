package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
)

// AppendExpvar appends the JSON of /_expvar (gateway-rest.md §22.1): every key of every group, 0 where there is
// nothing to tell; and our own figures beside them.
func AppendExpvar(b []byte, s Snapshot, cmdline []string) ([]byte, error) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	global := object{}
	for _, g := range globalGroups() {
		global.add(g.name, g.figures(s.Global[g.name]))
	}
	perDB := object{}
	for _, db := range s.Databases {
		perDB.add(db.Name, db.object())
	}
	gateway := object{}
	gateway.add("global", global)
	gateway.add("per_db", perDB)
	gateway.add("per_replication", object{})
	all := object{}
	all.add("cmdline", cmdline)
	all.add("memstats", mem)
	all.add("cb", object{})
	all.add("syncgateway", gateway)
	all.add("tidegate", ownObject(s.Own))
	out, err := json.Marshal(all)
	return append(b, out...), err
}

// ownObject returns our own figures by their Prometheus names without the prefix, labels included.
func ownObject(own []Own) object {
	o := make(object, 0, len(own))
	for _, figure := range own {
		var labels []string
		for _, l := range figure.Labels {
			labels = append(labels, fmt.Sprintf("%s=%q", l[0], l[1]))
		}
		name := figure.Name
		if len(labels) > 0 {
			name += "{" + strings.Join(labels, ",") + "}"
		}
		o.add(name, figure.Value)
	}
	return o
}

// object returns a database's groups.
func (d DatabaseFigures) object() object {
	o := object{}
	for _, g := range databaseGroups() {
		figures := g.figures(d.Groups[g.name])
		switch g.name {
		case GroupDatabase: // in the JSON alone
			figures.add("cache_feed", object{})
			figures.add("import_feed", object{})
		case GroupPush: // 2.8 has these here too
			figures.add("sync_function_count", d.Groups[GroupDatabase]["sync_function_count"])
			figures.add("sync_function_time", d.Groups[GroupDatabase]["sync_function_time"])
		}
		o.add(g.name, figures)
	}
	replications := object{}
	for _, id := range slices.Sorted(maps.Keys(d.Replications)) {
		replications.add(id, replicationGroup().figures(d.Replications[id]))
	}
	o.add("replications", replications)
	collections := object{}
	for _, name := range slices.Sorted(maps.Keys(d.Collections)) {
		collections.add(name, collectionGroup().figures(d.Collections[name]))
	}
	o.add(groupCollections, collections)
	return o
}

// figures returns the value of every key of the group.
func (g group) figures(f Figures) object {
	o := make(object, 0, len(g.keys))
	for _, k := range g.keys {
		if !k.promOnly {
			o.add(k.name, f[k.name])
		}
	}
	return o
}

// object is a JSON object whose members keep their order.
type object []objectMember

type objectMember struct {
	name  string
	value any
}

func (o *object) add(name string, value any) { *o = append(*o, objectMember{name, value}) }

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
