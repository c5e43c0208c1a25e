package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tidegate/tidegate/internal/database"
)

const planHelp = `
Usage: tidegate plan --db NAME [--sync-function FILE] [flags]

Tells what a sync function would change if it were put in force and a resync run, and changes nothing: documents that
channels gain and lose, users and roles whose reach changes, documents for which the function throws, with the line.
Without --sync-function it is about the functions in force, which change something if a resync is due.

  tidegate plan --db notes --sync-function new.js
  tidegate plan --db notes --keyspace shop.orders --sync-function orders.js -o json

It is about the moment at which it begins, works in any state of the database, and ends on the gateway with Ctrl-C.
Progress goes to the standard error.

Ends with 0 if nothing would change, 1 if it could not be found out (also of a function that does not compile, and of a
command line that was not understood), 2 if something would change, 3 if the function throws for a document or does not
end, whatever else; 130 after Ctrl-C. Documents that the function refuses with forbidden, unauthorized or reject count as
changes, if they are in other channels by that. --fail-on chooses what does not end with 0:

  changes   as above (the default)
  losses    2 only if a user or role would lose documents, channels or roles, or the counts of that are not exact; 3
            if the function throws
  throws    3 if the function throws; never 2
  none      neither

A password is best given in the environment: TIDEGATE_ADMIN_PASSWORD is that of --admin-user.
`

// The exit statuses of plan (and 0).
const (
	exitPlanError  = 1
	exitChanges    = 2
	exitPlanThrows = 3
)

// planOptions are what the command line of plan asks for.
type planOptions struct {
	db       endpoint
	keyspace string // scope.collection; "": the only collection, or all without a function
	file     string
	function string
	json     bool
	failOn   failOn
}

// failOn says what does not end with 0.
type failOn int

// From the strictest to the most patient.
const (
	failOnChanges failOn = iota
	failOnLosses
	failOnThrows
	failOnNothing
)

var failOnNames = []string{"changes", "losses", "throws", "none"}

// planCommand asks for a dry run and prints its report.
func planCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	o, err := parsePlan(args, getenv, std)
	if err != nil {
		if errors.Is(err, errHelp) {
			return nil
		}
		return &exitStatus{exitPlanError, err}
	}
	report, raw, err := runPlan(ctx, o, newPlanView(std.err))
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return &exitStatus{exitPlanError, err}
	case o.json:
		_, err = fmt.Fprintf(std.out, "%s\n", raw)
	default:
		err = printPlan(std.out, report)
	}
	if err != nil {
		return &exitStatus{exitPlanError, err}
	}
	if code := o.failOn.status(report); code != 0 {
		return &exitStatus{code: code}
	}
	return nil
}

// status is the exit status of a report.
func (f failOn) status(r *database.PlanReport) int {
	switch {
	case f <= failOnThrows && r.DocsFailed > 0:
		return exitPlanThrows
	case f == failOnChanges && r.AnyChange():
		return exitChanges
	case f == failOnLosses && (r.Losing > 0 || !r.Exact.Principals || !r.Exact.Documents):
		return exitChanges
	}
	return 0
}

// parsePlan reads the command line.
func parsePlan(args []string, getenv env, std stdio) (*planOptions, error) {
	o := &planOptions{}
	fs := newFlags("plan", planHelp, std)
	db := fs.String("db", "", "`name` of the database; required")
	fs.StringVar(&o.file, "sync-function", "", "`file` with the function; - is standard input; the functions in force if not given")
	fs.StringVar(&o.keyspace, "keyspace", "", "the `collection`, as scope.collection; needed with --sync-function if there are several")
	adminURL := fs.String("admin", defaultAdmin, "`URL` of the gateway's admin API")
	adminUser := fs.String("admin-user", "", "`name` to log in with there; may be in the URL")
	adminPassword := fs.String("admin-password", "", "its password; "+adminPasswordVariable+" in the environment if not given")
	output := fs.String("o", "text", "what to print: `text` or json")
	failOnName := fs.String("fail-on", failOnNames[0], "`what` does not end with 0: "+strings.Join(failOnNames, ", "))
	if err := parseFlags(fs, args); err != nil {
		return nil, err
	}
	if *db == "" {
		return nil, usageErrorf("say which database with --db; try `tidegate plan --help`")
	}
	if o.keyspace != "" {
		if scope, coll, ok := strings.Cut(o.keyspace, "."); !ok || scope == "" || coll == "" {
			return nil, usageErrorf("--keyspace %q is not of the form scope.collection", o.keyspace)
		}
	}
	o.failOn = -1
	for i, name := range failOnNames {
		if name == *failOnName {
			o.failOn = failOn(i)
		}
	}
	if o.failOn < 0 {
		return nil, usageErrorf("--fail-on must be one of %s%s", strings.Join(failOnNames, ", "), didYouMean(*failOnName, failOnNames))
	}
	var err error
	if o.json, err = parseOutput(*output); err != nil {
		return nil, err
	}
	if o.db, err = parseAdmin(*adminURL, *db, *adminUser, *adminPassword); err != nil {
		return nil, err
	}
	o.db.passwordFrom(getenv, adminPasswordVariable)
	if o.file != "" {
		o.function, err = readSource(o.file, std)
	}
	return o, err
}

// body is what the gateway is asked for.
func (o *planOptions) body() map[string]any {
	body := map[string]any{}
	if o.file != "" {
		body["sync_function"] = o.function
	}
	if scope, coll, ok := strings.Cut(o.keyspace, "."); ok {
		body["scopes"] = map[string][]string{scope: {coll}}
	}
	return body
}
