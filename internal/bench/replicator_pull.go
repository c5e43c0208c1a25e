package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tidegate/tidegate/internal/blip"
)

// blipPull writes the documents and has clients pull them, once each: n clients get n times as many together.
func (b *run) blipPull(ctx context.Context) error {
	since, err := b.target.lastSeq(ctx)
	if err != nil {
		return err
	}
	prefix := "pull-" + randomHex() + "-"
	if err := b.fill(ctx, prefix, b.opts.Documents, varied); err != nil {
		return err
	}
	written := (b.opts.Documents + 99) / 100 * 100 // fill writes hundreds
	for _, n := range b.opts.Replicators {
		w := b.newWire()
		var all []func() error
		for range n {
			p := &puller{prefix: prefix, want: written, seen: make([]bool, written), done: make(chan error, 1)}
			r, err := w.dial(ctx, p.handle)
			if err != nil {
				return err
			}
			defer r.close()
			all = append(all, func() error { return p.pull(ctx, r, since) })
		}
		if err := b.transfer("BLIP pull", w, written*n, all); err != nil {
			return err
		}
	}
	return nil
}

// puller is one client that pulls. What it counts belongs to the goroutine that reads the connection.
type puller struct {
	prefix string // of the IDs of the documents that it must get
	want   int    // how many
	seen   []bool // by the number that the ID ends with
	got    int
	over   bool // the server said that there is no more
	done   chan error
}

// pull subscribes and waits until all documents are here.
func (p *puller) pull(ctx context.Context, r *replicator, since string) error {
	if err := r.subscribe(ctx, since, false); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	timeout := time.NewTimer(10 * time.Minute)
	defer timeout.Stop()
	select {
	case err := <-p.done:
		return err
	case err := <-r.ended:
		return fmt.Errorf("%w: %w", errReplicationEnded, err)
	case <-timeout.C:
		return errors.New("the documents did not come")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handle does what the server asks for.
func (p *puller) handle(r *blip.Request) {
	defer r.Release()
	var err error
	switch r.Profile() {
	case "changes":
		p.changes(r)
	case "rev":
		if err = p.rev(r); !r.NoReply() {
			r.Respond(&blip.Message{})
		}
	case "norev":
		err = errors.New("the server has a revision no more that it offered")
	default:
		r.NoHandler()
	}
	if err == nil && (!p.over || p.got < p.want) {
		return
	}
	select {
	case p.done <- err:
	default: // it is known already
	}
}

// changes asks for everything. The rows are counted by their brackets, which nothing else in them has.
func (p *puller) changes(r *blip.Request) {
	rows := bytes.Count(r.Body(), []byte("[")) - 1
	if rows > 0 {
		wantAll(r, rows)
		return
	}
	p.over = true
	r.Respond(&blip.Message{})
}

// rev takes a revision in and checks that it is one of those that were written, and the first of its document.
func (p *puller) rev(r *blip.Request) error {
	id, _ := r.Property("id")
	if len(id) <= len(p.prefix) || id[:len(p.prefix)] != p.prefix {
		return fmt.Errorf("a document came that was not asked for: %q", id)
	}
	n, err := strconv.Atoi(id[len(p.prefix):])
	if err != nil || n < 0 || n >= len(p.seen) || p.seen[n] {
		return fmt.Errorf("a document came twice, or is none of ours: %q", id)
	}
	p.seen[n] = true
	p.got++
	if len(r.Body()) == 0 {
		return fmt.Errorf("the document is empty: %q", id)
	}
	return nil
}
