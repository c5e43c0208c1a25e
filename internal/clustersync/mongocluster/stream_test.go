package mongocluster_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/fakemongo"
)

// follow reads a stream until it has come to a mark.
func follow(t *testing.T, c *mongocluster.Cluster, stream clustersync.Stream, to clustersync.Position) []clustersync.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all []clustersync.Event
	for at := (clustersync.Position{}); !c.Reached(at, to); {
		events, now, err := stream.Next(ctx, time.Second)
		check(t, err)
		all, at = append(all, events...), now
	}
	return all
}

func mark(t *testing.T, c *mongocluster.Cluster) clustersync.Position {
	t.Helper()
	p, err := c.Mark(t.Context())
	check(t, err)
	return p
}

func changes(t *testing.T, c *mongocluster.Cluster, from clustersync.Position) clustersync.Stream {
	t.Helper()
	stream, err := c.Changes(t.Context(), from)
	check(t, err)
	t.Cleanup(func() { _ = stream.Close(context.Background()) })
	return stream
}

// TestStreamReopens: a stream whose cursor is killed, whose primary steps down or whose connection breaks goes on where it was.
func TestStreamReopens(t *testing.T) {
	t.Parallel()
	for name, action := range map[string]fakemongo.Action{"cursor": fakemongo.KillCursors, "primary": fakemongo.NotPrimary(), "request": fakemongo.DropBefore, "answer": fakemongo.DropAfter} {
		s, c, _ := filled(t, 3, fakemongo.Options{})
		stream := changes(t, c, mark(t, c))
		seen := map[string]int{}
		for i := range 5 {
			_, err := c.Insert(t.Context(), shop, numbered(100+i, 101+i), clustersync.WriteOptions{})
			check(t, err)
			to := mark(t, c)
			s.Once("getMore", action)
			for _, e := range follow(t, c, stream, to) {
				seen[e.Doc.Key.ID]++
			}
			s.Break(nil)
		}
		if len(seen) != 5 {
			t.Errorf("lost %s: %d of 5 documents are told", name, len(seen))
		}
	}
}

// TestStreamHistoryLost: what a stream still needs is dropped while it is open, and while it is closed.
func TestStreamHistoryLost(t *testing.T) {
	for _, source := range []string{mongocluster.ChangesStream, mongocluster.ChangesOplog} {
		s := fakemongo.Start(t, fakemongo.Options{})
		c := open(t, s.URI, mongocluster.Options{Changes: source})
		from := mark(t, c)
		stream := changes(t, c, from)
		_, _, err := stream.Next(t.Context(), 0)
		check(t, err)
		mark(t, c)
		s.Forget()
		for deadline := time.Now().Add(20 * time.Second); err == nil && time.Now().Before(deadline); {
			_, _, err = stream.Next(t.Context(), 10*time.Millisecond)
		}
		if !errors.Is(err, clustersync.ErrHistoryLost) {
			t.Errorf("%s: an open stream: %v, want ErrHistoryLost", source, err)
		}
		if _, err := c.Changes(t.Context(), from); !errors.Is(err, clustersync.ErrHistoryLost) {
			t.Errorf("%s: a stream opened too late: %v, want ErrHistoryLost", source, err)
		}
	}
}

// TestTokenRefused: a token that the server does not take is given up for its time (spec §8.7).
func TestTokenRefused(t *testing.T) {
	_, c, _ := filled(t, 1, fakemongo.Options{})
	from := mark(t, c)
	_, err := c.Insert(t.Context(), shop, numbered(5, 6), clustersync.WriteOptions{})
	check(t, err)
	token, _ := bson.Marshal(bson.D{{Key: "_data", Value: "00nonsense"}})
	stream := changes(t, c, clustersync.Position{Token: token, Time: from.Time})
	if events := follow(t, c, stream, mark(t, c)); len(events) != 1 {
		t.Errorf("%d events after the time of a refused token, want 1", len(events))
	}
}

// TestSplitEvents: fragments are one event again, and no position is inside it.
func TestSplitEvents(t *testing.T) {
	s, c, _ := filled(t, 1, fakemongo.Options{SplitBytes: 200})
	from := mark(t, c)
	big := document(bson.D{{Key: "_id", Value: "big"}, {Key: "text", Value: string(make([]byte, 500))}})
	_, err := c.Insert(t.Context(), shop, []clustersync.Document{big}, clustersync.WriteOptions{})
	check(t, err)
	events := follow(t, c, changes(t, c, from), mark(t, c))
	if len(events) != 1 || string(events[0].Doc.Body) != string(big.Body) {
		t.Fatalf("%d events, and not the document that was written", len(events))
	}
	if events := follow(t, c, changes(t, c, events[0].At), mark(t, c)); len(events) != 0 {
		t.Errorf("%d events after the last fragment's position", len(events))
	}
	if s.Calls("aggregate") == 0 {
		t.Error("no stream was opened")
	}
}

