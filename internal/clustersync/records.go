package clustersync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// globalStateID: there is one record in globalState (spec §15.2). It is written at /start and never changes: a reverse takes it to the other
// cluster as it is, and what changes is in [Resume].
const globalStateID = "globalState"

// globalState is that record: what was asked for, and of which clusters. Members that mongosync has too are called as there.
type globalState struct {
	ID      string `bson:"_id"`
	Version int    `bson:"recordVersion"`

	Source        string   `bson:"source"` // before any reverse
	Destination   string   `bson:"destination"`
	Hosts0        []string `bson:"cluster0Hosts"`
	Hosts1        []string `bson:"cluster1Hosts"`
	MigrationName string   `bson:"migrationName"`

	Reversible         bool       `bson:"reversible"`
	WriteBlockingMode  string     `bson:"writeBlockingMode"`
	WriteBlockingAsked bool       `bson:"writeBlockingAsked"`
	BuildIndexes       string     `bson:"buildIndexes"`
	DetectRandomID     bool       `bson:"detectRandomId"`
	VerificationMode   string     `bson:"verificationMode"` // "disabled" or "startAtCEA"
	PreExisting        bool       `bson:"preExistingDestinationData"`
	SkipDiskSpaceCheck bool       `bson:"skipDiskSpaceCheck"`
	Filter             FilterSpec `bson:"namespaceFilter"`
	SupportingIndexes  bool       `bson:"createSupportingIndexes"`
	Sharding           []ShardKey `bson:"shardingEntries"`
}

// recordVersion is that of globalState as written here. Any other is refused (I15).
const recordVersion = 1

// The verification modes.
const (
	verificationDisabled   = "disabled"
	verificationStartAtCEA = "startAtCEA"
)

// newGlobalState writes a plan down.
func newGlobalState(p *Plan, infos [2]Info, migration string) globalState {
	mode := verificationDisabled
	if p.Verification {
		mode = verificationStartAtCEA
	}
	return globalState{
		ID: globalStateID, Version: recordVersion, Source: p.Source, Destination: p.Destination,
		Hosts0: infos[0].Hosts, Hosts1: infos[1].Hosts, MigrationName: migration,
		Reversible: p.Reversible, WriteBlockingMode: string(p.WriteBlocking), WriteBlockingAsked: p.WriteBlockingAsked,
		BuildIndexes: string(p.BuildIndexes), DetectRandomID: p.DetectRandomID, VerificationMode: mode, PreExisting: p.PreExistingDestination,
		SkipDiskSpaceCheck: p.SkipDiskSpaceCheck, Filter: p.Filter.Spec(), SupportingIndexes: p.CreateSupportingIndexes, Sharding: p.Sharding,
	}
}

// plan reads the plan back.
func (g *globalState) plan(metadataDatabase string) (*Plan, error) {
	f, err := NewFilter(g.Filter, metadataDatabase)
	if err != nil {
		return nil, fmt.Errorf("read recorded filter: %w", err)
	}
	return &Plan{
		Source: g.Source, Destination: g.Destination, Reversible: g.Reversible, WriteBlocking: WriteBlocking(g.WriteBlockingMode),
		WriteBlockingAsked: g.WriteBlockingAsked, BuildIndexes: BuildIndexes(g.BuildIndexes), Filter: f, DetectRandomID: g.DetectRandomID,
		PreExistingDestination: g.PreExisting, Verification: g.VerificationMode != verificationDisabled, SkipDiskSpaceCheck: g.SkipDiskSpaceCheck,
		CreateSupportingIndexes: g.SupportingIndexes, Sharding: g.Sharding,
	}, nil
}

// readGlobalState reads the record of a cluster; nil if there is none.
func readGlobalState(ctx context.Context, m Metadata) (*globalState, error) {
	there, err := m.Exists(ctx)
	if err != nil || !there {
		return nil, err
	}
	var raw bson.Raw
	if err := m.Get(ctx, globalCollection, globalStateID, &raw); err != nil {
		if errors.Is(err, ErrNotFound) {
			return nil, nil
		}
		return nil, err
	}
	var version struct {
		Version int `bson:"recordVersion"`
	}
	if err := bson.Unmarshal(raw, &version); err != nil || version.Version != recordVersion {
		return nil, Errorf(MetadataConflict, "the records on the cluster are not of this version of tidegate (they are of version %d, this is %d); "+
			"go on with the program that wrote them, or drop the migrated databases and the records and start over", version.Version, recordVersion)
	}
	g := new(globalState)
	if err := bson.Unmarshal(raw, g); err != nil {
		return nil, fmt.Errorf("read record globalState: %w", err)
	}
	return g, nil
}

// check says whether the record is of these two clusters (spec §2.2); on is where it was found.
func (g *globalState) check(infos [2]Info, on, migration string) error {
	switch {
	case !slices.Equal(g.Hosts0, infos[0].Hosts) || !slices.Equal(g.Hosts1, infos[1].Hosts):
		return Errorf(MetadataConflict, "the records on %s are of a sync between other clusters: cluster0 %v and cluster1 %v; the clusters given are %v and %v",
			on, g.Hosts0, g.Hosts1, infos[0].Hosts, infos[1].Hosts)
	case g.MigrationName != migration:
		return Errorf(MetadataConflict, "the records on %s are of migration %q, not of %q", on, g.MigrationName, migration)
	}
	return nil
}
