package main

import (
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.yaml.in/yaml/v3"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/gatewaycluster"
	"github.com/tidegate/tidegate/internal/config"
)

// clusterSyncOptions are the options of clustersync (cluster-sync.md §2.1).
type clusterSyncOptions struct {
	clusters            [2]config.Secret // URIs
	config              string
	id                  string
	host                string
	port                int
	insecureListen      bool
	logPath             string
	verbosity           string
	loadLevel           int // 0: the default
	disableVerification bool
	disableMetricsLog   bool
	metricsLogPath      string
	hotDocIDs           []string
	hot                 []clustersync.HotDocs
	indexBatch          int
	migrationName       string
	changeSource        string
	metadataDB          string
	copyWorkers         int // 0: by load level
	applyWorkers        int
	batchDocs           int
	batchBytes          int
	massDeletePercent   int // 0: never
	resilience          int // -1: by itself; 0: never; more: always
	dryRun              bool
	request             string
	version             bool
}

// maxSyncConfig bounds the config file.
const maxSyncConfig = 1 << 20

// syncFlags declares the flags. Those of mongosync that mean nothing here are taken and ignored.
func (o *clusterSyncOptions) syncFlags(std stdio) *flag.FlagSet {
	fs := newFlags("clustersync", clusterSyncHelp, std)
	for i := range o.clusters {
		fs.Func(fmt.Sprintf("cluster%d", i), fmt.Sprintf("`URI` of a cluster (environment: TIDEGATE_CLUSTER%d)", i), func(s string) error {
			o.clusters[i] = config.NewSecret(s)
			return nil
		})
	}
	fs.StringVar(&o.config, "config", "", "YAML `file` with flags by their names")
	fs.StringVar(&o.id, "id", "", "`shard` that this instance is for; several instances of one sync are not supported yet: refused")
	fs.StringVar(&o.host, "host", "", "`address` to serve on (default 127.0.0.1 and ::1)")
	fs.IntVar(&o.port, "port", 27182, "`port` of the HTTP API; 0 takes a free one")
	fs.BoolVar(&o.insecureListen, "insecure-listen", false, "serve on an address that other machines reach: there is no login")
	fs.StringVar(&o.logPath, "logPath", "", "`directory` of the log file mongosync.log (default: standard output)")
	fs.StringVar(&o.verbosity, "verbosity", "DEBUG", "lowest `level` that is logged: TRACE, DEBUG, INFO, WARN, ERROR, FATAL or PANIC")
	fs.IntVar(&o.loadLevel, "loadLevel", 0, "how much is done at a time, 1 to 4 (default 3; 2 with preExistingDestinationData)")
	fs.BoolVar(&o.disableVerification, "disableVerification", false, "do not verify, whatever /start says")
	fs.BoolVar(&o.disableMetricsLog, "disableMetricsLogging", false, "write no metrics into a file")
	fs.StringVar(&o.metricsLogPath, "metricsLoggingFilepath", "", "`directory` of mongosync_metrics.log (default: none is written)")
	fs.Func("hotDocIDs", "documents that are copied only during commit: `JSON` {\"database\":…,\"collection\":…,\"ids\":[{\"_id\":…}]}; may be repeated", func(s string) error {
		o.hotDocIDs = append(o.hotDocIDs, s)
		return nil
	})
	fs.IntVar(&o.indexBatch, "createIndexesBatchSize", clustersync.DefaultIndexBatch, "indexes built by one command, 1 to 64")
	fs.StringVar(&o.migrationName, "migrationName", "", "`name` that keeps the records of several syncs on one cluster apart: up to 44 of A-Z, a-z, 0-9, _")
	fs.StringVar(&o.changeSource, "changeSource", "auto", "where changes of MongoDB clusters are read: auto, changeStream or oplog")
	fs.StringVar(&o.metadataDB, "metadataDb", "", "`database` for the records of the sync (default "+clustersync.DefaultMetadataDatabase+"; on tidegate "+gatewaycluster.DefaultMetadataDB+")")
	fs.IntVar(&o.copyWorkers, "copyWorkers", 0, "writers of the initial copy (default: by loadLevel)")
	fs.IntVar(&o.applyWorkers, "applyWorkers", 0, "writers of changes (default: by loadLevel)")
	fs.IntVar(&o.batchDocs, "batchDocs", clustersync.DefaultBatchDocs, "documents in one write")
	fs.IntVar(&o.batchBytes, "batchBytes", clustersync.DefaultBatchBytes, "bytes in one write")
	fs.IntVar(&o.massDeletePercent, "massDeletePercent", clustersync.DefaultMassPercent,
		"`percent` of a collection's documents that may be deleted within ten minutes; beyond, the sync pauses and waits for /resume. 0: it never does")
	fs.BoolVar(&o.dryRun, "dry-run", false, "print what would be copied, skipped and refused, and write nothing")
	fs.StringVar(&o.request, "request", defaultRequest, "with --dry-run: the `body` that /start would get")
	fs.BoolVar(&o.version, "version", false, "print the version")
	fs.BoolVar(&o.version, "v", false, "print the version")
	for _, name := range []string{"acceptDisclaimer", "disableTelemetry", "enableCappedCollectionHandling"} {
		fs.Bool(name, false, "taken for scripts of mongosync; means nothing here")
	}
	fs.IntVar(&o.resilience, "oplogRolloverResilienceIntervalSeconds", -1,
		"keep what changes in the records while collections are copied: -1 if the source's history looks too short, 0 never, any other `number` always")
	return fs
}

