package mongocluster_test

import "go.mongodb.org/mongo-driver/v2/bson"

// userWithAll is the authInfo of a user who may do everything.
var userWithAll = bson.D{
	{Key: "authenticatedUsers", Value: bson.A{bson.D{{Key: "user", Value: "sync"}, {Key: "db", Value: "admin"}}}},
	{Key: "authenticatedUserRoles", Value: bson.A{bson.D{{Key: "role", Value: "root"}, {Key: "db", Value: "admin"}}}},
	{Key: "authenticatedUserPrivileges", Value: bson.A{bson.D{{Key: "resource", Value: bson.D{{Key: "anyResource", Value: true}}}, {Key: "actions", Value: bson.A{"anyAction"}}}}},
}
