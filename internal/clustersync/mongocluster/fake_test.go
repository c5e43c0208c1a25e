package mongocluster_test

import (
	"context"
	"testing"

	"github.com/tidegate/tidegate/internal/clustersync/clustertest"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/fakemongo"
)

// TestFake runs the suite on the scripted server.
func TestFake(t *testing.T) {
	can := all
	can.Block = true
	fakes(t, fakemongo.Options{Status: userWithAll}, mongocluster.Options{}, can)
}

// fakes runs the suite on servers of that kind.
func fakes(t *testing.T, server fakemongo.Options, opts mongocluster.Options, can clustertest.Capabilities) {
	clustertest.Run(t, func(t *testing.T) clustertest.Fixture {
		s := fakemongo.Start(t, server)
		f := fixture(t, s.URI, s.URI, opts, can)
		f.Forget = func(context.Context) error { s.Forget(); return nil }
		return f
	})
}