// parseClusterSync reads the command line, the environment and the config file. No error of it repeats an argument that may hold a password.
func parseClusterSync(args []string, getenv env, std stdio) (*clusterSyncOptions, error) {
	o := &clusterSyncOptions{}
	fs := o.syncFlags(std)
	if err := parseLeading(fs, args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, usageErrorf("clustersync takes flags only, or status or verify as its first word; try `tidegate clustersync --help`")
	}
	if o.version {
		return o, nil
	}
	if err := o.readConfig(fs); err != nil {
		return nil, err
	}
	for i, variable := range []string{cluster0Variable, cluster1Variable} {
		if uri, ok := getenv(variable); ok && o.clusters[i].IsZero() {
			o.clusters[i] = config.NewSecret(uri)
		}
	}
	return o, o.check()
}

// readConfig sets the flags that the file gives and the command line does not.
func (o *clusterSyncOptions) readConfig(fs *flag.FlagSet) error {
	if o.config == "" {
		return nil
	}
	text, err := readLimited(o.config, maxSyncConfig)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return usageErrorf("%s is not YAML", o.config) // err may quote it, and there are passwords in it
	}
	if len(doc.Content) == 0 {
		return nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return usageErrorf("%s must hold `name: value` lines", o.config)
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	seen := map[string]bool{}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		where := fmt.Sprintf("%s, line %d", o.config, key.Line)
		name := key.Value
		switch {
		case fs.Lookup(name) == nil || slices.Contains([]string{"config", "version", "v", "dry-run", "request"}, name):
			return usageErrorf("%s: there is no setting %q", where, name)
		case seen[name]:
			return usageErrorf("%s: %s is given twice", where, name)
		}
		seen[name] = true
		if given[name] {
			continue
		}
		if err := setFromYAML(fs, name, value, where); err != nil {
			return err
		}
	}
	return nil
}

