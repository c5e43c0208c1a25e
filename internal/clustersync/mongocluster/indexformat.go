package mongocluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/tidegate/tidegate/internal/clustersync"
)

var _ clustersync.IndexFormats = (*Cluster)(nil)

// currentFormats are those in which servers of 4.2 and newer write unique indexes (spec §14.1).
var currentFormats = []int64{13, 14}

// OldUniqueIndexes implements [clustersync.IndexFormats]: what a server says of the storage of an index, or else what its validation does.
// Each node is asked itself, since each one has indexes of its own: a member that was synced anew has them in the current format.
func (c *Cluster) OldUniqueIndexes(ctx context.Context, unique map[clustersync.Namespace][]string) (old []clustersync.OldIndex, unchecked []string, err error) {
	nodes, unchecked, err := c.nodes(ctx)
	if err != nil || len(unique) == 0 {
		return nil, nil, err
	}
	asked := 0
	for _, node := range nodes {
		found, err := c.askNode(ctx, node, unique)
		switch {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case err != nil:
			unchecked = append(unchecked, fmt.Sprintf("%s: %v", node, err))
			continue
		}
		asked++
		old = append(old, found...)
	}
	if asked > 0 {
		return old, unchecked, nil
	}
	// At least the node that everything else is asked of: the names of the members may mean nothing outside of their network.
	look := formatLook{c: c, client: c.client, node: c.uri.name}
	if old, err = look.all(ctx, unique); err != nil {
		if errors.Is(err, clustersync.ErrUnreachable) {
			return nil, nil, err
		}
		return nil, append(unchecked, fmt.Sprintf("%s: %v", c.uri.name, err)), nil
	}
	return old, unchecked, nil
}

// nodes are the members that hold data, of all shards, and what is to be said of those that are not known.
func (c *Cluster) nodes(ctx context.Context) (nodes, unknown []string, err error) {
	caps, err := c.capabilities(ctx)
	if err != nil {
		return nil, nil, err
	}
	if caps.sharded {
		raw, err := c.run(ctx, "list shards", "admin", bson.D{{Key: "listShards", Value: 1}})
		if err != nil {
			return nil, []string{"the members of the shards: " + err.Error()}, passingOnly(err)
		}
		shards, _ := documents(raw, "shards")
		for _, shard := range shards {
			_, hosts, _ := strings.Cut(lookupString(shard, "host"), "/")
			nodes = append(nodes, strings.Split(hosts, ",")...)
		}
		return nodes, nil, nil
	}
	raw, err := c.run(ctx, "read replica set config", "admin", bson.D{{Key: "replSetGetConfig", Value: 1}})
	if err != nil {
		return caps.hosts, nil, passingOnly(err) // hidden members are not among them
	}
	members, _ := documents(lookupDoc(raw, "config"), "members")
	for _, m := range members {
		if !lookupBool(m, "arbiterOnly") {
			nodes = append(nodes, lookupString(m, "host"))
		}
	}
	if len(nodes) == 0 {
		nodes = caps.hosts
	}
	return nodes, nil, nil
}

// askNode looks at one node over a connection of its own.
func (c *Cluster) askNode(ctx context.Context, node string, unique map[clustersync.Namespace][]string) ([]clustersync.OldIndex, error) {
	client, err := mongo.Connect(c.direct(node))
	if err != nil {
		return nil, fmt.Errorf("connect: %s", c.uri.redact(err.Error()))
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = client.Disconnect(ctx)
	}()
	return formatLook{c: c, client: client, node: node}.all(ctx, unique)
}

// direct are the options of a connection to one node, whatever it is at the moment.
func (c *Cluster) direct(node string) *options.ClientOptions {
	co := c.uri.clientOptions(c.opts).SetHosts([]string{node}).SetDirect(true).SetReadPreference(readpref.Nearest())
	co.ReplicaSet, co.LoadBalanced, co.SRVMaxHosts = nil, nil, nil // that of the node, which may be of a shard, is not in the URI
	return co
}

// formatLook looks at the indexes of a node.
type formatLook struct {
	c      *Cluster
	client *mongo.Client
	node   string
}

// all looks at all indexes. An error: nothing can be said of the node.
func (l formatLook) all(ctx context.Context, unique map[clustersync.Namespace][]string) (old []clustersync.OldIndex, err error) {
	byName := func(a, b clustersync.Namespace) int { return cmp.Compare(a.String(), b.String()) }
	for _, ns := range slices.SortedFunc(maps.Keys(unique), byName) {
		found, err := l.collection(ctx, ns, unique[ns])
		if err != nil {
			return nil, err
		}
		old = append(old, found...)
	}
	return old, nil
}

