package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// A register is a document that several clients read and write through different nodes: a register with compare-and-swap. Every write puts
// another value, so a value stands for its revision. "" is a document that is not there.

// regInput is what a client asked: to read, or to swap from for to.
type regInput struct {
	doc      string
	swap     bool
	from, to string
}

// regOutput is what it was told.
type regOutput struct {
	value    string // of a read
	conflict bool   // of a swap: the document was at another value
	unknown  bool   // of a swap: there was no answer
	happened bool   // unknown, but the value was seen later
}

// registerModel is what all these documents must look like they are: one register each.
var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		byDoc := map[string][]porcupine.Operation{}
		for _, op := range history {
			doc := op.Input.(regInput).doc
			byDoc[doc] = append(byDoc[doc], op)
		}
		for _, ops := range byDoc {
			parts = append(parts, ops)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		at, in, out := state.(string), input.(regInput), output.(regOutput)
		switch {
		case !in.swap:
			return out.value == at, at
		case out.unknown && at != in.from: // whatever came of it, it was nothing
			return !out.happened, at
		case out.conflict:
			return at != in.from, at
		default:
			return at == in.from, in.to
		}
	},
}

var (
	errNotLinearizable = errors.New("a history is not linearizable")
	errUndecided       = errors.New("it was not decided whether a history is linearizable")
)

// linearizable checks a history whose last operation on each document is a read. limit bounds the time that it takes: not decided by then is
// errUndecided.
func linearizable(history []porcupine.Operation, limit time.Duration) error {
	seen := map[string]bool{}
	for _, op := range history {
		in, out := op.Input.(regInput), op.Output.(regOutput)
		seen[out.value] = true
		if in.swap && !out.conflict && !out.unknown {
			seen[in.from], seen[in.to] = true, true
		}
	}
	checked := make([]porcupine.Operation, 0, len(history))
	for _, op := range history {
		in, out := op.Input.(regInput), op.Output.(regOutput)
		if in.swap && out.unknown {
			if in.to != "" && !seen[in.to] {
				continue // had it happened, the last read would have seen it: only who sees a value replaces it
			}
			out.happened = in.to != ""
			op.Output, op.Return = out, math.MaxInt64 // it may take effect at any time
		}
		checked = append(checked, op)
	}
	switch porcupine.CheckOperationsTimeout(registerModel, checked, limit) {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%w within %v", errUndecided, limit)
	default:
		return fmt.Errorf("%w: %s", errNotLinearizable, worst(checked, limit))
	}
}

// worst names a document whose history is wrong.
func worst(history []porcupine.Operation, limit time.Duration) string {
	for _, part := range registerModel.Partition(history) {
		if porcupine.CheckOperationsTimeout(registerModel, part, limit) == porcupine.Illegal {
			doc := part[0].Input.(regInput).doc
			return fmt.Sprintf("%s, %d operations", doc, len(part))
		}
	}
	return "no single document"
}

// history collects what clients of registers asked and were told.
type history struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func (h *history) now() int64 { return time.Since(h.began).Nanoseconds() }

func (h *history) add(client int, in regInput, out regOutput, call int64) {
	ret := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: ret})
}

// registerClient reads and writes registers through one node after another.
type registerClient struct {
	id    int
	h     *history
	nodes []*node
	rnd   *rand.Rand
	docs  int
	n     int
	// know is what it last saw of each document.
	know map[string]seenRevision
}

type seenRevision struct{ rev, value string }

// run works until ctx ends. Anything but answers and silence is an error.
func (c *registerClient) run(ctx context.Context, every time.Duration) error {
	c.know = map[string]seenRevision{}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		doc := "reg-" + strconv.Itoa(c.rnd.IntN(c.docs))
		n := c.nodes[c.rnd.IntN(len(c.nodes))]
		var err error
		if at, ok := c.know[doc]; ok && c.rnd.IntN(2) == 0 {
			err = c.swap(n, doc, at)
		} else {
			err = c.read(n, doc)
		}
		if err != nil && !errors.Is(err, errUnknown) {
			return err
		}
	}
}

// readAll reads every register once, after everything else.
func (c *registerClient) readAll() error {
	for i := range c.docs {
		if err := c.read(c.nodes[i%len(c.nodes)], "reg-"+strconv.Itoa(i)); err != nil {
			return err
		}
	}
	return nil
}

func (c *registerClient) read(n *node, doc string) error {
	var body struct {
		Rev   string `json:"_rev"`
		Value string `json:"value"`
	}
	in, call := regInput{doc: doc}, c.h.now()
	status, err := ask(http.MethodGet, n.url("/"+doc), nil, &body)
	if err != nil {
		return err // a read that was not answered tells nothing
	}
	if status != http.StatusOK && status != http.StatusNotFound {
		return fmt.Errorf("GET %s at %s: status %d", doc, n.name, status)
	}
	c.h.add(c.id, in, regOutput{value: body.Value}, call)
	c.know[doc] = seenRevision{body.Rev, body.Value}
	return nil
}

// swap writes the document, or deletes it now and then, if it is at the revision that the client saw.
func (c *registerClient) swap(n *node, doc string, at seenRevision) error {
	c.n++
	delete(c.know, doc)
	in := regInput{doc: doc, swap: true, from: at.value, to: fmt.Sprintf("c%d-%d", c.id, c.n)}
	method, url, body := http.MethodPut, n.url("/"+doc), map[string]any{"value": in.to, "channels": []string{"c0"}}
	if at.rev != "" {
		body["_rev"] = at.rev
		if c.rnd.IntN(10) == 0 {
			in.to, method, url, body = "", http.MethodDelete, url+"?rev="+at.rev, nil
		}
	}
	var ans struct{ Rev string }
	call := c.h.now()
	status, err := ask(method, url, anyOrNil(body), &ans)
	out := regOutput{unknown: err != nil, conflict: status == http.StatusConflict}
	if err == nil && status >= 300 && !out.conflict {
		return fmt.Errorf("%s %s at %s: status %d", method, doc, n.name, status)
	}
	c.h.add(c.id, in, out, call)
	if err == nil && !out.conflict {
		c.know[doc] = seenRevision{ans.Rev, in.to}
		if in.to == "" {
			c.know[doc] = seenRevision{}
		}
	}
	return err
}

// anyOrNil is nil for a nil map: no body.
func anyOrNil(m map[string]any) any {
	if m == nil {
		return nil
	}
	return m
}
