package mongocluster_test

import (
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/fakemongo"
)

// userWithAll is the authInfo of a user who may do everything.
var userWithAll = authInfo("root", privilege(bson.D{{Key: "anyResource", Value: true}}, "anyAction"))

func authInfo(role string, privileges ...any) bson.D {
	return bson.D{
		{Key: "authenticatedUsers", Value: bson.A{bson.D{{Key: "user", Value: "sync"}, {Key: "db", Value: "admin"}}}},
		{Key: "authenticatedUserRoles", Value: bson.A{bson.D{{Key: "role", Value: role}, {Key: "db", Value: "admin"}}}},
		{Key: "authenticatedUserPrivileges", Value: bson.A(privileges)},
	}
}

func privilege(resource bson.D, actions ...string) bson.D {
	return bson.D{{Key: "resource", Value: resource}, {Key: "actions", Value: actions}}
}

func onCluster(actions ...string) bson.D {
	return privilege(bson.D{{Key: "cluster", Value: true}}, actions...)
}

func on(db, coll string, actions ...string) bson.D {
	return privilege(bson.D{{Key: "db", Value: db}, {Key: "collection", Value: coll}}, actions...)
}

// TestPrivileges compares what users may with what a sync needs of them (spec §19).
func TestPrivileges(t *testing.T) {
	reader := []any{
		onCluster("appendOplogNote", "getDefaultRWConcern", "getShardMap", "hostInfo", "listDatabases", "listShards", "replSetGetConfig", "replSetGetStatus", "serverStatus"),
		on("", "", "changeStream", "collStats", "find", "indexStats", "listCollections", "listIndexes"), on("local", "oplog.rs", "find"),
	}
	for _, c := range []struct {
		name    string
		status  bson.D
		off     bool
		missing map[string]string // the beginning of what is missing; roles not named miss nothing
	}{
		{"off", nil, true, nil},
		{"root", userWithAll, false, nil},
		{"reader", authInfo("reader", reader...), false, map[string]string{"destination": "setUserWriteBlockMode", "reverse": "setUserWriteBlockMode", "writeBlocking": "setUserWriteBlockMode"}},
		{"no oplog", authInfo("reader", reader[0], on("", "", "changeStream", "collStats", "indexStats", "listCollections", "listIndexes"), on("shop", "", "find")), false,
			map[string]string{"source": "find", "destination": "setUserWriteBlockMode", "reverse": "setUserWriteBlockMode", "writeBlocking": "setUserWriteBlockMode"}},
		{"nobody", authInfo("nothing", on("", "")), false, map[string]string{"source": "appendOplogNote", "destination": "appendOplogNote", "reverse": "appendOplogNote", "writeBlocking": "setUserWriteBlockMode"}},
	} {
		s := fakemongo.Start(t, fakemongo.Options{Status: c.status})
		info, err := open(t, s.URI, mongocluster.Options{}).Inspect(t.Context())
		check(t, err)
		if info.AuthOff != c.off || info.CanBlock == c.off {
			t.Errorf("%s: access control off %v, can block %v", c.name, info.AuthOff, info.CanBlock)
		}
		for _, role := range []string{"source", "destination", "reverse", "writeBlocking"} {
			missing := info.Missing[role]
			if want := c.missing[role]; want == "" && len(missing) > 0 || want != "" && (len(missing) == 0 || !strings.HasPrefix(missing[0], want)) {
				t.Errorf("%s as %s misses %q, want %q…", c.name, role, missing, want)
			}
			if slices.Contains(missing, "listShards") {
				t.Errorf("%s as %s misses what only sharded clusters have: %q", c.name, role, missing)
			}
		}
	}
}

// TestInspectSharded reads what a mongos tells.
func TestInspectSharded(t *testing.T) {
	s := fakemongo.Start(t, fakemongo.Options{Sharded: true, Shards: 3, Balancer: "full", Version: [4]int{8, 2, 1}})
	info, err := open(t, s.URI, mongocluster.Options{}).Inspect(t.Context())
	check(t, err)
	host := strings.TrimSuffix(strings.TrimPrefix(s.URI, "mongodb://"), "/")
	if info.Topology != clustersync.Sharded || info.Shards != 3 || !info.Balancer || info.ID == "" || !slices.Equal(info.Hosts, []string{host}) || info.Name != host {
		t.Errorf("%+v", info)
	}
	if info.Major != 8 || info.Minor != 2 || !info.MongoDB || info.DiskTotal != 100<<30 || info.DiskUsed != 40<<30 || info.ChangeSource != mongocluster.ChangesStream {
		t.Errorf("%+v", info)
	}
}

// TestInspectDatabases tells users' databases from those of syncs, and names no empty ones.
func TestInspectDatabases(t *testing.T) {
	_, c, _ := filled(t, 1, fakemongo.Options{})
	other := fakemongo.Start(t, fakemongo.Options{})
	for db, coll := range map[string]string{"__mdb_internal_mongosync": "resumeData", "mongosync_internal_move": "globalState", "__mdb_internal_other": "x", "percona_clustersync_mongodb": "x", "mongosync_reserved_for_internal_use": "lease"} {
		ns := clustersync.Namespace{Database: db, Collection: coll}
		_, err := c.Insert(t.Context(), ns, numbered(0, 1), clustersync.WriteOptions{})
		check(t, err)
	}
	info, err := c.Inspect(t.Context())
	check(t, err)
	slices.Sort(info.MetadataDatabases)
	if !slices.Equal(info.UserDatabases, []string{"shop"}) || !slices.Equal(info.MetadataDatabases, []string{"__mdb_internal_mongosync", "mongosync_internal_move"}) {
		t.Errorf("users' %q, of syncs %q", info.UserDatabases, info.MetadataDatabases)
	}
	info, err = open(t, other.URI, mongocluster.Options{}).Inspect(t.Context())
	check(t, err)
	if len(info.UserDatabases)+len(info.MetadataDatabases) > 0 {
		t.Errorf("an empty cluster has %q and %q", info.UserDatabases, info.MetadataDatabases)
	}
}

// TestChangeSources finds out by trying how changes can be read (spec §23.1).
func TestChangeSources(t *testing.T) {
	lacks := map[string]bool{"$changeStream": true}
	for _, c := range []struct {
		server       fakemongo.Options
		asked        string
		want, unused string
	}{
		{fakemongo.Options{}, "", mongocluster.ChangesStream, ""},
		{fakemongo.Options{}, mongocluster.ChangesOplog, mongocluster.ChangesOplog, ""},
		{fakemongo.Options{Lacks: lacks}, "", mongocluster.ChangesOplog, ""},
		{fakemongo.Options{Lacks: lacks}, mongocluster.ChangesStream, "", "no change streams"},
		{fakemongo.Options{Standalone: true}, "", "", "neither change streams nor an oplog"},
	} {
		s := fakemongo.Start(t, c.server)
		cluster := open(t, s.URI, mongocluster.Options{Changes: c.asked})
		info, err := cluster.Inspect(t.Context())
		check(t, err)
		if info.ChangeSource != c.want || !strings.Contains(info.Unused, c.unused) {
			t.Errorf("%+v, %q: changes from %q (%s), want %q", c.server, c.asked, info.ChangeSource, info.Unused, c.want)
		}
		if c.want == "" {
			if _, err := cluster.Changes(t.Context(), clustersync.Position{}); err == nil {
				t.Errorf("%+v: a stream is opened", c.server)
			}
		}
	}
}
