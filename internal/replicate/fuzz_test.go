package replicate_test

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
)

// panics is a log that knows of one thing only: that a panic was caught.
type panics struct {
	slog.Handler
	t testing.TB
}

func (p panics) Enabled(context.Context, slog.Level) bool { return true }

func (p panics) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "panic") {
		r.Attrs(func(a slog.Attr) bool { p.t.Errorf("%s: %s", r.Message, a.String()); return true })
	}
	return nil
}

// strictMessage is the longest message that a strict server takes, in bytes.
const strictMessage = 8 << 20

// strict makes the environment's server one under which no panic passes unseen, and which takes no message as long as
// the product would.
func (e *env) strict() *env {
	e.srv = replicate.NewServer(replicate.Options{
		Logger: slog.New(panics{slog.DiscardHandler, e.t}),
		Blip: blip.Options{
			MaxMessage: strictMessage,
			OnPanic:    func(v any, stack []byte) { e.t.Errorf("panic: %v\n%s", v, stack) },
		},
	})
	return e
}

// playing is a peer written down, a step a line:
//
//	2, 3, 4        the version, in the first line; with u a user, g a gateway, d deltas, r read-only
//	>P|k=v|…|body  a request; - after > wants no reply
//	<k=v|…|body    the answer to the oldest request of the server that has none; <! an error, <- drops it
//	#n,f,payload   a frame by hand, its checksum right as long as nothing else was sent
//	!bytes         a frame as it is
//	=body          an administrator writes the document "a" of that body
type playing struct {
	t     testing.TB
	e     *env
	c     *client
	crc   uint32
	asked []*blip.Request
}

// run plays a script to its end, or to that of the connection.
func (s *playing) run(text string) {
	head, rest, _ := strings.Cut(text, "\n")
	p := replicate.Peer{Version: replicate.V4, Gateway: strings.Contains(head, "g"), Deltas: strings.Contains(head, "d"), ReadOnly: strings.Contains(head, "r")}
	for _, v := range []replicate.Version{replicate.V2, replicate.V3} {
		if strings.HasPrefix(head, string(rune('0'+v))) {
			p.Version = v
		}
	}
	if p.Admin = true; strings.Contains(head, "u") {
		p.User, p.Admin = "bob", false
	}
	s.c = s.e.dial(p)
	for line := range strings.SplitSeq(rest, "\n") {
		if line != "" {
			s.step(line[0], line[1:])
		}
		synctest.Wait()
		s.collect()
	}
}

// collect takes what the server asked.
func (s *playing) collect() {
	for {
		select {
		case r := <-s.c.in:
			s.asked = append(s.asked, r)
		default:
			return
		}
	}
}

func (s *playing) step(kind byte, line string) {
	switch kind {
	case '>':
		line, quiet := strings.CutPrefix(line, "-")
		m := scriptMessage(line, true)
		m.NoReply = quiet
		_ = s.c.conn.Post(m, func(r *blip.Reply) { r.Release() }) // the connection may be over
	case '<':
		s.answer(line)
	case '#':
		if parts := strings.SplitN(line, ",", 3); len(parts) == 3 && len(parts[0]) == 1 && len(parts[1]) == 1 {
			b := binary.AppendUvarint(nil, uint64(parts[0][0]-'0'))
			b = append(append(b, parts[1][0]), parts[2]...)
			s.crc = crc32.Update(s.crc, crc32.IEEETable, []byte(parts[2]))
			_ = s.c.near.WriteMessages([][]byte{binary.BigEndian.AppendUint32(b, s.crc)}) // likewise
		}
	case '!':
		_ = s.c.near.WriteMessages([][]byte{[]byte(line)}) // likewise
	case '=':
		w := &database.Write{ID: "a", Body: []byte(`{"channels":["A"],"n":` + string(rune('0'+len(line)%10)) + `}`), NewEdits: true}
		if doc, err := s.e.admin.Get(s.t.Context(), "a", database.GetOptions{}); err == nil {
			w.Parent = doc.Rev
		}
		_, _ = s.e.admin.Put(s.t.Context(), w) // whether it can is not what is tested
	}
}

// answer answers the server's oldest request.
func (s *playing) answer(line string) {
	if len(s.asked) == 0 {
		return
	}
	r := s.asked[0]
	s.asked = s.asked[1:]
	switch {
	case strings.HasPrefix(line, "-"):
	case strings.HasPrefix(line, "!"):
		r.Fail("HTTP", 400+len(line), line)
	default:
		r.Respond(scriptMessage(line, false))
	}
	r.Release()
}

// scriptMessage makes a message of a line.
func scriptMessage(line string, request bool) *blip.Message {
	m := &blip.Message{Compress: len(line)%2 == 0}
	parts := strings.Split(line, "|")
	m.Body = []byte(parts[len(parts)-1])
	parts = parts[:len(parts)-1]
	if request && len(parts) > 0 {
		m.Properties.Add("Profile", parts[0])
		parts = parts[1:]
	}
	for _, p := range parts {
		if k, v, ok := strings.Cut(p, "="); ok {
			m.Properties.Add(k, v)
		}
	}
	return m
}

