package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/gatewaycluster"
	"github.com/tidegate/tidegate/internal/clustersync/mapping"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
)

const clusterSyncHelp = `
Usage: tidegate clustersync --cluster0 URI --cluster1 URI [--config FILE] [flags]
       tidegate clustersync status [--watch] [--url URL]
       tidegate clustersync verify SRC DST [flags]
       tidegate clustersync copy-users SRC DST

Syncs two clusters: copies one into the other, follows its changes, cuts over and reverses, with the HTTP API of mongosync
on 127.0.0.1:27182 and a page for people at http://127.0.0.1:27182/. It begins with POST /api/v1/start:

  curl localhost:27182/api/v1/start -XPOST --data '{"source": "cluster0", "destination": "cluster1"}'

A cluster is mongodb://… or mongodb+srv://…, or a tidegate deployment: tidegate://user:password@host:4985, tidegates:// with
TLS. Started again with the same clusters it goes on where it was. ` + "`status`" + ` shows how far a running sync is, ` + "`verify`" + `
compares two clusters by itself, ` + "`copy-users`" + ` copies users and roles between two tidegate clusters, and --dry-run prints
what would be copied, skipped and refused, and writes nothing.

Every flag may be in a YAML file named by --config, under the same name; flags win. URIs are best given there, or in the
environment as TIDEGATE_CLUSTER0 and TIDEGATE_CLUSTER1, where other users of this machine do not see their passwords.

SIGUSR1 rotates the log file. SIGINT and SIGTERM stop in order. Ends with 0 when stopped, 1 after a fatal error, 2 when the
command line was not understood.
`

// Environment variables of URIs.
const (
	cluster0Variable = "TIDEGATE_CLUSTER0"
	cluster1Variable = "TIDEGATE_CLUSTER1"
)

// clusterSyncCommand runs a cluster sync, or one of its tools.
func clusterSyncCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	if len(args) > 0 {
		switch args[0] {
		case "status":
			return clusterSyncStatusCommand(ctx, args[1:], getenv, std)
		case "verify":
			return clusterSyncVerifyCommand(ctx, args[1:], getenv, std)
		case "copy-users":
			return clusterSyncUsersCommand(ctx, args[1:], getenv, std)
		}
	}
	o, err := parseClusterSync(args, getenv, std)
	if err != nil {
		return ignoreHelp(err)
	}
	if o.version {
		return versionCommand(ctx, nil, getenv, std)
	}
	if o.dryRun {
		return clusterSyncDryRun(ctx, o, std)
	}
	return (&syncProcess{o: o, std: std}).run(ctx)
}

// syncProcess is a running cluster sync.
type syncProcess struct {
	o   *clusterSyncOptions
	std stdio
	log *syncLog
}

// Bounds of the HTTP server.
const (
	syncReadTimeout  = 30 * time.Second
	syncWriteTimeout = 35 * time.Minute // longer than any call
	syncIdleTimeout  = 2 * time.Minute
	syncConnections  = 256
	syncDrain        = 5 * time.Second
)

// run serves the API, keeps the sync going and stops in order when ctx ends.
func (p *syncProcess) run(ctx context.Context) (err error) {
	if p.log, err = openSyncLog(p.o, p.std.out); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.log.Close()) }()
	defer p.log.rotateOnSignal()()
	// A second signal while this one stops must do no harm: it is swallowed.
	again := make(chan os.Signal, 1)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)

	log := p.log.Logger
	log.Info("Version info", "version", productVersion(), "commit", commit(), "go", runtime.Version())
	log.Info("Mongosync Options", p.o.attrs()...)
	if err := p.serve(ctx, log); err != nil {
		log.Log(ctx, clustersync.LevelFatal, "Stopping after an error", "error", err.Error())
		return err
	}
	log.Info("Stopped")
	return nil
}