// setFromYAML sets a flag; hotDocIDs may be a list, and its elements JSON texts or the same in YAML.
func setFromYAML(fs *flag.FlagSet, name string, value *yaml.Node, where string) error {
	values := []*yaml.Node{value}
	if name == "hotDocIDs" && value.Kind == yaml.SequenceNode {
		values = value.Content
	}
	for _, v := range values {
		text := v.Value
		switch {
		case v.Kind == yaml.MappingNode && name == "hotDocIDs":
			var any map[string]any
			err := v.Decode(&any)
			if err == nil {
				var b []byte
				b, err = json.Marshal(any)
				text = string(b)
			}
			if err != nil {
				return usageErrorf("%s: hotDocIDs cannot be read", where)
			}
		case v.Kind != yaml.ScalarNode:
			return usageErrorf("%s: %s must be a single value", where, name)
		}
		if err := fs.Set(name, text); err != nil {
			return usageErrorf("%s: %s has a value that cannot be used", where, name)
		}
	}
	return nil
}

var migrationNames = regexp.MustCompile(`^[A-Za-z0-9_]{1,44}$`)

// check says what is wrong with the options.
func (o *clusterSyncOptions) check() error {
	for i, uri := range o.clusters {
		if uri.IsZero() {
			return usageErrorf("--cluster%d is required", i)
		}
	}
	_, err := parseSyncLevel(o.verbosity)
	between := func(n, low, high int) bool { return n >= low && n <= high }
	switch {
	case o.id != "":
		return usageErrorf("--id: several instances of one sync are not supported yet; run a single one, without --id")
	case err != nil:
		return usageErrorf("--verbosity: %v", err)
	case o.host != "" && !isLoopback(net.JoinHostPort(o.host, "0")) && !o.insecureListen:
		return usageErrorf("--host %s can be reached from other machines, and nothing protects this API; leave it out, or insist with --insecure-listen", o.host)
	case !between(o.port, 0, 65535):
		return usageErrorf("--port must be 0 to 65535")
	case !between(o.loadLevel, 0, clustersync.MaxLoadLevel):
		return usageErrorf("--loadLevel must be 1 to %d", clustersync.MaxLoadLevel)
	case !between(o.indexBatch, 1, clustersync.MaxIndexBatch):
		return usageErrorf("--createIndexesBatchSize must be 1 to %d", clustersync.MaxIndexBatch)
	case o.migrationName != "" && !migrationNames.MatchString(o.migrationName):
		return usageErrorf("--migrationName must be up to 44 of A-Z, a-z, 0-9 and _")
	case o.migrationName != "" && o.metadataDB != "":
		return usageErrorf("--migrationName and --metadataDb both name the database for the records; give one")
	case !slices.Contains([]string{"auto", "changeStream", "oplog"}, o.changeSource):
		return usageErrorf("--changeSource must be auto, changeStream or oplog")
	case !between(o.copyWorkers, 0, clustersync.MaxWorkers) || !between(o.applyWorkers, 0, clustersync.MaxWorkers):
		return usageErrorf("--copyWorkers and --applyWorkers must be 1 to %d", clustersync.MaxWorkers)
	case !between(o.batchDocs, 1, clustersync.MaxBatchDocs):
		return usageErrorf("--batchDocs must be 1 to %d", clustersync.MaxBatchDocs)
	case !between(o.massDeletePercent, 0, 100):
		return usageErrorf("--massDeletePercent must be 0 to 100")
	case o.resilience < -1:
		return usageErrorf("--oplogRolloverResilienceIntervalSeconds must be -1, 0 or more")
	case !between(o.batchBytes, 1024, clustersync.MaxBatchBytes):
		return usageErrorf("--batchBytes must be 1024 to %d", clustersync.MaxBatchBytes)
	}
	for _, text := range o.hotDocIDs {
		h, err := parseHotDocs(text)
		if err != nil {
			return err
		}
		o.hot = append(o.hot, h)
	}
	return nil
}

// spool says whether changes are kept during the copy. mongosync applies them at that interval; here they are kept as they come.
func (o *clusterSyncOptions) spool() clustersync.SpoolMode {
	switch {
	case o.resilience < 0:
		return clustersync.SpoolAuto
	case o.resilience == 0:
		return clustersync.SpoolNever
	}
	return clustersync.SpoolAlways
}

