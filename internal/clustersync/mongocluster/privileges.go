package mongocluster

import (
	"context"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// needs is what the sync's user must be allowed on a cluster in one of its roles (spec §19).
type needs struct {
	cluster  []string // on the cluster
	everyDB  []string // on every collection of every database
	oplogToo bool     // reading local.oplog.rs
}

var (
	readingSet = []string{"appendOplogNote", "getDefaultRWConcern", "getShardMap", "hostInfo", "listDatabases", "listShards", "replSetGetConfig", "replSetGetStatus", "serverStatus"}
	blockSet   = []string{"setUserWriteBlockMode", "bypassWriteBlockingMode"}
	readAny    = []string{"changeStream", "collStats", "find", "indexStats", "listCollections", "listIndexes"}
	writeAny   = []string{"bypassDocumentValidation", "changeStream", "collMod", "convertToCapped", "createCollection", "createIndex", "dropCollection", "dropIndex",
		"enableSharding", "find", "indexStats", "insert", "listCollections", "listIndexes", "remove", "renameCollectionSameDB", "update"}
)

// roles are the roles of a cluster in a sync. "writeBlocking" is what a source needs besides, if its users are to be blocked.
var roles = map[string]needs{
	"source":        {cluster: readingSet, everyDB: readAny, oplogToo: true},
	"destination":   {cluster: append(append(slices.Clone(readingSet), "enableSharding"), blockSet...), everyDB: writeAny},
	"writeBlocking": {cluster: blockSet},
	"reverse":       {cluster: append(append(slices.Clone(readingSet), "enableSharding"), blockSet...), everyDB: append(append(slices.Clone(writeAny), "collStats"), "dropDatabase"), oplogToo: true},
}

// onlySharded are actions that nobody needs elsewhere.
var onlySharded = []string{"getShardMap", "listShards", "enableSharding"}

// privilege is an entry of connectionStatus.
type privilege struct {
	Resource struct {
		Cluster bool    `bson:"cluster"`
		Any     bool    `bson:"anyResource"`
		DB      *string `bson:"db"`
		Coll    *string `bson:"collection"`
	} `bson:"resource"`
	Actions []string `bson:"actions"`
}

// inspectPrivileges compares what the user may with what a sync needs. With access control off everybody may everything.
func (c *Cluster) inspectPrivileges(ctx context.Context, caps *capabilities, info *clustersync.Info) error {
	raw, err := c.run(ctx, "read privileges", "admin", bson.D{{Key: "connectionStatus", Value: 1}, {Key: "showPrivileges", Value: true}})
	if err != nil {
		return passingOnly(err)
	}
	var status struct {
		Auth struct {
			Users      []bson.Raw  `bson:"authenticatedUsers"`
			Roles      []bson.Raw  `bson:"authenticatedUserRoles"`
			Privileges []privilege `bson:"authenticatedUserPrivileges"`
		} `bson:"authInfo"`
	}
	if err := bson.Unmarshal(raw, &status); err != nil {
		return c.failed("read privileges", err)
	}
	if info.AuthOff = len(status.Auth.Users) == 0; info.AuthOff {
		info.CanBlock = false // every client may bypass a block
		return nil
	}
	if len(status.Auth.Privileges) == 0 && len(status.Auth.Roles) > 0 {
		info.Warnings = append(info.Warnings, info.Name+": the server does not tell what its user may do")
		return nil
	}
	info.Missing = map[string][]string{}
	for role, need := range roles {
		if missing := need.missing(status.Auth.Privileges, caps); len(missing) > 0 {
			info.Missing[role] = missing
		}
	}
	return nil
}

// missing lists the actions that no privilege grants, each once. What a server does not have at all cannot be missed.
func (n needs) missing(have []privilege, caps *capabilities) []string {
	var out []string
	lacks := func(actions []string, on func(privilege) bool) {
		for _, action := range actions {
			unknown := slices.Contains(onlySharded, action) && !caps.sharded || slices.Contains(blockSet, action) && !caps.writeBlock || !caps.oplogNote && !slices.Contains(basic, action)
			if !unknown && !granted(have, action, on) && !slices.Contains(out, action) {
				out = append(out, action)
			}
		}
	}
	lacks(n.cluster, func(p privilege) bool { return p.Resource.Cluster || p.Resource.Any })
	lacks(n.everyDB, privilege.everywhere)
	if n.oplogToo && caps.oplogNote && !granted(have, "find", func(p privilege) bool { return p.everywhere() || p.on("local", "oplog.rs") }) {
		out = append(out, "find on local.oplog.rs")
	}
	return out
}

// basic are the actions that servers which are not MongoDB know of, too.
var basic = []string{"listDatabases", "find", "listCollections", "listIndexes", "insert", "update", "remove", "createCollection", "createIndex", "dropCollection", "dropIndex"}

func granted(have []privilege, action string, on func(privilege) bool) bool {
	return slices.ContainsFunc(have, func(p privilege) bool {
		return on(p) && (slices.Contains(p.Actions, action) || slices.Contains(p.Actions, "anyAction"))
	})
}

func (p privilege) everywhere() bool {
	return p.Resource.Any || p.Resource.DB != nil && *p.Resource.DB == "" && p.Resource.Coll != nil && *p.Resource.Coll == ""
}

func (p privilege) on(db, coll string) bool {
	return p.Resource.DB != nil && *p.Resource.DB == db && p.Resource.Coll != nil && (*p.Resource.Coll == coll || *p.Resource.Coll == "")
}
