package mongocluster

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// scratch is where a probe aims and where marks are written on clusters that have no other way to make a note (mark.go). Its name
// begins like those of the vendor's own internal databases, so that nobody syncs it.
const scratch = "__mdb_internal_tidegate"

// capabilities is what a cluster was seen to do (spec §23.1).
type capabilities struct {
	changes string // ChangesStream, ChangesOplog or ""
	unused  string // why "" is what it is

	expanded bool // showExpandedEvents
	split    bool // $changeStreamSplitLargeEvent

	collectionUUID bool // a read with the UUID of another collection is refused
	oplogNote      bool // appendOplogNote: the mark of the real thing
	collMod        bool
	writeBlock     bool // setUserWriteBlockMode
	emptyTimestamp bool // bypassEmptyTsReplacement
	scans          bool // for $in, updates and upserts it reads the whole collection (spec §23.5)
	sharded        bool
	sessions       bool
	setName        string
	hosts          []string
	wire           int32
}

// capabilities probes the cluster once.
func (c *Cluster) capabilities(ctx context.Context) (*capabilities, error) {
	c.mu.Lock()
	known := c.caps
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	return c.probe(ctx)
}

// probe tries what the cluster can do. Nothing is written by it.
func (c *Cluster) probe(ctx context.Context) (*capabilities, error) {
	var caps capabilities
	if err := c.readHello(ctx, &caps); err != nil {
		return nil, err
	}
	for _, try := range []func(context.Context, *capabilities) error{
		c.tryChangeStream, c.tryCollectionUUID, c.tryOplogNote, c.tryCollMod, c.tryWriteBlock, c.tryEmptyTimestamp, c.tryScans,
	} {
		if err := try(ctx, &caps); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.caps = &caps
	return c.caps, nil
}

func (c *Cluster) readHello(ctx context.Context, caps *capabilities) error {
	raw, err := c.run(ctx, "say hello", "admin", bson.D{{Key: "hello", Value: 1}})
	if err != nil {
		return err
	}
	var hello struct {
		SetName string   `bson:"setName"`
		Hosts   []string `bson:"hosts"`
		Msg     string   `bson:"msg"`
		Wire    int32    `bson:"maxWireVersion"`
		Session *int32   `bson:"logicalSessionTimeoutMinutes"`
	}
	if err := bson.Unmarshal(raw, &hello); err != nil {
		return c.failed("say hello", err)
	}
	caps.setName, caps.hosts, caps.wire, caps.sharded = hello.SetName, hello.Hosts, hello.Wire, hello.Msg == "isdbgrid"
	caps.sessions = hello.Session != nil
	return nil
}

// tryChangeStream opens and closes streams, from the richest to the plainest; then it looks for an oplog.
func (c *Cluster) tryChangeStream(ctx context.Context, caps *capabilities) error {
	var refused error
	if c.opts.Changes != ChangesOplog {
		for _, can := range []struct{ expanded, split bool }{{true, true}, {true, false}, {false, false}} {
			refused = c.openOnce(ctx, can.expanded, can.split)
			if refused == nil {
				caps.changes, caps.expanded, caps.split = ChangesStream, can.expanded, can.split
				return nil
			}
			if errors.Is(refused, clustersync.ErrUnreachable) {
				return refused
			}
		}
		if errors.Is(refused, clustersync.ErrUnauthorized) {
			caps.unused = "its change stream may not be opened by this user"
			return nil
		}
		if c.opts.Changes == ChangesStream {
			caps.unused = "it has no change streams"
			return nil
		}
	}
	found, err := c.all(ctx, "look for an oplog", "local", bson.D{{Key: "listCollections", Value: 1}, {Key: "filter", Value: bson.D{{Key: "name", Value: "oplog.rs"}}}})
	switch {
	case errors.Is(err, clustersync.ErrUnreachable):
		return err
	case err == nil && len(found) > 0 && lookupBool(found[0], "options", "capped"):
		caps.changes = ChangesOplog
	default:
		caps.unused = "it has neither change streams nor an oplog"
	}
	return nil
}

func (c *Cluster) openOnce(ctx context.Context, expanded, split bool) error {
	stage := bson.D{{Key: "allChangesForCluster", Value: true}}
	if expanded {
		stage = append(stage, bson.E{Key: "showExpandedEvents", Value: true})
	}
	pipeline := bson.A{bson.D{{Key: "$changeStream", Value: stage}}}
	if split {
		pipeline = append(pipeline, bson.D{{Key: "$changeStreamSplitLargeEvent", Value: bson.D{}}})
	}
	raw, err := c.run(ctx, "open a change stream", "admin", bson.D{
		{Key: "aggregate", Value: 1}, {Key: "pipeline", Value: pipeline}, {Key: "cursor", Value: bson.D{{Key: "batchSize", Value: 0}}}})
	if err != nil {
		return err
	}
	id, ok := raw.Lookup("cursor", "id").AsInt64OK()
	if !ok || id == 0 {
		return unsupportedErr("open a change stream", "its cursor is closed at once")
	}
	_, _ = c.once(ctx, "close a change stream", "admin", bson.D{{Key: "killCursors", Value: "$cmd.aggregate"}, {Key: "cursors", Value: bson.A{id}}})
	return nil
}

// tryCollectionUUID reads a collection that cannot have the UUID asked for: only a server that looks refuses.
func (c *Cluster) tryCollectionUUID(ctx context.Context, caps *capabilities) error {
	var random [16]byte
	_, _ = rand.Read(random[:])
	_, err := c.run(ctx, "try collectionUUID", scratch, bson.D{
		{Key: "find", Value: "nothing"}, {Key: "collectionUUID", Value: bson.Binary{Subtype: bson.TypeBinaryUUID, Data: random[:]}}, {Key: "limit", Value: 1}})
	caps.collectionUUID = hasCode(err, codeUUIDMismatch)
	return passingOnly(err)
}

// tryOplogNote sends the command without what it needs: a server that has it says so or refuses the user.
func (c *Cluster) tryOplogNote(ctx context.Context, caps *capabilities) error {
	_, err := c.run(ctx, "try appendOplogNote", "admin", bson.D{{Key: "appendOplogNote", Value: 1}})
	caps.oplogNote = err != nil && !isUnsupported(err)
	return passingOnly(err)
}

func (c *Cluster) tryCollMod(ctx context.Context, caps *capabilities) error {
	_, err := c.run(ctx, "try collMod", scratch, bson.D{{Key: "collMod", Value: "nothing"}})
	caps.collMod = err == nil || !isUnsupported(err)
	return passingOnly(err)
}

func (c *Cluster) tryWriteBlock(ctx context.Context, caps *capabilities) error {
	_, err := c.run(ctx, "try setUserWriteBlockMode", "admin", bson.D{{Key: "setUserWriteBlockMode", Value: 1}})
	caps.writeBlock = err != nil && !isUnsupported(err)
	return passingOnly(err)
}

// tryEmptyTimestamp sends an insert of nothing, which every server refuses, but not all for the same reason (spec §20).
func (c *Cluster) tryEmptyTimestamp(ctx context.Context, caps *capabilities) error {
	_, err := c.run(ctx, "try bypassEmptyTsReplacement", scratch, bson.D{
		{Key: "insert", Value: "nothing"}, {Key: "documents", Value: bson.A{}}, {Key: "bypassEmptyTsReplacement", Value: true}})
	caps.emptyTimestamp = err != nil && !isUnsupported(err)
	return passingOnly(err)
}

// tryScans goes by what the server calls itself, because slowness cannot be probed without documents (spec §23.5).
func (c *Cluster) tryScans(ctx context.Context, caps *capabilities) error {
	raw, err := c.run(ctx, "read build info", "admin", bson.D{{Key: "buildInfo", Value: 1}})
	caps.scans = calls(raw, "ferretdb")
	return passingOnly(err)
}

// calls reports whether a server says of itself that it is another than MongoDB's, with a member of that beginning.
func calls(buildInfo bson.Raw, beginning string) bool {
	elements, _ := buildInfo.Elements()
	return slices.ContainsFunc(elements, func(e bson.RawElement) bool { return strings.HasPrefix(strings.ToLower(e.Key()), beginning) })
}

// passingOnly lets through only what makes a probe worthless.
func passingOnly(err error) error {
	if errors.Is(err, clustersync.ErrUnreachable) {
		return err
	}
	return nil
}

func lookupBool(doc bson.Raw, path ...string) bool {
	value, err := doc.LookupErr(path...)
	if err != nil {
		return false
	}
	b, _ := value.BooleanOK()
	return b
}

func lookupString(doc bson.Raw, path ...string) string {
	value, err := doc.LookupErr(path...)
	if err != nil {
		return ""
	}
	s, _ := value.StringValueOK()
	return s
}

func lookupInt(doc bson.Raw, path ...string) int64 {
	value, err := doc.LookupErr(path...)
	if err != nil {
		return 0
	}
	n, _ := value.AsInt64OK()
	return n
}

func lookupDoc(doc bson.Raw, path ...string) bson.Raw {
	value, err := doc.LookupErr(path...)
	if err != nil {
		return nil
	}
	d, _ := value.DocumentOK()
	return d
}
