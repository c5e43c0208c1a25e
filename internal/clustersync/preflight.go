package clustersync

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// preflight are the checks before a sync is started (spec §6). Options are checked already.
type preflight struct {
	src, dst         Cluster
	srcInfo, dstInfo Info
	plan             *Plan
	env              Environment

	warnings []string
	listed   []Collection // of the source
}

// run makes the checks in the spec's order; the first failure wins. What does not stop the sync is in warnings.
func (p *preflight) run(ctx context.Context) error {
	for _, check := range []func(context.Context) error{
		p.usable, p.versions, p.balancers, p.privileges, p.writeBlocking, p.sourceBlocked, p.empty, p.collections, p.conflicts, p.diskSpace,
	} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *preflight) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// usable: a source needs changes to follow; so does a destination that may become one.
func (p *preflight) usable(context.Context) error {
	for _, c := range []struct {
		label  string
		info   Info
		source bool
	}{{p.plan.Source, p.srcInfo, true}, {p.plan.Destination, p.dstInfo, false}} {
		switch {
		case c.info.ChangeSource != "":
		case c.source:
			return Errorf(UnsupportedServer, "%s cannot be a source: %s", c.label, c.info.Unused)
		case p.plan.Reversible:
			return Errorf(UnsupportedServer, `"reversible" needs a destination whose changes can be followed; %s has none: %s`, c.label, c.info.Unused)
		case c.info.MongoDB && c.info.Topology == Standalone:
			return Errorf(UnsupportedServer, "%s is a standalone server", c.label)
		}
		p.warnings = append(p.warnings, c.info.Warnings...)
	}
	return nil
}

// versions counts between MongoDB servers only; others are judged by what they can do.
func (p *preflight) versions(context.Context) error {
	src, dst := p.srcInfo, p.dstInfo
	for _, c := range []struct {
		label string
		info  Info
	}{{p.plan.Source, src}, {p.plan.Destination, dst}} {
		if !c.info.MongoDB {
			continue
		}
		if c.info.Major < 4 || c.info.Major == 4 && c.info.Minor < 4 {
			return Errorf(UnsupportedServer, "%s is of version %s; the oldest that can be used is 4.4", c.label, c.info.Version)
		}
		if c.info.Minor > 0 && c.info.Major >= 5 {
			p.warn("%s is of version %s, a rapid release, which was not tested", c.label, c.info.Version)
		}
	}
	if !src.MongoDB || !dst.MongoDB {
		return nil
	}
	if dst.Major < src.Major {
		return Errorf(UnsupportedServer, "the destination (%s) is older than the source (%s)", dst.Version, src.Version)
	}
	tested := map[int][]int{4: {6}, 5: {6, 7}, 6: {6, 7, 8}, 7: {7, 8}, 8: {8}}
	if !slices.Contains(tested[src.Major], dst.Major) {
		p.warn("syncing version %s to %s is not one of the pairs that mongosync supports", src.Version, dst.Version)
	}
	return nil
}

// balancers must be off, or chunks move under the sync (spec §16).
func (p *preflight) balancers(context.Context) error {
	if p.dstInfo.Balancer && !p.plan.PreExistingDestination {
		return Errorf(UnsupportedServer, "the balancer of the destination is on; stop it (sh.stopBalancer()) and wait until no chunk moves")
	}
	if p.srcInfo.Balancer {
		if !p.plan.Filter.Filtering() {
			return Errorf(UnsupportedServer, "the balancer of the source is on; stop it (sh.stopBalancer()) and wait until no chunk moves")
		}
		p.warn("the balancer of the source is on: setAllowMigrations must be false for every collection in the filter")
	}
	return nil
}

