package replicate_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/replicate"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
	"github.com/tidegate/tidegate/internal/websocket"
)

// byChannels routes by the document's own words.
const byChannels = `function(doc, oldDoc) {
	if (doc.forbid) { throw({forbidden: doc.forbid}); }
	if (doc.boom) { doc.no.such.thing; }
	if (doc.onlyBy) { requireUser(doc.onlyBy); }
	channel(doc.channels);
	if (doc.grant) { for (var i = 0; i < doc.grant.length; i++) { access(doc.grant[i][0], doc.grant[i][1]); } }
}`

// compiled is byChannels, compiled once: starting an engine takes long under the race detector.
var compiled = sync.OnceValues(func() (script.SyncFunction, error) {
	return script.CompileSync(byChannels, "", script.Options{})
})

// env is one open database on stores in memory, with a server.
type env struct {
	t     testing.TB
	db    *database.Database
	srv   *replicate.Server
	admin *database.Handle
}

// newEnv opens a database and runs it until the test ends.
func newEnv(t testing.TB, opts database.Options) *env {
	t.Helper()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.OpenFiles("blobs", blob.Options{FS: vfs.NewMem(), MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	fn, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	opts.Name, opts.Space, opts.Access.BcryptCost = "test", 7, 4
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	opts.Source = tidegate.NewSource(id)
	if opts.Collections == nil {
		opts.Collections = []database.CollectionOptions{{Function: fn}}
	} else {
		for i := range opts.Collections {
			if opts.Collections[i].Function == nil {
				opts.Collections[i].Function = fn
			}
		}
	}
	db, err := database.Open(t.Context(), st, blobs, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- db.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; !errors.Is(err, context.Canceled) {
			t.Errorf("run database: %v", err)
		}
		if err := errors.Join(db.Close(), st.Close()); err != nil {
			t.Error(err)
		}
	})
	return &env{t: t, db: db, srv: replicate.NewServer(replicate.Options{}), admin: db.Admin(0)}
}

// user makes a user with channels of its own.
func (e *env) user(name string, channels ...string) {
	e.t.Helper()
	password := access.NewSecret("letmein")
	update := access.UserUpdate{Password: &password, AdminChannels: channels}
	if channels == nil {
		update.AdminChannels = []string{}
	}
	if _, err := e.db.Access().PutUser(e.t.Context(), name, update, false); err != nil {
		e.t.Fatal(err)
	}
}

// put writes a document as an administrator and returns its revision. body may have _rev and _deleted.
func (e *env) put(id, body string) string {
	e.t.Helper()
	return e.putIn(e.admin, id, body)
}

func (e *env) putIn(h *database.Handle, id, body string) string {
	e.t.Helper()
	doc, err := jsondoc.Split([]byte(body), jsondoc.Limits{}, false)
	if err != nil {
		e.t.Fatal(err)
	}
	doc.ID = id
	w, err := database.WriteFromDoc(doc, true)
	if err != nil {
		e.t.Fatal(err)
	}
	written, err := h.Put(e.t.Context(), w)
	if err != nil {
		e.t.Fatal(err)
	}
	return written.Rev.String()
}

// get returns a document as an administrator sees it, with _id and _rev; "" if it is not there.
func (e *env) get(id string) string {
	e.t.Helper()
	doc, err := e.admin.Get(e.t.Context(), id, database.GetOptions{})
	if tidegate.ErrorCode(err) == tidegate.NotFound && err != nil {
		return ""
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return string(doc.AppendJSON(nil))
}

// pipe is one end of a transport in memory.
type pipe struct {
	in, out *pipeHalf
}

// pipeHalf is one direction: frames that nobody has read, without bound unless a test sets one.
type pipeHalf struct {
	mu     sync.Mutex
	frames [][]byte
	some   chan struct{}
	end    error
	code   int
	limit  int // frames that fit; 0: any number. Writers wait then, as on a socket
	space  chan struct{}
}

func newPipe() (a, b *pipe) {
	x, y := newPipeHalf(), newPipeHalf()
	return &pipe{x, y}, &pipe{y, x}
}

func newPipeHalf() *pipeHalf {
	return &pipeHalf{some: make(chan struct{}, 1), space: make(chan struct{}, 1)}
}

// moved tells a writer that waits to look again; h.mu is held.
func (h *pipeHalf) moved() {
	select {
	case h.space <- struct{}{}:
	default:
	}
}

func (h *pipeHalf) signal() {
	select {
	case h.some <- struct{}{}:
	default:
	}
}

func (h *pipeHalf) close(err error, code int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end == nil {
		h.end, h.code = err, code
	}
	h.moved()
	h.signal()
}

var errAborted = errors.New("aborted")

// ReadMessage implements blip.Transport.
func (p *pipe) ReadMessage() ([]byte, error) {
	for {
		p.in.mu.Lock()
		if len(p.in.frames) > 0 {
			f := p.in.frames[0]
			p.in.frames = p.in.frames[1:]
			p.in.moved()
			p.in.mu.Unlock()
			return f, nil
		}
		end := p.in.end
		p.in.mu.Unlock()
		if end != nil {
			p.in.signal()
			return nil, end
		}
		<-p.in.some
	}
}

// WriteMessages implements blip.Transport.
func (p *pipe) WriteMessages(frames [][]byte) error {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	for _, f := range frames {
		for p.out.limit > 0 && len(p.out.frames) >= p.out.limit && p.out.end == nil {
			p.out.mu.Unlock()
			<-p.out.space
			p.out.mu.Lock()
		}
		if p.out.end != nil {
			return p.out.end
		}
		p.out.frames = append(p.out.frames, append([]byte(nil), f...))
		p.out.signal()
	}
	return nil
}

// Close implements blip.Transport.
func (p *pipe) Close(code int, _ string) error {
	p.out.close(&websocket.CloseError{Code: code}, code)
	p.in.close(io.EOF, code)
	return nil
}

// Abort implements blip.Transport.
func (p *pipe) Abort() error {
	p.out.close(errAborted, 0)
	p.in.close(errAborted, 0)
	return nil
}

// client is a scripted peer.
type client struct {
	t    testing.TB
	env  *env
	conn *blip.Conn
	in   chan *blip.Request // what the server asks for
	over chan error         // what Serve returned
	near *pipe              // its end of the transport, for what no honest connection would send
	stop context.CancelFunc
}

// dial connects a client.
func (e *env) dial(p replicate.Peer) *client {
	e.t.Helper()
	return e.dialIn(context.Background(), p)
}

// dialIn is dial for a connection that must end when within does.
func (e *env) dialIn(within context.Context, p replicate.Peer) *client {
	e.t.Helper()
	p.DB = e.db
	if p.Version == 0 {
		p.Version = replicate.V3
	}
	near, far := newPipe()
	c := &client{t: e.t, env: e, in: make(chan *blip.Request, 10_000), over: make(chan error, 1), near: near}
	ctx, cancel := context.WithCancel(within)
	c.stop = cancel
	go func() { c.over <- e.srv.Serve(ctx, far, p) }()
	c.conn = blip.NewConn(near, blip.Options{Handle: func(r *blip.Request) { c.in <- r }, Compression: 6})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.conn.Run() // how it ends is the test's to see
	}()
	e.t.Cleanup(func() {
		c.conn.Drop(errors.New("the test is over"))
		cancel()
		<-ended
	})
	return c
}

// as dials as a user, with version 3.
func (e *env) as(user string) *client { e.t.Helper(); return e.dial(replicate.Peer{User: user}) }

// props are properties in the order name, value, name, value …
func message(profile, body string, props ...string) *blip.Message {
	m := &blip.Message{Compress: true}
	m.Properties.Add("Profile", profile)
	for i := 0; i < len(props); i += 2 {
		m.Properties.Add(props[i], props[i+1])
	}
	if body != "" {
		m.Body = []byte(body)
	}
	return m
}

// result is a reply, copied.
type result struct {
	err   error
	body  string
	props map[string]string
}

// String is the error, or the properties and the body.
func (r result) String() string {
	if r.err != nil {
		return r.err.Error()
	}
	var b strings.Builder
	for _, k := range []string{"rev", "deltas", "maxHistory"} {
		if v, ok := r.props[k]; ok {
			b.WriteString(k + "=" + v + " ")
		}
	}
	return b.String() + r.body
}

// call sends a request and returns what came back.
func (c *client) call(profile, body string, props ...string) result {
	c.t.Helper()
	r, err := c.conn.Call(c.t.Context(), message(profile, body, props...))
	if err != nil {
		return result{err: err}
	}
	defer r.Release()
	res := result{err: r.Err(), body: string(r.Body()), props: map[string]string{}}
	for k, v := range r.Properties().All() {
		res.props[k] = v
	}
	return res
}

// must is call for what has to succeed.
func (c *client) must(profile, body string, props ...string) result {
	c.t.Helper()
	res := c.call(profile, body, props...)
	if res.err != nil {
		c.t.Fatalf("%s: %v", profile, res.err)
	}
	return res
}

// asked is a request of the server, copied; it can still be answered.
type asked struct {
	r       *blip.Request
	profile string
	props   map[string]string
	body    string
}

// next waits for the server's next request.
func (c *client) next() asked {
	c.t.Helper()
	select {
	case r := <-c.in:
		a := asked{r: r, profile: r.Profile(), body: string(r.Body()), props: map[string]string{}}
		for k, v := range r.Properties().All() {
			if k != "Profile" {
				a.props[k] = v
			}
		}
		return a
	case err := <-c.over:
		c.t.Fatalf("the server ended the connection: %v", err)
	case <-c.t.Context().Done():
		c.t.Fatal("nothing came")
	}
	return asked{}
}

// expect waits for a request of a profile.
func (c *client) expect(profile string) asked {
	c.t.Helper()
	a := c.next()
	if a.profile != profile {
		c.t.Fatalf("got %s %v %s, want %s", a.profile, a.props, a.body, profile)
	}
	return a
}

// answer answers and releases a request.
func (a asked) answer(body string, props ...string) {
	m := message("", body, props...)
	m.Properties = blip.Properties{}
	for i := 0; i < len(props); i += 2 {
		m.Properties.Add(props[i], props[i+1])
	}
	a.r.Respond(m)
	a.r.Release()
}

// pull is everything that a one-shot pull brings: rows as text, and revisions by document.
type pull struct {
	rows []string
	revs map[string]asked
}

// pullAll runs a one-shot pull to its end, asks for everything that is not gone, and answers what wants an answer.
func (c *client) pullAll(props ...string) pull {
	c.t.Helper()
	c.must("subChanges", "", props...)
	p := pull{revs: map[string]asked{}}
	wanted, told := 0, false
	for !told || wanted > 0 {
		a := c.next()
		switch a.profile {
		case "changes":
			if a.body == "null" {
				told = true
				a.r.Release()
				continue
			}
			n, reply := p.take(c.t, a.body)
			wanted += n
			a.answer(reply)
		case "rev":
			p.revs[a.props["id"]] = a
			wanted--
			a.answer("")
		case "norev":
			wanted--
			a.r.Release()
		default:
			c.t.Fatalf("unexpected %s", a.profile)
		}
	}
	return p
}

// take notes the rows of a changes message and makes the answer that wants what is not gone.
func (p *pull) take(t testing.TB, body string) (wanted int, reply string) {
	var rows [][]json.RawMessage
	if err := json.Unmarshal([]byte(body), &rows); err != nil {
		t.Fatalf("changes: %v in %s", err, body)
	}
	var answers []string
	for _, row := range rows {
		text := make([]string, len(row))
		for i, item := range row {
			text[i] = strings.Trim(string(item), `"`)
		}
		p.rows = append(p.rows, strings.Join(text, " "))
		if len(row) > 3 && string(row[3]) != "1" && string(row[3]) != "5" && string(row[3]) != "true" {
			answers = append(answers, "0")
			continue
		}
		wanted++
		answers = append(answers, "[]")
	}
	return wanted, "[" + strings.Join(answers, ",") + "]"
}
