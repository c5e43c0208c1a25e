package fakemongo

import (
	"cmp"
	"fmt"
	"maps"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func (c *call) hello() (bson.Raw, error) {
	if app, ok := at(c.cmd, "client.application.name"); ok {
		c.who.app, _ = app.(string)
	}
	o := c.s.opts
	host := c.s.host()
	d := bson.D{{Key: "ismaster", Value: true}, {Key: "isWritablePrimary", Value: true}, {Key: "maxBsonObjectSize", Value: int32(16 << 20)}, {Key: "maxMessageSizeBytes", Value: int32(48_000_000)},
		{Key: "maxWriteBatchSize", Value: int32(100_000)}, {Key: "minWireVersion", Value: int32(0)}, {Key: "maxWireVersion", Value: cmp.Or(o.Wire, 25)}, {Key: "readOnly", Value: false}}
	switch {
	case o.Sharded:
		d = append(d, bson.E{Key: "msg", Value: "isdbgrid"})
	case !o.Standalone:
		d = append(d, bson.E{Key: "setName", Value: cmp.Or(o.SetName, "fake")}, bson.E{Key: "hosts", Value: bson.A{host}}, bson.E{Key: "primary", Value: host}, bson.E{Key: "me", Value: host}, bson.E{Key: "setVersion", Value: int32(1)},
			bson.E{Key: "electionId", Value: c.s.opts.Election})
	}
	return success(d...), nil
}

// host is where the server listens.
func (s *Server) host() string {
	return strings.TrimSuffix(strings.TrimPrefix(s.URI, "mongodb://"), "/")
}

func (c *call) ping() (bson.Raw, error) { return success(), nil }

func (c *call) buildInfo() (bson.Raw, error) {
	v := c.s.opts.Version
	if v == [4]int{} {
		v = [4]int{8, 0, 12}
	}
	return success(bson.E{Key: "version", Value: fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2])}, bson.E{Key: "versionArray", Value: bson.A{int32(v[0]), int32(v[1]), int32(v[2]), int32(v[3])}}), nil
}

func (c *call) connectionStatus() (bson.Raw, error) {
	status := c.s.opts.Status
	if status == nil {
		status = bson.D{{Key: "authenticatedUsers", Value: bson.A{}}, {Key: "authenticatedUserRoles", Value: bson.A{}}, {Key: "authenticatedUserPrivileges", Value: bson.A{}}}
	}
	return success(bson.E{Key: "authInfo", Value: status}), nil
}

func (c *call) serverStatus() (bson.Raw, error) {
	mode := int32(1)
	if c.s.state.blocked {
		mode = 2
	}
	if c.s.opts.Sharded || c.s.opts.Standalone {
		return success(), nil // it does not tell
	}
	return success(bson.E{Key: "repl", Value: bson.D{{Key: "userWriteBlockMode", Value: mode}}}), nil
}

func (c *call) setWriteBlock() (bson.Raw, error) {
	block, ok := get(c.cmd, "global").(bool)
	if !ok {
		return nil, refuse(40414, "BSON field 'setUserWriteBlockMode.global' is missing but a required field")
	}
	c.s.state.blocked = block
	return success(), nil
}

func (c *call) appendNote() (bson.Raw, error) {
	if c.doc("data") == nil {
		return nil, refuse(40414, "BSON field 'appendOplogNote.data' is missing but a required field")
	}
	if most, ok := get(c.cmd, "maxClusterTime").(bson.Timestamp); ok && c.s.state.clock.Compare(most) >= 0 {
		return nil, refuse(209, "the cluster time is past maxClusterTime")
	}
	c.s.state.note()
	c.s.wake()
	return success(), nil
}