func (p *syncProcess) serve(ctx context.Context, log *slog.Logger) error {
	var control *clustersync.Control
	warn := func(text string) {
		if control != nil {
			control.Warn(text)
		}
	}
	pair, err := p.o.open(ctx, log, warn)
	if err != nil {
		return err
	}
	defer pair.close()
	control = clustersync.NewControl(p.o.control(pair, log))
	listeners, loopback, err := p.o.listen(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           clustersync.NewAPI(control, clustersync.APIOptions{Log: log, Loopback: loopback, Host: p.o.host}),
		ReadHeaderTimeout: syncReadTimeout, ReadTimeout: syncReadTimeout, WriteTimeout: syncWriteTimeout, IdleTimeout: syncIdleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), Protocols: new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true)
	slots := make(chan struct{}, syncConnections)
	g, gctx := errgroup.WithContext(ctx)
	for _, ln := range listeners {
		log.Info("Listening", "address", ln.Addr().String())
		g.Go(listener{name: "cluster sync", ln: &limited{Listener: ln, slots: slots}, server: server}.serve)
	}
	g.Go(func() error {
		err := control.Run(gctx)
		dctx, cancel := context.WithTimeout(context.Background(), syncDrain)
		defer cancel()
		if server.Shutdown(dctx) != nil {
			_ = server.Close()
		}
		return err
	})
	g.Go(func() error { return p.log.keepMetrics(gctx, control.Metrics()) })
	return g.Wait()
}

// listen opens the port on the host, or on both loopback addresses.
func (o *clusterSyncOptions) listen(ctx context.Context) (listeners []net.Listener, loopback bool, err error) {
	hosts := []string{"127.0.0.1", "::1"}
	if o.host != "" {
		hosts = []string{o.host}
	}
	port := strconv.Itoa(o.port)
	loopback = isLoopback(net.JoinHostPort(hosts[0], port))
	var lc net.ListenConfig
	for i, host := range hosts {
		ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, port))
		switch {
		case err == nil:
			listeners = append(listeners, ln)
			_, port, _ = net.SplitHostPort(ln.Addr().String()) // 0 takes a free one, which the second address shares
		case i > 0: // there may be no IPv6 here
		default:
			return nil, false, fmt.Errorf("listen for the cluster sync API: %w", err)
		}
	}
	return listeners, loopback, nil
}

// clusterPair are two clusters that speak one language, and how their documents compare.
type clusterPair struct {
	clusters [2]clustersync.Cluster
	compare  clustersync.Comparison
}

// open makes the two clusters, by the schemes of their URIs. None is connected to yet.
func (o *clusterSyncOptions) open(ctx context.Context, log *slog.Logger, warn func(string)) (p clusterPair, err error) {
	for i, uri := range o.uris() {
		if p.clusters[i], err = o.openOne(ctx, uri, log, warn); err != nil {
			p.close()
			return p, fmt.Errorf("cluster%d: %w", i, err)
		}
	}
	p.clusters[0], p.clusters[1], p.compare = mapping.Pair(p.clusters[0], p.clusters[1], mapping.ViewOptions{Warn: warn, Log: log})
	return p, nil
}

func (o *clusterSyncOptions) openOne(ctx context.Context, uri string, log *slog.Logger, warn func(string)) (clustersync.Cluster, error) {
	scheme, _, _ := strings.Cut(uri, "://")
	switch scheme {
	case "mongodb", "mongodb+srv":
		c, err := mongocluster.Open(ctx, uri, mongocluster.Options{Database: o.mongoMetadata(), Changes: o.changeSource, Logger: log})
		if err != nil {
			return nil, err // and no pointer in an interface
		}
		return c, nil
	case "tidegate", "tidegates":
		c, err := gatewaycluster.Open(ctx, uri, gatewaycluster.Options{MetadataDB: o.gatewayMetadata(), Log: log})
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	return nil, errors.New("the URI must begin with mongodb://, mongodb+srv://, tidegate:// or tidegates://") // it is not repeated: it may hold a password
}

func (p clusterPair) close() {
	ctx, cancel := context.WithTimeout(context.Background(), syncDrain)
	defer cancel()
	for _, c := range p.clusters {
		if c != nil {
			_ = c.Close(ctx)
		}
	}
}

// control is what the sync works with.
func (o *clusterSyncOptions) control(p clusterPair, log *slog.Logger) clustersync.ControlConfig {
	return clustersync.ControlConfig{
		Clusters: p.clusters,
		Settings: clustersync.Settings{
			Limits: o.limits(clustersync.DefaultLoadLevel), HotDocs: o.hot, DisableVerification: o.disableVerification, Spool: o.spool(),
			MassDelete: clustersync.MassDelete{Percent: o.massDeletePercent, Documents: clustersync.DefaultMassDocuments},
		},
		PreExisting: o.limits(clustersync.PreExistingLoadLevel),
		Environment: o.environment(),
		Compare:     p.compare,
		Log:         log,
	}
}

// discard writes nothing anywhere.
func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
