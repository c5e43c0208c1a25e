package mongocluster_test

import (
	"context"
	"testing"

	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/fakemongo"
)

// TestFake runs the suite on the scripted server, as it is and without one thing after the other.
func TestFake(t *testing.T) {
	lacks := func(names ...string) map[string]bool {
		set := map[string]bool{}
		for _, name := range names {
			set[name] = true
		}
		return set
	}
	for _, c := range []struct {
		name   string
		server fakemongo.Options
		opts   mongocluster.Options
		lose   func(*clustertest.Capabilities)
	}{
		{"Whole", fakemongo.Options{}, mongocluster.Options{}, nil},
		{"Sharded", fakemongo.Options{Sharded: true, Shards: 2}, mongocluster.Options{}, nil},
		{"Oplog", fakemongo.Options{}, mongocluster.Options{Changes: mongocluster.ChangesOplog}, func(c *clustertest.Capabilities) { c.DDLEvents = false }},
		{"OplogWithoutNotes", fakemongo.Options{Lacks: lacks("$changeStream", "appendOplogNote")}, mongocluster.Options{}, func(c *clustertest.Capabilities) { c.DDLEvents = false }},
		{"NoNotes", fakemongo.Options{Lacks: lacks("appendOplogNote")}, mongocluster.Options{}, nil},
		{"NoCollectionUUID", fakemongo.Options{Ignores: lacks("collectionUUID")}, mongocluster.Options{}, nil},
		{"IgnoredBounds", fakemongo.Options{Ignores: lacks("min", "max", "hint")}, mongocluster.Options{}, nil},
		{"NoSamples", fakemongo.Options{Lacks: lacks("$sample")}, mongocluster.Options{}, func(c *clustertest.Capabilities) { c.Partitions = false }},
		{"NoCollMod", fakemongo.Options{Lacks: lacks("collMod")}, mongocluster.Options{}, func(c *clustertest.Capabilities) { c.ModifyIndex = false }},
		{"NoWriteBlock", fakemongo.Options{Lacks: lacks("setUserWriteBlockMode")}, mongocluster.Options{}, func(c *clustertest.Capabilities) { c.Block = false }},
		{"NoSplit", fakemongo.Options{Lacks: lacks("$changeStreamSplitLargeEvent", "bypassEmptyTsReplacement")}, mongocluster.Options{}, nil},
		{"PlainEvents", fakemongo.Options{Lacks: lacks("showExpandedEvents", "$changeStreamSplitLargeEvent")}, mongocluster.Options{}, func(c *clustertest.Capabilities) { c.DDLEvents = false }},
		{"SplitEvents", fakemongo.Options{SplitBytes: 300}, mongocluster.Options{}, nil},
		{"SmallReplies", fakemongo.Options{MaxReply: 500}, mongocluster.Options{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			can := all
			can.Block = true
			can.MaxDocument = 0 // TestSecantus has large documents
			if c.lose != nil {
				c.lose(&can)
			}
			c.server.Status = userWithAll
			clustertest.Run(t, func(t *testing.T) clustertest.Fixture {
				s := fakemongo.Start(t, c.server)
				f := fixture(t, s.URI, s.URI, c.opts, can)
				f.Forget = func(context.Context) error { s.Forget(); return nil }
				return f
			})
		})
	}
}
