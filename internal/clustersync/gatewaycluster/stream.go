package gatewaycluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Limits of a stream.
const (
	feedEntries = 1000 // of one collection asked for at a time
	batchEvents = 5000 // given by one Next, about
	idlePause   = 100 * time.Millisecond
)

// Changes follows the feeds of all collections. ErrHistoryLost: deletions since then may be forgotten by now.
func (c *Cluster) Changes(ctx context.Context, from clustersync.Position) (clustersync.Stream, error) {
	at, err := placeOf(from)
	if err != nil {
		return nil, fmt.Errorf("open the stream of changes: %w", err)
	}
	kept, err := c.tombstonesKept(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the stream of changes: %w", err)
	}
	if age := time.Since(time.Unix(0, at.Listed)); age > kept {
		return nil, fmt.Errorf("open the stream of changes: the position is %v old and databases keep deletions for %v: %w", age.Round(time.Minute), kept, clustersync.ErrHistoryLost)
	}
	return &stream{c: c, at: at.clone(), good: time.Unix(int64(from.Time.T), 0)}, nil
}

// stream follows all feeds, one after another.
type stream struct {
	c    *Cluster
	at   place
	good time.Time // up to when everything was given
	// pending are events that at counts as given, and are not yet: an error must not lose them.
	pending []clustersync.Event

	looked  time.Time         // when databases and collections were last looked for; zero: never
	reached map[string]uint64 // by database: the sequence up to which all its collections were followed
}

// Close has nothing to give back: no request stays open.
func (s *stream) Close(context.Context) error { return nil }

// Next looks for changes until there are some or wait is over. After an error that passes it goes on where it was.
func (s *stream) Next(ctx context.Context, wait time.Duration) ([]clustersync.Event, clustersync.Position, error) {
	deadline := time.Now().Add(wait)
	for {
		err := s.turn(ctx)
		left := time.Until(deadline)
		switch {
		case len(s.pending) > 0, err == nil && left <= 0:
			return s.give()
		case err != nil:
			return nil, clustersync.Position{}, fmt.Errorf("follow changes: %w", err)
		}
		if err := pause(ctx, min(idlePause, left)); err != nil {
			return nil, clustersync.Position{}, err
		}
	}
}

// give puts the position on the last event: those before it come from several feeds, and there is no telling how far each is.
func (s *stream) give() ([]clustersync.Event, clustersync.Position, error) {
	p, err := s.at.position(s.good)
	if err != nil {
		return nil, clustersync.Position{}, err
	}
	events := s.pending
	s.pending = nil
	if len(events) > 0 {
		events[len(events)-1].At = p
	}
	return events, p, nil
}

// turn asks once what is new.
func (s *stream) turn(ctx context.Context) error {
	began := time.Now()
	if s.looked.IsZero() || began.Sub(s.looked) >= s.c.opts.Poll {
		if err := s.look(ctx); err != nil {
			return err
		}
		s.looked = began
	}
	status, err := s.c.status(ctx)
	if err != nil {
		return err
	}
	complete := true
	for _, db := range slices.Sorted(maps.Keys(s.at.Databases)) {
		now, ok := status[db]
		if !ok || !s.sameInstance(db, now) {
			s.looked = time.Time{} // it is gone, or another one: look at once in the next turn
			complete = false
			continue
		}
		if now.Seq <= s.reached[db] {
			continue
		}
		all, err := s.database(ctx, db, now.Seq)
		if isNotFound(err) {
			s.looked, complete = time.Time{}, false
			continue
		}
		if err != nil {
			return err
		}
		complete = complete && all
	}
	if complete {
		s.good = began
	}
	return nil
}

// dbStatus is a database in /_status.
type dbStatus struct {
	Seq        uint64 `json:"seq"`
	ServerUUID string `json:"server_uuid"`
	State      string `json:"state"`
}

// status asks how far all databases are, with one request.
func (c *Cluster) status(ctx context.Context) (map[string]dbStatus, error) {
	var answer struct {
		Databases map[string]dbStatus `json:"databases"`
	}
	if err := c.client.get(ctx, "/_status", nil, &answer); err != nil {
		return nil, fmt.Errorf("ask for the status: %w", err)
	}
	return answer.Databases, nil
}

// sameInstance reports whether the database is, as far as its status tells, the one that is followed. Of one that was emptied only a look
// tells.
func (s *stream) sameInstance(db string, now dbStatus) bool {
	return instance{ServerUUID: now.ServerUUID}.belongs(s.at.Databases[db].Instance)
}

// belongs reports whether id may be of this database.
func (i instance) belongs(id string) bool {
	return i.ServerUUID == "" || len(id) >= len(i.ServerUUID) && id[:len(i.ServerUUID)] == i.ServerUUID
}

// database takes in what is new in one database, whose sequence is seq; all says that this was everything up to it.
func (s *stream) database(ctx context.Context, db string, seq uint64) (all bool, err error) {
	at := s.at.Databases[db]
	for _, name := range slices.Sorted(maps.Keys(at.Collections)) {
		ref := refOf(db, name, at)
		for at.Collections[name] < seq {
			if len(s.pending) >= batchEvents {
				return false, nil
			}
			entries, err := s.c.feed(ctx, ref.Namespace, at.Collections[name])
			if err != nil {
				return false, err
			}
			for _, e := range entries {
				s.pending = append(s.pending, e.event(ref))
				at.Collections[name] = max(at.Collections[name], e.seq)
			}
			if len(entries) < feedEntries {
				at.Collections[name] = max(at.Collections[name], seq)
			}
		}
	}
	if s.reached == nil {
		s.reached = map[string]uint64{}
	}
	s.reached[db] = seq
	return true, nil
}
