package replicate_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
	"github.com/tidegate/tidegate/internal/script"
)

// inA puts everything into channel A: quicker than a script.
type inA struct{ script.SyncFunction }

func (inA) Sync(context.Context, *script.SyncInput) (*script.SyncOutput, error) {
	return &script.SyncOutput{Channels: tidegate.NewChannelSet("A")}, nil
}

// allInA are the options of a database that has inA.
func allInA() database.Options {
	return database.Options{Collections: []database.CollectionOptions{{Function: inA{}}}}
}

// fill writes n documents of about so many bytes, with an attachment each if told so.
func (e *env) load(n, size int, attachments bool) {
	e.t.Helper()
	ws, body := make([]*database.Write, n), []byte(`{"text":"`+strings.Repeat("x", size)+`"}`)
	for i := range ws {
		ws[i] = &database.Write{ID: fmt.Sprintf("doc%06d", i), Body: body, NewEdits: true}
		if attachments {
			ws[i].Attachments = map[string]database.AttachmentInput{"a": {Data: []byte("hello"), Length: -1, EncodedLength: -1}}
		}
	}
	for _, r := range e.admin.PutAll(e.t.Context(), ws) {
		if r.Err != nil {
			e.t.Fatal(r.Err)
		}
	}
}

// TestReaderThatStops: 1,000 documents pending, 8 MB, cost a page and a queue, and nobody else waits (I14).
func TestReaderThatStops(t *testing.T) {
	hostile(t, allInA(), func(t *testing.T, e *env) {
		e.load(1100, 8000, false)
		bounded(t, 4<<20, func() {
			r := e.raw(replicate.Peer{User: "eve"})
			r.near.in.limit = 4
			r.request(0, "", "Profile", "subChanges", "batch", "1000")
			synctest.Wait()
			r.frames()
			r.frame(1, isReply, "\x00["+strings.Repeat("[],", 999)+"[]]")
		})
		e.undisturbed()
	})
}

// TestNobodyAcknowledges: a peer that takes attachments of 20 MiB and acknowledges nothing has a few under way, not all.
func TestNobodyAcknowledges(t *testing.T) {
	hostile(t, database.Options{}, func(t *testing.T, e *env) {
		content := bytes.Repeat([]byte("0123456789abcdef"), 20<<16)
		digest := digestOf(content)
		if _, err := e.admin.Put(t.Context(), &database.Write{
			ID: "big", Body: []byte(`{"channels":["A"]}`), NewEdits: true,
			Attachments: map[string]database.AttachmentInput{"x": {Data: content, Length: -1, EncodedLength: -1}},
		}); err != nil {
			t.Fatal(err)
		}
		r := e.raw(replicate.Peer{User: "eve"})
		r.request(0, "", "Profile", "subChanges")
		synctest.Wait()
		r.frame(1, isReply, "\x00[[]]")
		synctest.Wait()
		r.frames()
		replies := map[uint64]bool{}
		bounded(t, 16<<20, func() {
			for range 1000 {
				r.request(0, "", "Profile", "getAttachment", "digest", digest, "docID", "big")
			}
			synctest.Wait()
			size := 0
			for _, f := range r.frames() {
				if f.kind == isReply {
					replies[f.number] = true
				}
				size += len(f.payload)
			}
			if size > 2<<20 {
				t.Errorf("%d bytes came without an ACK", size)
			}
		})
		if len(replies) == 0 || len(replies) > 8 {
			t.Errorf("%d attachments are under way", len(replies))
		}
	})
}

// TestFloods: whatever is asked for again and again by a peer that does not read, memory does not follow.
func TestFloods(t *testing.T) {
	big := `{"channels":["A"],"text":"` + strings.Repeat("x", 500_000) + `"}`
	for _, tt := range []struct {
		name string
		n    int
		body string
		ask  []string
	}{
		{"getRev", 500, "", []string{"Profile", "getRev", "id", "big"}},
		{"getCheckpoint", 500, "", []string{"Profile", "getCheckpoint", "client", "big"}},
		{"getCheckpoint of nothing", 500, "", []string{"Profile", "getCheckpoint", "client", "nothing"}},
		{"setCheckpoint", 200, `{}`, []string{"Profile", "setCheckpoint", "client", "big"}},
		{"getCollections", 500, `{"collections":["_default"],"checkpoint_ids":["big"]}`, []string{"Profile", "getCollections"}},
		{"unknown profile", 500, "", []string{"Profile", "what"}},
		{"PING", 500, "", []string{"Profile", "PING"}},
		{"proposeChanges", 500, `[["big","1-aa"],["big","1-bb"]]`, []string{"Profile", "proposeChanges", "conflictIncludesRev", "true"}},
		{"rev", 300, `{"channels":["A"]}`, []string{"Profile", "rev", "id", "of eve", "rev", "1-aa"}},
		{"rev refused", 500, `{}`, []string{"Profile", "rev"}},
		{"subChanges", 500, "", []string{"Profile", "subChanges", "continuous", "true"}},
		{"unsubChanges", 500, "", []string{"Profile", "unsubChanges"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hostile(t, database.Options{}, func(t *testing.T, e *env) {
				e.put("big", big)
				c := e.as("eve")
				c.must("setCheckpoint", `{"text":"`+strings.Repeat("x", 500_000)+`"}`, "client", "big")
				e.srv = replicate.NewServer(replicate.Options{Blip: blip.Options{MaxPending: 1 << 20, MaxMessage: 2 << 20}})
				bounded(t, 16<<20, func() {
					r := e.raw(replicate.Peer{User: "eve"})
					r.near.in.limit = 4
					for range tt.n {
						r.request(isCompressed, tt.body, tt.ask...)
					}
				})
				e.undisturbed()
			})
		})
	}
}

