package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Figures are the values of a group by key. A key that is missing counts as 0: it has no meaning here, and is
// shown so that dashboards made for the product go on working.
type Figures map[string]int64

// Snapshot is all statistics at one moment.
type Snapshot struct {
	Global    map[string]Figures // by the Group… names
	Databases []DatabaseFigures
	// Own are figures that the product does not have.
	Own []Own
}

// DatabaseFigures are the statistics of one database.
type DatabaseFigures struct {
	Name        string
	Groups      map[string]Figures // by the Group… names
	Collections map[string]Figures // by "scope.collection"
	// Replications are those of replications with other gateways, by id.
	Replications map[string]Figures
}

// Own is a figure of tidegate's own. Name is without the prefix "tidegate_".
type Own struct {
	Name, Help string
	Counter    bool // it only grows; its name ends in _total
	Value      float64
	// Labels are pairs of name and value.
	Labels [][2]string
}

// Source gives the statistics of now. It is called for every scrape and must be cheap.
type Source func() Snapshot

// collector turns snapshots into Prometheus metrics, named sgw_SUBSYSTEM_KEY (gateway-rest.md §22.2).
type collector struct {
	source       Source
	global       []described
	database     []described
	collections  []described
	replications []described
	up           *prometheus.Desc
}

// described is a key with its metric.
type described struct {
	group, name string
	kind        prometheus.ValueType
	desc        *prometheus.Desc
}

// NewRegistry returns a registry with the statistics of source and those of the process and the Go runtime.
func NewRegistry(source Source, others ...prometheus.Collector) (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	for _, c := range append([]prometheus.Collector{newCollector(source)}, others...) {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return reg, nil
}

func newCollector(source Source) *collector {
	c := &collector{source: source, up: prometheus.NewDesc("sgw_up", "1 while the gateway runs.", nil, nil)}
	for _, g := range globalGroups() {
		c.global = append(c.global, describe(g)...)
	}
	for _, g := range databaseGroups() {
		c.database = append(c.database, describe(g, "database")...)
	}
	c.collections = describe(collectionGroup(), "database", "collection")
	c.replications = describe(replicationGroup(), "database", "replication")
	return c
}

func describe(g group, labels ...string) []described {
	all := make([]described, len(g.keys))
	for i, k := range g.keys {
		all[i] = described{group: g.name, name: k.name, kind: prometheus.CounterValue}
		if k.kind == gauge {
			all[i].kind = prometheus.GaugeValue
		}
		name := prometheus.BuildFQName("sgw", g.subsystem, k.prom)
		all[i].desc = prometheus.NewDesc(name, "Couchbase Sync Gateway statistic "+g.name+"."+k.name+".", labels, nil)
	}
	return all
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	out <- c.up
	for _, list := range [][]described{c.global, c.database, c.collections, c.replications} {
		for _, d := range list {
			out <- d.desc
		}
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.source()
	out <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, 1)
	for _, d := range c.global {
		out <- d.metric(s.Global[d.group])
	}
	for _, db := range s.Databases {
		for _, d := range c.database {
			out <- d.metric(db.Groups[d.group], db.Name)
		}
		for coll, figures := range db.Collections {
			for _, d := range c.collections {
				out <- d.metric(figures, db.Name, coll)
			}
		}
		for id, figures := range db.Replications {
			for _, d := range c.replications {
				out <- d.metric(figures, db.Name, id)
			}
		}
	}
	for _, o := range s.Own {
		out <- o.metric()
	}
}

func (d described) metric(f Figures, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d.desc, d.kind, float64(f[d.name]), labels...)
}

func (o Own) metric() prometheus.Metric {
	labels := prometheus.Labels{}
	for _, l := range o.Labels {
		labels[l[0]] = l[1]
	}
	kind := prometheus.GaugeValue
	if o.Counter {
		kind = prometheus.CounterValue
	}
	return prometheus.MustNewConstMetric(prometheus.NewDesc("tidegate_"+o.Name, o.Help, nil, labels), kind, o.Value)
}