// privileges of the sync's user, by its role (spec §19).
func (p *preflight) privileges(context.Context) error {
	var missing []string
	add := func(label string, info Info, role string) {
		if list := info.Missing[role]; len(list) > 0 {
			missing = append(missing, fmt.Sprintf("%s (as %s): %s", label, role, strings.Join(list, ", ")))
		}
	}
	add(p.plan.Source, p.srcInfo, "source")
	add(p.plan.Destination, p.dstInfo, "destination")
	if p.plan.Reversible {
		add(p.plan.Source, p.srcInfo, "reverse")
		add(p.plan.Destination, p.dstInfo, "reverse")
	}
	if len(missing) > 0 {
		return Errorf(Unauthorized, "the user lacks privileges on %s", strings.Join(missing, "; on "))
	}
	return nil
}

// writeBlocking that was asked for by name must be possible (spec §5.1.1, §12); what is so by default is done where it can be.
func (p *preflight) writeBlocking(context.Context) error {
	var sides []Info
	switch p.plan.WriteBlocking {
	case BlockDestination:
		sides = []Info{p.dstInfo}
	case BlockBoth:
		sides = []Info{p.dstInfo, p.srcInfo}
	}
	for _, s := range sides {
		why := ""
		switch {
		case !s.CanBlock:
			why = "it has no such thing"
		case s.AuthOff:
			why = "its access control is off, so that everybody may bypass it"
		default:
			continue
		}
		// Without blocks on both sides a sync could not be reversed either (spec §14.1): better said now than at the reverse.
		if p.plan.WriteBlockingAsked || p.plan.WriteBlocking == BlockBoth {
			return Errorf(WriteBlockFailed, "the writes of users cannot be blocked on %s: %s", s.Name, why)
		}
		p.warn("the writes of users are not blocked on %s: %s", s.Name, why)
	}
	return nil
}

// sourceBlocked warns of a source whose users cannot write: that is the block of another sync, or of an operator.
func (p *preflight) sourceBlocked(ctx context.Context) error {
	blocked, err := p.src.WritesBlocked(ctx)
	if err == nil && blocked {
		p.warn("the writes of users are blocked on the source")
	}
	return nil // where it cannot be known there is nothing to warn of
}

// maxShownNames bounds the names in a message.
const maxShownNames = 10

func someOf(names []string) string {
	if len(names) <= maxShownNames {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:maxShownNames], ", ") + fmt.Sprintf(" and %d more", len(names)-maxShownNames)
}

// empty: the destination holds no user data, and no records of any sync.
func (p *preflight) empty(ctx context.Context) error {
	if err := p.noRecords(ctx); err != nil {
		return err
	}
	if len(p.dstInfo.UserDatabases) > 0 && !p.plan.PreExistingDestination {
		return Errorf(DestinationNotEmpty, "the destination holds data: %s", someOf(p.dstInfo.UserDatabases))
	}
	if p.env.MigrationName != "" {
		return nil // several syncs may share a cluster
	}
	own := p.env.MetadataDatabase
	foreign := slices.DeleteFunc(slices.Clone(p.dstInfo.MetadataDatabases), func(db string) bool {
		return db == own || own == "" && db == DefaultMetadataDatabase
	})
	if len(foreign) > 0 {
		return Errorf(MetadataConflict, "the destination holds the records of another sync, in %s", someOf(foreign))
	}
	return nil
}

// noRecords of a sync may be on the destination.
func (p *preflight) noRecords(ctx context.Context) error {
	there, err := p.dst.Metadata().Exists(ctx)
	if err != nil {
		return fmt.Errorf("look for records of a sync: %w", err)
	}
	if there {
		return Errorf(MetadataConflict, "the destination holds the records of another sync; drop them, and what it had migrated, to start over")
	}
	return nil
}

// collections of the source that are synced must be of kinds that can be.
func (p *preflight) collections(ctx context.Context) error {
	all, err := p.src.List(ctx)
	if err != nil {
		return fmt.Errorf("list the source: %w", err)
	}
	for _, c := range all {
		if !p.plan.Filter.Includes(c.Namespace) {
			continue
		}
		if why := p.unfit(c); why != "" {
			return Errorf(APIError, "%s cannot be synced: %s", c.Namespace, why)
		}
		p.listed = append(p.listed, c)
	}
	return nil
}