// TestPlainEvents: a server that tells little says UUIDs no more than DDL, which ends the sync (spec §8.2).
func TestPlainEvents(t *testing.T) {
	_, c, coll := filled(t, 1, fakemongo.Options{Wire: 13, Version: [4]int{5, 0, 31}, Lacks: map[string]bool{"showExpandedEvents": true, "$changeStreamSplitLargeEvent": true}})
	from := mark(t, c)
	_, err := c.Insert(t.Context(), shop, numbered(5, 6), clustersync.WriteOptions{})
	check(t, err)
	check(t, c.Drop(t.Context(), shop))
	events := follow(t, c, changes(t, c, from), mark(t, c))
	if len(events) != 2 || events[1].Op != clustersync.OpUnsupported {
		t.Fatalf("events %+v, want an insert and what cannot be synced", events)
	}
	if got := events[0].Ref.UUID; got != "" && got != coll.UUID {
		t.Errorf("the insert is of %s, want %s", got, coll.UUID)
	}
}

// TestOplogTransactions: a transaction's documents are told when it commits, and a position is never inside of one (spec §22, §23.3).
func TestOplogTransactions(t *testing.T) {
	s := fakemongo.Start(t, fakemongo.Options{})
	c := open(t, s.URI, mongocluster.Options{Changes: mongocluster.ChangesOplog})
	check(t, c.Create(t.Context(), clustersync.Collection{Ref: clustersync.Ref{Namespace: shop}, Type: clustersync.Plain}))
	_, err := c.Insert(t.Context(), shop, numbered(0, 5), clustersync.WriteOptions{})
	check(t, err)
	stream := changes(t, c, mark(t, c))
	begun := mark(t, c)
	follow(t, c, stream, begun)
	entry := func(n int64, o bson.D) {
		s.Log(bson.D{{Key: "op", Value: "c"}, {Key: "ns", Value: "admin.$cmd"}, {Key: "lsid", Value: bson.D{{Key: "id", Value: n}}}, {Key: "txnNumber", Value: n}, {Key: "o", Value: o}})
	}
	ops := func(ids ...int32) bson.A {
		var out bson.A
		for _, id := range ids {
			out = append(out, bson.D{{Key: "op", Value: "u"}, {Key: "ns", Value: shop.String()}, {Key: "o", Value: bson.D{}}, {Key: "o2", Value: bson.D{{Key: "_id", Value: id}}}})
		}
		return out
	}
	entry(1, bson.D{{Key: "applyOps", Value: ops(0, 1)}, {Key: "partialTxn", Value: true}})
	entry(2, bson.D{{Key: "applyOps", Value: ops(4)}, {Key: "prepare", Value: true}})
	events, at, err := stream.Next(t.Context(), time.Second)
	if err != nil || len(events) != 0 || at.Time.After(begun.Time) {
		t.Fatalf("%d events and position %v before the commit, %v; want none, and %v", len(events), at.Time, err, begun.Time)
	}
	entry(2, bson.D{{Key: "abortTransaction", Value: 1}})
	entry(1, bson.D{{Key: "applyOps", Value: ops(2)}})
	events = follow(t, c, stream, mark(t, c))
	var ids []string
	for _, e := range events {
		ids = append(ids, e.Doc.Key.Raw.Lookup("_id").String())
	}
	if len(ids) != 3 {
		t.Errorf("documents %v are told, want 0, 1 and 2", ids)
	}
	again := follow(t, c, changes(t, c, at), mark(t, c))
	if len(again) != 3 {
		t.Errorf("resumed before the transaction: %d documents are told, want 3", len(again))
	}
}

