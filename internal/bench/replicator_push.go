package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/tidegate/tidegate/internal/blip"
)

// blipPush pushes new documents as Couchbase Lite does: it proposes lists of revisions and sends those that are not
// refused, each with a reply that comes when it is durable.
func (b *run) blipPush(ctx context.Context) error {
	for _, n := range b.opts.Replicators {
		if err := b.push(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// push has n clients push their share of the documents each.
func (b *run) push(ctx context.Context, n int) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	w := b.newWire()
	names := newRevNames(b.opts.Version)
	prefix := "push-" + randomHex() + "-"
	total := b.opts.Documents / n * n
	share := total / n
	var all []func() error
	for i := range n {
		r, err := w.dial(ctx, nil)
		if err != nil {
			return err
		}
		defer r.close()
		p := &pusher{r: r, prefix: prefix, names: names, fail: fail, window: make(chan struct{}, b.opts.Unanswered)}
		all = append(all, func() error { return p.push(ctx, i*share, (i+1)*share) })
	}
	b.written += total
	return b.transfer("BLIP push", w, total, all)
}

// pusher is one client that pushes.
type pusher struct {
	r      *replicator
	prefix string // of document IDs
	names  *revNames
	fail   context.CancelCauseFunc
	window chan struct{} // holds one for each revision that is not answered
}

// push pushes the documents of the numbers from up to to, and returns when all are durable. The next list is proposed
// while the revisions of one are sent.
func (p *pusher) push(ctx context.Context, from, to int) error {
	end := func(at int) int { return min(at+replicationBatch, to) }
	proposed := p.propose(ctx, from, end(from))
	for at := from; at < to; at += replicationBatch {
		select {
		case <-proposed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if end(at) < to {
			proposed = p.propose(ctx, end(at), end(end(at)))
		}
		for i := at; i < end(at); i++ {
			if err := p.send(ctx, i); err != nil {
				return err
			}
		}
	}
	for range cap(p.window) { // all are answered when it can be filled
		select {
		case p.window <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return context.Cause(ctx)
}

// propose proposes the revisions from up to to; the channel is closed when the server wants all of them.
func (p *pusher) propose(ctx context.Context, from, to int) <-chan struct{} {
	m := request("proposeChanges")
	m.Properties.Add("conflictIncludesRev", "true")
	m.Urgent, m.Compress = true, true
	for i := from; i < to; i++ {
		m.Body = append(m.Body, "[,"[min(i-from, 1)])
		m.Body = fmt.Appendf(m.Body, `[%q,%q]`, p.prefix+strconv.Itoa(i), p.names.of(i))
	}
	m.Body = append(m.Body, ']')
	wanted := make(chan struct{})
	err := p.r.conn.Send(ctx, m, func(r *blip.Reply) {
		defer r.Release()
		switch err := r.Err(); {
		case err != nil:
			p.fail(fmt.Errorf("propose changes: %w", err))
		case string(r.Body()) != "[]":
			p.fail(fmt.Errorf("propose changes: %.200s", r.Body()))
		default:
			close(wanted)
		}
	})
	if err != nil {
		p.fail(err)
	}
	return wanted
}

// send sends a revision when there is room in the window.
func (p *pusher) send(ctx context.Context, i int) error {
	select {
	case p.window <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	m := request("rev")
	m.Properties.Add("id", p.prefix+strconv.Itoa(i))
	m.Properties.Add("rev", p.names.of(i))
	m.Properties.AddInt("sequence", int64(i+1))
	m.Properties.Add("noconflicts", "1")
	m.Body, m.Compress = varied(i), true
	return p.r.conn.Send(ctx, m, func(r *blip.Reply) {
		if err := r.Err(); err != nil {
			p.fail(fmt.Errorf("send revision: %w", err))
		}
		r.Release()
		<-p.window
	})
}

// revNames are the names of new revisions: rev-tree IDs, or versions for version 4.
type revNames struct {
	source string // of versions; "": rev-tree IDs
	began  uint64 // time of the first
	random string // of rev-tree IDs: hex digits
}

func newRevNames(version int) *revNames {
	if version < 4 {
		return &revNames{random: randomHex() + randomHex()}
	}
	var source [16]byte
	_, _ = rand.Read(source[:]) // never fails (crypto/rand)
	return &revNames{source: base64.RawStdEncoding.EncodeToString(source[:]), began: uint64(time.Now().UnixNano())}
}

// of is the name of the i-th document's first revision.
func (n *revNames) of(i int) string {
	if n.source != "" {
		return strconv.FormatUint(n.began+uint64(i), 16) + "@" + n.source
	}
	return fmt.Sprintf("1-%s%08x", n.random, i)
}
