package clustersync

import (
	"reflect"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Two indexes that differ only in being unique cannot both be synced (spec §6, 9.1): while it syncs none is unique.
func TestUnfitIndexes(t *testing.T) {
	index := func(name string, more ...bson.E) bson.Raw {
		raw, err := bson.Marshal(append(bson.D{{Key: "name", Value: name}, {Key: "key", Value: bson.D{{Key: "a", Value: 1}}}}, more...))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	unique := bson.E{Key: "unique", Value: true}
	german := bson.E{Key: "collation", Value: bson.D{{Key: "locale", Value: "de"}}}
	many := make([]bson.Raw, maxShardedIndexes)
	for i := range many {
		many[i] = index("i", bson.E{Key: "collation", Value: i})
	}
	sharded := &Plan{Sharding: []ShardKey{{Namespace: Namespace{"a", "b"}}}}
	for _, tt := range []struct {
		plan    *Plan
		indexes []bson.Raw
		want    string
	}{
		{&Plan{}, []bson.Raw{index("x"), index("y", unique)}, "unique"},
		{&Plan{}, []bson.Raw{index("x", german), index("y", unique)}, ""},
		{&Plan{}, []bson.Raw{index("x", german), index("y", german, unique)}, "unique"},
		{&Plan{}, []bson.Raw{index("x", unique), index("y", unique)}, ""},
		{&Plan{}, many, ""},
		{sharded, many, "63"},
		{sharded, many[1:], ""},
	} {
		p := &preflight{plan: tt.plan}
		got := p.unfit(Collection{Ref: Ref{Namespace: Namespace{"a", "b"}}, Type: Plain, Indexes: tt.indexes})
		if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%v: %q, want %q", tt.indexes, got, tt.want)
		}
	}
}

// What is recorded of a plan is the plan (spec §5.1.4), and a record of another version is not read (I15).
func TestPlanRoundTrip(t *testing.T) {
	for _, body := range []string{
		`{` + pair + `}`,
		`{` + pair + `,"reversible":true,"enableUserWriteBlocking":true,"buildIndexes":"excludeHashed","detectRandomId":false,"skipDiskSpaceCheck":true}`,
		`{"source":"cluster1","destination":"cluster0","preExistingDestinationData":true,"verification":{"enabled":false},"includeNamespaces":[{"databaseRegex":{"pattern":"a","options":"i"},"collections":["x"]}],` +
			`"documentFilter":{"field":"f","matchValues":[1,"x"]},"namespaceRemap":[{"from":{"database":"a"},"to":{"database":"b"}}],"copyInNaturalOrder":[{"database":"."}]}`,
	} {
		p, err := planOf(body, replicaSet(8), replicaSet(8), Environment{MetadataDatabase: "m"})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := bson.Marshal(newGlobalState(p, [2]Info{{Hosts: []string{"a:1"}}, {Hosts: []string{"b:1"}}}, "name"))
		if err != nil {
			t.Fatal(err)
		}
		var g globalState
		if err := bson.Unmarshal(raw, &g); err != nil {
			t.Fatal(err)
		}
		back, err := g.plan("m")
		if err != nil {
			t.Fatal(err)
		}
		again, err := bson.Marshal(newGlobalState(back, [2]Info{{Hosts: g.Hosts0}, {Hosts: g.Hosts1}}, g.MigrationName))
		if err != nil {
			t.Fatal(err)
		}
		if string(raw) != string(again) {
			t.Errorf("%s\nis read as %s\nof %s", bson.Raw(raw), bson.Raw(again), body)
		}
		p.Filter, back.Filter = nil, nil
		if !reflect.DeepEqual(p, back) {
			t.Errorf("%+v\nis read as %+v", p, back)
		}
	}
}

func TestLoadLevels(t *testing.T) {
	for _, tt := range []struct{ level, cpus, readers, writers, apply int }{
		{1, 8, 1, 2, 2}, {2, 8, 2, 4, 4}, {3, 8, 4, 8, 8}, {4, 8, 8, 16, 16}, {3, 1, 2, 1, 1}, {2, 1, 2, 4, 2},
	} {
		l := loadLevel(tt.level, tt.cpus)
		if l.CopyReaders != tt.readers || l.CopyWriters != tt.writers || l.ApplyWorkers != tt.apply {
			t.Errorf("level %d of %d CPUs: %+v", tt.level, tt.cpus, l)
		}
	}
}
