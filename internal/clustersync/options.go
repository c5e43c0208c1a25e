package clustersync

import (
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// Environment is what the combinations of options depend on besides the clusters.
type Environment struct {
	MetadataDatabase    string
	MigrationName       string
	DisableVerification bool
}

// plan checks everything that does not depend on the clusters, and returns the plan so far (spec §5.1.2). Errors are InvalidOption and name the
// member.
func (r *StartRequest) plan(env Environment) (*Plan, error) {
	p := &Plan{
		Source: r.Source, Destination: r.Destination, Reversible: r.Reversible, SkipDiskSpaceCheck: r.SkipDiskSpaceCheck,
		DetectRandomID: r.DetectRandomID == nil || *r.DetectRandomID,
		Verification:   r.Verification == nil || r.Verification.Enabled == nil || *r.Verification.Enabled,
	}
	for _, step := range []func(*Plan, Environment) error{
		r.checkDirection, r.takeExisting, r.takeFilter, r.takeIndexes, r.takeSharding, r.checkReversible, r.takeWriteBlocking, r.checkVerification,
	} {
		if err := step(p, env); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (r *StartRequest) checkDirection(*Plan, Environment) error {
	for _, c := range []struct{ member, value string }{{"source", r.Source}, {"destination", r.Destination}} {
		switch c.value {
		case cluster0, cluster1:
		case "":
			return Errorf(InvalidOption, `%q is required: "cluster0" or "cluster1"`, c.member)
		default:
			return Errorf(InvalidOption, `%q must be "cluster0" or "cluster1"`, c.member)
		}
	}
	if r.Source == r.Destination {
		return Errorf(InvalidOption, `"source" and "destination" must be different clusters`)
	}
	return nil
}

// The labels of the two clusters.
const (
	cluster0 = "cluster0"
	cluster1 = "cluster1"
)

// takeExisting reads how data on the destination is to be treated (spec §5.1.3).
func (r *StartRequest) takeExisting(p *Plan, _ Environment) error {
	p.PreExistingDestination = r.PreExistingDestination != nil && *r.PreExistingDestination
	if h := r.DestinationDataHandling; h != nil {
		ignore := false
		switch *h {
		case "requireEmptyDestination":
		case "ignorePreExistingNamespaces":
			ignore = true
		default:
			return Errorf(InvalidOption, `"destinationDataHandling" must be "requireEmptyDestination" or "ignorePreExistingNamespaces"`)
		}
		if r.PreExistingDestination != nil && p.PreExistingDestination != ignore {
			return Errorf(InvalidOption, `"destinationDataHandling" and "preExistingDestinationData" contradict each other`)
		}
		p.PreExistingDestination = ignore
	}
	if p.PreExistingDestination && len(r.IncludeNamespaces)+len(r.ExcludeNamespaces) == 0 {
		return Errorf(InvalidOption, `"preExistingDestinationData" needs "includeNamespaces" or "excludeNamespaces"`)
	}
	return nil
}

// takeFilter builds the filter (spec §11).
func (r *StartRequest) takeFilter(p *Plan, env Environment) error {
	spec := FilterSpec{Include: r.IncludeNamespaces, Exclude: r.ExcludeNamespaces, Natural: r.CopyInNaturalOrder}
	for _, m := range r.NamespaceRemap {
		spec.Remap = append(spec.Remap, Remap{From: m.From.Database, To: m.To.Database})
	}
	if d := r.DocumentFilter; d != nil {
		values, err := matchValues(d.MatchValues)
		if err != nil {
			return err
		}
		spec.Documents = &DocumentFilter{Field: d.Field, Values: values}
	}
	f, err := NewFilter(spec, env.MetadataDatabase)
	if err != nil {
		return err
	}
	p.Filter = f
	return nil
}

// matchValues reads the values of a document filter, which are extended JSON: {"$oid": …} and the like.
func matchValues(raw jsontext.Value) ([]bson.RawValue, error) {
	if raw == nil {
		return nil, nil
	}
	if raw.Kind() != jsontext.KindBeginArray {
		return nil, Errorf(InvalidRequest, `member "documentFilter.matchValues" must be an array`)
	}
	var doc bson.Raw
	if err := bson.UnmarshalExtJSON(fmt.Appendf(nil, `{"v":%s}`, raw), false, &doc); err != nil {
		return nil, Errorf(InvalidRequest, `member "documentFilter.matchValues" is not extended JSON`)
	}
	values, err := doc.Lookup("v").Array().Values()
	if err != nil {
		return nil, Errorf(InvalidRequest, `member "documentFilter.matchValues" cannot be read`)
	}
	return values, nil
}

// takeIndexes reads when indexes are built. Absent: settled when the source's version is known.
func (r *StartRequest) takeIndexes(p *Plan, _ Environment) error {
	if r.BuildIndexes == nil {
		return nil
	}
	p.BuildIndexes = BuildIndexes(*r.BuildIndexes)
	all := []BuildIndexes{IndexesAfterCopy, IndexesBeforeCopy, ExcludeHashed, ExcludeHashedAfterCopy, IndexesNever}
	if !slices.Contains(all, p.BuildIndexes) {
		return Errorf(InvalidOption, `"buildIndexes" must be one of %q`, all)
	}
	return nil
}

// takeSharding reads the shard keys for the destination.
func (r *StartRequest) takeSharding(p *Plan, _ Environment) error {
	if r.Sharding == nil {
		return nil
	}
	if r.Sharding.ShardingEntries == nil {
		return Errorf(InvalidOption, `"sharding.shardingEntries" is required in "sharding"; it may be empty`)
	}
	p.CreateSupportingIndexes = r.Sharding.CreateSupportingIndexes
	seen := map[Namespace]bool{}
	for i, e := range *r.Sharding.ShardingEntries {
		where := fmt.Sprintf("sharding.shardingEntries[%d]", i)
		ns := Namespace{e.Database, e.Collection}
		switch {
		case ns.Database == "" || ns.Collection == "":
			return Errorf(InvalidOption, "%q needs a database and a collection", where)
		case Internal(ns):
			return Errorf(InvalidOption, "%q names a system namespace", where)
		case seen[ns]:
			return Errorf(InvalidOption, "%q names a collection for the second time", where)
		}
		seen[ns] = true
		key, err := shardKey(e.ShardCollection.Key, where+".shardCollection.key")
		if err != nil {
			return err
		}
		p.Sharding = append(p.Sharding, ShardKey{ns, key})
	}
	return nil
}

// shardKey joins the one-field objects of a shard key.
func shardKey(parts []jsontext.Value, where string) (bson.Raw, error) {
	var key bson.D
	for i, part := range parts {
		var doc bson.D
		if part.Kind() != jsontext.KindBeginObject || bson.UnmarshalExtJSON(part, false, &doc) != nil {
			return nil, Errorf(InvalidRequest, "member \"%s[%d]\" is not an object", where, i)
		}
		if len(doc) != 1 || doc[0].Key == "" {
			return nil, Errorf(InvalidOption, "\"%s[%d]\" must be an object with one field", where, i)
		}
		switch v := doc[0].Value; v {
		case int32(1), int32(-1), "hashed":
		default:
			return nil, Errorf(InvalidOption, `"%s[%d]": the direction must be 1, -1 or "hashed"`, where, i)
		}
		key = append(key, doc[0])
	}
	if len(key) == 0 {
		return nil, Errorf(InvalidOption, "%q is empty", where)
	}
	raw, err := bson.Marshal(key)
	if err != nil {
		return nil, Errorf(InvalidOption, "%q cannot be used: %w", where, err)
	}
	return raw, nil
}

// checkReversible refuses what cannot be reversed, as far as the request says.
func (r *StartRequest) checkReversible(p *Plan, _ Environment) error {
	if !p.Reversible {
		return nil
	}
	for _, c := range []struct {
		wrong bool
		with  string
	}{
		{r.EnableUserWriteBlocking != nil && WriteBlocking(*r.EnableUserWriteBlocking) != BlockBoth, `"enableUserWriteBlocking" other than "sourceAndDestination"`},
		{p.BuildIndexes == IndexesNever, `"buildIndexes": "never"`},
		{p.Filter.Filtering(), "a namespace filter"},
		{p.Filter.Remapping(), `"namespaceRemap"`},
		{p.Filter.FilteringDocuments(), `"documentFilter"`},
		{p.PreExistingDestination, `"preExistingDestinationData"`},
	} {
		if c.wrong {
			return Errorf(InvalidOption, `"reversible" cannot be used with %s`, c.with)
		}
	}
	return nil
}

// takeWriteBlocking reads the mode, or gives the default (spec §5.1.1).
func (r *StartRequest) takeWriteBlocking(p *Plan, _ Environment) error {
	if w := r.EnableUserWriteBlocking; w != nil {
		p.WriteBlocking, p.WriteBlockingAsked = WriteBlocking(*w), true
	} else {
		p.WriteBlocking = BlockDestination
		switch {
		case p.Reversible:
			p.WriteBlocking = BlockBoth
		case p.PreExistingDestination:
			p.WriteBlocking = BlockNone
		}
	}
	switch {
	case !slices.Contains([]WriteBlocking{BlockNone, BlockDestination, BlockBoth}, p.WriteBlocking):
		return Errorf(InvalidOption, `"enableUserWriteBlocking" must be a boolean, "none", "destinationOnly" or "sourceAndDestination"`)
	case p.WriteBlocking == BlockBoth && p.Filter.Filtering():
		return Errorf(InvalidOption, `"enableUserWriteBlocking": "sourceAndDestination" cannot be used with a namespace filter`)
	case p.WriteBlocking != BlockNone && p.PreExistingDestination:
		return Errorf(InvalidOption, `"enableUserWriteBlocking" cannot be used with "preExistingDestinationData"`)
	}
	return nil
}

// checkVerification refuses what the verifier does not compare.
func (r *StartRequest) checkVerification(p *Plan, env Environment) error {
	if !p.Verification || env.DisableVerification {
		return nil
	}
	for _, c := range []struct {
		wrong bool
		with  string
	}{
		{p.Filter.Remapping(), `"namespaceRemap"`},
		{p.Filter.FilteringDocuments(), `"documentFilter"`},
		{env.MigrationName != "", "--migrationName"},
	} {
		if c.wrong {
			return Errorf(InvalidOption, `verification cannot be used with %s; say "verification": {"enabled": false}`, c.with)
		}
	}
	return nil
}

// settle checks what depends on the clusters and fills in the defaults that do (spec §5.1.2).
func (p *Plan) settle(req *StartRequest, src, dst Info) error {
	sharding := req.Sharding != nil
	if err := req.checkOrder(src); err != nil {
		return err
	}
	if src.Topology == Sharded && dst.Topology == ReplicaSet {
		return Errorf(UnsupportedServer, "a sharded cluster cannot be synced to a replica set")
	}
	switch needed := src.Topology == ReplicaSet && dst.Topology == Sharded; {
	case needed && !sharding:
		return Errorf(InvalidOption, `"sharding" is required to sync a replica set to a sharded cluster`)
	case !needed && sharding:
		return Errorf(InvalidOption, `"sharding" is only for syncing a replica set to a sharded cluster`)
	}
	if p.Reversible {
		if err := reversiblePair(src, dst); err != nil {
			return err
		}
	}
	old := src.MongoDB && src.Major < 6
	switch {
	case p.BuildIndexes == "" && old:
		p.BuildIndexes = IndexesBeforeCopy
	case p.BuildIndexes == "":
		p.BuildIndexes = IndexesAfterCopy
	}
	switch {
	case !old:
	case p.WriteBlocking == BlockBoth:
		return Errorf(InvalidOption, `"enableUserWriteBlocking": "sourceAndDestination" needs a source of version 6.0 or newer; this is %s`, src.Version)
	case p.BuildIndexes.AfterCopy():
		return Errorf(InvalidOption, `"buildIndexes": %q needs a source of version 6.0 or newer; this is %s`, p.BuildIndexes, src.Version)
	case p.CreateSupportingIndexes:
		return Errorf(InvalidOption, `"sharding.createSupportingIndexes" needs a source of version 6.0 or newer; this is %s`, src.Version)
	}
	return nil
}

// checkOrder refuses what is asked for of the order of reading where a source has but one order. The default of detectRandomId means nothing there.
func (r *StartRequest) checkOrder(src Info) error {
	switch {
	case src.Topology != Gateways:
		return nil
	case len(r.CopyInNaturalOrder) > 0:
		return Errorf(InvalidOption, `"copyInNaturalOrder" needs a MongoDB source: tidegate keeps documents in the order of their ids`)
	case r.DetectRandomID != nil && *r.DetectRandomID:
		return Errorf(InvalidOption, `"detectRandomId": true needs a MongoDB source: tidegate keeps documents in the order of their ids`)
	}
	return nil
}

// reversiblePair says whether a sync between these clusters could be reversed. Rules on versions and shards count between MongoDB servers.
func reversiblePair(src, dst Info) error {
	switch {
	case !src.MongoDB || !dst.MongoDB:
		return nil
	case src.Topology != dst.Topology:
		return Errorf(InvalidOption, `"reversible" needs clusters of the same topology; these are %s and %s`, src.Topology, dst.Topology)
	case src.Shards != dst.Shards:
		return Errorf(InvalidOption, `"reversible" needs the same number of shards; there are %d and %d`, src.Shards, dst.Shards)
	case src.Major != dst.Major:
		return Errorf(InvalidOption, `"reversible" needs the same major version; there are %s and %s`, src.Version, dst.Version)
	case src.Major < 6:
		return Errorf(InvalidOption, `"reversible" needs a source of version 6.0 or newer; this is %s`, src.Version)
	}
	return nil
}

// Scope says which of the two clusters is the source (0 or 1), which the destination, and what the filter is, for whoever does not start
// a sync.
func (r *StartRequest) Scope(env Environment) (src, dst int, filter *Filter, err error) {
	p := new(Plan)
	if err := r.checkDirection(p, env); err != nil {
		return 0, 0, nil, err
	}
	if err := r.takeFilter(p, env); err != nil {
		return 0, 0, nil, err
	}
	return indexOf(r.Source), indexOf(r.Destination), p.Filter, nil
}