// TestSubscribingAgainAndAgain: lists that nobody answers do not add up.
func TestSubscribingAgainAndAgain(t *testing.T) {
	hostile(t, allInA(), func(t *testing.T, e *env) {
		e.load(2000, 10, false)
		r := e.raw(replicate.Peer{User: "eve"})
		rows := 0
		bounded(t, 16<<20, func() {
			for range 60 {
				r.request(0, "", "Profile", "subChanges", "batch", "1000")
				synctest.Wait()
				r.request(0, "", "Profile", "unsubChanges")
				synctest.Wait()
				for _, f := range r.frames() {
					if f.kind == 0 {
						rows += bytes.Count(f.payload, []byte(`"doc`))
					}
				}
			}
		})
		if rows == 0 || rows > 25_000 {
			t.Errorf("%d rows were sent", rows)
		}
	})
}

// TestRevisionsNeverAnswered: a peer that answers no revision is sent no more of them; when it answers, all come.
func TestRevisionsNeverAnswered(t *testing.T) {
	const n = 3500
	hostile(t, allInA(), func(t *testing.T, e *env) {
		e.load(n, 10, true)
		c := e.as("eve")
		c.must("subChanges", "", "batch", "1000", "continuous", "true")
		var revs []asked
		take := func() {
			for synctest.Wait(); len(c.in) > 0; synctest.Wait() {
				a := c.next()
				switch {
				case a.profile == "rev":
					revs = append(revs, a)
				case a.r.NoReply():
					a.r.Release()
				default:
					a.answer("[" + strings.Repeat("[],", 999) + "[]]")
				}
			}
		}
		take()
		if len(revs) < 2000 || len(revs) > 3000 {
			t.Errorf("%d revisions came unanswered", len(revs))
		}
		got := 0
		for len(revs) > 0 {
			got += len(revs)
			for _, a := range revs {
				a.answer("")
			}
			revs = nil
			take()
		}
		if got != n {
			t.Errorf("%d revisions came in the end", got)
		}
	})
}

// TestAttachmentsNeverDelivered: 200 revisions that lack 50 attachments each hold their places, and nothing else.
func TestAttachmentsNeverDelivered(t *testing.T) {
	hostile(t, database.Options{}, func(t *testing.T, e *env) {
		var entries []string
		for i := range 50 {
			entries = append(entries, fmt.Sprintf(`"a%d":{"stub":true,"digest":%q}`, i, digestOf([]byte{byte(i)})))
		}
		body := `{"channels":["A"],"_attachments":{` + strings.Join(entries, ",") + `}}`
		c := e.as("eve")
		bounded(t, 16<<20, func() {
			for i := range 200 {
				c.pushing(body, "id", fmt.Sprintf("d%d", i), "rev", "1-aa")
			}
			synctest.Wait()
		})
		if n := len(c.in); n == 0 || n > 5 {
			t.Errorf("%d attachments are asked for at a time", n)
		}
		c.must("rev", `{"channels":["A"]}`, "id", "without", "rev", "1-aa") // is not held up
		e.undisturbed()
	})
}

// TestEndlessAttachment: content that never ends, of an entry that does not say how long it is.
func TestEndlessAttachment(t *testing.T) {
	hostile(t, database.Options{MaxAttachmentBytes: 1 << 20}, func(t *testing.T, e *env) {
		r := e.raw(replicate.Peer{User: "eve"})
		r.request(0, `{"_attachments":{"x":{"stub":true,"digest":"sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00="}}}`, "Profile", "rev", "id", "d", "rev", "1-aa")
		synctest.Wait()
		r.frames()
		refused := false
		bounded(t, 8<<20, func() {
			r.frame(1, isReply|isMore, "\x00")
			for range 1000 {
				r.frame(1, isReply|isMore, strings.Repeat("x", 16<<10))
				synctest.Wait()
				for _, f := range r.frames() {
					refused = refused || f.kind == 2 && f.number == 1 && bytes.Contains(f.payload, []byte("413"))
				}
			}
		})
		if !refused {
			t.Error("the revision is not refused")
		}
	})
}

