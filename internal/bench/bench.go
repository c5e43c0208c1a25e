// Package bench drives a gateway over HTTP and BLIP and reports what it does: the work of test/bench and of
// `tidegate bench`. It speaks only what every Sync-Gateway- or CouchDB-shaped server speaks, so that ratios
// between servers can be measured in one run on one machine.
package bench

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"
)

// Options say what to drive and how long.
type Options struct {
	URL      string   // the public listener, e.g. http://127.0.0.1:4984
	Also     []string // public listeners of other nodes of the same store: clients are spread over all
	Admin    string   // the admin listener, for creating the database and the user; "" with Couch
	DB       string   // the database; made by the run
	Couch    bool     // a CouchDB-shaped server: no sync function, user or admin listener
	User     string   // user and password for a CouchDB-shaped server; made up otherwise
	Password string

	Clients   []int         // numbers of concurrent clients; 1, 8, 32 if empty
	Duration  time.Duration // of each measurement of a rate; 3 s if 0
	Documents int           // how many documents the one-shot _changes runs over; 50,000 if 0
	Listeners int           // how many continuous listeners the fan-out has; 1,000 if 0
	Writes    int           // writes measured for latency; 500 if 0
	Rounds    int           // fan-out rounds, of which the median is reported; 11 if 0
	PIDs      []int         // the server's processes on this machine, for CPU and memory; none: not measured
	Only      []string      // names of measurements to run; all if empty

	// Of replications over BLIP:
	Replicators []int         // numbers of concurrent pushes and of pulls; 1, 16 if empty
	Version     int           // of the replication protocol: N of CBMobile_N; 3 if 0
	Compression int           // of what the tool sends: 0 (none) to 9; the server's is its own setting
	Unanswered  int           // revisions of one push that may wait for their answer; 1,000 if 0
	Pullers     int           // idle continuous pulls; 1,000 if 0
	Settle      time.Duration // how long they are left alone before the server's memory is read; 5 s if 0
	Metrics     string        // the metrics listener, for counting feeds that woke; "": not counted

	// Of replications between gateways:
	Peer      string // the public listener of the other gateway; "": the server's own
	PeerAdmin string // its admin listener
	PeerPID   int    // its process on this machine; 0 = not measured
}

func (o *Options) defaults() error {
	if o.DB == "" {
		o.DB = "bench"
	}
	if len(o.Clients) == 0 {
		o.Clients = []int{1, 8, 32}
	}
	o.Duration = orDefault(o.Duration, 3*time.Second)
	o.Documents = orDefault(o.Documents, 50_000)
	o.Listeners = orDefault(o.Listeners, 1_000)
	o.Writes = orDefault(o.Writes, 500)
	o.Rounds = orDefault(o.Rounds, 11)
	if len(o.Replicators) == 0 {
		o.Replicators = []int{1, 16}
	}
	o.Version = orDefault(o.Version, 3)
	o.Unanswered = orDefault(o.Unanswered, 1_000)
	o.Pullers = orDefault(o.Pullers, 1_000)
	o.Settle = orDefault(o.Settle, 5*time.Second)
	for _, node := range append([]string{o.URL}, o.Also...) {
		if u, err := url.Parse(node); err != nil || u.Scheme != "http" || u.Host == "" {
			return fmt.Errorf("the URL must be of the form http://host:port, not %q", node)
		}
	}
	if !o.Couch && o.Admin == "" {
		return errors.New("an admin URL is needed to make the database (or say --couch)")
	}
	if o.Peer != "" && o.PeerAdmin == "" {
		return errors.New("an admin URL of the peer is needed to make its database")
	}
	return nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Run makes the database, runs the measurements one after another and returns them. Progress goes to
// progress, a line each. A measurement that fails ends the run.
func Run(ctx context.Context, opts Options, progress io.Writer) (*Report, error) {
	if err := opts.defaults(); err != nil {
		return nil, err
	}
	target, err := setUp(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("set up: %w", err)
	}
	b := &run{opts: opts, target: target, report: &Report{URL: strings.Join(append([]string{opts.URL}, opts.Also...), ", ")}, progress: progress}
	b.report.Server, _ = target.serverVersion(ctx)
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"put", b.put}, {"bulk", b.bulk}, {"get", b.get}, {"changes", b.changes},
		{"latency", b.latency}, {"fanout", b.fanOut},
		{"blip-push", b.blipPush}, {"blip-pull", b.blipPull}, {"blip-idle", b.blipIdle},
		{"gateway-pull", b.gatewayPull}, {"gateway-push", b.gatewayPush},
	}
	for _, s := range steps {
		if !b.wanted(s.name) || opts.Couch && (strings.HasPrefix(s.name, "blip-") || strings.HasPrefix(s.name, "gateway-")) {
			continue
		}
		if err := s.run(ctx); err != nil {
			return b.report, fmt.Errorf("measure %s: %w", s.name, err)
		}
	}
	return b.report, nil
}

