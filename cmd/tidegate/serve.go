package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/appservices"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/console"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/replicate"
	"github.com/tidegate/tidegate/internal/rest"
	"github.com/tidegate/tidegate/internal/store/move"
	"github.com/tidegate/tidegate/internal/telemetry"
)

const serveHelp = `
Usage: tidegate serve [--config FILE] [--data DIR] [--public ADDR] [--admin ADDR] [--metrics ADDR] …

Runs a gateway on the data directory until it gets SIGINT or SIGTERM; then it ends feeds, lets running requests
finish and stops. A second signal stops it at once. Flags win over the config file. An empty address turns a
listener off; port 0 takes a free one, which the log names.
`

// What is in the data directory.
const (
	defaultData = "tidegate-data"
	storeDir    = "store"
	blobDir     = "blobs"
)

// logRingSize is how many log records are kept in memory for the console: some MiB at most.
const logRingSize = 2000

// serveFlags are the flags of serve.
type serveFlags struct {
	config, data, secretsKey       string
	store, storeSchema             string
	storeConnections               int
	takeover                       time.Duration
	public, admin, metrics         *string // nil: not given
	insecureAdmin, insecureMetrics bool
	logFormat, logLevel            string
	demo                           bool
	cacheMiB, memTableMiB          int
	minFreeMiB                     int64
	shutdownTimeout                time.Duration
}

// gatewayServer is a gateway with its listeners, from the flags on.
type gatewayServer struct {
	serveFlags
	getenv env
	std    stdio

	level  *slog.LevelVar
	counts *telemetry.LogCounts
	ring   *telemetry.LogRing
	log    *slog.Logger

	startup   *config.Startup
	databases map[string]*config.Database // of the config file
	settings  config.ServerSettings

	listening           []listener
	publicURL, adminURL string

	console *console.Console
	journal *appservices.Journal // what is logged about device sync
	apps    *appservices.Server
}

// serveCommand runs a gateway.
func serveCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	g := &gatewayServer{getenv: getenv, std: std, level: new(slog.LevelVar), counts: new(telemetry.LogCounts), ring: telemetry.NewLogRing(logRingSize)}
	if err := g.parse(args); err != nil {
		return ignoreHelp(err)
	}
	if err := g.load(); err != nil {
		return err
	}
	err := g.serve(ctx)
	if err != nil {
		g.log.Error("ended", "error", err)
	}
	return err
}

func (g *gatewayServer) parse(args []string) error {
	fs := newFlags("serve", serveHelp, g.std)
	fs.StringVar(&g.config, "config", "", "config `file`, in the form of Sync Gateway 2.8 or 3.x")
	fs.StringVar(&g.data, "data", defaultData, "data `directory`")
	fs.StringVar(&g.store, "store", "", "`URL` of a PostgreSQL database (postgres://…) to keep everything in instead of the data directory (default: "+storeEnv+")")
	fs.StringVar(&g.storeSchema, "store-schema", "tidegate", "PostgreSQL `schema` of the tables, made if missing")
	fs.IntVar(&g.storeConnections, "store-connections", 32, "`number` of connections to PostgreSQL for readers; writes and leases take four more")
	fs.DurationVar(&g.takeover, "takeover-after", defaultTakeover, "with --store: `time` after which other nodes take over what a node does that is not heard of")
	fs.StringVar(&g.secretsKey, "secrets-key-file", "", "`file` with the key that stored passwords are encrypted with (default: "+secretsKeyEnv+", or "+secretsKeyFile+" in the data directory)")
	optional := func(p **string, name, usage string) {
		fs.Func(name, usage, func(s string) error { *p = &s; return nil })
	}
	optional(&g.public, "public", "`address` of the public API (default "+config.DefaultPublicAddr+")")
	optional(&g.admin, "admin", "`address` of the admin API (default "+config.DefaultAdminAddr+")")
	optional(&g.metrics, "metrics", "`address` of metrics and profiles (default "+config.DefaultMetricsAddr+")")
	fs.BoolVar(&g.insecureAdmin, "insecure-admin", false, "let the admin API listen beyond this machine without TLS and login")
	fs.BoolVar(&g.insecureMetrics, "insecure-metrics", false, "let metrics and profiles listen beyond this machine without TLS and login")
	fs.StringVar(&g.logFormat, "log-format", string(telemetry.Text), "`format` of log lines: text or json")
	fs.StringVar(&g.logLevel, "log-level", "", "lowest `level` that is logged: none, error, warn, info or debug (default: the config file's, or info)")
	fs.BoolVar(&g.demo, "demo", false, "make a demo database, unless it is there, and print what to try")
	fs.IntVar(&g.cacheMiB, "cache-mib", 64, "block cache of the store, in `MiB`")
	fs.IntVar(&g.memTableMiB, "memtable-mib", 16, "size at which recent writes go from memory to a table, in `MiB`")
	fs.Int64Var(&g.minFreeMiB, "min-free-mib", 256, "room on the disk below which writes are refused, in `MiB`")
	fs.DurationVar(&g.shutdownTimeout, "shutdown-timeout", 30*time.Second, "`time` for running requests to finish on SIGTERM")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if g.storeConnections < 1 || g.storeSchema == "" || g.takeover < time.Second {
		return usageErrorf("--store-connections must be above 0, --store-schema a name, and --takeover-after at least 1s")
	}
	if g.cacheMiB < 1 || g.memTableMiB < 1 || g.minFreeMiB < 1 || g.shutdownTimeout <= 0 {
		return usageErrorf("--cache-mib, --memtable-mib, --min-free-mib and --shutdown-timeout must be above 0")
	}
	if err := g.setLevel(g.logLevel); err != nil {
		return usageErrorf("--log-level: %v", err)
	}
	log, err := telemetry.NewLogger(g.std.err, telemetry.Format(g.logFormat), g.level)
	if err != nil {
		return usageErrorf("--log-format: %v", err)
	}
	g.journal = appservices.NewJournal(g.ring.Tee(log.Handler()))
	g.log = g.counts.Count(slog.New(g.journal))
	return nil
}

