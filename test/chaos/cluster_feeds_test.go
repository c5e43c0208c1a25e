package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// feedLog is what one reader of a feed heard, from the beginning, through all that happened to its node.
type feedLog struct {
	node *node
	name string

	mu    sync.Mutex
	since uint64
	next  string            // the last_seq of the last answer, where the reader goes by that
	docs  map[string]heard  // document → what was heard of it last
	bySeq map[uint64]string // sequence → document and revision
	joins int               // how often it had to ask again
}

type heard struct {
	seq uint64
	rev string
}

func newFeedLog(n *node, name string) *feedLog {
	return &feedLog{node: n, name: name, next: "0", docs: map[string]heard{}, bySeq: map[uint64]string{}}
}

var errOrder = errors.New("a feed is out of order")

// take notes what was heard. A sequence that is not above the one before it is an error.
func (f *feedLog) take(entries []entry) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range entries {
		if len(e.Changes) == 0 || strings.HasPrefix(e.ID, "_user/") {
			continue
		}
		seq, err := strconv.ParseUint(string(e.Seq), 10, 64)
		if err != nil {
			return fmt.Errorf("sequence %s: %w", e.Seq, err)
		}
		if seq <= f.since {
			return fmt.Errorf("%w: %s heard %d (%s) after %d", errOrder, f.name, seq, e.ID, f.since)
		}
		f.since, f.bySeq[seq] = seq, e.ID+" "+e.Changes[0].Rev
		f.docs[e.ID] = heard{seq, e.Changes[0].Rev}
	}
	return nil
}

func (f *feedLog) position() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.since
}

// compare holds what was heard against a reader from the beginning: each document is known as it is now, at the sequence at which it is now.
func (f *feedLog) compare(full *feedLog) error {
	for id, want := range full.docs {
		if got := f.docs[id]; got != want {
			return fmt.Errorf("%w: %s is at %d %s, %s heard of %d %q", errGap, id, want.seq, want.rev, f.name, got.seq, got.rev)
		}
	}
	for id := range f.docs {
		if _, ok := full.docs[id]; !ok {
			return fmt.Errorf("%w: %s heard of %s, a reader from the beginning does not", errGap, f.name, id)
		}
	}
	return nil
}

// agreeOnSequences: no two readers heard different things under one number.
func agreeOnSequences(logs ...*feedLog) error {
	all := map[uint64]string{}
	for _, f := range logs {
		for seq, what := range f.bySeq {
			if old, ok := all[seq]; ok && old != what {
				return fmt.Errorf("%w: %d is %q, and %q for %s", errReused, seq, old, what, f.name)
			}
			all[seq] = what
		}
	}
	return nil
}

// hasAcknowledged: each document that was acknowledged was heard of, at its last acknowledged revision or a later one.
func (f *feedLog) hasAcknowledged(acked map[string]acked) error {
	for id, a := range acked {
		if got := f.docs[id]; generation(got.rev) < generation(a.rev) || generation(got.rev) == generation(a.rev) && got.rev != a.rev {
			return fmt.Errorf("%w: %s heard of %s at %q; %s was acknowledged", errGap, f.name, id, got.rev, a.rev)
		}
	}
	return nil
}

// generation is the number before the digest of a revision; 0 of none.
func generation(rev string) int {
	digits := 0
	for digits < len(rev) && rev[digits] != '-' {
		digits++
	}
	n, _ := strconv.Atoi(rev[:digits])
	return n
}

// silence is how long a feed that should send a heartbeat each second may say nothing.
const silence = 5 * time.Second

// A reader's kind. A client logs in at the public API and asks as PouchDB does: long polls of at most so many, from the last_seq that it was told.
const (
	longpoll   = "longpoll"
	continuous = "continuous"
	client     = "client"
)

// follow reads the feed of a node until ctx ends, coming back whenever it breaks.
func (f *feedLog) follow(ctx context.Context, kind string) error {
	for ctx.Err() == nil {
		err := f.listen(ctx, kind)
		if errors.Is(err, errOrder) || errors.Is(err, errReused) {
			return err
		}
		f.mu.Lock()
		f.joins++
		f.mu.Unlock()
		if err != nil {
			pause(ctx, 100*time.Millisecond)
		}
	}
	return nil
}

// listen makes one request and takes what it brings, until it ends or goes silent.
func (f *feedLog) listen(ctx context.Context, kind string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	url := f.node.url(fmt.Sprintf("/_changes?feed=%s&heartbeat=1000&timeout=60000&since=%d", kind, f.position()))
	if kind == client {
		url = fmt.Sprintf("http://%s:%s@%s/%s/_changes?feed=longpoll&heartbeat=10000&style=all_docs&limit=200&since=%s", replUser, replPassword, f.node.public, db, f.next)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("_changes: status %d", res.StatusCode)
	}
	if kind != continuous {
		var page struct {
			Results []entry
			Last    json.RawMessage `json:"last_seq"`
		}
		watchdog.Stop() // heartbeats are white space in the answer, which the decoder passes over
		stop := time.AfterFunc(4*silence, cancel)
		defer stop.Stop()
		if err := json.NewDecoder(res.Body).Decode(&page); err != nil {
			return err
		}
		f.next = strings.Trim(string(page.Last), `"`)
		return f.take(page.Results)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		watchdog.Reset(silence)
		var e entry
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err
		}
		if err := f.take([]entry{e}); err != nil {
			return err
		}
	}
	return lines.Err()
}

// readAll reads the feed of a node from the beginning to its end.
func readAll(n *node) (*feedLog, error) {
	full := newFeedLog(n, "a reader from the beginning at "+n.name)
	for {
		var page struct{ Results []entry }
		status, err := call(http.MethodGet, n.url(fmt.Sprintf("/_changes?limit=5000&since=%d", full.since)), nil, &page)
		if err != nil || status != http.StatusOK {
			return nil, fmt.Errorf("_changes at %s: status %d: %w", n.name, status, err)
		}
		if len(page.Results) == 0 {
			return full, nil
		}
		if err := full.take(page.Results); err != nil {
			return nil, err
		}
	}
}