type run struct {
	opts     Options
	target   *target
	report   *Report
	progress io.Writer
	written  int // documents made so far, for the one-shot _changes
}

func (b *run) wanted(name string) bool {
	if len(b.opts.Only) == 0 {
		return true
	}
	for _, o := range b.opts.Only {
		if o == name {
			return true
		}
	}
	return false
}

func (b *run) add(r Row) {
	b.report.Rows = append(b.report.Rows, r)
	fmt.Fprintln(b.progress, r.String())
}

// syncFunction routes by type and channel and checks the writer: the 12 lines that the figures in
// docs/performance.md were measured with.
const syncFunction = `function (doc, oldDoc) {
  if (doc._deleted) {
    requireUser(oldDoc.owner);
    return;
  }
  if (!doc.type) {
    throw({forbidden: "type is required"});
  }
  if (oldDoc && oldDoc.owner !== doc.owner) {
    throw({forbidden: "owner cannot change"});
  }
  requireUser(doc.owner);
  channel(doc.channels);
}`

// channels is how many channels the documents are spread over; each document is in two.
const channels = 20

// document returns a body of about 1 KiB.
func document(n int) []byte {
	pad := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 18)
	return fmt.Appendf(nil, `{"type":"order","owner":%q,"channels":["ch-%d","ch-all"],"number":%d,"state":"open",`+
		`"customer":{"name":"Customer %d","city":"Rotterdam","zip":"3011 AA"},"amount":%d.50,"note":%q}`,
		userName, n%channels, n, n%997, n%10_000, pad)
}

// varied returns a body like document's whose text is another for each n: one that is the same in all documents
// would compress to nothing over BLIP.
func varied(n int) []byte {
	const length = 810 // makes the body about 1 KiB, as document's is
	rnd := rand.New(rand.NewPCG(uint64(n), 1))
	text := make([]byte, 0, length+16)
	for len(text) < length {
		text = append(append(text, words[rnd.IntN(len(words))]...), ' ')
	}
	return fmt.Appendf(nil, `{"type":"order","owner":%q,"channels":["ch-%d","ch-all"],"number":%d,"state":"open",`+
		`"customer":{"name":"Customer %d","city":"Rotterdam","zip":"3011 AA"},"amount":%d.50,"note":"%s"}`,
		userName, n%channels, n, n%997, n%10_000, text)
}

// words are what the text of varied is made of.
var words = strings.Fields(`about above account across after again almost along among animal answer around asked autumn back balance
	before began below bench better between book both bridge brought building called carry change children city class clear
	close cold common country cover cross daily different during early earth enough every example family father feet field
	figure final first follow forest form found four garden gave general girl give good grand great group grow half hand
	happen heard help here high home horse hour house hundred idea important island keep kind king knew language large last
	later learn leave left letter life light line list little long made make many map mark mean measure men mile mind money
	morning mother mountain move much music near never next night north notice number object often once open order other own
	page paper part passage pattern people perhaps piece place plain plan plant play point present problem question quick
	ran reach ready real red remember rest river road rock room round rule sail school science sea second seven several
	shape ship short show side simple since sing slow small song soon sound south special stand star start state still
	stood stop story street strong study summer sure table tail take talk teach tell thing think thousand three through time
	together took toward town travel tree true turn under until usual voice vowel wait walk warm watch water week whole
	winter with without wonder wood word work world write year young`)

const userName = "bench"

func randomHex() string {
	var b [8]byte
	_, _ = crand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
