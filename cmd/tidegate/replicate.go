package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"net/url"
	"strings"
	"time"
)

const replicateHelp = `
Usage: tidegate replicate SRC DST [--pull | --push | --both] [--continuous] [flags]

Replicates two databases: SRC, named by its URL on the admin API of a gateway (http://127.0.0.1:4985/db), and DST, a
database of another gateway (https://edge.example.com:4984/db). The gateway of SRC does the work, as an ad hoc
replication; this command starts it, shows how far it is and waits for its end.

  tidegate replicate http://127.0.0.1:4985/notes https://sync.example.com/notes --user eve         # push
  tidegate replicate http://127.0.0.1:4985/notes https://sync.example.com/notes --pull --continuous

Without --continuous it ends when everything is copied; the same command again copies what has changed since. Ctrl-C
cancels the replication on the gateway. Ends with 0 when everything was copied, 1 when the replication failed, 2 when
the command line was not understood and 130 after Ctrl-C. Documents that one side refuses are counted and end nothing.

Passwords are best given in the environment, where other users of this machine do not see them:
TIDEGATE_PASSWORD is that of --user, TIDEGATE_ADMIN_PASSWORD that of --admin-user.
`

// The environment variables of passwords.
const (
	passwordVariable      = "TIDEGATE_PASSWORD"
	adminPasswordVariable = "TIDEGATE_ADMIN_PASSWORD"
)

// replicateOptions are what the command line of replicate asks for.
type replicateOptions struct {
	source, target endpoint
	direction      string // as definitions have it
	continuous     bool
	deltas         bool
	conflicts      string
	channels       []string      // nil: no filter
	patience       time.Duration // 0: the gateway's
}

// endpoint is a database and who logs in there.
type endpoint struct {
	url            string // without credentials and without a slash at the end
	user, password string
}

// replicateCommand runs an ad hoc replication and follows it.
func replicateCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	o, err := parseReplicate(args, getenv, std)
	if err != nil {
		return ignoreHelp(err)
	}
	return newFollower(o, std.out).run(ctx)
}

// parseReplicate reads the command line. No error of it repeats an argument, which may hold a password.
func parseReplicate(args []string, getenv env, std stdio) (*replicateOptions, error) {
	o := &replicateOptions{}
	fs := newFlags("replicate", replicateHelp, std)
	pull := fs.Bool("pull", false, "copy from DST to SRC")
	push := fs.Bool("push", false, "copy from SRC to DST (the default)")
	both := fs.Bool("both", false, "copy both ways")
	fs.BoolVar(&o.continuous, "continuous", false, "go on when everything is copied, until Ctrl-C")
	channels := fs.String("filter-channels", "", "copy only documents of these `channels`, comma-separated")
	fs.BoolVar(&o.deltas, "deltas", false, "send only what has changed in a document; both databases need delta_sync")
	fs.StringVar(&o.conflicts, "conflicts", "default", "who wins a conflict that a pull finds: `policy` default, localWins or remoteWins")
	user := fs.String("user", "", "`name` to log in with at DST; may be in its URL")
	password := fs.String("password", "", "its password; "+passwordVariable+" in the environment if not given")
	adminUser := fs.String("admin-user", "", "`name` to log in with at SRC; may be in its URL")
	adminPassword := fs.String("admin-password", "", "its password; "+adminPasswordVariable+" in the environment if not given")
	fs.DurationVar(&o.patience, "patience", 0, "`time` without a connection to DST after which to give up; 0: the gateway's, which is 5m, and for ever with --continuous")
	urls, err := parseArguments(fs, args, "SRC", "DST")
	if err != nil {
		return nil, err
	}
	if o.direction, err = direction(*pull, *push, *both); err != nil {
		return nil, err
	}
	if o.patience < 0 {
		return nil, usageErrorf("--patience must not be below 0")
	}
	if *channels != "" {
		o.channels = strings.Split(*channels, ",")
	}
	if o.source, err = parseEndpoint("SRC", urls[0], *adminUser, *adminPassword); err != nil {
		return nil, err
	}
	if o.target, err = parseEndpoint("DST", urls[1], *user, *password); err != nil {
		return nil, err
	}
	o.source.passwordFrom(getenv, adminPasswordVariable)
	o.target.passwordFrom(getenv, passwordVariable)
	return o, nil
}

// parseArguments parses flags and as many arguments as have names, in any order.
func parseArguments(fs *flag.FlagSet, args []string, names ...string) ([]string, error) {
	var found []string
	for {
		if err := parseLeading(fs, args); err != nil {
			return nil, err
		}
		switch {
		case fs.NArg() == 0 && len(found) == len(names):
			return found, nil
		case fs.NArg() == 0:
			return nil, usageErrorf("%s needs %s; try `tidegate %s --help`", fs.Name(), strings.Join(names, " and "), fs.Name())
		case len(found) == len(names):
			return nil, usageErrorf("%s takes %s and nothing more; try `tidegate %s --help`", fs.Name(), strings.Join(names, " and "), fs.Name())
		}
		found, args = append(found, fs.Arg(0)), fs.Args()[1:]
	}
}

// direction is the direction of a definition.
func direction(pull, push, both bool) (string, error) {
	switch {
	case both && !pull && !push, pull && push && !both:
		return "pushAndPull", nil
	case pull && !both:
		return "pull", nil
	case !both:
		return "push", nil
	}
	return "", usageErrorf("say one of --pull, --push and --both")
}

// parseEndpoint reads the URL of a database. Flags win over credentials in it.
func parseEndpoint(name, text, user, password string) (endpoint, error) {
	u, err := url.Parse(text)
	if err != nil {
		return endpoint{}, usageErrorf("%s is not a URL", name) // err repeats it, and there may be a password in it
	}
	switch u.Scheme {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Path == "" || u.RawQuery != "" || u.Fragment != "" {
		return endpoint{}, usageErrorf("%s must be of the form http://host:port/db", name)
	}
	if u.User != nil && user == "" {
		user = u.User.Username()
		if inURL, ok := u.User.Password(); ok && password == "" {
			password = inURL
		}
	}
	if password != "" && user == "" {
		return endpoint{}, usageErrorf("there is a password for %s and no user", name)
	}
	u.User = nil
	return endpoint{url: u.String(), user: user, password: password}, nil
}

// passwordFrom takes the password of a user from the environment if none was given.
func (e *endpoint) passwordFrom(getenv env, variable string) {
	if e.user != "" && e.password == "" {
		e.password, _ = getenv(variable)
	}
}

// id is the replication's: the same for the same documents, so that the checkpoints of the last time count.
func (o *replicateOptions) id() string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{o.target.url, o.target.user, o.direction}, o.channels...), "\x00")))
	return "cli-" + hex.EncodeToString(sum[:8])
}

// definition is what the gateway is asked to do.
func (o *replicateOptions) definition() map[string]any {
	d := map[string]any{
		"replication_id": o.id(), "adhoc": true, "remote": o.target.url, "direction": o.direction, "continuous": o.continuous,
		"conflict_resolution_type": o.conflicts, "enable_delta_sync": o.deltas,
	}
	if !o.continuous {
		d["max_backoff_time"] = 0 // gives up after 5 minutes
	}
	if o.target.user != "" {
		d["remote_username"], d["remote_password"] = o.target.user, o.target.password
	}
	if o.channels != nil {
		d["filter"], d["query_params"] = "sync_gateway/bychannel", map[string]any{"channels": o.channels}
	}
	return d
}

// errInterrupted ends a command that was interrupted and has cleaned up.
var errInterrupted = errors.New("interrupted")
