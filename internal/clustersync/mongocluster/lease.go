package mongocluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// clockMargin is how wrong the clocks of two instances may be, where the server's own clock cannot be used.
const clockMargin = 2 * time.Second

// codesNoPipeline: the server takes no pipeline for an update.
var codesNoPipeline = []int{codeBadValue, 9, 14, 40, codeInternal, 238, codeUnknownField, 40324}

// lease is a lease as it is kept (spec §15.3). Its end is a number of milliseconds, because a server is known that compares dates with $$NOW
// wrongly.
type lease struct {
	Owner   string `bson:"owner"`
	Fence   int64  `bson:"fence"`
	Expires int64  `bson:"expires"`
}

// Acquire implements [clustersync.Metadata].
func (m metadata) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (int64, error) {
	held, err := m.acquireByServerClock(ctx, name, owner, ttl)
	if hasCode(err, codesNoPipeline...) {
		held, err = m.acquireByOwnClock(ctx, name, owner, ttl)
	}
	switch {
	case err != nil:
		return 0, err
	case held.Owner != owner:
		return 0, fmt.Errorf("take lease %s: %w", name, clustersync.ErrLeaseHeld)
	}
	return held.Fence, nil
}

// acquireByServerClock takes the lease if it can be had and leaves it alone otherwise, in one step, by the server's clock.
func (m metadata) acquireByServerClock(ctx context.Context, name, owner string, ttl time.Duration) (lease, error) {
	own := bson.D{{Key: "$eq", Value: bson.A{"$owner", bson.D{{Key: "$literal", Value: owner}}}}}
	now := bson.D{{Key: "$toLong", Value: "$$NOW"}}
	expired := bson.D{{Key: "$lte", Value: bson.A{bson.D{{Key: "$ifNull", Value: bson.A{"$expires", int64(0)}}}, now}}}
	mine := bson.D{{Key: "$eq", Value: bson.A{"$taken", true}}}
	choose := func(then any, field string) bson.D {
		return bson.D{{Key: "$cond", Value: bson.A{mine, then, "$" + field}}}
	}
	pipeline := bson.A{
		bson.D{{Key: "$set", Value: bson.D{{Key: "taken", Value: bson.D{{Key: "$or", Value: bson.A{own, expired}}}}, {Key: "changed", Value: bson.D{{Key: "$not", Value: bson.A{own}}}}}}},
		bson.D{{Key: "$set", Value: bson.D{
			{Key: "owner", Value: choose(bson.D{{Key: "$literal", Value: owner}}, "owner")},
			{Key: "fence", Value: choose(bson.D{{Key: "$add", Value: bson.A{bson.D{{Key: "$ifNull", Value: bson.A{"$fence", int64(0)}}}, bson.D{{Key: "$cond", Value: bson.A{"$changed", int64(1), int64(0)}}}}}}, "fence")},
			{Key: "expires", Value: choose(bson.D{{Key: "$add", Value: bson.A{now, ttl.Milliseconds()}}}, "expires")},
		}}},
		bson.D{{Key: "$unset", Value: bson.A{"taken", "changed"}}},
	}
	return m.modifyLease(ctx, bson.D{{Key: "_id", Value: name}}, pipeline, true)
}

// acquireByOwnClock does the same in up to three steps, by the clock of this machine and with a margin.
func (m metadata) acquireByOwnClock(ctx context.Context, name, owner string, ttl time.Duration) (lease, error) {
	now := time.Now()
	renew := bson.D{{Key: "$set", Value: bson.D{{Key: "expires", Value: now.Add(ttl).UnixMilli()}}}}
	held, err := m.modifyLease(ctx, bson.D{{Key: "_id", Value: name}, {Key: "owner", Value: owner}}, renew, false)
	if err != nil || held.Owner != "" {
		return held, err
	}
	take := bson.D{{Key: "$set", Value: bson.D{{Key: "owner", Value: owner}, {Key: "expires", Value: now.Add(ttl).UnixMilli()}}}, {Key: "$inc", Value: bson.D{{Key: "fence", Value: int64(1)}}}}
	free := bson.D{{Key: "_id", Value: name}, {Key: "expires", Value: bson.D{{Key: "$lt", Value: now.Add(-clockMargin).UnixMilli()}}}}
	if held, err = m.modifyLease(ctx, free, take, false); err != nil || held.Owner != "" {
		return held, err
	}
	fresh := marshal(bson.D{{Key: "_id", Value: name}, {Key: "owner", Value: owner}, {Key: "fence", Value: int64(1)}, {Key: "expires", Value: now.Add(ttl).UnixMilli()}})
	_, failed, err := write{command: "insert", list: "documents", ns: m.ns(leases), journal: true}.send(ctx, m.c, []bson.Raw{fresh})
	if err != nil || len(failed) > 0 {
		return lease{}, err // somebody else's
	}
	return lease{Owner: owner, Fence: 1, Expires: now.Add(ttl).UnixMilli()}, nil
}

// modifyLease changes a lease and returns what it then is; a zero one if none is matched.
func (m metadata) modifyLease(ctx context.Context, query bson.D, update any, upsert bool) (lease, error) {
	for races := 0; ; races++ {
		raw, err := m.c.run(ctx, "take lease", m.db, bson.D{{Key: "findAndModify", Value: leases}, {Key: "query", Value: query}, {Key: "update", Value: update},
			{Key: "upsert", Value: upsert}, {Key: "new", Value: true}, {Key: "writeConcern", Value: journaled}})
		if hasCode(err, codeDuplicateKey) && races < maxRaces {
			continue // two took it for the first time
		}
		if err != nil {
			return lease{}, err
		}
		var held lease
		if doc := lookupDoc(raw, "value"); doc != nil {
			err = bson.Unmarshal(doc, &held)
		}
		return held, err
	}
}

// Release implements [clustersync.Metadata]. The record stays: its fence goes on growing.
func (m metadata) Release(ctx context.Context, name, owner string) error {
	_, err := m.modifyLease(ctx, bson.D{{Key: "_id", Value: name}, {Key: "owner", Value: owner}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "owner", Value: ""}, {Key: "expires", Value: int64(0)}}}}, false)
	if errors.Is(err, clustersync.ErrNotFound) {
		return nil
	}
	return err
}