// setLevel sets the log level by name; "" is none given.
func (g *gatewayServer) setLevel(name string) error {
	if name == "" {
		return nil // a new LevelVar is at info
	}
	level, err := telemetry.ParseLevel(name)
	if err == nil {
		g.level.Set(level)
	}
	return err
}

// maxConfigBytes bounds the config file.
const maxConfigBytes = 64 << 20

// load reads the config file and puts the flags over it.
func (g *gatewayServer) load() error {
	g.startup = &config.Startup{}
	if g.config != "" {
		src, err := readLimited(g.config, maxConfigBytes)
		if err != nil {
			return fmt.Errorf("read config: %w", err)
		}
		if g.startup, g.databases, err = config.ParseStartup(src, g.getenv); err != nil {
			return fmt.Errorf("%s: %w", g.config, err)
		}
		dir := filepath.Dir(g.config)
		for name, db := range g.databases {
			db.Name = name
			if err := db.LoadFiles(func(path string) ([]byte, error) { return readScript(dir, path) }); err != nil {
				return fmt.Errorf("%s: %w", g.config, err)
			}
		}
	}
	override := func(field **string, flag *string) {
		if flag != nil {
			*field = flag
		}
	}
	override(&g.startup.API.PublicInterface, g.public)
	override(&g.startup.API.AdminInterface, g.admin)
	override(&g.startup.API.MetricsInterface, g.metrics)
	off := false
	if g.insecureAdmin && g.startup.API.AdminAuth == nil {
		g.startup.API.AdminAuth = &off
	}
	if g.insecureMetrics && g.startup.API.MetricsAuth == nil {
		g.startup.API.MetricsAuth = &off
	}
	if err := g.startup.Check(); err != nil {
		return err
	}
	g.settings = g.startup.Settings()
	if console := g.startup.Logging.Console; console != nil && g.logLevel == "" {
		return g.setLevel(console.LogLevel)
	}
	return nil
}

// readScript reads a script that a config file names, relative to that file.
func readScript(dir, path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return readLimited(path, maxConfigBytes)
}

func readLimited(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return b, err
}