func (c *call) listShards() (bson.Raw, error) {
	if !c.s.opts.Sharded {
		return nil, refuse(59, "no such command: 'listShards'")
	}
	var shards bson.A
	for i := range c.s.opts.Shards {
		host := fmt.Sprintf("rs%d/host%d:27018", i, i)
		if i < len(c.s.opts.ShardHosts) {
			host = c.s.opts.ShardHosts[i]
		}
		shards = append(shards, bson.D{{Key: "_id", Value: fmt.Sprintf("shard%d", i)}, {Key: "host", Value: host}, {Key: "state", Value: int32(1)}})
	}
	return success(bson.E{Key: "shards", Value: shards}), nil
}

func (c *call) shardCollection() (bson.Raw, error) {
	ns := c.text("shardCollection")
	if c.s.opts.ShardKeys[ns] != nil {
		return nil, refuse(23, "sharding already enabled for collection %s", ns)
	}
	keys := map[string]bson.D{ns: c.doc("key")}
	maps.Copy(keys, c.s.opts.ShardKeys)
	c.s.opts.ShardKeys = keys
	return success(), nil
}

func (c *call) balancerStatus() (bson.Raw, error) {
	return success(bson.E{Key: "mode", Value: cmp.Or(c.s.opts.Balancer, "off")}, bson.E{Key: "inBalancerRound", Value: false}), nil
}

func (c *call) replSetConfig() (bson.Raw, error) {
	id, _ := bson.ObjectIDFromHex("65a000000000000000000001")
	members := bson.A{bson.D{{Key: "_id", Value: int32(0)}, {Key: "host", Value: c.s.host()}}}
	for i, host := range c.s.opts.Members {
		members = append(members, bson.D{{Key: "_id", Value: int32(i + 1)}, {Key: "host", Value: host}, {Key: "hidden", Value: true}})
	}
	members = append(members, bson.D{{Key: "_id", Value: int32(len(members))}, {Key: "host", Value: "arbiter:27017"}, {Key: "arbiterOnly", Value: true}})
	return success(bson.E{Key: "config", Value: bson.D{{Key: "members", Value: members}, {Key: "settings", Value: bson.D{{Key: "replicaSetId", Value: id}}}}}), nil
}

func (c *call) dbStats() (bson.Raw, error) {
	return success(bson.E{Key: "fsTotalSize", Value: float64(100 << 30)}, bson.E{Key: "fsUsedSize", Value: float64(40 << 30)}), nil
}

func (c *call) collStats() (bson.Raw, error) {
	var count, size int64
	if coll := c.coll(); coll != nil {
		for _, doc := range coll.docs {
			if doc != nil {
				count++
				size += int64(len(doc))
			}
		}
	}
	details := bson.D{}
	for name, format := range c.s.opts.Formats {
		details = append(details, bson.E{Key: name, Value: bson.D{{Key: "metadata", Value: bson.D{{Key: "formatVersion", Value: format}}}}})
	}
	return success(bson.E{Key: "count", Value: count}, bson.E{Key: "size", Value: size}, bson.E{Key: "indexDetails", Value: details}), nil
}

func (c *call) validate() (bson.Raw, error) {
	if c.coll() == nil {
		return nil, c.missing(c.text("validate"))
	}
	return success(bson.E{Key: "valid", Value: true}, bson.E{Key: "warnings", Value: c.s.opts.Warnings}, bson.E{Key: "errors", Value: bson.A{}}), nil
}

// saslStart begins a login with SCRAM. The fake knows no passwords, so how it goes on is for a test to say.
func (c *call) saslStart() (bson.Raw, error) {
	_, first, _ := c.raw.Lookup("payload").BinaryOK()
	_, nonce, ok := strings.Cut(string(first), ",r=")
	if !ok {
		return nil, refuse(18, "no SCRAM")
	}
	return success(bson.E{Key: "conversationId", Value: int32(1)}, bson.E{Key: "done", Value: false},
		bson.E{Key: "payload", Value: []byte("r=" + nonce + "more,s=c2FsdHNhbHQ=,i=4096")}), nil
}
