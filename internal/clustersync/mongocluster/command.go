package mongocluster

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Between two tries of a call.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// Write concerns (spec §7.4, §22). Documents are written with majority alone: on MongoDB it includes the journal, and elsewhere a server is known that
// then flushes its log for every document. Records are journaled in any case, and with a record in the journal is everything before it, so that no
// checkpoint is ahead of its data.
var (
	majority  = bson.D{{Key: "w", Value: "majority"}}
	journaled = bson.D{{Key: "w", Value: "majority"}, {Key: "j", Value: true}}
)

// readMajority is the read concern of everything that is read.
var readMajority = bson.D{{Key: "level", Value: "majority"}}

// run sends a command and returns its answer. What may pass is tried again for a short while: every command here may be sent twice.
func (c *Cluster) run(ctx context.Context, verb, db string, cmd any) (bson.Raw, error) {
	var answer bson.Raw
	err := c.retry(ctx, func() error {
		var err error
		answer, err = c.once(ctx, verb, db, cmd)
		return err
	})
	return answer, err
}

// once sends a command once. Errors of single writes are in the answer, not an error.
func (c *Cluster) once(ctx context.Context, verb, db string, cmd any) (bson.Raw, error) {
	answer, err := c.client.Database(db).RunCommand(ctx, cmd).Raw()
	var write mongo.WriteException
	if errors.As(err, &write) && write.WriteConcernError == nil && answer != nil {
		return answer, nil
	}
	if err != nil {
		return answer, c.failed(verb, err)
	}
	return answer, nil
}

// retry calls f until it succeeds, fails for good, or its time is over.
func (c *Cluster) retry(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(c.opts.Retry)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := f()
		if err == nil || !errors.Is(err, clustersync.ErrUnreachable) || ctx.Err() != nil || time.Now().Add(pause).After(deadline) {
			return err
		}
		if waitFor(ctx, pause) != nil {
			return err
		}
	}
}

// waitFor sleeps, or until the context ends.
func waitFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// all returns all documents of an answer with a cursor.
func (c *Cluster) all(ctx context.Context, verb, db string, cmd any) ([]bson.Raw, error) {
	var found []bson.Raw
	err := c.retry(ctx, func() error {
		found = nil
		cursor, err := c.client.Database(db).RunCommandCursor(ctx, cmd)
		if err != nil {
			return c.failed(verb, err)
		}
		defer closeCursor(ctx, cursor)
		for cursor.Next(ctx) {
			found = append(found, clone(cursor.Current))
		}
		return c.failed(verb, cursor.Err())
	})
	return found, err
}

// closeTimeout is how long a server is given to forget a cursor; it does so by itself later.
const closeTimeout = time.Second

// closeCursor closes a cursor also when the context has ended.
func closeCursor(ctx context.Context, cursor *mongo.Cursor) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = cursor.Close(ctx)
}

func clone(r bson.Raw) bson.Raw { return append(bson.Raw(nil), r...) }
