package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const deviceSyncHelp = `
Usage: tidegate device-sync COMMAND --db NAME [flags]

Pauses, resumes, terminates, enables and configures device sync of a database, and shows its clients.

  tidegate device-sync status                                # of all databases
  tidegate device-sync pause --db notes -y
  tidegate device-sync enable --db notes                     # after a pause; nothing has to be configured (also: resume)
  tidegate device-sync terminate --db notes                  # asks for "Terminate Sync" to be typed
  tidegate device-sync terminate --db notes --confirm "Terminate Sync" --wait
  tidegate device-sync enable --db notes --config sync.json  # after a termination: configured anew
  tidegate device-sync config pull --db notes --file sync.json
  tidegate device-sync config push --db notes --file sync.json --dry-run
  tidegate device-sync sessions --db notes
  tidegate device-sync clients --db notes --reset-state pending
  tidegate device-sync reset-client --db notes --file-ident 7
  tidegate device-sync reset-all --db notes --reason "data directory was copied back"
  tidegate device-sync trim --db notes
  tidegate device-sync quarantine list --db notes
  tidegate device-sync quarantine show|restore|drop --db notes --id ID

A pause keeps settings and history: clients go on where they were. A termination destroys both, and every client must reset.
Ends with 0 when it is done; 2 when it was refused or not confirmed, or the command line was not understood; 3 when sync was paused
for so long that it must be terminated; 1 when anything else failed, and 130 after Ctrl-C, which ends nothing on the gateway.
`

// deviceSyncVerbs are the commands, and whether they take a word more.
var deviceSyncVerbs = map[string][]string{
	"status": nil, "pause": nil, "enable": nil, "resume": nil, "terminate": nil, "sessions": nil, "clients": nil, "reset-client": nil,
	"reset-all": nil, "trim": nil, "config": {"pull", "push"}, "quarantine": {"list", "show", "restore", "drop"},
}

// deviceSyncOptions are what the command line of device-sync asks for.
type deviceSyncOptions struct {
	verb, sub     string
	name          string
	admin, db     endpoint
	yes           bool
	confirm       string
	file          string // with a configuration
	dryRun, wait  bool
	json          bool
	resetState    string
	fileIdent     int64
	reason, id    string
	destructive   bool
	limit         int
	resetStateSet bool
}

// deviceSyncCommand carries out one command of device-sync.
func deviceSyncCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	o, err := parseDeviceSync(args, getenv, std)
	if err != nil {
		return ignoreHelp(err)
	}
	c := &deviceSyncClient{o: o, db: newDatabaseClient(o.db), std: std, poll: pollEvery}
	c.db.http.Timeout = offlineTimeout
	return refusedStatus(c.run(ctx))
}

// exitRefused and exitMustTerminate are exit statuses.
const (
	exitRefused       = 2
	exitMustTerminate = 3
)

// errNotConfirmed is a question that was not answered with yes.
var errNotConfirmed = errors.New("not confirmed; nothing was changed")

// refusedStatus gives errors that are refusals their exit status.
func refusedStatus(err error) error {
	answer, refused := errors.AsType[*answerError](err)
	if refused && answer.status >= 400 && answer.status < 500 || errors.Is(err, errNotConfirmed) {
		return &exitStatus{exitRefused, err}
	}
	return err
}

