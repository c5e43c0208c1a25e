package mongocluster_test

import (
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/mongotest"
)

// open opens a cluster until the test ends.
func open(t *testing.T, uri string, opts mongocluster.Options) *mongocluster.Cluster {
	t.Helper()
	c, err := mongocluster.Open(t.Context(), uri, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func TestSmoke(t *testing.T) {
	s := mongotest.Secantus(t)
	c := open(t, s.URI, mongocluster.Options{})
	info, err := c.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", info)
	mark, err := c.Mark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(mark)
	stream, err := c.Changes(t.Context(), mark)
	if err != nil {
		t.Fatal(err)
	}
	db := s.Client(t).Database("shop")
	_, err = db.Collection("a").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}})
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Collection("a").Drop(t.Context())
	m2, err := c.Mark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at := mark
	for !c.Reached(at, m2) {
		var events []clustersync.Event
		events, at, err = stream.Next(t.Context(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			t.Logf("%+v", e)
		}
		t.Log(at)
	}
	l, err := c.List(t.Context())
	t.Log(l, err)
}
