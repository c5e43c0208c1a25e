package clustertest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestMemory(t *testing.T) {
	for name, opts := range map[string]clustertest.Options{
		"replica set": {}, "no UUIDs": {NoUUIDs: true}, "oplog": {OplogStyle: true},
		"bare": {NoUUIDs: true, OplogStyle: true, NoIndexChanges: true, NoDelta: true, NoBlock: true},
	} {
		t.Run(name, func(t *testing.T) {
			clustertest.Run(t, func(*testing.T) clustertest.Fixture {
				m := clustertest.NewMemory(opts)
				large := 0
				if name == "replica set" {
					large = clustertest.MaxDocument
				}
				return clustertest.Fixture{
					Cluster: m, Connect: func() clustersync.Cluster { return m.Connect() }, Users: users{m.User()},
					Forget: func(context.Context) error { m.User().Forget(); return nil },
					Can: clustertest.Capabilities{
						Changes: true, DDLEvents: true, UUIDs: !opts.NoUUIDs, Rename: true, Indexes: true, Unique: true,
						ModifyIndex: !opts.NoIndexChanges, Views: true, Capped: true, Partitions: true, Delta: !opts.NoDelta,
						Block: !opts.NoBlock, MaxDocument: large,
					},
				}
			})
		})
	}
}

// users writes as the suite asks.
type users struct{ u *clustertest.User }

func (u users) Create(_ context.Context, ns clustersync.Namespace) error { return u.u.Create(ns, nil) }

func (u users) Put(_ context.Context, ns clustersync.Namespace, id string, f clustertest.Fields) error {
	doc := bson.D{{Key: "_id", Value: id}}
	for _, k := range slices.Sorted(maps.Keys(f)) {
		doc = append(doc, bson.E{Key: k, Value: f[k]})
	}
	return u.u.Replace(ns, doc)
}

func (u users) Delete(_ context.Context, ns clustersync.Namespace, id string) error {
	return u.u.Delete(ns, id)
}

func (u users) Get(_ context.Context, ns clustersync.Namespace, id string) (clustertest.Fields, error) {
	for _, raw := range u.u.Docs(ns) {
		if raw.Lookup("_id").StringValue() == id {
			f := clustertest.Fields{}
			return f, bson.Unmarshal(raw, &f)
		}
	}
	return nil, nil
}

func (u users) Drop(_ context.Context, ns clustersync.Namespace) error { return u.u.Drop(ns) }

func (u users) Rename(_ context.Context, from, to clustersync.Namespace) error {
	return u.u.Rename(from, to, false)
}

func (u users) CreateIndex(_ context.Context, ns clustersync.Namespace, name, field string, unique bool) error {
	return u.u.CreateIndex(ns, bson.D{{Key: "name", Value: name}, {Key: "key", Value: bson.D{{Key: field, Value: 1}}}, {Key: "unique", Value: unique}})
}

// TestMemoryFaults: a call has no effect, some or all of it, and a killed connection does nothing more.
func TestMemoryFaults(t *testing.T) {
	m := clustertest.NewMemory(clustertest.Options{})
	ns := clustertest.NS("db", "c")
	var docs []clustersync.Document
	for i := range 10 {
		raw, err := bson.Marshal(bson.D{{Key: "_id", Value: i}})
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, clustersync.Document{Key: clustertest.Key(i), Format: clustersync.MongoDB, Body: raw})
	}
	for _, c := range []struct{ after, want int }{{0, 0}, {4, 4}, {-1, 10}} {
		m.Inject(func(call clustertest.Call) clustertest.Fault {
			if call.Name != "Insert" || call.Items != 10 || call.Namespace != ns {
				t.Errorf("call %+v", call)
			}
			return clustertest.Fault{Err: clustertest.Passing(), After: c.after}
		})
		_, err := m.Insert(t.Context(), ns, docs, clustersync.WriteOptions{})
		if got := len(m.User().Docs(ns)); !errors.Is(err, clustersync.ErrUnreachable) || got != c.want {
			t.Errorf("after %d: %d documents, %v", c.after, got, err)
		}
	}
	m.Inject(nil)
	mark, err := m.Mark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := m.Changes(t.Context(), mark)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, _, err := stream.Next(context.WithoutCancel(t.Context()), time.Hour)
		ended <- err
	}()
	m.Kill()
	if err := <-ended; err == nil {
		t.Error("an open stream outlives its connection")
	}
	if _, err := m.List(t.Context()); err == nil {
		t.Error("a killed connection lists")
	}
	if _, err := m.Connect().List(t.Context()); err != nil {
		t.Errorf("another connection: %v", err)
	}
	m.Restart()
	if _, err := m.List(t.Context()); err != nil {
		t.Errorf("a restarted connection: %v", err)
	}
}

// TestMemoryHistory: only so many changes are kept.
func TestMemoryHistory(t *testing.T) {
	m := clustertest.NewMemory(clustertest.Options{History: 5})
	ns := clustertest.NS("db", "c")
	mark, err := m.Mark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := m.User().Insert(ns, bson.D{{Key: "_id", Value: fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Changes(t.Context(), mark); !errors.Is(err, clustersync.ErrHistoryLost) {
		t.Errorf("changes from before the history: %v", err)
	}
}
