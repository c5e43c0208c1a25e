package goblip

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	goblip "github.com/couchbase/go-blip"

	"github.com/tidegate/tidegate/internal/blip"
)

const many = 10_000

// sendMany sends our requests and checks every reply.
func (p *peers) sendMany(t *testing.T) {
	var pending sync.WaitGroup
	for i := range many {
		m := message(i)
		var onReply func(*blip.Reply)
		if !m.NoReply {
			pending.Add(1)
			onReply = func(r *blip.Reply) {
				defer pending.Done()
				defer r.Release()
				n, _ := r.Property("n")
				if r.Err() != nil || n != fmt.Sprint(i) || !bytes.Equal(r.Body(), body(i)) {
					t.Errorf("reply %d: n %q, %d bytes, %v", i, n, len(r.Body()), r.Err())
				}
			}
		}
		if err := p.ours.Send(t.Context(), m, onReply); err != nil {
			t.Fatal(err)
		}
	}
	pending.Wait()
}

// theySendMany sends go-blip's requests and checks every reply.
func (p *peers) theySendMany(t *testing.T) {
	var sent []*goblip.Message
	for i := range many {
		m := theirMessage(i)
		if !p.theirs.Send(m) {
			t.Fatal("go-blip cannot send")
		}
		sent = append(sent, m)
	}
	for i, m := range sent {
		if m.NoReply() {
			continue
		}
		response := m.Response()
		got, err := response.Body()
		if err != nil || response.Properties["n"] != fmt.Sprint(i) || !bytes.Equal(got, body(i)) {
			t.Errorf("reply %d: %v, %d bytes, %v", i, response.Properties, len(got), err)
		}
	}
}

func options(o blip.Options) blip.Options {
	if o.Handle == nil {
		o.Handle = ourHandler
	}
	o.Compression = 6
	return o
}

func TestManyBothWays(t *testing.T) {
	p := weServe(t, theirContext(t), options(blip.Options{}))
	var both sync.WaitGroup
	both.Go(func() { p.sendMany(t) })
	both.Go(func() { p.theySendMany(t) })
	both.Wait()
}

func TestManyToTheirServer(t *testing.T) {
	theyServe(t, theirContext(t), options(blip.Options{})).sendMany(t)
}

// TestLargeBodies sends bodies that need ACKs, both ways and as a stream.
func TestLargeBodies(t *testing.T) {
	large := bytes.Repeat(body(3), 1<<20/len(body(3)))
	for _, compress := range []bool{false, true} {
		p := weServe(t, theirContext(t), options(blip.Options{}))
		m := message(1)
		m.Body, m.Compress = large, compress
		r, err := p.ours.Call(t.Context(), m)
		if err != nil || r.Err() != nil || !bytes.Equal(r.Body(), large) {
			t.Fatalf("our request: %v", err)
		}
		r.Release()
		theirs := theirMessage(1)
		theirs.SetBody(large)
		theirs.SetCompressed(compress)
		p.theirs.Send(theirs)
		if got, err := theirs.Response().Body(); err != nil || !bytes.Equal(got, large) {
			t.Fatalf("their request: %d bytes, %v", len(got), err)
		}
	}
}

func TestStreamedReply(t *testing.T) {
	large := bytes.Repeat(body(3), 3<<20/len(body(3)))
	p := theyServe(t, theirContext(t), options(blip.Options{}))
	m := message(1)
	m.Body, m.BodyReader, m.StreamReply = nil, bytes.NewReader(large), true
	r, err := p.ours.Call(t.Context(), m)
	if err != nil || r.Err() != nil {
		t.Fatal(err)
	}
	defer r.Release()
	var got bytes.Buffer
	if _, err := got.ReadFrom(r.Reader()); err != nil || !bytes.Equal(got.Bytes(), large) {
		t.Errorf("%d bytes of %d, %v", got.Len(), len(large), err)
	}
}

// TestUrgentFinishesFirst: an urgent message overtakes large ones that were queued before it.
func TestUrgentFinishesFirst(t *testing.T) {
	theirs := theirContext(t)
	order := make(chan string, 3)
	theirs.HandlerForProfile["note"] = func(r *goblip.Message) {
		_, _ = r.Body()
		order <- r.Properties["n"]
	}
	p := theyServe(t, theirs, options(blip.Options{}))
	for _, name := range []string{"a", "b", "urgent"} {
		m := &blip.Message{Body: make([]byte, 1<<20), NoReply: true}
		m.Properties.Add("Profile", "note")
		m.Properties.Add("n", name)
		if m.Urgent = name == "urgent"; m.Urgent {
			m.Body = make([]byte, 300<<10)
		}
		if err := p.ours.Post(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	// go-blip starts a handler with the first frame, but it reads the body to its end.
	if first := <-order; first != "urgent" {
		t.Errorf("%q was complete first", first)
	}
}

func TestErrors(t *testing.T) {
	p := weServe(t, theirContext(t), options(blip.Options{}))
	for profile, want := range map[string]blip.Error{
		"fail":    {Domain: "HTTP", Code: 409, Text: "conflict"},
		"nothing": {Domain: "BLIP", Code: 404, Text: "No handler for BLIP request"},
	} {
		m := new(blip.Message)
		m.Properties.Add("Profile", profile)
		r, err := p.ours.Call(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := errors.AsType[*blip.Error](r.Err()); !ok || *e != want {
			t.Errorf("%s: %v", profile, r.Err())
		}
		r.Release()
		theirs := goblip.NewRequest()
		theirs.SetProfile(profile)
		p.theirs.Send(theirs)
		response := theirs.Response()
		text, _ := response.Body()
		if response.Type() != goblip.ErrorType || response.Properties["Error-Domain"] != want.Domain ||
			response.Properties["Error-Code"] != fmt.Sprint(want.Code) || string(text) != want.Text {
			t.Errorf("%s from us: %v %q", profile, response.Properties, text)
		}
	}
}

// TestTheyClose: what go-blip's end does to our pending calls.
func TestTheyClose(t *testing.T) {
	theirs := theirContext(t)
	entered, done := make(chan struct{}), make(chan struct{})
	theirs.HandlerForProfile["hang"] = func(*goblip.Message) { close(entered); <-done }
	defer close(done)
	p := weServe(t, theirs, options(blip.Options{}))
	m := new(blip.Message)
	m.Properties.Add("Profile", "hang")
	var failed atomic.Bool
	if err := p.ours.Send(t.Context(), m, func(r *blip.Reply) { failed.Store(r.Err() != nil) }); err != nil {
		t.Fatal(err)
	}
	<-entered
	p.theirs.Close()
	if err := <-p.ended; err == nil || !failed.Load() {
		t.Errorf("ended with %v, the call failed %v", err, failed.Load())
	}
}
