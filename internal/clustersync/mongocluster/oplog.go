package mongocluster

import (
	"context"
	"errors"
	"hash/maphash"
	"maps"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Limits of following an oplog (spec §23.2, §23.4).
const (
	maxEntries    = 1000                   // new entries read at once
	maxRemembered = 200_000                // entries of the overlap that are known to be given
	oplogPause    = 250 * time.Millisecond // between two looks at an oplog in which nothing happens
	listPause     = 2 * time.Second        // between two looks at collections and indexes
	overlap       = 5                      // seconds that are read again, where entries are not written in the order of their times
)

// oplogMark is the newest entry, with the catalog as it is told from there on. On a server that logs nothing but documents the catalog
// is where a stream's knowledge of collections and indexes begins.
func (c *Cluster) oplogMark(ctx context.Context) (clustersync.Position, error) {
	listed, err := c.snapshot(ctx)
	if err != nil {
		return clustersync.Position{}, err
	}
	last, err := c.oplogEnd(ctx, -1)
	if err != nil {
		return clustersync.Position{}, err
	}
	at := entryTime(last)
	if at.IsZero() {
		return clustersync.Position{}, unsupportedErr("mark the time", "the oplog is empty and this user may not write to it")
	}
	return clustersync.Position{Token: listed.token(), Time: at}, nil
}

// tail opens the oplog behind a position.
func (c *Cluster) tail(ctx context.Context, from clustersync.Position) (clustersync.Stream, error) {
	if from.Zero() {
		var err error
		if from, err = c.oplogMark(ctx); err != nil {
			return nil, err
		}
	}
	told, err := readCatalog(from.Token)
	if err != nil {
		return nil, err
	}
	s := &oplogStream{c: c, at: from.Time, told: told, given: map[uint64]bson.Timestamp{}, seed: maphash.MakeSeed(), pending: map[string]*transaction{}}
	if first, err := c.oplogEnd(ctx, 1); err != nil {
		return nil, err
	} else if first != nil && entryTime(first).After(from.Time) {
		return nil, historyLostErr()
	}
	return s, nil
}

func historyLostErr() error {
	return &failure{verb: "read oplog", kind: clustersync.ErrHistoryLost, err: clustersync.ErrHistoryLost, text: clustersync.ErrHistoryLost.Error()}
}

// oplogStream follows local.oplog.rs (spec §23.2). It asks again and again instead of holding a tailable cursor: a server that makes
// this mode necessary reads the whole oplog for either, and closes or starves its cursors (§23.5). Entries say which documents to
// fetch, nothing more; collections and indexes are found changed by listing them (§23.4).
type oplogStream struct {
	c    *Cluster
	at   bson.Timestamp // entries up to here are read
	told catalog        // what the reader of the stream knows of collections

	given   map[uint64]bson.Timestamp // entries inside the overlap, by hash
	seed    maphash.Seed
	listed  time.Time
	pending map[string]*transaction
}

// Next implements [clustersync.Stream].
func (s *oplogStream) Next(ctx context.Context, wait time.Duration) ([]clustersync.Event, clustersync.Position, error) {
	deadline := time.Now().Add(wait)
	for {
		before := s.at
		var events []clustersync.Event
		err := s.c.retry(ctx, func() error {
			var err error
			events, err = s.step(ctx)
			return err
		})
		if err != nil {
			return nil, s.position(), err
		}
		if len(events) > 0 || s.at != before || !time.Now().Before(deadline) {
			return events, s.position(), nil
		}
		if err := waitFor(ctx, min(oplogPause, time.Until(deadline))); err != nil {
			return nil, s.position(), err
		}
	}
}

// step reads what is new and lists the catalog if that is due. Nothing of the stream changes if it fails.
func (s *oplogStream) step(ctx context.Context) ([]clustersync.Event, error) {
	entries, fresh, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	now := s.told
	var ddl []clustersync.Event
	if len(entries) > 0 || time.Since(s.listed) >= listPause {
		// Entries are read before the listing, so that every collection that they speak of is listed, or is gone.
		if now, err = s.c.snapshot(ctx); err != nil {
			return nil, err
		}
		s.listed = time.Now()
		ddl = s.told.changes(now)
	}
	events := append(ddl, s.touched(entries, now)...)
	s.told = now
	maps.Copy(s.given, fresh)
	for _, entry := range entries {
		if t := entryTime(entry); t.After(s.at) {
			s.at = t
		}
	}
	s.forget()
	for i := range events {
		if events[i].Time.IsZero() {
			events[i].Time = s.at
		}
	}
	if len(events) > 0 {
		events[len(events)-1].At = s.position()
	}
	return events, nil
}

// position is where to resume: never inside a transaction whose end has not come.
func (s *oplogStream) position() clustersync.Position {
	at := s.at
	for _, t := range s.pending {
		if t.before.Before(at) {
			at = t.before
		}
	}
	return clustersync.Position{Token: s.told.token(), Time: at}
}

// read returns entries that were not given before, and their hashes.
func (s *oplogStream) read(ctx context.Context) ([]bson.Raw, map[uint64]bson.Timestamp, error) {
	from := s.from()
	cursor, err := s.c.client.Database("local").RunCommandCursor(ctx, bson.D{{Key: "find", Value: "oplog.rs"},
		{Key: "filter", Value: bson.D{{Key: "ts", Value: bson.D{{Key: "$gte", Value: from}}}}}, {Key: "batchSize", Value: maxEntries}, {Key: "readConcern", Value: readMajority}})
	if err != nil {
		return nil, nil, s.c.failed("read oplog", err)
	}
	defer closeCursor(ctx, cursor)
	var entries []bson.Raw
	fresh := map[uint64]bson.Timestamp{}
	reaches := s.at.IsZero()
	for len(entries) < maxEntries && cursor.Next(ctx) {
		at, hash := entryTime(cursor.Current), maphash.Bytes(s.seed, cursor.Current)
		reaches = reaches || !at.After(s.at)
		if _, known := s.given[hash]; known || s.ordered() && !at.After(s.at) {
			continue
		}
		fresh[hash] = at
		entries = append(entries, clone(cursor.Current))
	}
	if err := cursor.Err(); err != nil {
		if hasCode(err, 136, 286) {
			return nil, nil, historyLostErr()
		}
		return nil, nil, s.c.failed("read oplog", err)
	}
	if !reaches {
		return nil, nil, historyLostErr() // the entry at which the stream stood is not there any more
	}
	return entries, fresh, nil
}

// from is where to read from: with an overlap, where the order of entries is not that of their times.
func (s *oplogStream) from() bson.Timestamp {
	if s.ordered() || s.at.T <= overlap {
		return s.at
	}
	return bson.Timestamp{T: s.at.T - overlap}
}

// ordered reports whether entries become visible in the order of their times, as MongoDB's do.
func (s *oplogStream) ordered() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.c.caps != nil && s.c.caps.oplogNote
}

// forget drops what is before the overlap.
func (s *oplogStream) forget() {
	from := s.from()
	for hash, at := range s.given {
		if at.Before(from) || len(s.given) > maxRemembered {
			delete(s.given, hash) // what is forgotten too early is read twice, which changes nothing
		}
	}
}

// Close implements [clustersync.Stream].
func (s *oplogStream) Close(context.Context) error { return nil }

var errNoCatalog = errors.New("read position: it is none of an oplog")
