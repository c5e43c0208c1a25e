package mongocluster

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// naturalPlace is where a read in natural order goes on: behind a record of one node. Records have other numbers on other nodes, and after the
// node was synced anew, so the document that had the record is named, too.
type naturalPlace struct {
	Node   string        `bson:"node"` // host:port
	Record bson.RawValue `bson:"record"`
	ID     bson.RawValue `bson:"id"`
}

// errNoPlaces: the server does not tell where a natural read could be gone on with.
var errNoPlaces = errors.New("the server tells no places of a natural read")

// naturalReader reads a collection in natural order with commands of its own: the driver's cursors do not show the place (postBatchResumeToken) that a
// batch ends at (spec §7.5).
type naturalReader struct {
	*reader
	node string // that is read
	term string // of its being primary
}

// readNatural reads in natural order. Where the server tells no places, nothing is read, and the error is errNoPlaces.
func (r *reader) readNatural(ctx context.Context, sessions bool) error {
	if sessions { // a cursor belongs to one
		session, err := r.c.client.StartSession(options.Session().SetCausalConsistency(false))
		if err != nil {
			return r.c.failed("read "+r.at.String(), err)
		}
		defer session.EndSession(context.WithoutCancel(ctx))
		ctx = mongo.NewSessionContext(ctx, session)
	}
	n := &naturalReader{reader: r}
	var err error
	if n.node, n.term, err = r.c.primary(ctx); err != nil {
		return err
	}
	if n.node == "" || n.term == "" {
		return errNoPlaces
	}
	from, err := n.resume(ctx)
	if err != nil {
		return err
	}
	err = n.cursor(ctx, from)
	if hasCode(err, cursorDied...) || errors.Is(err, errAgain) {
		return unreachable(err) // it is looked for again, and read on
	}
	return err
}

// primary returns which node answers, and the election that made it what it is; "" if it does not tell.
func (c *Cluster) primary(ctx context.Context) (node, term string, err error) {
	raw, err := c.once(ctx, "say hello", "admin", bson.D{{Key: "hello", Value: 1}})
	if err != nil {
		return "", "", err
	}
	if id, ok := raw.Lookup("electionId").ObjectIDOK(); ok {
		term = id.Hex()
	}
	return lookupString(raw, "me"), term, nil
}

// resume checks the place to go on from and returns its record; none if it is read from the beginning.
func (n *naturalReader) resume(ctx context.Context) (*bson.RawValue, error) {
	if n.opts.Resume == nil {
		return nil, nil
	}
	lost := func(why string) error { return fmt.Errorf("read %s: %w: %s", n.at, clustersync.ErrPlaceLost, why) }
	var place naturalPlace
	if err := bson.Unmarshal(n.opts.Resume, &place); err != nil {
		return nil, lost("it is none of a natural read")
	}
	if place.Node != n.node {
		return nil, lost("another node is the primary")
	}
	raw, err := n.c.once(ctx, "look for a record of "+n.at.String(), n.at.Database, bson.D{{Key: "find", Value: n.at.Collection},
		{Key: "filter", Value: bson.D{{Key: "_id", Value: bson.D{{Key: "$eq", Value: place.ID}}}}}, {Key: "projection", Value: byID}, {Key: "showRecordId", Value: true},
		{Key: "limit", Value: 1}, {Key: "singleBatch", Value: true}})
	if err != nil {
		return nil, err
	}
	found, _ := documents(lookupDoc(raw, "cursor"), "firstBatch")
	if len(found) == 0 {
		return nil, lost("its document is gone")
	}
	if record, err := found[0].LookupErr("$recordId"); err != nil || !record.Equal(place.Record) {
		return nil, lost("its document has another record")
	}
	return &place.Record, nil
}

