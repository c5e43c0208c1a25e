package mongocluster

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Inspect implements [clustersync.Cluster]: the cluster is probed anew.
func (c *Cluster) Inspect(ctx context.Context) (clustersync.Info, error) {
	caps, err := c.probe(ctx)
	if err != nil {
		return clustersync.Info{}, err
	}
	info := clustersync.Info{Name: c.uri.name, ChangeSource: caps.changes, Unused: caps.unused, CanBlock: caps.writeBlock, Topology: clustersync.Standalone}
	for _, look := range []func(context.Context, *capabilities, *clustersync.Info) error{
		c.inspectVersion, c.inspectTopology, c.inspectPrivileges, c.inspectDatabases, c.inspectDisk,
	} {
		if err := look(ctx, caps, &info); err != nil {
			return clustersync.Info{}, err
		}
	}
	info.Warnings = append(info.Warnings, warnings(caps, &info)...)
	return info, nil
}

func (c *Cluster) inspectVersion(ctx context.Context, _ *capabilities, info *clustersync.Info) error {
	raw, err := c.run(ctx, "read build info", "admin", bson.D{{Key: "buildInfo", Value: 1}})
	if err != nil {
		return passingOnly(err)
	}
	var build struct {
		Version string  `bson:"version"`
		Parts   []int32 `bson:"versionArray"`
	}
	if err := bson.Unmarshal(raw, &build); err != nil {
		return c.failed("read build info", err)
	}
	info.Version, info.MongoDB = build.Version, isMongoDB(raw)
	if len(build.Parts) >= 2 {
		info.Major, info.Minor = int(build.Parts[0]), int(build.Parts[1])
	}
	return nil
}

// isMongoDB reports whether a server does not say of itself that it is another. It decides which rules on versions count, never what is used.
func isMongoDB(buildInfo bson.Raw) bool {
	return !calls(buildInfo, "ferretdb") && !calls(buildInfo, "secantus")
}

func (c *Cluster) inspectTopology(ctx context.Context, caps *capabilities, info *clustersync.Info) error {
	info.Hosts = caps.hosts
	if len(info.Hosts) == 0 {
		info.Hosts = hostsOf(c.uri.uri)
	}
	info.Hosts = slices.Clone(info.Hosts)
	slices.Sort(info.Hosts)
	switch {
	case caps.sharded:
		info.Topology = clustersync.Sharded
		return c.inspectShards(ctx, info)
	case caps.setName != "":
		info.Topology = clustersync.ReplicaSet
		raw, err := c.run(ctx, "read replica set config", "admin", bson.D{{Key: "replSetGetConfig", Value: 1}})
		if id, lookErr := raw.LookupErr("config", "settings", "replicaSetId"); err == nil && lookErr == nil {
			if oid, ok := id.ObjectIDOK(); ok {
				info.ID = oid.Hex()
			}
		}
		return passingOnly(err)
	}
	return nil
}

func (c *Cluster) inspectShards(ctx context.Context, info *clustersync.Info) error {
	raw, err := c.run(ctx, "list shards", "admin", bson.D{{Key: "listShards", Value: 1}})
	if err == nil {
		shards, _ := documents(raw, "shards")
		info.Shards = len(shards)
	} else if errors.Is(err, clustersync.ErrUnreachable) {
		return err
	}
	raw, err = c.run(ctx, "read balancer status", "admin", bson.D{{Key: "balancerStatus", Value: 1}})
	if err == nil {
		info.Balancer = lookupString(raw, "mode") != "off"
	} else if errors.Is(err, clustersync.ErrUnreachable) {
		return err
	}
	version, err := c.all(ctx, "read cluster id", "config", bson.D{{Key: "find", Value: "version"}, {Key: "limit", Value: 1}})
	if err == nil && len(version) > 0 {
		if oid, ok := version[0].Lookup("clusterId").ObjectIDOK(); ok {
			info.ID = oid.Hex()
		}
	}
	return passingOnly(err)
}

func (c *Cluster) inspectDatabases(ctx context.Context, _ *capabilities, info *clustersync.Info) error {
	names, err := c.databases(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if c.metadata(name) {
			found, err := c.hasRecords(ctx, name)
			if err != nil {
				return err
			}
			if found {
				info.MetadataDatabases = append(info.MetadataDatabases, name)
			}
		}
		if c.internal(name) {
			continue
		}
		found, err := c.catalog(ctx, name)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			info.UserDatabases = append(info.UserDatabases, name)
		}
	}
	return nil
}

// inspectDisk reads how full the disk is; many servers do not tell, then it stays zero.
func (c *Cluster) inspectDisk(ctx context.Context, _ *capabilities, info *clustersync.Info) error {
	raw, err := c.run(ctx, "read database stats", "admin", bson.D{{Key: "dbStats", Value: 1}})
	if err != nil {
		return passingOnly(err)
	}
	info.DiskTotal, info.DiskUsed = lookupInt(raw, "fsTotalSize"), lookupInt(raw, "fsUsedSize")
	return nil
}

// warnings says what this cluster cannot do and the sync does otherwise, or does without.
func warnings(caps *capabilities, info *clustersync.Info) []string {
	var out []string
	say := func(text string) { out = append(out, info.Name+": "+text) }
	switch {
	case caps.changes == ChangesOplog:
		say("there are no change streams; the oplog is read, and collections and indexes are listed again and again")
	case caps.changes == ChangesStream && !caps.expanded:
		say("its change stream tells nothing of created collections, indexes and options; such changes end the sync")
	case caps.changes == ChangesStream && !caps.split:
		say("its change stream cannot split events over 16 MiB")
	}
	if !caps.collMod {
		say("there is no collMod; indexes are dropped and made anew at commit")
	}
	if !caps.emptyTimestamp && info.MongoDB {
		say("empty timestamps in documents are replaced by the server")
	}
	if info.MongoDB && !caps.sharded && info.Minor != 0 {
		say("this is a rapid release, which is not meant to be synced")
	}
	return out
}

// hostsOf returns the hosts of a connection string, each with its port.
func hostsOf(uri string) []string {
	_, hosts, _ := authority(uri)
	var out []string
	for host := range strings.SplitSeq(hosts, ",") {
		out = append(out, firstHost("mongodb://"+host))
	}
	return out
}
