package devicesync

import (
	"slices"

	"github.com/tidegate/tidegate"
)

// DefaultClusterName is the name of the cluster of a service that was given none.
const DefaultClusterName = "Cluster0"

// Cluster is the name of the cluster.
func (s Service) Cluster() string {
	if s.ClusterName == "" {
		return DefaultClusterName
	}
	return s.ClusterName
}

// check checks what the members of a config say of each other.
func (c Config) check() error {
	switch {
	case len(c.IndexedQueryableFields) > 1:
		return invalid("indexed_queryable_fields_names", "may name one field only")
	case len(c.IndexedQueryableFields) == 1 && !slices.Contains(c.QueryableFields, c.IndexedQueryableFields[0]):
		return invalid("indexed_queryable_fields_names", "%q is not among queryable_fields_names", c.IndexedQueryableFields[0])
	case c.LedgerRetentionDays != nil && c.ClientMaxOfflineDays != nil && *c.LedgerRetentionDays < 2**c.ClientMaxOfflineDays:
		return invalid("ledger_retention_days", "must be at least twice client_max_offline_days, which is %d", *c.ClientMaxOfflineDays)
	case c.Mode == Partition && c.Partition == nil:
		return refuse(tidegate.Invalid, CodeMissingParameter, "partition: this mode needs one")
	}
	return nil
}

// checkChange checks a config that takes the place of old while sync is in a state other than Terminated.
func (c Config) checkChange(old Config, state State) error {
	switch {
	case c.DatabaseName != old.DatabaseName:
		return invalid("database_name", "cannot be changed before sync is terminated")
	case !c.Partition.routesAs(old.Partition):
		return invalid("partition", "cannot be changed before sync is terminated")
	case state == Enabled && !slices.Equal(c.IndexedQueryableFields, old.IndexedQueryableFields):
		return invalid("indexed_queryable_fields_names", "cannot be changed while sync is enabled")
	}
	return nil
}

// routesAs reports whether two partitions put documents into the same channels.
func (p *PartitionConfig) routesAs(o *PartitionConfig) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.Key == o.Key && p.Type == o.Type && p.Required == o.Required
}
