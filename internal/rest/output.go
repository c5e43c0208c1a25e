package rest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// outputChunk is how much of a body is collected before it is sent, in bytes.
const outputChunk = 32 << 10

// chunk is the memory an output begins with. It has room for more than outputChunk, so that small pieces do
// not make it grow.
type chunk [outputChunk + 4<<10]byte

// An output is a body under way. It is appended to and sent in chunks, so that an answer of any length takes
// little memory; one that fits into a chunk is sent with its length. Until the first chunk goes out an error
// can still become the answer.
type output struct {
	b []byte // what was collected; append to it, then call spill

	server *Server
	sink   io.Writer
	answer *response // sink, if that is the answer to a request
	status int       // of the answer
	sent   bool
	exact  bool // never indented
	room   *chunk
}

// newOutput begins the body of an answer; its headers other than Content-Length are set by the caller. close
// must be called.
func (s *Server) newOutput(w http.ResponseWriter, status int) *output {
	answer := w.(*response)
	o := s.newOutputTo(answer)
	o.answer, o.status = answer, status
	return o
}

// newOutputTo begins an output to something else than an answer.
func (s *Server) newOutputTo(sink io.Writer) *output {
	o := &output{server: s, sink: sink}
	o.resume()
	return o
}

// resume takes memory again after close.
func (o *output) resume() {
	if o.room != nil {
		return
	}
	room, ok := o.server.chunks.Get().(*chunk)
	if !ok {
		room = new(chunk)
	}
	o.server.heldOutputs.Add(1)
	o.room, o.b = room, room[:0]
}

// close frees the memory. What was not sent by then is not sent.
func (o *output) close() {
	if o.room != nil {
		o.server.heldOutputs.Add(-1)
		o.server.chunks.Put(o.room)
		o.room, o.b = nil, nil
	}
}

// Write appends p.
func (o *output) Write(p []byte) (int, error) {
	if len(o.b)+len(p) > cap(o.b) {
		if err := o.send(); err != nil {
			return 0, err
		}
		if len(p) >= outputChunk {
			return len(p), o.write(p)
		}
	}
	o.b = append(o.b, p...)
	return len(p), nil
}

// WriteString appends s, which is small.
func (o *output) WriteString(s string) (int, error) {
	o.b = append(o.b, s...)
	return len(s), o.spill()
}

// object ends an object that has a member already with those of body, a compact object.
func (o *output) object(body []byte) error {
	if len(body) <= 2 {
		o.b = append(o.b, '}')
		return nil
	}
	o.b = append(o.b, ',')
	_, err := o.Write(body[1:])
	return err
}

// spill sends what was collected if it is a chunk or more.
func (o *output) spill() error {
	if len(o.b) < outputChunk {
		return nil
	}
	return o.send()
}

// send sends what was collected.
func (o *output) send() error {
	if len(o.b) == 0 {
		return nil
	}
	err := o.write(o.b)
	o.b = o.room[:0]
	return err
}

func (o *output) write(p []byte) error {
	if !o.sent && o.answer != nil {
		o.answer.WriteHeader(o.status)
	}
	o.sent = true
	if _, err := o.sink.Write(p); err != nil {
		return fmt.Errorf("write response: %w", err)
	}
	return nil
}

// flush sends what was collected all the way to the client.
func (o *output) flush() error {
	if err := o.send(); err != nil {
		return err
	}
	o.sent = true
	if err := o.answer.FlushError(); err != nil {
		return fmt.Errorf("write response: %w", err)
	}
	return nil
}

// finish sends the rest.
func (o *output) finish() error {
	if o.sent || o.answer == nil {
		return o.send()
	}
	h := o.answer.Header()
	if o.server.settings.Pretty && !o.exact && h.Get("Content-Type") == jsonType {
		return o.server.writeJSON(o.answer, o.status, o.b)
	}
	h.Set("Content-Length", strconv.Itoa(len(o.b)))
	o.answer.WriteHeader(o.status)
	return o.send()
}