// maxHotDocs bounds the ids of one --hotDocIDs.
const maxHotDocs = 100_000

// parseHotDocs reads a --hotDocIDs.
func parseHotDocs(text string) (clustersync.HotDocs, error) {
	var v struct {
		Database   string           `json:"database"`
		DB         string           `json:"db"`
		Collection string           `json:"collection"`
		IDs        []jsontext.Value `json:"ids"`
	}
	bad := usageErrorf(`--hotDocIDs must be {"database": …, "collection": …, "ids": [{"_id": …}, …]}`)
	if json.Unmarshal([]byte(text), &v, json.RejectUnknownMembers(true)) != nil || (v.Database == "") == (v.DB == "") || v.Collection == "" ||
		len(v.IDs) == 0 || len(v.IDs) > maxHotDocs {
		return clustersync.HotDocs{}, bad
	}
	h := clustersync.HotDocs{Namespace: clustersync.Namespace{Database: v.Database + v.DB, Collection: v.Collection}}
	for _, raw := range v.IDs {
		var id bson.Raw
		if bson.UnmarshalExtJSON(raw, false, &id) != nil || id.Lookup("_id").IsZero() {
			return clustersync.HotDocs{}, bad
		}
		h.IDs = append(h.IDs, id)
	}
	return h, nil
}

// limits of a load level, unless one was given, with what was given by itself.
func (o *clusterSyncOptions) limits(level int) clustersync.Limits {
	if o.loadLevel != 0 {
		level = o.loadLevel
	}
	l := clustersync.LoadLevel(level)
	if o.copyWorkers > 0 {
		l.CopyWriters = o.copyWorkers
	}
	if o.applyWorkers > 0 {
		l.ApplyWorkers = o.applyWorkers
	}
	l.BatchDocs, l.BatchBytes, l.IndexBatch = o.batchDocs, o.batchBytes, o.indexBatch
	return l
}

func (o *clusterSyncOptions) environment() clustersync.Environment {
	return clustersync.Environment{MetadataDatabase: o.mongoMetadata(), MigrationName: o.migrationName, DisableVerification: o.disableVerification}
}

// mongoMetadata is the database for the records on a MongoDB cluster.
func (o *clusterSyncOptions) mongoMetadata() string {
	switch {
	case o.migrationName != "":
		return "mongosync_internal_" + o.migrationName
	case o.metadataDB != "":
		return o.metadataDB
	}
	return clustersync.DefaultMetadataDatabase
}

// gatewayMetadata is the database for the records on a tidegate cluster, whose names are in lower case.
func (o *clusterSyncOptions) gatewayMetadata() string {
	switch {
	case o.migrationName != "":
		return gatewaycluster.DefaultMetadataDB + "_" + strings.ToLower(o.migrationName)
	case o.metadataDB != "":
		return o.metadataDB
	}
	return gatewaycluster.DefaultMetadataDB
}

func (o *clusterSyncOptions) uris() [2]string {
	return [2]string{o.clusters[0].Reveal(), o.clusters[1].Reveal()}
}

// attrs are the options for the log, without what is secret.
func (o *clusterSyncOptions) attrs() []any {
	return []any{
		"cluster0", o.clusters[0], "cluster1", o.clusters[1], "host", o.host, "port", o.port, "insecureListen", o.insecureListen,
		"logPath", filepath.Clean(o.logPath), "verbosity", o.verbosity, "loadLevel", o.loadLevel, "disableVerification", o.disableVerification,
		"hotDocIDs", len(o.hot), "createIndexesBatchSize", o.indexBatch, "migrationName", o.migrationName, "changeSource", o.changeSource,
		"metadataDb", o.metadataDB, "copyWorkers", o.copyWorkers, "applyWorkers", o.applyWorkers, "batchDocs", o.batchDocs, "batchBytes", o.batchBytes,
	}
}

// commit is what the binary was built of.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
