package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/gatewaycluster"
	"github.com/tidegate/tidegate/internal/config"
)

const clusterSyncVerifyHelp = `
Usage: tidegate clustersync verify SRC DST [flags]

Compares two clusters, named by their URIs as for --cluster0: collections, options, indexes, and every document by hashes of
ranges of keys; what differs is looked at again a few times, so that both may be in use, and then named. Reads only.

A filter is the body that /start would get: --request '{"source":"cluster0","destination":"cluster1","includeNamespaces":[{"database":"shop"}]}'
SRC is cluster0 and DST cluster1; the body may exchange them. TIDEGATE_CLUSTER0 and TIDEGATE_CLUSTER1 in the environment
take the place of SRC and DST, so that passwords need not be on the command line.

Ends with 0 if both are equal, 3 if not, 1 when they could not be compared and 2 when the command line was not understood.
`

const clusterSyncUsersHelp = `
Usage: tidegate clustersync copy-users SRC DST

Makes the roles and users of one tidegate cluster on another, in the databases that both have. Passwords do not go along: users
are made disabled, until an administrator sets a new password and enables them. Users that are there are left alone.
TIDEGATE_CLUSTER0 and TIDEGATE_CLUSTER1 in the environment take the place of SRC and DST.
`

// errDiffer ends a verification that found differences, which have been printed.
var errDiffer = errors.New("the clusters differ")

// exitDiffer is the status of a verification that found differences.
const exitDiffer = 3

// defaultRequest is the body of /start where none is given.
const defaultRequest = `{"source":"cluster0","destination":"cluster1"}`

// clusterSyncVerifyCommand compares two clusters by itself.
func clusterSyncVerifyCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	o := &clusterSyncOptions{changeSource: "auto"}
	opts := clustersync.VerifyOptions{}
	fs := newFlags("clustersync verify", clusterSyncVerifyHelp, std)
	request := fs.String("request", defaultRequest, "`body` of /start, for its filter")
	fs.IntVar(&opts.Workers, "workers", 0, "ranges that are hashed at a time; 0: the default")
	fs.IntVar(&opts.Rounds, "rounds", 0, "how often a differing document is looked at before it is called different; 0: the default")
	fs.BoolVar(&opts.OnlyData, "only-data", false, "compare documents only, not options, indexes and views")
	asJSON := fs.Bool("json", false, "print the report as JSON")
	fs.StringVar(&o.metadataDB, "metadataDb", "", "`database` with the records of a sync, which is left out")
	fs.StringVar(&o.migrationName, "migrationName", "", "`name` of a sync whose records are left out")
	if err := o.parsePair(fs, args, getenv); err != nil {
		return ignoreHelp(err)
	}
	req, err := clustersync.ParseStart([]byte(*request))
	if err != nil {
		return usageErrorf("--request: %v", err)
	}
	src, dst, filter, err := req.Scope(o.environment())
	if err != nil {
		return usageErrorf("--request: %v", err)
	}
	pair, err := o.open(ctx, discard(), nil)
	if err != nil {
		return err
	}
	defer pair.close()
	opts.Include, opts.Compare = filter.Includes, pair.compare
	if filter.Remapping() {
		opts.Map = func(ns clustersync.Namespace) (clustersync.Namespace, bool) { return filter.Target(ns), true }
	}
	if isTerminal(std.err) {
		opts.Progress = func(done, all int) { fmt.Fprintf(std.err, "\r%d of %d collections compared", done, all) }
	}
	report, err := clustersync.Verify(ctx, pair.clusters[src], pair.clusters[dst], opts)
	if opts.Progress != nil {
		fmt.Fprint(std.err, "\r\x1b[K")
	}
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if err := printVerification(std.out, report, *asJSON); err != nil {
		return err
	}
	if !report.Equal {
		return errDiffer
	}
	return nil
}

// parsePair reads flags and two URIs, or takes these from the environment. No error of it repeats an argument, which may hold a password.
func (o *clusterSyncOptions) parsePair(fs *flag.FlagSet, args []string, getenv env) error {
	var uris []string
	for {
		if err := parseLeading(fs, args); err != nil {
			return err
		}
		if fs.NArg() == 0 {
			break
		}
		uris, args = append(uris, fs.Arg(0)), fs.Args()[1:]
	}
	if len(uris) == 0 {
		for _, variable := range []string{cluster0Variable, cluster1Variable} {
			if uri, ok := getenv(variable); ok {
				uris = append(uris, uri)
			}
		}
	}
	if len(uris) != len(o.clusters) {
		return usageErrorf("%s needs SRC and DST; try `tidegate %s --help`", fs.Name(), fs.Name())
	}
	for i, uri := range uris {
		o.clusters[i] = config.NewSecret(uri)
	}
	return nil
}

func printVerification(w io.Writer, report clustersync.Report, asJSON bool) error {
	text := report.String()
	if asJSON {
		b, err := json.Marshal(report, jsontext.WithIndent("  "))
		if err != nil {
			return fmt.Errorf("write down the report: %w", err)
		}
		text = string(b)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// clusterSyncUsersCommand copies users and roles.
func clusterSyncUsersCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	o := &clusterSyncOptions{}
	fs := newFlags("clustersync copy-users", clusterSyncUsersHelp, std)
	if err := o.parsePair(fs, args, getenv); err != nil {
		return ignoreHelp(err)
	}
	var clusters [2]*gatewaycluster.Cluster
	for i, uri := range o.uris() {
		c, err := gatewaycluster.Open(ctx, uri, gatewaycluster.Options{})
		if err != nil {
			return fmt.Errorf("%s: %w", [2]string{"SRC", "DST"}[i], err)
		}
		defer c.Close(ctx)
		clusters[i] = c
	}
	report, err := clusters[1].CopyUsers(ctx, clusters[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%d roles and %d users made; the users are disabled until they are given new passwords\n", report.Roles, report.Users)
	for _, name := range report.Existing {
		fmt.Fprintf(std.out, "  %s was there and was left alone\n", name)
	}
	return nil
}

// clusterSyncDryRun prints what a sync would do.
func clusterSyncDryRun(ctx context.Context, o *clusterSyncOptions, std stdio) error {
	req, err := clustersync.ParseStart([]byte(o.request))
	if err != nil {
		return usageErrorf("--request: %v", err)
	}
	pair, err := o.open(ctx, discard(), nil)
	if err != nil {
		return err
	}
	defer pair.close()
	report, err := clustersync.DryRun(ctx, pair.clusters, req, o.environment())
	if err != nil {
		return fmt.Errorf("dry run: %w", err)
	}
	if _, err := fmt.Fprint(std.out, report); err != nil {
		return err
	}
	return report.Err()
}