// scripts are the sequences of replication.md §15, and what is wrong with some.
var scripts = []string{
	"3u\n>getCheckpoint|client=cp-x3|\n>subChanges|batch=200|revocations=true|\n<maxHistory=50|deltas=true|[[],[],[]]\n<-\n<-\n<|\n>setCheckpoint|client=cp-x3|rev=|{\"remote\":9}",
	"3ud\n>subChanges|continuous=true|\n<[[],[],[]]\n=1\n<deltas=true|[[\"1-aa\"]]\n<!4567890123456789012345\n<!\n>unsubChanges||\n>subChanges|since=3|",
	"3\n>changes|[[1,\"n1\",\"1-abcd\"]]\n>proposeChanges|conflictIncludesRev=true|[[\"n1\",\"1-abcd\"]]\n>rev|id=n1|rev=1-abcd|sequence=1|noconflicts=1|{\"channels\":[\"A\"]}",
	"3\n>rev|id=a|rev=2-cc|history=1-aa|{}\n>rev|id=a|rev=2-cc|history=2-cc|{}\n>rev|id=a|rev=2-dd|history=3-ee,4-ff|{}\n>rev|id=a|rev=1-aa|history=1-aa,1-aa|{}\n>rev|id=a|rev=0-aa|{}\n>rev|id=a|rev=1-|[]",
	"4d\n>rev|id=d1|rev=2-cc|history=1-aa|deltaSrc=1-aa|{\"n\":[],\"l\":{\"0-\":[1]}}\n>rev|id=b|rev=18ea@AAAAAAAAAAAAAAAAAAAAAA|history=17@BBBBBBBBBBBBBBBBBBBBBA;16@CCCCCCCCCCCCCCCCCCCCCA,1-aa|{}",
	"3\n>rev|id=att|rev=1-aa|{\"_attachments\":{\"x\":{\"stub\":true,\"digest\":\"sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00=\",\"length\":5,\"revpos\":1}}}\n<hello\n>rev|id=att|rev=2-bb|history=1-aa|{\"_attachments\":{\"y\":{\"stub\":true,\"digest\":\"sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00=\"}}}\n<sha1-AAAA\n<hello",
	"2u\n>subChanges|revocations=true|{\"docIDs\":[\"a\",\"att\"]}\n<[[],[],[]]\n>getAttachment|digest=sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00=|compress=true|\n>proveAttachment|digest=sha1-qvTGHdzF6KLavt4PO0gs2a6pQ00=|nonce\n<|",
	"4\n>getCollections|{\"collections\":[\"_default\",\"s.x\"],\"checkpoint_ids\":[\"cp-1\",\"cp-2\"]}\n>subChanges|collection=0|\n>getRev|collection=0|id=a|\n>getRev|collection=1|id=a|\n>putRev|collection=0|id=q|rev=1-abcd|{}\n<[[]]",
	"4g\n>subChanges|client_sgr2=true|since=0|\n<[[\"1-aa\"],[\"9@AAAAAAAAAAAAAAAAAAAAAA\",\"1-bb\"]]\n>changes|ignoreNoConflicts=true|[[1,\"a1\",\"18ea@AAAAAAAAAAAAAAAAAAAAAA\"],[3,\"a\",\"1-aa\",5]]\n>-changes|ignoreNoConflicts=true|null\n>rev|id=a1|rev=18ea@AAAAAAAAAAAAAAAAAAAAAA|revTree=2-aa,1-bb|noconflicts=true|{}",
	"3ur\n>rev|id=a|rev=1-aa|{}\n>putRev|id=_x|rev=1-aa|{\"_id\":1}\n>norev|id=a|rev=1-aa|sequence=3|error=404|\n>PING||\n>|\n>function|name=x|{}",
	"3\n#1,\x00,\x13Profile\x00getRev\x00id\x00a\x00\n#1,\x00,x\n#2,\x40,\x05",
	"3\n!\x01\x08\xff\xff\xff\xff\n!\x00",
	"3\n#1,\x08,\x00\xff\xff",
}

// FuzzServer plays scripts against a database in memory. Nothing may panic, no goroutine may be stuck or left over (the
// bubble sees to that), and another client must find everything in order.
func FuzzServer(f *testing.F) {
	for _, s := range scripts {
		f.Add([]byte(s))
	}
	if _, err := compiled(); err != nil { // outside of the bubbles
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t, database.Options{}).strict()
			e.user("bob", "A")
			e.put("a", `{"channels":["A"]}`)
			e.put("att", `{"channels":["A"],"_attachments":{"hello.txt":{"data":"aGVsbG8="}}}`)
			(&playing{t: t, e: e}).run(string(data))
			other := e.as("bob")
			other.must("rev", `{"channels":["A"]}`, "id", "the end", "rev", "1-abcd")
			if p := other.pullAll(); !strings.Contains(strings.Join(p.rows, "\n"), "the end 1-abcd") {
				t.Errorf("another client does not see what it wrote: %v", p.rows)
			}
		})
	})
}