// TestOplogCatalog: what listings show is told as if it had been logged (spec §23.4).
func TestOplogCatalog(t *testing.T) {
	s := fakemongo.Start(t, fakemongo.Options{})
	c := open(t, s.URI, mongocluster.Options{Changes: mongocluster.ChangesOplog})
	ns := func(name string) clustersync.Namespace {
		return clustersync.Namespace{Database: "shop", Collection: name}
	}
	create := func(names ...string) {
		for _, name := range names {
			check(t, c.Create(t.Context(), clustersync.Collection{Ref: clustersync.Ref{Namespace: ns(name)}, Type: clustersync.Plain}))
		}
	}
	index := func(name, key string) {
		spec, _ := bson.Marshal(bson.D{{Key: "key", Value: bson.D{{Key: key, Value: int32(1)}}}, {Key: "name", Value: name}})
		_, err := c.CreateIndexes(t.Context(), ns("kept"), []bson.Raw{spec})
		check(t, err)
	}
	create("kept", "a", "b", "gone", "reborn")
	index("dropped", "x")
	index("changed", "y")
	stream := changes(t, c, mark(t, c))
	check(t, c.Drop(t.Context(), ns("gone")))
	check(t, c.Drop(t.Context(), ns("reborn")))
	create("reborn", "new")
	check(t, c.Rename(t.Context(), ns("a"), ns("aside"))) // a and b change names
	check(t, c.Rename(t.Context(), ns("b"), ns("a")))
	check(t, c.Rename(t.Context(), ns("aside"), ns("b")))
	for _, name := range []string{"dropped", "changed"} {
		check(t, c.DropIndex(t.Context(), ns("kept"), name))
	}
	index("changed", "z")
	level, _ := bson.Marshal(bson.D{{Key: "validationLevel", Value: "moderate"}})
	check(t, c.Modify(t.Context(), ns("kept"), level))
	names := map[string]string{"gone": "gone", "reborn": "old", "a": "a", "b": "b", "kept": "kept"}
	var seen []clustersync.Op
	for _, e := range follow(t, c, stream, mark(t, c)) {
		seen = append(seen, e.Op)
		switch e.Op {
		case clustersync.OpDrop:
			delete(names, e.Ref.Collection)
		case clustersync.OpCreate:
			names[e.Ref.Collection] = "new"
		case clustersync.OpRename:
			if _, taken := names[e.To.Collection]; taken {
				t.Errorf("%s is renamed to %s, which is taken", e.Ref, e.To)
			}
			names[e.To.Collection] = names[e.Ref.Collection]
			delete(names, e.Ref.Collection)
		case clustersync.OpDropIndexes:
			if len(e.Indexes) != 2 {
				t.Errorf("%d indexes are dropped, want 2", len(e.Indexes))
			}
		case clustersync.OpCreateIndexes:
			if len(e.Indexes) != 1 {
				t.Errorf("%d indexes are made, want 1", len(e.Indexes))
			}
		}
	}
	want := map[string]string{"kept": "kept", "a": "b", "b": "a", "reborn": "new", "new": "new"}
	for name, was := range want {
		if names[name] != was {
			t.Errorf("after the events %s is %q, want %q (%v)", name, names[name], was, seen)
		}
	}
	if len(names) != len(want) || len(seen) == 0 {
		t.Errorf("names %v, want %v", names, want)
	}
	if more := follow(t, c, stream, mark(t, c)); len(more) != 0 {
		t.Errorf("told again: %+v", more)
	}
}

// TestStreamFailsHalfWay: a call of Next that fails, for the server or for its context, loses nothing of what it had read.
func TestStreamFailsHalfWay(t *testing.T) {
	t.Parallel()
	for _, source := range []string{mongocluster.ChangesStream, mongocluster.ChangesOplog} {
		s := fakemongo.Start(t, fakemongo.Options{})
		c := open(t, s.URI, mongocluster.Options{Changes: source, Retry: time.Second})
		check(t, c.Create(t.Context(), clustersync.Collection{Ref: clustersync.Ref{Namespace: shop}, Type: clustersync.Plain}))
		stream := changes(t, c, mark(t, c))
		_, err := c.Insert(t.Context(), shop, numbered(0, 5), clustersync.WriteOptions{})
		check(t, err)
		index, _ := bson.Marshal(bson.D{{Key: "key", Value: bson.D{{Key: "n", Value: int32(1)}}}, {Key: "name", Value: "n_1"}})
		_, err = c.CreateIndexes(t.Context(), shop, []bson.Raw{index}) // its spec is looked up, after the documents were read
		check(t, err)
		to := mark(t, c)
		s.Break(func(name string, _ int) fakemongo.Action {
			if name == "listCollections" || name == "listIndexes" {
				return fakemongo.Answer(91)
			}
			return fakemongo.Pass
		})
		events, _, err := stream.Next(t.Context(), time.Second)
		if !errors.Is(err, clustersync.ErrUnreachable) {
			t.Errorf("%s: %d events, %v; want ErrUnreachable", source, len(events), err)
		}
		s.Break(func(string, int) fakemongo.Action { return fakemongo.Slow(time.Minute) })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, _, err := stream.Next(ctx, time.Second); err == nil {
			t.Errorf("%s: a canceled call succeeds", source)
		}
		cancel()
		s.Break(nil)
		documents, indexes := map[string]bool{}, 0
		for deadline, at := time.Now().Add(20*time.Second), (clustersync.Position{}); !c.Reached(at, to) && time.Now().Before(deadline); {
			var events []clustersync.Event
			events, at, _ = stream.Next(t.Context(), time.Second) // the driver may need a moment to see the server again
			for _, e := range events {
				if e.Op == clustersync.OpCreateIndexes {
					indexes += len(e.Indexes)
				} else {
					documents[e.Doc.Key.ID] = true
				}
			}
		}
		if len(documents) != 5 || indexes == 0 {
			t.Errorf("%s: %d documents and %d indexes are told, want 5 and 1", source, len(documents), indexes)
		}
	}
}
