package main

import (
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tidegate/tidegate/internal/bench"
)

const benchHelp = `Usage: tidegate bench [flags]

Drives a running gateway over HTTP and prints what it does: writes, bulk writes, reads, the changes feed once
over many documents, the latency from a write to a continuous listener, the fan-out of one write to many
listeners and what each of these costs; then the same over BLIP, as Couchbase Lite replicates: blip-push,
blip-pull, and blip-idle, which is many continuous pulls that have nothing to do until a write wakes them; then
gateway-pull and gateway-push, replications of the gateway with another one, or with itself if there is no --peer.
It makes databases of its own and leaves them there (delete one with
curl -X DELETE 'http://127.0.0.1:4985/bench/?purge=true').

Any server with the same API can be driven, so that two can be compared in one run:

  tidegate bench                                            # a gateway on this machine
  tidegate bench --also http://127.0.0.1:14984              # two nodes on one store
  tidegate bench --url http://127.0.0.1:5984 --couch        # a CouchDB-shaped server (no BLIP)
  tidegate bench --only gateway-pull,gateway-push --peer http://127.0.0.1:5984 --peer-admin http://127.0.0.1:5985
  tidegate bench --only blip-idle --pullers 5000 --pid PID --metrics http://127.0.0.1:4986
`

// benchCommand runs the load tool.
func benchCommand(ctx context.Context, args []string, _ env, std stdio) error {
	var o bench.Options
	fs := newFlags("bench", benchHelp, std)
	fs.StringVar(&o.URL, "url", "http://127.0.0.1:4984", "public `URL` of the server")
	also := fs.String("also", "", "public `URLs` of other nodes of the same store, comma-separated: clients are spread over all")
	fs.StringVar(&o.Admin, "admin", "http://127.0.0.1:4985", "admin `URL`, for making the database and its user")
	fs.StringVar(&o.DB, "db", "", "`name` of the database to make (default bench-TIME)")
	fs.BoolVar(&o.Couch, "couch", false, "the server is CouchDB-shaped: no admin URL, sync function or channels")
	fs.StringVar(&o.User, "user", "", "with --couch: `name` to log in with")
	fs.StringVar(&o.Password, "password", "", "with --couch: password to log in with")
	clients := fs.String("clients", "1,8,32", "`numbers` of concurrent clients, comma-separated")
	fs.DurationVar(&o.Duration, "duration", 3*time.Second, "`time` for each rate")
	fs.IntVar(&o.Documents, "documents", 50_000, "`number` of documents that the one-shot feed runs over")
	fs.IntVar(&o.Listeners, "listeners", 1_000, "`number` of continuous listeners")
	fs.IntVar(&o.Writes, "writes", 500, "`number` of writes whose latency to a listener is measured")
	pids := fs.String("pid", "", "process `ids` of the server on this machine, comma-separated, for CPU and memory")
	only := fs.String("only", "", "measure only `these`, comma-separated: put, bulk, get, changes, latency, fanout, blip-push, blip-pull, blip-idle, gateway-pull, gateway-push")
	replicators := fs.String("replicators", "1,16", "`numbers` of concurrent BLIP pushes and pulls, comma-separated")
	fs.IntVar(&o.Version, "blip-version", 3, "`version` of the replication protocol: 2, 3 or 4")
	fs.IntVar(&o.Compression, "compression", 0, "deflate `level` of what the tool sends over BLIP: 0 (none) to 9; the server's is its blip_compression")
	fs.IntVar(&o.Unanswered, "unanswered", 1_000, "`number` of pushed revisions of one client that may wait for their answer")
	fs.IntVar(&o.Pullers, "pullers", 1_000, "`number` of idle continuous pulls; tool and server need a file descriptor for each")
	fs.DurationVar(&o.Settle, "settle", 5*time.Second, "`time` to leave them alone before the server's memory is read")
	fs.StringVar(&o.Metrics, "metrics", "", "metrics `URL` (http://127.0.0.1:4986), for counting the feeds that a write wakes")
	fs.StringVar(&o.Peer, "peer", "", "public `URL` of another gateway to replicate with (default: the server's own)")
	fs.StringVar(&o.PeerAdmin, "peer-admin", "", "its admin `URL`")
	fs.IntVar(&o.PeerPID, "peer-pid", 0, "its process `id` on this machine, for CPU")
	jsonFile := fs.String("json", "", "write the figures as JSON to this `file` too (- for standard output instead of the table)")
	if err := parseFlags(fs, args); err != nil {
		return ignoreHelp(err)
	}
	var err error
	if o.Clients, err = numbers("--clients", *clients); err != nil {
		return err
	}
	if o.Replicators, err = numbers("--replicators", *replicators); err != nil {
		return err
	}
	if o.Version < 2 || o.Version > 4 || o.Compression < 0 || o.Compression > 9 || o.Unanswered < 1 || o.Pullers < 1 {
		return usageErrorf("--blip-version must be 2 to 4, --compression 0 to 9, --unanswered and --pullers above 0")
	}
	if *also != "" {
		o.Also = strings.Split(*also, ",")
	}
	if *pids != "" {
		if o.PIDs, err = numbers("--pid", *pids); err != nil {
			return err
		}
	}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	if o.DB == "" {
		o.DB = "bench-" + strconv.FormatInt(time.Now().Unix(), 36)
	}
	report, err := bench.Run(ctx, o, std.err)
	if err != nil {
		return err
	}
	return writeReport(report, *jsonFile, std.out)
}

// numbers reads a list of numbers.
func numbers(flag, list string) ([]int, error) {
	var all []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 {
			return nil, usageErrorf("%s: %q is not a number above 0", flag, s)
		}
		all = append(all, n)
	}
	return all, nil
}

func writeReport(r *bench.Report, file string, stdout io.Writer) error {
	if file == "-" {
		return r.WriteJSON(stdout)
	}
	if err := r.WriteTable(stdout); err != nil || file == "" {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := r.WriteJSON(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
