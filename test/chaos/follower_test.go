package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"
)

// follower is a client that reads the feed through all crashes, remembering only its position, and must end
// with what a reader from the beginning gets.
type follower struct {
	since string
	docs  map[string]string // document → revision as last heard
	bySeq map[string]string // sequence → document and revision: never two for one
}

func newFollower() *follower {
	return &follower{since: "0", docs: map[string]string{}, bySeq: map[string]string{}}
}

type entry struct {
	Seq     json.RawMessage
	ID      string
	Changes []struct{ Rev string }
}

var (
	errReused = errors.New("a sequence was given out twice")
	errGap    = errors.New("the feed has a gap")
)

// poll makes one longpoll request and takes what it brings.
func (f *follower) poll(p *process) error {
	_, err := f.read(p, "longpoll")
	return err
}

func (f *follower) read(p *process, feed string) (int, error) {
	var page struct {
		Results []entry
		LastSeq json.RawMessage `json:"last_seq"`
	}
	u := fmt.Sprintf("%s/%s/_changes?feed=%s&limit=500&since=%s", p.admin, db, feed, url.QueryEscape(f.since))
	status, err := call(http.MethodGet, u, nil, &page)
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("_changes: status %d", status)
	}
	return len(page.Results), f.take(page.Results)
}

func (f *follower) take(entries []entry) error {
	for _, e := range entries {
		if len(e.Changes) == 0 {
			continue
		}
		seq, what := string(e.Seq), e.ID+" "+e.Changes[0].Rev
		if old, ok := f.bySeq[seq]; ok && old != what {
			return fmt.Errorf("%w: %s was %q, is %q", errReused, seq, old, what)
		}
		f.bySeq[seq] = what
		f.docs[e.ID] = e.Changes[0].Rev
		f.since = seq
	}
	return nil
}

// catchUp reads until there is no more.
func (f *follower) catchUp(p *process) error {
	for {
		n, err := f.read(p, "normal")
		if err != nil || n == 0 {
			return err
		}
	}
}

// compare reads the feed from the beginning and compares with what was heard on the way.
func (f *follower) compare(p *process) error {
	full := newFollower()
	if err := full.catchUp(p); err != nil {
		return err
	}
	for id, rev := range full.docs {
		if f.docs[id] != rev {
			return fmt.Errorf("%w: %s is at %s, the follower heard of %q", errGap, id, rev, f.docs[id])
		}
	}
	for id := range f.docs {
		if full.docs[id] == "" {
			return fmt.Errorf("%w: the follower heard of %s, a reader from the beginning does not", errGap, id)
		}
	}
	return nil
}

// The checkers see planted faults.
func TestCheckersSeeFaults(t *testing.T) {
	f := newFollower()
	e := entry{Seq: json.RawMessage("7"), ID: "a", Changes: []struct{ Rev string }{{"1-a"}}}
	if err := f.take([]entry{e}); err != nil {
		t.Fatal(err)
	}
	e.Changes[0].Rev = "1-b"
	if err := f.take([]entry{e}); !errors.Is(err, errReused) {
		t.Errorf("a reused sequence: got %v", err)
	}

	data := t.TempDir()
	p := start(t, data)
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/", map[string]any{})
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/a", map[string]any{})
	l := newLedger()
	l.note("a", "1-never", false)
	if err := l.check(p); !errors.Is(err, errLost) {
		t.Errorf("a lost write: got %v", err)
	}
	if err := newFollower().compare(p); !errors.Is(err, errGap) {
		t.Errorf("a gap: got %v", err)
	}
}