// parseDeviceSync reads the command line.
func parseDeviceSync(args []string, getenv env, std stdio) (*deviceSyncOptions, error) {
	o := &deviceSyncOptions{}
	args = o.words(args)
	fs := newFlags("device-sync", deviceSyncHelp, std)
	adminURL := fs.String("admin", "http://127.0.0.1:4985", "`URL` of the gateway's admin API")
	adminUser := fs.String("admin-user", "", "`name` to log in with there; may be in the URL")
	adminPassword := fs.String("admin-password", "", "its password; "+adminPasswordVariable+" in the environment if not given")
	output := fs.String("o", "text", "`form` of what is printed: text or json")
	o.flags(fs)
	if err := parseFlags(fs, args); err != nil {
		return nil, err
	}
	o.json = *output == "json"
	fs.Visit(func(f *flag.Flag) { o.resetStateSet = o.resetStateSet || f.Name == "reset-state" })
	if *output != "text" && *output != "json" {
		return nil, usageErrorf("-o must be text or json")
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	var err error
	const some = "db" // an endpoint of a database is what can be parsed
	if o.admin, err = parseAdmin(*adminURL, some, *adminUser, *adminPassword); err != nil {
		return nil, err
	}
	o.admin.passwordFrom(getenv, adminPasswordVariable)
	o.admin.url = strings.TrimSuffix(o.admin.url, "/"+some)
	o.db = o.admin
	o.db.url += "/" + url.PathEscape(o.name)
	return o, nil
}

// words takes the command, and its second word, off the command line.
func (o *deviceSyncOptions) words(args []string) []string {
	for _, to := range []*string{&o.verb, &o.sub} {
		if len(args) == 0 || strings.HasPrefix(args[0], "-") {
			break
		}
		*to, args = args[0], args[1:]
		if deviceSyncVerbs[o.verb] == nil {
			break
		}
	}
	return args
}

func (o *deviceSyncOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.name, "db", "", "`name` of the database; without it status shows all")
	fs.BoolVar(&o.yes, "y", false, "do not ask")
	fs.BoolVar(&o.yes, "yes", false, "do not ask")
	fs.StringVar(&o.confirm, "confirm", "", "of terminate: the `text` that would have to be typed, "+confirmTermination)
	fs.StringVar(&o.file, "config", "", "of enable: `file` with the configuration")
	fs.StringVar(&o.file, "file", "", "of config pull and push: the `file`; - is standard output or input")
	fs.BoolVar(&o.dryRun, "dry-run", false, "of config push: show what would change, and change nothing")
	fs.BoolVar(&o.wait, "wait", false, "wait until what was asked for has come about")
	fs.StringVar(&o.resetState, "reset-state", "", "of clients: only those whose reset is in this `state`: pending, running, done or wipe")
	fs.Int64Var(&o.fileIdent, "file-ident", 0, "of reset-client: the client's `number`")
	fs.StringVar(&o.reason, "reason", "", "of reset-all: why, for the log")
	fs.StringVar(&o.id, "id", "", "of quarantine: the body's `id`")
	fs.IntVar(&o.limit, "limit", 100, "of clients and quarantine list: at most so many")
	fs.BoolVar(&o.destructive, "allow-destructive-changes", false, "of config push: what would need a termination terminates")
}

// check refuses what makes no sense.
func (o *deviceSyncOptions) check() error {
	var verbs []string
	for v := range deviceSyncVerbs {
		verbs = append(verbs, v)
	}
	slices.Sort(verbs)
	subs, known := deviceSyncVerbs[o.verb]
	switch {
	case o.verb == "":
		return usageErrorf("say what to do: %s; try `tidegate device-sync --help`", strings.Join(verbs, ", "))
	case !known:
		return usageErrorf("unknown argument %q%s; try `tidegate device-sync --help`", o.verb, didYouMean(o.verb, verbs))
	case subs != nil && !slices.Contains(subs, o.sub):
		return usageErrorf("device-sync %s must be followed by %s", o.verb, strings.Join(subs, ", "))
	case o.name == "" && o.verb != "status":
		return usageErrorf("say which database with --db; try `tidegate device-sync --help`")
	case o.verb == "config" && o.file == "":
		return usageErrorf("name the file with --file; - is standard output or input")
	case o.verb == "reset-client" && o.fileIdent <= 0:
		return usageErrorf("say which client with --file-ident; `tidegate device-sync clients` lists them")
	case o.verb == "quarantine" && o.sub != "list" && o.id == "":
		return usageErrorf("say which body with --id; `tidegate device-sync quarantine list` lists them")
	}
	return nil
}

// confirmTermination is what has to be typed to terminate.
const confirmTermination = "Terminate Sync"

// pollUntil polls the status until done says yes.
func (c *deviceSyncClient) pollUntil(ctx context.Context, done func(*deviceSyncStatus) bool) (*deviceSyncStatus, error) {
	for {
		st, err := c.fetch(ctx)
		if err != nil {
			return nil, err
		}
		if done(st) {
			return st, nil
		}
		timer := time.NewTimer(c.poll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, errInterrupted
		}
	}
}

// fetch reads the status.
func (c *deviceSyncClient) fetch(ctx context.Context) (*deviceSyncStatus, error) {
	st := &deviceSyncStatus{}
	if err := c.db.request(ctx, http.MethodGet, "/_device_sync", nil, &st.raw); err != nil {
		return nil, fmt.Errorf("read device sync of %s: %w", c.o.name, err)
	}
	return st, st.parse()
}