// serve starts everything in the order in which it depends on each other, and stops it in the reverse order:
// store, blobs, gateway, listeners.
func (g *gatewayServer) serve(ctx context.Context) (err error) {
	st, err := g.openStore(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	secrets, err := g.secretKeys()
	if err != nil {
		return err
	}
	blipStats := new(blip.Stats)
	replications := rest.ReplicateServer(g.startup.Settings().BLIP, blipStats, g.log)
	gw, err := gateway.Open(ctx, gateway.Options{
		Store: st.Store, Blobs: st.blobs, NodeID: st.nodeID, Startup: g.startup, FileDatabases: g.databases, Logger: g.log, Secrets: secrets, Cluster: st.nodes,
		NewReplicator: func(o replicate.ActiveOptions) (gateway.Replicator, error) {
			o.UserAgent = "tidegate/" + productVersion() + " (ISGR)"
			return replicate.NewReplicator(replications, o)
		},
	})
	if err != nil {
		return err
	}
	// Closing the gateway ends feeds and waits for requests, so it comes before the listeners are shut down.
	handlers, err := g.handlers(ctx, gw, st, replications, blipStats)
	if err != nil {
		return errors.Join(err, gw.Close(ctx))
	}
	if err := g.listen(ctx, handlers); err != nil {
		return errors.Join(err, gw.Close(ctx))
	}
	return g.run(ctx, gw, st.moves)
}

// run serves until ctx ends, something fails or everything was moved to another store (moves may be nil), then drains.
func (g *gatewayServer) run(ctx context.Context, gw *gateway.Gateway, moves *move.Source) error {
	var moved <-chan struct{}
	if moves != nil {
		moved = moves.Moved()
	}
	ended := make(chan error, 1)
	go func() { ended <- gw.Run(ctx) }()
	var lost error
	group, groupCtx := errgroup.WithContext(context.WithoutCancel(ctx))
	for _, l := range g.listening {
		group.Go(l.serve)
	}
	journalCtx, stopJournal := context.WithCancel(context.WithoutCancel(ctx))
	defer stopJournal()
	go g.apps.Run(journalCtx)
	if g.demo {
		if err := seedDemo(ctx, g.adminURL, g.publicURL, g.data, g.std.out); err != nil {
			g.log.Error("the demo database could not be made", "error", err)
		}
	}
	select {
	case <-ctx.Done():
		g.log.Info("stopping", "because", context.Cause(ctx))
	case lost = <-ended:
		if ctx.Err() != nil {
			lost = nil // both came at once
		} else {
			g.log.Error("stopping: this process may not serve from the store any more", "error", lost)
		}
	case <-moved:
		lost = fmt.Errorf("everything was moved to %s: start with %s", moves.To(), startFrom(moves.To()))
	case <-groupCtx.Done():
	}
	drain, done := context.WithTimeout(context.WithoutCancel(ctx), g.shutdownTimeout)
	defer done()
	for _, l := range g.listening {
		l.refuse() // no new connections; those that are open go on
	}
	errs := []error{lost, gw.Close(drain)}
	for _, l := range g.listening {
		errs = append(errs, l.shutdown(drain))
	}
	errs = append(errs, group.Wait())
	g.log.Info("stopped")
	return errors.Join(errs...)
}

// handlers makes the HTTP handlers.
func (g *gatewayServer) handlers(ctx context.Context, gw *gateway.Gateway, st *engine, replications *replicate.Server, blipStats *blip.Stats) (*rest.Server, error) {
	admins, err := rest.AdminAccounts(g.startup, gw.Passwords())
	if err != nil {
		return nil, err
	}
	keys := access.NewAPIKeys(st.Store, gw.Passwords())
	server := rest.NewServer(rest.Deps{
		Gateway: gw, Config: g.startup, Logger: g.log, Version: productVersion(), Admins: admins,
		Replicate: rest.Replicator(replications, g.startup.Settings().BLIP),
		AdminDeps: rest.AdminDeps{StoreStats: st.stats, BLIPStats: blipStats, LogCounts: g.counts, LogRing: g.ring, LogLevel: g.level, DataDir: g.data,
			Backup: backupOf(ctx, st), Move: st.moves, APIKeys: keys,
			AppDatabase: func(ctx context.Context, id string) (string, error) { return g.apps.DatabaseOf(ctx, id) }},
	})
	if g.apps, err = g.newAppServices(ctx, gw, st, server, keys, admins); err != nil {
		return nil, err
	}
	logins := &consoleLogins{admins: admins, keys: keys, signApps: signApps}
	g.console, err = g.newConsole(server.Admin(), g.apps, logins)
	return server, err
}
