package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// A topic is something that pages listen to. A page lists its topics in rq.live; each connection to /events samples
// them and sends what has changed.
type topic struct {
	name string
	// open begins to listen for one connection; arg is what follows "name:". An error is told in the page in
	// place of the figures, and the others go on.
	open func(rq *request, arg string) (sampler, error)
}

// sampler returns what the page is to show now, for json.Marshal; nil: nothing new. It is called by one goroutine.
type sampler func(ctx context.Context) (any, error)

// maxTopics bounds the topics of one connection; liveWriteTimeout how long it may take to send to a browser.
const (
	maxTopics        = 6
	liveWriteTimeout = 10 * time.Second
	pingEvery        = 15 * time.Second
)

var errTooManyStreams = &pageError{http.StatusServiceUnavailable, "Too many live pages", "Close some tabs of the console: live figures are for a limited number of pages."}

// listening is a topic that a connection listens to.
type listening struct {
	name   string
	sample sampler
	last   []byte
}

// handleEvents answers GET /events?t=topic&t=…: server-sent events until the browser leaves, the session ends or the
// console is closed.
func (c *Console) handleEvents(rq *request) error {
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		return errTooManyStreams
	}
	names := rq.URL.Query()["t"]
	if len(names) > maxTopics {
		return errNoPage
	}
	s := &eventStream{w: rq.w, control: http.NewResponseController(rq.w)}
	var all []*listening
	rq.w.Header().Set("Content-Type", "text/event-stream")
	for _, full := range names {
		name, arg, _ := strings.Cut(full, ":")
		t, ok := c.topics[name]
		if !ok {
			return errNoPage
		}
		sample, err := t.open(rq, arg)
		if err != nil {
			told := explain(err)
			sample = func(context.Context) (any, error) { return nil, told }
		}
		all = append(all, &listening{name: full, sample: sample})
	}
	s.send("hello", []byte("{}"))
	c.follow(rq, s, all)
	return nil
}

// follow samples until there is a reason to stop.
func (c *Console) follow(rq *request, s *eventStream, all []*listening) {
	ctx := rq.Context()
	tick := time.NewTicker(c.o.LiveEvery)
	defer tick.Stop()
	pinged := time.Now()
	for s.err == nil {
		if !c.sessions.alive(ctx, rq.session) {
			s.send("expired", []byte("{}"))
			return
		}
		for _, l := range all {
			l.tell(ctx, s)
		}
		if time.Since(pinged) > pingEvery {
			s.ping()
			pinged = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-c.closing.Done():
			return
		case <-tick.C:
		}
	}
}

// tell samples one topic and sends what is new.
func (l *listening) tell(ctx context.Context, s *eventStream) {
	data, err := l.sample(ctx)
	if err != nil {
		data = map[string]string{"error": explain(err).words}
	}
	if data == nil {
		return
	}
	b, err := json.Marshal(map[string]any{"topic": l.name, "data": data})
	if err != nil {
		s.err = fmt.Errorf("write %s: %w", l.name, err)
		return
	}
	if bytes.Equal(b, l.last) {
		return
	}
	l.last = b
	s.send("message", b)
}

// eventStream writes server-sent events. After an error it writes no more.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	err     error
}

// send sends one event; data is one line.
func (s *eventStream) send(event string, data []byte) {
	s.write(fmt.Appendf(nil, "event: %s\ndata: %s\n\n", event, data))
}

// ping keeps what is between us and the browser from closing a quiet connection.
func (s *eventStream) ping() { s.write([]byte(": ping\n\n")) }

func (s *eventStream) write(b []byte) {
	if s.err != nil {
		return
	}
	// Not every connection has deadlines (a test's recorder has not); then there is nothing to bound.
	_ = s.control.SetWriteDeadline(time.Now().Add(liveWriteTimeout))
	if _, s.err = s.w.Write(b); s.err == nil {
		s.err = s.control.Flush()
	}
}