// maxShardedIndexes of a sharded collection.
const maxShardedIndexes = 63

// unfit says why a collection cannot be synced; "" if it can.
func (p *preflight) unfit(c Collection) string {
	if c.Unmappable != nil {
		return c.Unmappable.Error()
	}
	if c.Type == TimeSeries {
		return "time-series collections are not supported"
	}
	if _, err := c.Options.LookupErr("clusteredIndex"); err == nil {
		if _, err := c.Options.LookupErr("expireAfterSeconds"); err == nil {
			return "clustered collections that expire are not supported"
		}
	}
	if _, err := c.Options.LookupErr("encryptedFields"); err == nil {
		return "Queryable Encryption is not supported"
	}
	sharded := slices.ContainsFunc(p.plan.Sharding, func(s ShardKey) bool { return s.Namespace == c.Namespace })
	if sharded && len(c.Indexes)+1 > maxShardedIndexes {
		return fmt.Sprintf("a sharded collection can have at most %d indexes", maxShardedIndexes)
	}
	seen := map[string]bool{} // by key, collation and partial filter: unique?
	for _, index := range c.Indexes {
		unique, _ := index.Lookup("unique").BooleanOK()
		key := indexIdentity(index)
		if other, twice := seen[key]; twice && other != unique {
			return fmt.Sprintf("index %s and another one have the same keys, and only one of them is unique", index.Lookup("name").StringValue())
		}
		seen[key] = unique
		if _, err := index.LookupErr("expireAfterSeconds"); err == nil && p.plan.BuildIndexes == IndexesNever && p.plan.Verification && !p.env.DisableVerification {
			return `it has a TTL index, which verification does not allow with "buildIndexes": "never"`
		}
	}
	return ""
}

// indexIdentity is equal for indexes that cannot both exist unless one is unique and the other is not.
func indexIdentity(index bson.Raw) string {
	var b strings.Builder
	for _, member := range []string{"key", "collation", "partialFilterExpression"} {
		v, err := index.LookupErr(member)
		fmt.Fprintf(&b, "%t %s|", err == nil, v.Value)
	}
	return b.String()
}

// conflicts: no two collections become one, and none becomes one that is there.
func (p *preflight) conflicts(ctx context.Context) error {
	from := map[Namespace]Namespace{}
	for _, c := range p.listed {
		target := p.plan.Filter.Target(c.Namespace)
		if other, twice := from[target]; twice {
			return Errorf(NamespaceConflict, "%s and %s would both become %s", other, c.Namespace, target)
		}
		from[target] = c.Namespace
	}
	if !p.plan.PreExistingDestination {
		return nil
	}
	there, err := p.dst.List(ctx)
	if err != nil {
		return fmt.Errorf("list the destination: %w", err)
	}
	var taken []string
	for _, c := range there {
		if _, conflict := from[c.Namespace]; conflict {
			taken = append(taken, c.Namespace.String())
		}
	}
	if len(taken) > 0 {
		return Errorf(NamespaceConflict, "the destination has namespaces that the sync would create: %s", someOf(taken))
	}
	return nil
}

// diskNeed is what a byte of documents needs on the destination, in quarters: 5/4.
const diskNeedQuarters = 5

// diskSpace of the destination, if it tells.
func (p *preflight) diskSpace(context.Context) error {
	free := p.dstInfo.DiskTotal - p.dstInfo.DiskUsed
	if p.plan.SkipDiskSpaceCheck || p.dstInfo.DiskTotal <= 0 {
		return nil
	}
	var bytes int64
	for _, c := range p.listed {
		bytes += c.Bytes
	}
	if need := bytes / 4 * diskNeedQuarters; need > free {
		return Errorf(InsufficientDiskSpace, `the destination has %d bytes of disk left and about %d are needed; "skipDiskSpaceCheck" goes on anyway`, free, need)
	}
	return nil
}
