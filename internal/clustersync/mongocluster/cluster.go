// Package mongocluster is a MongoDB cluster as one side of a sync: a [clustersync.Cluster] over the official driver.
//
// What a server can do is found out by trying, never read off its version (shared/spec/cluster-sync.md §23.1): a change stream is
// opened and closed, an option is believed only when its effect was seen. Servers without change streams are followed by
// their oplog. DESIGN.md says what each server that was tried can do, and what it cannot.
package mongocluster

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Options of a cluster. The zero value is ready to use.
type Options struct {
	AppName  string        // told to the server; "tidegate clustersync" if empty
	Database string        // of the metadata; DefaultDatabase if empty
	Changes  string        // ChangesAuto if empty
	Retry    time.Duration // how long a call that fails for a passing reason is tried again; DefaultRetry if 0
	Logger   *slog.Logger  // silent if nil
}

// DefaultDatabase holds the records of a sync (spec §15.1).
const DefaultDatabase = "mongosync_reserved_for_internal_use"

// DefaultRetry is how long a call goes on trying by itself; whoever calls has the patience for more.
const DefaultRetry = 5 * time.Second

// Where changes are read from (spec §2.1, --changeSource).
const (
	ChangesAuto   = "auto"
	ChangesStream = "changeStream"
	ChangesOplog  = "oplog"
)

// Cluster is a MongoDB cluster.
type Cluster struct {
	client *mongo.Client
	uri    parsedURI
	opts   Options

	mu      sync.Mutex
	caps    *capabilities // nil until probed
	blocked *bool         // what BlockWrites set last; some servers do not tell

	fixedCapped *bool     // nil until tried
	ranges      rangeMode // how this server can read a range of keys
	keys        map[clustersync.Namespace]shardKey
}

var _ clustersync.Cluster = (*Cluster)(nil)

// Open prepares the connections to a cluster. It fails only for what is wrong with the URI or the options; the cluster is reached for with
// the first call that needs it.
func Open(_ context.Context, uri string, opts Options) (*Cluster, error) {
	opts = opts.withDefaults()
	if opts.Changes != ChangesAuto && opts.Changes != ChangesStream && opts.Changes != ChangesOplog {
		return nil, fmt.Errorf("open cluster: change source %q is not one of auto, changeStream, oplog", opts.Changes)
	}
	parsed, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	client, err := mongo.Connect(parsed.clientOptions(opts))
	if err != nil {
		return nil, fmt.Errorf("open cluster %s: %s", parsed.name, parsed.redact(err.Error()))
	}
	return &Cluster{client: client, uri: parsed, opts: opts, keys: map[clustersync.Namespace]shardKey{}}, nil
}

func (o Options) withDefaults() Options {
	if o.AppName == "" {
		o.AppName = "tidegate clustersync"
	}
	if o.Database == "" {
		o.Database = DefaultDatabase
	}
	if o.Changes == "" {
		o.Changes = ChangesAuto
	}
	if o.Retry == 0 {
		o.Retry = DefaultRetry
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Kind implements [clustersync.Cluster].
func (c *Cluster) Kind() clustersync.Kind { return clustersync.MongoDB }

// Ping implements [clustersync.Cluster]: one round trip, never tried again.
func (c *Cluster) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.opts.Retry)
	defer cancel()
	if err := c.client.Database("admin").RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Err(); err != nil {
		return 0, c.failed("ping", err)
	}
	return time.Since(start), nil
}

// Close implements [clustersync.Cluster].
func (c *Cluster) Close(ctx context.Context) error {
	if err := c.client.Disconnect(ctx); err != nil {
		return c.failed("close connections", err)
	}
	return nil
}

// Secondaries and small pools would only hide how the cluster is; waiting for a primary longer than this is the caller's.
func (p parsedURI) clientOptions(o Options) *options.ClientOptions {
	co := options.Client().ApplyURI(p.uri).SetAppName(o.AppName)
	if co.ServerSelectionTimeout == nil {
		co.SetServerSelectionTimeout(o.Retry)
	}
	return co
}
