package mongocluster_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/fakemongo"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/mongotest"
)

// TestIndexFormats: each node is asked for the format of unique indexes, and those that cannot be are named (spec §14.1).
func TestIndexFormats(t *testing.T) {
	hostOf := func(s *fakemongo.Server) string { return strings.Trim(strings.TrimPrefix(s.URI, "mongodb://"), "/") }
	const nobody = "127.0.0.1:1"
	for _, tt := range []struct {
		name      string
		primary   fakemongo.Options
		secondary fakemongo.Options
		old       []string // index and whether the primary has it
		why       string
		unchecked int
	}{
		{"current", fakemongo.Options{Formats: map[string]int32{"u.1": 13, "v_1": 14}}, fakemongo.Options{Formats: map[string]int32{"u.1": 14, "v_1": 14}}, nil, "", 1},
		{"old on the secondary", fakemongo.Options{Formats: map[string]int32{"u.1": 14, "v_1": 14}},
			fakemongo.Options{Formats: map[string]int32{"u.1": 11, "v_1": 14}, Warnings: []string{"index v_1 is odd", "Unique index u.1 has one or more keys in the old format"}},
			[]string{"u.1 secondary"}, "old format", 1},
		{"old but valid", fakemongo.Options{Formats: map[string]int32{"u.1": 12, "v_1": 14}, Warnings: []string{"unique index u.11 has keys in the old format"}},
			fakemongo.Options{Formats: map[string]int32{"u.1": 14, "v_1": 14}}, nil, "", 1},
		{"not told", fakemongo.Options{Warnings: []string{"v_1: old format"}}, fakemongo.Options{}, []string{"v_1 primary"}, "old format", 1},
		{"not to be validated", fakemongo.Options{Formats: map[string]int32{"u.1": 8, "v_1": 14}, Lacks: map[string]bool{"validate": true}},
			fakemongo.Options{Lacks: map[string]bool{"validate": true}}, []string{"u.1 primary"}, "format [8]", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			secondary, _, _ := filled(t, 1, tt.secondary)
			tt.primary.Members = []string{hostOf(secondary), nobody}
			primary, c, _ := filled(t, 1, tt.primary)
			old, unchecked, err := c.OldUniqueIndexes(t.Context(), map[clustersync.Namespace][]string{shop: {"u.1", "v_1"}})
			check(t, err)
			var got []string
			for _, x := range old {
				side := map[string]string{hostOf(primary): "primary", hostOf(secondary): "secondary"}[x.Node]
				got = append(got, x.Index+" "+side)
				if x.Namespace != shop || !strings.Contains(x.Why, tt.why) {
					t.Errorf("%+v", x)
				}
			}
			if !slices.Equal(got, tt.old) {
				t.Errorf("old: %q, want %q", got, tt.old)
			}
			if len(unchecked) != tt.unchecked || !strings.HasPrefix(unchecked[len(unchecked)-1], nobody+": ") {
				t.Errorf("unchecked: %q", unchecked)
			}
		})
	}
}

// TestIndexFormatsSharded: the members of shards are asked over connections of their own, and mongos if none of them can be.
func TestIndexFormatsSharded(t *testing.T) {
	t.Parallel()
	unique := map[clustersync.Namespace][]string{shop: {"u_1"}}
	shard, _, _ := filled(t, 1, fakemongo.Options{Formats: map[string]int32{"u_1": 11}, Warnings: []string{"u_1: old format"}})
	host := strings.Trim(strings.TrimPrefix(shard.URI, "mongodb://"), "/")
	_, c, _ := filled(t, 1, fakemongo.Options{Sharded: true, Shards: 2, ShardHosts: []string{"rs0/" + host + ",127.0.0.1:1", "rs1/127.0.0.1:1"}})
	old, unchecked, err := c.OldUniqueIndexes(t.Context(), unique)
	check(t, err)
	if len(old) != 1 || old[0].Node != host || len(unchecked) != 2 {
		t.Errorf("old %+v, unchecked %q", old, unchecked)
	}
	alone, c, _ := filled(t, 1, fakemongo.Options{Sharded: true, Shards: 1, ShardHosts: []string{"rs0/127.0.0.1:1"}, Formats: map[string]int32{"u_1": 11}, Warnings: []string{"u_1: old format"}})
	old, unchecked, err = c.OldUniqueIndexes(t.Context(), unique)
	check(t, err)
	if len(old) != 1 || !strings.Contains(alone.URI, old[0].Node) || len(unchecked) != 1 {
		t.Errorf("over mongos: old %+v, unchecked %q", old, unchecked)
	}
}

// TestSecantusIndexFormats: a server that tells no format is asked to validate; what it cannot do is said.
func TestSecantusIndexFormats(t *testing.T) {
	t.Parallel()
	s := mongotest.Secantus(t)
	c := open(t, s.URI, mongocluster.Options{Retry: 5 * time.Second})
	check(t, s.Client(t).Database("shop").RunCommand(t.Context(), bson.D{{Key: "createIndexes", Value: "orders"}, {Key: "indexes", Value: bson.A{
		bson.D{{Key: "key", Value: bson.D{{Key: "n", Value: 1}}}, {Key: "name", Value: "n_1"}, {Key: "unique", Value: true}}}}}).Err())
	old, unchecked, err := c.OldUniqueIndexes(t.Context(), map[clustersync.Namespace][]string{shop: {"n_1"}})
	check(t, err)
	t.Logf("unchecked: %q", unchecked)
	if len(old) != 0 || len(unchecked) > 1 {
		t.Errorf("old %+v, unchecked %q", old, unchecked)
	}
}
