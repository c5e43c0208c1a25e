package replicate_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
)

// rawPeer speaks in frames, so that it can do what no connection of ours would. It never acknowledges anything by itself.
type rawPeer struct {
	t    testing.TB
	e    *env
	near *pipe
	over chan error
	last uint64 // number of its last request
	crc  uint32
	out  bytes.Buffer
	z    *flate.Writer
}

// Flags of a frame (blip.md §4).
const (
	isReply      = 1
	isCompressed = 0x08
	isNoReply    = 0x20
	isMore       = 0x40
)

// raw dials with a raw peer.
func (e *env) raw(p replicate.Peer) *rawPeer {
	e.t.Helper()
	p.DB = e.db
	if p.Version == 0 {
		p.Version = replicate.V3
	}
	near, far := newPipe()
	r := &rawPeer{t: e.t, e: e, near: near, over: make(chan error, 1)}
	r.z, _ = flate.NewWriter(&r.out, 6) // the level is right
	go func() { r.over <- e.srv.Serve(e.t.Context(), far, p) }()
	e.t.Cleanup(func() { _ = near.Abort() })
	return r
}

// props encodes properties with their length.
func props(pairs ...string) string {
	text := ""
	for _, p := range pairs {
		text += p + "\x00"
	}
	return string(binary.AppendUvarint(nil, uint64(len(text)))) + text
}

// frame sends a frame whose checksum is right.
func (r *rawPeer) frame(number uint64, flags byte, payload string) {
	b := append(binary.AppendUvarint(nil, number), flags)
	r.crc = crc32.Update(r.crc, crc32.IEEETable, []byte(payload))
	if flags&isCompressed != 0 {
		r.out.Reset()
		_, _ = r.z.Write([]byte(payload)) // into memory
		_ = r.z.Flush()
		b = append(b, r.out.Bytes()[:r.out.Len()-4]...)
	} else {
		b = append(b, payload...)
	}
	r.put(binary.BigEndian.AppendUint32(b, r.crc))
}

// put sends bytes as a frame. That the connection is over is for the test to see.
func (r *rawPeer) put(b []byte) { _ = r.near.WriteMessages([][]byte{b}) }

// request sends a request in one frame.
func (r *rawPeer) request(flags byte, body string, pairs ...string) {
	r.last++
	r.frame(r.last, flags, props(pairs...)+body)
}

// ended expects the end and returns the code of the CLOSE frame, 0 if there was none.
func (r *rawPeer) ended() int {
	r.t.Helper()
	synctest.Wait()
	select {
	case <-r.over:
	default:
		r.t.Fatal("the connection goes on")
	}
	r.near.out.mu.Lock()
	r.near.out.frames = nil // what it did not read is not its memory
	r.near.out.mu.Unlock()
	r.near.in.mu.Lock()
	defer r.near.in.mu.Unlock()
	return r.near.in.code
}

// rawFrame is a frame of the server.
type rawFrame struct {
	number  uint64
	kind    byte
	more    bool
	payload []byte // as it is on the wire
}

// frames takes what has arrived.
func (r *rawPeer) frames() []rawFrame {
	r.near.in.mu.Lock()
	defer r.near.in.mu.Unlock()
	var all []rawFrame
	for _, b := range r.near.in.frames {
		number, n := binary.Uvarint(b)
		all = append(all, rawFrame{number, b[n] & 7, b[n]&isMore != 0, b[n+1:]})
	}
	r.near.in.frames = nil
	r.near.in.moved()
	return all
}

// hostile runs a test in a bubble: a goroutine that is stuck or left over fails it.
func hostile(t *testing.T, opts database.Options, f func(t *testing.T, e *env)) {
	t.Helper()
	if _, err := compiled(); err != nil { // outside of the bubble
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, opts).strict()
		e.user("bob", "A")
		e.user("eve", "A")
		f(t, e)
		e.undisturbed()
	})
}

// undisturbed has a well-behaved client write, and read what it wrote.
func (e *env) undisturbed() {
	e.t.Helper()
	c := e.as("bob")
	c.must("rev", `{"channels":["A"]}`, "id", "of bob", "rev", "1-abcd")
	if p := c.pullAll("filter", "sync_gateway/bychannel", "channels", "A", "since", c.env.before()); !strings.Contains(strings.Join(p.rows, "\n"), "of bob 1-abcd") {
		e.t.Errorf("another client does not see what it wrote: %v", p.rows)
	}
}

// before is the position before the last write.
func (e *env) before() string {
	e.t.Helper()
	last, err := e.db.LastSequence(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	return strconv.FormatUint(uint64(last-1), 10)
}

// heap is how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// bounded fails if f leaves more than so many bytes in use while its connections are open.
func bounded(t *testing.T, most int64, f func()) {
	t.Helper()
	before := heap()
	f()
	synctest.Wait()
	if grown := heap() - before; grown > most {
		t.Errorf("%d KiB more are in use; %d are the most", grown>>10, most>>10)
	}
}