// collection compares the format of each index, and has those validated that are of another one than the current, or of none that the server
// tells.
func (l formatLook) collection(ctx context.Context, ns clustersync.Namespace, names []string) (old []clustersync.OldIndex, err error) {
	formats, err := l.formats(ctx, ns, names)
	if err != nil {
		return nil, err
	}
	var doubtful []string
	for _, name := range names {
		told := formats[name]
		if len(told) == 0 || slices.ContainsFunc(told, func(n int64) bool { return !slices.Contains(currentFormats, n) }) {
			doubtful = append(doubtful, name)
		}
	}
	if len(doubtful) == 0 {
		return nil, nil
	}
	warnings, err := l.validate(ctx, ns)
	for _, name := range doubtful {
		why := ""
		switch {
		case err == nil:
			why = about(warnings, name)
		case len(formats[name]) > 0:
			why = fmt.Sprintf("it is stored in format %v, and cannot be validated: %v", formats[name], err)
		default:
			return nil, err
		}
		if why != "" {
			old = append(old, clustersync.OldIndex{Node: l.node, Namespace: ns, Index: name, Why: why})
		}
	}
	return old, nil
}

// formats are the formats of indexes, more than one if several shards answer. An index of which nothing is told is not in it.
func (l formatLook) formats(ctx context.Context, ns clustersync.Namespace, names []string) (map[string][]int64, error) {
	stats, err := l.stats(ctx, ns)
	if isUnsupported(err) || errors.Is(err, clustersync.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string][]int64{}
	for _, part := range stats {
		for _, name := range names {
			// Not one path with dots: an index's name has some itself.
			format, err := part.LookupErr("storageStats", "indexDetails", name, "metadata", "formatVersion")
			if err != nil {
				continue
			}
			if n, ok := format.AsInt64OK(); ok {
				out[name] = append(out[name], n)
			}
		}
	}
	return out, nil
}

func (l formatLook) stats(ctx context.Context, ns clustersync.Namespace) (found []bson.Raw, err error) {
	verb := "measure " + ns.String()
	cursor, err := l.client.Database(ns.Database).RunCommandCursor(ctx, bson.D{{Key: "aggregate", Value: ns.Collection},
		{Key: "pipeline", Value: bson.A{bson.D{{Key: "$collStats", Value: bson.D{{Key: "storageStats", Value: bson.D{}}}}}}}, {Key: "cursor", Value: bson.D{}}},
		options.RunCmd().SetReadPreference(readpref.Nearest()))
	if err != nil {
		return nil, l.c.failed(verb, err)
	}
	defer closeCursor(ctx, cursor)
	for cursor.Next(ctx) {
		found = append(found, clone(cursor.Current))
	}
	return found, l.c.failed(verb, cursor.Err())
}

// validate returns what validation warns of, on all shards that answer.
func (l formatLook) validate(ctx context.Context, ns clustersync.Namespace) ([]string, error) {
	raw, err := l.client.Database(ns.Database).RunCommand(ctx, bson.D{{Key: "validate", Value: ns.Collection}, {Key: "full", Value: false}},
		options.RunCmd().SetReadPreference(readpref.Nearest())).Raw()
	if err != nil {
		return nil, l.c.failed("validate "+ns.String(), err)
	}
	answers := []bson.Raw{raw}
	shards, _ := lookupDoc(raw, "raw").Elements()
	for _, shard := range shards {
		if d, ok := shard.Value().DocumentOK(); ok {
			answers = append(answers, d)
		}
	}
	var out []string
	for _, answer := range answers {
		for _, member := range []string{"warnings", "errors"} {
			array, _ := answer.Lookup(member).ArrayOK()
			values, _ := array.Values()
			for _, v := range values {
				if text, ok := v.StringValueOK(); ok {
					out = append(out, text)
				}
			}
		}
	}
	return out, nil
}

// about returns the first text that names the index; "" if none does.
func about(texts []string, index string) string {
	inName := func(b byte) bool {
		return b == '_' || b == '-' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
	}
	for _, text := range texts {
		for rest, at := text, 0; ; {
			i := strings.Index(rest[at:], index)
			if i < 0 {
				break
			}
			i += at
			end := i + len(index)
			if (i == 0 || !inName(rest[i-1])) && (end == len(rest) || !inName(rest[end])) {
				return text
			}
			at = i + 1
		}
	}
	return ""
}
