package mongocluster

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Limits of a stream.
const (
	streamBatch = 2000                   // events in one answer
	streamAwait = 200 * time.Millisecond // how long the server holds an answer back when there is nothing to tell
)

// Codes with which a stream ends that can be opened anew where it was (spec §8.8).
var reopening = []int{codeCursorNotFound, 206, 237, codeQueryPlanKilled, 133, 150, 234, 63}

// Changes implements [clustersync.Source].
func (c *Cluster) Changes(ctx context.Context, from clustersync.Position) (clustersync.Stream, error) {
	caps, err := c.capabilities(ctx)
	if err != nil {
		return nil, err
	}
	switch caps.changes {
	case ChangesStream:
		s := &changeStream{c: c, caps: caps, at: from}
		if err := c.retry(ctx, func() error { return s.open(ctx) }); err != nil {
			return nil, err
		}
		return s, nil
	case ChangesOplog:
		return c.tail(ctx, from)
	}
	return nil, unsupportedErr("read changes", caps.unused)
}

// changeStream is a change stream of a whole cluster (spec §8.1).
type changeStream struct {
	c    *Cluster
	caps *capabilities
	cs   *mongo.ChangeStream // nil: to be opened
	at   clustersync.Position

	fresh bool // nothing was read with cs yet

	fragments []bson.Raw        // of a split event, until its last has come
	uuids     map[string]string // by namespace, where events do not tell
}

// open opens the stream behind s.at.
func (s *changeStream) open(ctx context.Context) error {
	s.fragments = nil
	cs, err := s.watch(ctx, s.at)
	if refusesToken(err) && s.at.Token != nil && !s.at.Time.IsZero() {
		cs, err = s.watch(ctx, clustersync.Position{Time: s.at.Time}) // the token is refused, its time may still be there (spec §8.7)
	}
	if err != nil {
		return s.c.failed("open change stream", err)
	}
	s.cs, s.fresh = cs, true
	return nil
}

// refusesToken tells an answer to a token that the server cannot read, or that is of another pipeline.
func refusesToken(err error) bool { return hasCode(err, 260, 9, 50811, 40647, 40648, 40649, 280) }

func (s *changeStream) watch(ctx context.Context, at clustersync.Position) (*mongo.ChangeStream, error) {
	opts := options.ChangeStream().SetBatchSize(streamBatch).SetMaxAwaitTime(streamAwait)
	if s.caps.expanded {
		opts.SetShowExpandedEvents(true)
	}
	switch {
	case at.Token != nil:
		opts.SetStartAfter(at.Token)
	case !at.Time.IsZero():
		opts.SetStartAtOperationTime(&at.Time)
	}
	pipeline := bson.A{bson.D{{Key: "$match", Value: s.c.notInternal()}}}
	if s.caps.split {
		pipeline = append(pipeline, bson.D{{Key: "$changeStreamSplitLargeEvent", Value: bson.D{}}}) // must be the last
	}
	return s.c.client.Watch(ctx, pipeline, opts)
}

// Next implements [clustersync.Stream].
func (s *changeStream) Next(ctx context.Context, wait time.Duration) ([]clustersync.Event, clustersync.Position, error) {
	deadline, began := time.Now().Add(wait), s.at.Time
	var trouble time.Time // since when the stream cannot be read
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		events, err := s.batch(ctx)
		switch {
		case err == nil && (len(events) > 0 || s.at.Time.After(began) || !time.Now().Before(deadline)):
			return events, s.at, nil
		case err == nil && s.cs != nil:
			trouble, pause = time.Time{}, firstPause/2
			continue
		case err == nil: // the server closes each cursor at once; no hurry
			err = errClosed
		}
		s.close(ctx) // whatever of the batch was read is read again
		if !s.reopens(err) || ctx.Err() != nil {
			return nil, s.at, err
		}
		if trouble.IsZero() {
			trouble = time.Now()
		}
		if time.Since(trouble) > s.c.opts.Retry || waitFor(ctx, pause) != nil {
			return nil, s.at, unreachable(err)
		}
	}
}

