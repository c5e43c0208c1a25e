package clustersync_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
)

// The checks of spec §6: each gives its error, changes nothing, and the first one in the spec's order wins.
func TestPreflight(t *testing.T) {
	type info = func(*clustersync.Info)
	version := func(major, minor int) info {
		return func(i *clustersync.Info) {
			i.Major, i.Minor, i.Version = major, minor, fmt.Sprintf("%d.%d.9", major, minor)
		}
	}
	both := func(fs ...info) info {
		return func(i *clustersync.Info) {
			for _, f := range fs {
				f(i)
			}
		}
	}
	create := func(options bson.D, indexes ...bson.D) func(*clustertest.User) error {
		return func(u *clustertest.User) error {
			ns := clustertest.NS("db", "c")
			if err := u.Create(ns, options); err != nil {
				return err
			}
			for _, i := range indexes {
				if err := u.CreateIndex(ns, i); err != nil {
					return err
				}
			}
			return nil
		}
	}
	index := func(name string, more ...bson.E) bson.D {
		return append(bson.D{{Key: "name", Value: name}, {Key: "key", Value: bson.D{{Key: "a", Value: 1}}}}, more...)
	}
	for _, tt := range []struct {
		name     string
		src, dst info
		onSrc    func(*clustertest.User) error
		onDst    func(*clustertest.User) error
		more     string // members of the body
		want     clustersync.ErrorName
		text     string
		warning  string
	}{
		{name: "nothing wrong"},
		{name: "no changes to follow", src: func(i *clustersync.Info) { i.ChangeSource, i.Unused = "", "no oplog" }, want: "UnsupportedServer", text: "no oplog"},
		{name: "destination without changes", dst: func(i *clustersync.Info) { i.ChangeSource = "" }},
		{name: "destination without changes, reversible", dst: func(i *clustersync.Info) { i.ChangeSource, i.Unused = "", "no oplog" }, more: `,"reversible":true`, want: "UnsupportedServer", text: "no oplog"},
		{name: "standalone with a feed", src: func(i *clustersync.Info) { i.Topology, i.ChangeSource = clustersync.Standalone, "oplog" }},
		{name: "too old", src: version(4, 2), want: "UnsupportedServer", text: "4.4"},
		{name: "destination older", src: version(8, 0), dst: version(7, 0), want: "UnsupportedServer", text: "older"},
		{name: "pair not tested", src: version(6, 0), dst: version(9, 0), warning: "not one of the pairs"},
		{name: "rapid release", src: version(8, 1), dst: version(8, 1), warning: "rapid release"},
		{name: "no MongoDB", src: both(version(1, 0), func(i *clustersync.Info) { i.MongoDB = false })},
		{name: "balancer of the source", src: func(i *clustersync.Info) { i.Balancer = true }, want: "UnsupportedServer", text: "balancer of the source"},
		{name: "balancer of the destination", dst: func(i *clustersync.Info) { i.Balancer = true }, want: "UnsupportedServer", text: "balancer of the destination"},
		{name: "privileges", src: func(i *clustersync.Info) { i.Missing = map[string][]string{"source": {"changeStream"}} },
			dst: func(i *clustersync.Info) { i.Missing = map[string][]string{"destination": {"insert", "update"}} }, want: "Unauthorized", text: "changeStream"},
		{name: "privileges of another role", src: func(i *clustersync.Info) {
			i.Missing = map[string][]string{"destination": {"insert"}, "reverse": {"insert"}}
		}},
		{name: "privileges to reverse", src: func(i *clustersync.Info) { i.Missing = map[string][]string{"reverse": {"insert"}} }, more: `,"reversible":true`, want: "Unauthorized", text: "insert"},
		{name: "cannot block, asked", dst: func(i *clustersync.Info) { i.CanBlock = false }, more: `,"enableUserWriteBlocking":"destinationOnly"`, want: "WriteBlockFailed"},
		{name: "cannot block, not asked", dst: func(i *clustersync.Info) { i.CanBlock = false }, warning: "not blocked"},
		{name: "cannot block, reversible", src: func(i *clustersync.Info) { i.CanBlock = false }, more: `,"reversible":true`, want: "WriteBlockFailed"},
		{name: "block has no effect", src: func(i *clustersync.Info) { i.AuthOff = true }, more: `,"enableUserWriteBlocking":true`, want: "WriteBlockFailed", text: "access control"},
		{name: "no block wanted", dst: func(i *clustersync.Info) { i.CanBlock = false }, more: `,"enableUserWriteBlocking":false`},
		{name: "destination not empty", onDst: create(nil), want: "DestinationNotEmpty", text: "db"},
		{name: "destination not empty, and said so", onDst: create(nil), more: `,"preExistingDestinationData":true,"includeNamespaces":[{"database":"x"}]`},
		{name: "conflict", onSrc: create(nil), onDst: create(nil), more: `,"preExistingDestinationData":true,"includeNamespaces":[{"database":"db"}]`, want: "NamespaceConflict", text: "db.c"},
		{name: "other records", dst: func(i *clustersync.Info) { i.MetadataDatabases = []string{"mongosync_internal_x"} }, want: "MetadataConflict", text: "mongosync_internal_x"},
		{name: "time-series", onSrc: create(bson.D{{Key: "timeseries", Value: bson.D{}}}), want: "APIError", text: "time-series"},
		{name: "time-series outside the filter", onSrc: create(bson.D{{Key: "timeseries", Value: bson.D{}}}), more: `,"excludeNamespaces":[{"database":"db"}]`},
		{name: "expiring clustered", onSrc: create(bson.D{{Key: "clusteredIndex", Value: bson.D{}}, {Key: "expireAfterSeconds", Value: 1}}), want: "APIError", text: "clustered"},
		{name: "encrypted", onSrc: create(bson.D{{Key: "encryptedFields", Value: bson.D{}}}), want: "APIError", text: "Encryption"},
		{name: "TTL without indexes", onSrc: create(nil, index("a", bson.E{Key: "expireAfterSeconds", Value: 1})), more: `,"buildIndexes":"never"`, want: "APIError", text: "TTL"},
		{name: "no room", onSrc: func(u *clustertest.User) error {
			return u.Insert(clustertest.NS("db", "c"), bson.D{{Key: "_id", Value: 1}, {Key: "s", Value: strings.Repeat("x", 5000)}})
		}, dst: func(i *clustersync.Info) { i.DiskTotal, i.DiskUsed = 100_000, 95_000 }, want: "InsufficientDestinationDiskSpace"},
		{name: "no room, and never mind", onSrc: func(u *clustertest.User) error {
			return u.Insert(clustertest.NS("db", "c"), bson.D{{Key: "_id", Value: 1}, {Key: "s", Value: strings.Repeat("x", 5000)}})
		}, dst: func(i *clustersync.Info) { i.DiskTotal, i.DiskUsed = 100_000, 95_000 }, more: `,"skipDiskSpaceCheck":true`},
		{name: "two wrongs", src: version(4, 2), onDst: create(nil), want: "UnsupportedServer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, clustertest.Options{Info: tt.src}, clustertest.Options{Info: tt.dst})
				for i, do := range []func(*clustertest.User) error{tt.onSrc, tt.onDst} {
					if do != nil {
						must(t, do(r.servers[i].User()))
					}
				}
				r.bring("IDLE")
				a := r.do("POST", "/api/v1/start", `{"source":"cluster0","destination":"cluster1"`+tt.more+`}`)
				synctest.Wait()
				if a.Error != string(tt.want) || !strings.Contains(a.Description, tt.text) || a.Status != 200 {
					t.Errorf("%s, want %s with %s", a.raw, tt.want, tt.text)
				}
				if tt.want != "" && (r.state() != "IDLE" || r.records() != "") {
					t.Errorf("state %s, records %s", r.state(), r.records())
				}
				if tt.warning != "" && !strings.Contains(r.do("GET", "/api/v1/progress", "").raw, tt.warning) {
					t.Errorf("no warning of %q", tt.warning)
				}
				if err := r.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// An unreachable cluster is no state of the sync: the call says so, and may be made again.
func TestUnreachableAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("IDLE")
		for _, name := range []string{"Inspect", "List", "Metadata.Exists", "Metadata.Acquire", "Metadata.Put", "Metadata.Get"} {
			for i := range r.conns {
				r.conns[i].Inject(func(c clustertest.Call) clustertest.Fault {
					if c.Name == name {
						return clustertest.Fault{Err: clustertest.Passing()}
					}
					return clustertest.Fault{}
				})
			}
			if a := r.post("start"); a.Error != "ClusterUnreachable" || a.Status != 200 {
				t.Errorf("%s: %s", name, a.raw)
			}
			if s := r.state(); s != "IDLE" || r.records() != "" {
				t.Errorf("%s: %s, %s", name, s, r.records())
			}
		}
		for i := range r.conns {
			r.conns[i].Inject(nil)
		}
		r.mustPost("start")
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
