package mongocluster

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Mark implements [clustersync.Source] (spec §7.1 step 2): a no-op in the oplog, whose time is after all that was acknowledged. Clusters
// without that command get a write into the scratch database; a user who may not write takes the time of a round trip.
func (c *Cluster) Mark(ctx context.Context) (clustersync.Position, error) {
	caps, err := c.capabilities(ctx)
	if err != nil {
		return clustersync.Position{}, err
	}
	var at bson.Timestamp
	if caps.oplogNote {
		at, err = c.note(ctx, caps.sharded)
	} else {
		at, err = c.scratchMark(ctx)
	}
	if err != nil {
		return clustersync.Position{}, err
	}
	if caps.changes == ChangesOplog {
		return c.oplogMark(ctx)
	}
	if at.IsZero() {
		return clustersync.Position{}, unsupportedErr("mark the time", "the cluster tells no operation time")
	}
	return clustersync.Position{Time: at}, nil
}

// note appends a no-op to the oplog. On a sharded cluster it does so again, so that every shard's clock passes the first (spec §7.1).
func (c *Cluster) note(ctx context.Context, sharded bool) (bson.Timestamp, error) {
	cmd := bson.D{{Key: "appendOplogNote", Value: 1}, {Key: "data", Value: bson.D{{Key: "msg", Value: "tidegate clustersync"}}}, {Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}}}
	raw, err := c.run(ctx, "append oplog note", "admin", cmd)
	if err != nil {
		return bson.Timestamp{}, err
	}
	at := operationTime(raw)
	if !sharded {
		return at, nil
	}
	again := append(cmd[:2:2], bson.E{Key: "maxClusterTime", Value: at}, cmd[2])
	if _, err := c.run(ctx, "append oplog note", "admin", again); err != nil && !hasCode(err, codeStaleClusterTime) {
		return bson.Timestamp{}, err // stale: every clock is past it already
	}
	// Only a time that all shards have left behind is sure to be complete, see Reached.
	if _, err := c.run(ctx, "append oplog note", "admin", cmd); err != nil {
		return bson.Timestamp{}, err
	}
	return at, nil
}

func (c *Cluster) scratchMark(ctx context.Context) (bson.Timestamp, error) {
	raw, err := c.run(ctx, "write a mark", scratch, bson.D{{Key: "update", Value: "marks"}, {Key: "updates", Value: bson.A{bson.D{
		{Key: "q", Value: bson.D{{Key: "_id", Value: "mark"}}},
		{Key: "u", Value: bson.D{{Key: "$set", Value: bson.D{{Key: "at", Value: time.Now().UTC()}}}, {Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}},
		{Key: "upsert", Value: true}}}}, {Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}}})
	if errors.Is(err, clustersync.ErrUnauthorized) {
		raw, err = c.run(ctx, "ask for the time", "admin", bson.D{{Key: "ping", Value: 1}, {Key: "readConcern", Value: readMajority}})
	}
	if err != nil {
		return bson.Timestamp{}, err
	}
	return operationTime(raw), nil
}

// Reached implements [clustersync.Source]. A mark on a replica set has a time of its own; on a sharded cluster a shard may still have
// something of that very time, so the stream must have passed it.
func (c *Cluster) Reached(at, mark clustersync.Position) bool {
	c.mu.Lock()
	sharded := c.caps != nil && c.caps.sharded
	c.mu.Unlock()
	if sharded {
		return at.Time.After(mark.Time)
	}
	return !at.Time.Before(mark.Time)
}

// Oplog implements [clustersync.Source] (spec §17).
func (c *Cluster) Oplog(ctx context.Context) (oldest, newest time.Time, err error) {
	first, err := c.oplogEnd(ctx, 1)
	if err != nil || first == nil {
		return time.Time{}, time.Time{}, passingOnly(err)
	}
	last, err := c.oplogEnd(ctx, -1)
	if err != nil || last == nil {
		return time.Time{}, time.Time{}, passingOnly(err)
	}
	return timeOf(entryTime(first)), timeOf(entryTime(last)), nil
}

// oplogEnd returns the first or the last entry of the oplog, nil if there is none.
func (c *Cluster) oplogEnd(ctx context.Context, direction int) (bson.Raw, error) {
	found, err := c.all(ctx, "read the end of the oplog", "local", bson.D{{Key: "find", Value: "oplog.rs"},
		{Key: "sort", Value: bson.D{{Key: "$natural", Value: direction}}}, {Key: "limit", Value: 1}, {Key: "singleBatch", Value: true}})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

func entryTime(entry bson.Raw) bson.Timestamp {
	value, err := entry.LookupErr("ts")
	if err != nil {
		return bson.Timestamp{}
	}
	t, i, _ := value.TimestampOK()
	return bson.Timestamp{T: t, I: i}
}

func timeOf(ts bson.Timestamp) time.Time { return time.Unix(int64(ts.T), 0).UTC() }

func operationTime(answer bson.Raw) bson.Timestamp {
	value, err := answer.LookupErr("operationTime")
	if err != nil {
		return bson.Timestamp{}
	}
	t, i, _ := value.TimestampOK()
	return bson.Timestamp{T: t, I: i}
}

// tokenTime reads the time out of a resume token (spec §8.2): of MongoDB's, which begin with it, and of SecantusDB's, which are a
// BSON document written in hex.
func tokenTime(token bson.Raw) (bson.Timestamp, bool) {
	data, err := hex.DecodeString(lookupString(token, "_data"))
	if err != nil || len(data) < 9 {
		return bson.Timestamp{}, false
	}
	if data[0] == 0x82 {
		be := func(b []byte) uint32 { return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]) }
		return bson.Timestamp{T: be(data[1:5]), I: be(data[5:9])}, true
	}
	inner := bson.Raw(data)
	if inner.Validate() != nil {
		return bson.Timestamp{}, false
	}
	value, err := inner.LookupErr("t")
	if err != nil {
		return bson.Timestamp{}, false
	}
	t, i, ok := value.TimestampOK()
	return bson.Timestamp{T: t, I: i}, ok
}
