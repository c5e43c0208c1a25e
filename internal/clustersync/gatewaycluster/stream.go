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

	looked  time.Time         // when databases and collections were last looked for; zero: never
	reached map[string]uint64 // by database: the sequence up to which all its collections were followed
}

// Close has nothing to give back: no request stays open.
func (s *stream) Close(context.Context) error { return nil }

// Next looks for changes until there are some or wait is over.
func (s *stream) Next(ctx context.Context, wait time.Duration) ([]clustersync.Event, clustersync.Position, error) {
	deadline := time.Now().Add(wait)
	for {
		events, err := s.turn(ctx)
		if err != nil {
			return nil, clustersync.Position{}, fmt.Errorf("follow changes: %w", err)
		}
		left := time.Until(deadline)
		if len(events) > 0 || left <= 0 {
			return s.give(events)
		}
		if err := pause(ctx, min(idlePause, left)); err != nil {
			return nil, clustersync.Position{}, err
		}
	}
}

// give puts the position on the last event: those before it come from several feeds, and there is no telling how far each is.
func (s *stream) give(events []clustersync.Event) ([]clustersync.Event, clustersync.Position, error) {
	p, err := s.at.position(s.good)
	if err != nil {
		return nil, clustersync.Position{}, err
	}
	if len(events) > 0 {
		events[len(events)-1].At = p
	}
	return events, p, nil
}

// turn asks once what is new.
func (s *stream) turn(ctx context.Context) ([]clustersync.Event, error) {
	began := time.Now()
	var events []clustersync.Event
	if s.looked.IsZero() || began.Sub(s.looked) >= s.c.opts.Poll {
		made, err := s.look(ctx)
		if err != nil {
			return nil, err
		}
		events = made
		s.looked = began
	}
	status, err := s.c.status(ctx)
	if err != nil {
		return nil, err
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
		some, all, err := s.database(ctx, db, now.Seq, batchEvents-len(events))
		if isNotFound(err) {
			s.looked, complete = time.Time{}, false
			continue
		}
		if err != nil {
			return nil, err
		}
		events = append(events, some...)
		complete = complete && all
	}
	if complete {
		s.good = began
	}
	return events, nil
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

// database gives what is new in one database, whose sequence is seq; all says that this was everything up to it.
func (s *stream) database(ctx context.Context, db string, seq uint64, room int) (events []clustersync.Event, all bool, err error) {
	at := s.at.Databases[db]
	all = true
	for _, name := range slices.Sorted(maps.Keys(at.Collections)) {
		ns := clustersync.Namespace{Database: db, Collection: name}
		ref := clustersync.Ref{Namespace: ns, UUID: collectionUUID(at.Instance, name)}
		for at.Collections[name] < seq {
			if len(events) >= max(room, 1) {
				return events, false, nil
			}
			entries, err := s.c.feed(ctx, ns, at.Collections[name])
			if err != nil {
				return nil, false, err
			}
			for _, e := range entries {
				events = append(events, e.event(ref))
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
	return events, all, nil
}