// TestManyRows: lists that no honest peer sends are refused, and cost no more than themselves.
func TestManyRows(t *testing.T) {
	for profile, row := range map[string]string{"changes": `[1,"a","1-aa"],`, "proposeChanges": `["a","1-aa"],`} {
		for _, list := range []string{
			"[" + strings.Repeat(row, 200_000) + strings.TrimSuffix(row, ",") + "]",
			"[" + strings.Repeat("7,", 100_000) + "7]",
			strings.Repeat("[", 100_000), strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
			strings.Repeat(`{"a":`, 100_000),
			"[[" + strings.Repeat(`"a",`, 100_000) + "1]]",
		} {
			hostile(t, database.Options{AllowConflicts: true}, func(t *testing.T, e *env) {
				bounded(t, 8<<20, func() {
					if got := e.as("eve").call(profile, list).String(); !strings.HasPrefix(got, "HTTP/400") {
						t.Errorf("%s %.40s: %s", profile, list, got)
					}
				})
			})
		}
	}
	hostile(t, database.Options{}, func(t *testing.T, e *env) {
		for _, deep := range []string{`{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)} {
			if got := e.as("eve").call("rev", deep, "id", "d", "rev", "1-aa").String(); !strings.HasPrefix(got, "HTTP/") {
				t.Errorf("a deep document: %s", got)
			}
		}
	})
}

// TestManyCollections: not more than there may be, none twice, and no answer that is a bomb.
func TestManyCollections(t *testing.T) {
	hostile(t, database.Options{}, func(t *testing.T, e *env) {
		c := e.as("eve")
		list := func(n int, name string) string {
			names, ids := make([]string, n), make([]string, n)
			for i := range names {
				names[i], ids[i] = fmt.Sprintf(`"%s%d"`, name, i), `"cp"`
			}
			return `{"collections":[` + strings.Join(names, ",") + `],"checkpoint_ids":[` + strings.Join(ids, ",") + `]}`
		}
		if got := c.call("getCollections", list(1001, "s.c")).String(); !strings.HasPrefix(got, "HTTP/400") {
			t.Errorf("too many: %.200s", got)
		}
		if got := c.must("getCollections", list(1000, "s.c")).body; strings.Count(got, "null") != 1000 {
			t.Errorf("as many as there may be: %.200s", got)
		}
		if got := c.call("getCollections", `{"collections":["_default","_default._default"],"checkpoint_ids":["a","b"]}`).String(); !strings.HasPrefix(got, "HTTP/400: A collection is named twice") {
			t.Errorf("twice: %s", got)
		}
		e.put("d", `{"channels":["A"]}`)
		for range 50 { // each ends what was subscribed to under the last
			c.must("getCollections", `{"collections":["_default"],"checkpoint_ids":["a"]}`)
			c.must("subChanges", "", "collection", "0", "continuous", "true")
		}
	})
}

// TestUnsubscribeInTheMiddle: nothing is lost for the subscription that follows.
func TestUnsubscribeInTheMiddle(t *testing.T) {
	hostile(t, allInA(), func(t *testing.T, e *env) {
		e.load(300, 10, true)
		c := e.as("eve")
		for range 20 {
			c.must("subChanges", "", "continuous", "true", "batch", "10")
			c.skipTo("changes").answer("[" + strings.Repeat("[],", 9) + "[]]")
			c.must("unsubChanges", "")
			synctest.Wait()
			for len(c.in) > 0 {
				c.next().answer("")
				synctest.Wait()
			}
		}
		if p := c.pullAll(); len(p.rows) != 300 {
			t.Errorf("%d rows at last", len(p.rows))
		}
	})
}

// gate is a sync function that waits, once it is shut, until it is opened.
type gate struct {
	script.SyncFunction
	shut atomic.Bool
	open chan struct{}
}

func (g *gate) Sync(ctx context.Context, in *script.SyncInput) (*script.SyncOutput, error) {
	if g.shut.Load() {
		select {
		case <-g.open:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return g.SyncFunction.Sync(ctx, in)
}

// TestDeltaBombs: while the database is busy, short deltas that make long documents wait as what they are, not as what they
// make.
func TestDeltaBombs(t *testing.T) {
	fn, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		g := &gate{SyncFunction: fn, open: make(chan struct{})}
		e := newEnv(t, database.Options{Collections: []database.CollectionOptions{{Function: g}}}).strict()
		rev := e.put("bomb", `{"text":"`+strings.Repeat("x", 1<<20)+`"}`)
		c := e.dial(replicate.Peer{Admin: true, Deltas: true})
		g.shut.Store(true)
		var replies []func() string
		bounded(t, 40<<20, func() {
			for i := range 500 {
				replies = append(replies, c.pushing(fmt.Sprintf(`{"n":%d}`, i), "id", "bomb", "rev", fmt.Sprintf("2-%04x", i), "history", rev, "deltaSrc", rev))
			}
		})
		close(g.open)
		answers := map[string]int{}
		for _, reply := range replies {
			answers[reply()]++
		}
		if answers["stored"] != 1 || answers["HTTP/409: Document revision conflict"] != 499 {
			t.Errorf("the answers are %v", answers)
		}
	})
}