// cursor reads what is behind a record, batch by batch.
func (n *naturalReader) cursor(ctx context.Context, from *bson.RawValue) error {
	cmd := bson.D{{Key: "find", Value: n.at.Collection}, {Key: "hint", Value: bson.D{{Key: "$natural", Value: 1}}}, {Key: "$_requestResumeToken", Value: true},
		{Key: "batchSize", Value: n.batchSize()}, {Key: "readConcern", Value: readMajority}}
	if from != nil {
		cmd = append(cmd, bson.E{Key: "$_resumeAfter", Value: bson.D{{Key: "$recordId", Value: *from}}})
	}
	if uuid, ok := binaryUUID(n.ref.UUID); ok && n.guarded {
		cmd = append(cmd, bson.E{Key: "collectionUUID", Value: uuid})
	}
	verb := "read " + n.at.String()
	raw, err := n.c.once(ctx, verb, n.at.Database, cmd)
	member := "firstBatch"
	for first := true; ; first = false {
		if err != nil {
			return n.refused(err, first, from)
		}
		cursor := lookupDoc(raw, "cursor")
		if err := n.batch(ctx, cursor, member, first && from == nil); err != nil {
			n.kill(ctx, lookupInt(cursor, "id"))
			return err
		}
		id, _ := cursor.Lookup("id").AsInt64OK()
		if id == 0 {
			return nil
		}
		member = "nextBatch"
		raw, err = n.c.once(ctx, verb, n.at.Database, bson.D{{Key: "getMore", Value: id}, {Key: "collection", Value: n.at.Collection}, {Key: "batchSize", Value: n.batchSize()}})
	}
}

// refused judges the error of a command: a server that does not know the options, or whose record is gone.
func (n *naturalReader) refused(err error, first bool, from *bson.RawValue) error {
	switch {
	case errors.Is(err, clustersync.ErrUnreachable), hasCode(err, cursorDied...) && !hasCode(err, 136), !first:
		return err
	case from != nil: // KeyNotFound, or whatever else a server says of a record that it does not have
		return fmt.Errorf("read %s: %w: %w", n.at, clustersync.ErrPlaceLost, err)
	case isUnsupported(err) || hasCode(err, codeBadValue):
		return errNoPlaces
	}
	return err
}

// batchSize is the number of documents to ask for. What comes is bounded by a reply's 16 MB besides.
func (n *naturalReader) batchSize() int { return min(n.opts.BatchDocs, defaultBatchDocs) }

// batch gives the documents of one answer away, in batches of the size asked for, and tells the place behind them. begin: nothing was read
// before, so that a server without places can be left to others.
func (n *naturalReader) batch(ctx context.Context, cursor bson.Raw, member string, begin bool) error {
	docs, err := documents(cursor, member)
	if err != nil {
		return n.c.failed("read "+n.at.String(), err)
	}
	record, err := cursor.LookupErr("postBatchResumeToken", "$recordId")
	if err != nil && begin && len(docs) > 0 {
		return errNoPlaces
	}
	b := batch{}
	for _, doc := range docs {
		if err := b.add(doc); err != nil {
			return n.c.failed("read "+n.at.String(), err)
		}
		if b.bytes >= n.opts.BatchBytes {
			if err := n.flush(ctx, &b); err != nil {
				return err
			}
		}
	}
	if err := n.flush(ctx, &b); err != nil {
		return err
	}
	if err != nil || len(docs) == 0 || n.opts.Place == nil || record.Type == bson.TypeNull {
		return nil
	}
	// The record is this node's if it was the primary all the time.
	if node, term, err := n.c.primary(ctx); err != nil || node != n.node || term != n.term {
		return err
	}
	place, err := bson.Marshal(naturalPlace{n.node, record, n.last})
	if err == nil {
		n.opts.Place(place)
	}
	return err
}

func (n *naturalReader) kill(ctx context.Context, cursor int64) {
	if cursor == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_, _ = n.c.once(ctx, "close cursor", n.at.Database, bson.D{{Key: "killCursors", Value: n.at.Collection}, {Key: "cursors", Value: bson.A{cursor}}})
}
