package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const resyncHelp = `
Usage: tidegate resync [start | status | stop] --db NAME [flags]

Runs the sync function of a database over every document again, so that a changed function holds for what is stored too.

  tidegate resync --db notes --take-offline           # offline, resync, online again
  tidegate resync --db notes --wait                   # of a database that is offline already
  tidegate resync --db notes --online --wait          # while the database goes on serving
  tidegate resync --db notes --online --sync-function new.js --wait    # a new function, in force at the end
  tidegate resync status --db notes
  tidegate resync stop --db notes

A run that was stopped, or whose gateway died, goes on where it was when it is started again. "tidegate plan" shows
beforehand what a function would change. Ends with 0 when the run was started or, with --wait, has completed; 1 when it
failed or was stopped; 2 when the command line was not understood and 130 after Ctrl-C, which ends nothing on the gateway.
`

// resyncOptions are what the command line of resync asks for.
type resyncOptions struct {
	verb               string // start, status or stop
	name               string
	db                 endpoint
	online, regenerate bool
	reset, wait, cycle bool
	file, function     string // where the candidate is from, and its source; "" without one
	collections        []string
}

// resyncCommand starts, follows, shows or stops a resync.
func resyncCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	o, err := parseResync(args, getenv, std)
	if err != nil {
		return ignoreHelp(err)
	}
	c := &resyncClient{o: o, db: newDatabaseClient(o.db), view: newResyncView(std.out), poll: pollEvery}
	c.db.http.Timeout = offlineTimeout
	switch o.verb {
	case "status":
		return c.status(ctx)
	case "stop":
		return c.stop(ctx)
	}
	return c.start(ctx)
}

// offlineTimeout bounds one request. Going offline waits for what runs, a minute at most.
const offlineTimeout = 90 * time.Second

// parseResync reads the command line.
func parseResync(args []string, getenv env, std stdio) (*resyncOptions, error) {
	o := &resyncOptions{verb: "start"}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		o.verb, args = args[0], args[1:]
	}
	fs := newFlags("resync", resyncHelp, std)
	fs.StringVar(&o.name, "db", "", "`name` of the database; required")
	adminURL := fs.String("admin", "http://127.0.0.1:4985", "`URL` of the gateway's admin API")
	adminUser := fs.String("admin-user", "", "`name` to log in with there; may be in the URL")
	adminPassword := fs.String("admin-password", "", "its password; "+adminPasswordVariable+" in the environment if not given")
	fs.BoolVar(&o.online, "online", false, "keep the database online; its new routing becomes visible at once, at the end")
	fs.StringVar(&o.file, "sync-function", "", "with --online: `file` with the function that takes the place of the configured one at the end; - is standard input")
	collections := fs.String("collections", "", "only these `collections`, as scope.collection, comma-separated; all if not given")
	fs.BoolVar(&o.regenerate, "regenerate", false, "give each document a new sequence, so that every client looks at it again; expensive, and not with --online")
	fs.BoolVar(&o.reset, "reset", false, "begin anew where an interrupted run could go on")
	fs.BoolVar(&o.cycle, "take-offline", false, "take the database offline first, wait, and bring it online when the resync has completed")
	fs.BoolVar(&o.wait, "wait", false, "show how it goes until it has ended")
	if err := parseFlags(fs, args); err != nil {
		return nil, err
	}
	verbs := []string{"start", "status", "stop"}
	switch {
	case !strings.Contains(" start status stop ", " "+o.verb+" "):
		return nil, usageErrorf("unknown argument %q%s; try `tidegate resync --help`", o.verb, didYouMean(o.verb, verbs))
	case o.name == "":
		return nil, usageErrorf("say which database with --db; try `tidegate resync --help`")
	case o.file != "" && !o.online:
		return nil, usageErrorf("--sync-function goes with --online; an offline resync takes the configured function")
	case o.regenerate && o.online:
		return nil, usageErrorf("--regenerate does not go with --online")
	case o.cycle && o.online:
		return nil, usageErrorf("say one of --take-offline and --online")
	}
	if *collections != "" {
		o.collections = strings.Split(*collections, ",")
	}
	var err error
	if o.db, err = parseAdmin(*adminURL, o.name, *adminUser, *adminPassword); err != nil {
		return nil, err
	}
	o.db.passwordFrom(getenv, adminPasswordVariable)
	if o.file != "" {
		if o.function, err = readSource(o.file, std); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// parseAdmin makes the endpoint of a database of an admin API.
func parseAdmin(admin, db, user, password string) (endpoint, error) {
	return parseEndpoint("--admin", strings.TrimRight(admin, "/")+"/"+url.PathEscape(db), user, password)
}

// maxSourceBytes bounds a sync function, as the gateway does.
const maxSourceBytes = 1 << 20

// readSource reads a function from a file, or from standard input.
func readSource(name string, std stdio) (string, error) {
	in := std.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("read sync function: %w", err)
		}
		defer f.Close()
		in = f
	}
	source, err := io.ReadAll(io.LimitReader(in, maxSourceBytes+1))
	if err != nil {
		return "", fmt.Errorf("read sync function: %w", err)
	}
	if len(source) > maxSourceBytes {
		return "", fmt.Errorf("the sync function is larger than %d bytes", maxSourceBytes)
	}
	return string(source), nil
}

// body is what the gateway is asked for, besides the query.
func (o *resyncOptions) body() (map[string]any, error) {
	body := map[string]any{}
	if o.file != "" {
		body["sync_function"] = o.function
	}
	scopes := map[string][]string{}
	for _, name := range o.collections {
		scope, coll, ok := strings.Cut(name, ".")
		if !ok {
			return nil, usageErrorf("%q is not of the form scope.collection", name)
		}
		scopes[scope] = append(scopes[scope], coll)
	}
	if len(scopes) > 0 {
		body["scopes"] = scopes
	}
	return body, nil
}

// query is the rest of what the gateway is asked for.
func (o *resyncOptions) query() string {
	q := url.Values{"action": {"start"}}
	for name, set := range map[string]bool{"online": o.online, "regenerate_sequences": o.regenerate, "reset": o.reset} {
		if set {
			q.Set(name, "true")
		}
	}
	return "/_resync?" + q.Encode()
}

// explain adds to a refusal what can be done about it.
func (o *resyncOptions) explain(err error) error {
	if a, ok := errors.AsType[*answerError](err); ok && a.status == http.StatusServiceUnavailable && strings.Contains(a.reason, "must be _offline") {
		return fmt.Errorf("%w (--take-offline does that, and --online does without)", err)
	}
	return err
}