// unreachable makes sure that an error that passes says so.
func unreachable(err error) error {
	if errors.Is(err, clustersync.ErrUnreachable) {
		return err
	}
	return &failure{verb: "read changes", kind: clustersync.ErrUnreachable, err: err, text: err.Error()}
}

// errClosed: the server has closed the cursor without a word.
var errClosed = errors.New("the server has closed the cursor")

func (s *changeStream) reopens(err error) bool {
	return err == errClosed || errors.Is(err, clustersync.ErrUnreachable) || hasCode(err, reopening...)
}

// batch returns the events of one answer of the server and moves s.at behind them.
func (s *changeStream) batch(ctx context.Context) ([]clustersync.Event, error) {
	if s.cs == nil {
		if err := s.open(ctx); err != nil {
			return nil, err
		}
	}
	var events []clustersync.Event
	more := s.cs.TryNext(ctx)
	if !more && s.fresh && s.cs.Err() == nil {
		more = s.cs.TryNext(ctx) // the first was the answer to opening it, which says nothing of what there is
	}
	s.fresh = false
	for more {
		found, err := s.event(ctx, clone(s.cs.Current))
		if err != nil {
			return nil, err
		}
		events = append(events, found...)
		if s.cs.RemainingBatchLength() == 0 {
			break
		}
		more = s.cs.Next(ctx)
	}
	if err := s.cs.Err(); err != nil {
		return nil, s.c.failed("read change stream", err)
	}
	if !more && s.cs.ID() == 0 {
		s.close(ctx) // the server has closed the cursor; what comes is read with the next
	}
	if len(s.fragments) == 0 {
		s.advance(events)
	}
	return events, nil
}

// advance moves to what the server calls the end of the batch, also of an empty one: a quiet stream must not fall off the oplog (spec §8.1).
func (s *changeStream) advance(events []clustersync.Event) {
	if len(events) > 0 {
		s.at = events[len(events)-1].At
	}
	if s.cs == nil {
		return
	}
	token := s.cs.ResumeToken()
	if token == nil {
		return
	}
	at := clustersync.Position{Token: clone(token), Time: s.at.Time}
	if t, ok := tokenTime(token); ok && t.After(at.Time) {
		at.Time = t
	}
	s.at = at
}

// event turns what the server sent into events: none, if it is a fragment or nothing that is synced.
func (s *changeStream) event(ctx context.Context, raw bson.Raw) ([]clustersync.Event, error) {
	if fragment, of := lookupInt(raw, "splitEvent", "fragment"), lookupInt(raw, "splitEvent", "of"); of > 1 {
		s.fragments = append(s.fragments, raw)
		if fragment < of {
			return nil, nil
		}
		raw, s.fragments = join(s.fragments), nil
	}
	e, ok, err := s.decode(ctx, raw)
	if err != nil || !ok {
		return nil, err
	}
	return []clustersync.Event{e}, nil
}

// join puts the fragments of a split event together; only the last one's token may be resumed from (spec §8.2).
func join(fragments []bson.Raw) bson.Raw {
	whole := newDoc()
	seen := map[string]bool{}
	for i, fragment := range fragments {
		elements, _ := fragment.Elements()
		for _, e := range elements {
			last := i == len(fragments)-1
			if e.Key() == "splitEvent" || e.Key() == "_id" && !last || seen[e.Key()] {
				continue
			}
			seen[e.Key()] = true
			whole.append(e.Key(), e.Value())
		}
	}
	return whole.end()
}

// Close implements [clustersync.Stream].
func (s *changeStream) Close(ctx context.Context) error {
	s.close(ctx)
	return nil
}

func (s *changeStream) close(ctx context.Context) {
	if s.cs != nil {
		_ = s.cs.Close(ctx) // the server forgets cursors by itself, too
		s.cs = nil
	}
}
