package pgstore

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// lookout reads the last sequences of spaces for those who wait: all who ask while a look is under way share the next one. So a process
// with many databases that are idle costs one or two queries at each poll, not one for each of them.
type lookout struct {
	looking sync.Mutex // held by who looks

	mu   sync.Mutex
	next *look // not begun yet; nil: nobody waits for one
}

// look is one query. Its results may be read once done is closed.
type look struct {
	spaces map[store.Space]struct{}
	done   chan struct{}
	last   map[store.Space]tidegate.Seq
	err    error
}

// lastSequence returns the last sequence of a space by a snapshot that is taken after the call.
func (s *Store) lastSequence(ctx context.Context, space store.Space) (tidegate.Seq, error) {
	o := &s.lookout
	o.mu.Lock()
	l := o.next
	first := l == nil
	if first {
		l = &look{spaces: map[store.Space]struct{}{}, done: make(chan struct{})}
		o.next = l
	}
	l.spaces[space] = struct{}{}
	o.mu.Unlock()
	if first {
		s.look(ctx, l)
	}
	select {
	case <-l.done:
		return l.last[space], l.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// look carries a look out, when the one before it has ended.
func (s *Store) look(ctx context.Context, l *look) {
	o := &s.lookout
	o.looking.Lock()
	defer o.looking.Unlock()
	defer close(l.done)
	o.mu.Lock()
	o.next = nil // who comes now may want a newer snapshot
	spaces := make([]int64, 0, len(l.spaces))
	for space := range l.spaces {
		spaces = append(spaces, int64(space))
	}
	o.mu.Unlock()
	l.err = s.View(context.WithoutCancel(ctx), func(r store.Reader) (err error) {
		l.last, err = r.(*reader).lastSequences(spaces)
		return err
	})
}

// lastSequences reads the last sequences of spaces; those that have none are left out.
func (r *reader) lastSequences(spaces []int64) (map[store.Space]tidegate.Seq, error) {
	rows, err := r.q.Query(r.ctx, r.s.sql.lasts, spaces)
	if err != nil {
		return nil, translate("read sequences", err)
	}
	last := make(map[store.Space]tidegate.Seq, len(spaces))
	return last, collectSequences(rows, last)
}

// collectSequences reads rows of a space and its last sequence.
func collectSequences(rows pgx.Rows, into map[store.Space]tidegate.Seq) error {
	var space, seq int64
	_, err := pgx.ForEachRow(rows, []any{&space, &seq}, func() error {
		into[store.Space(space)] = tidegate.Seq(seq)
		return nil
	})
	return translate("read sequences", err)
}
