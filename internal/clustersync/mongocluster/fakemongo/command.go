package fakemongo

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// call is a command on its way.
type call struct {
	s    *Server
	who  *session
	db   string
	raw  bson.Raw
	cmd  bson.D
	name string
}

// commands are all the fake knows. They run with the server locked, apart from getMore, which may wait.
var commands = map[string]func(*call) (bson.Raw, error){
	"hello": (*call).hello, "isMaster": (*call).hello, "ismaster": (*call).hello, "ping": (*call).ping, "buildInfo": (*call).buildInfo, "endSessions": (*call).ping,
	"saslStart": (*call).saslStart, "killCursors": (*call).killCursors, "connectionStatus": (*call).connectionStatus, "getParameter": (*call).ping, "serverStatus": (*call).serverStatus,
	"setUserWriteBlockMode": (*call).setWriteBlock, "appendOplogNote": (*call).appendNote, "listShards": (*call).listShards, "shardCollection": (*call).shardCollection, "balancerStatus": (*call).balancerStatus,
	"replSetGetConfig": (*call).replSetConfig, "dbStats": (*call).dbStats, "collStats": (*call).collStats, "validate": (*call).validate,
	"listDatabases": (*call).listDatabases, "listCollections": (*call).listCollections, "listIndexes": (*call).listIndexes,
	"create": (*call).create, "drop": (*call).drop, "dropDatabase": (*call).dropDatabase, "renameCollection": (*call).rename, "collMod": (*call).collMod,
	"createIndexes": (*call).createIndexes, "dropIndexes": (*call).dropIndexes,
	"find": (*call).find, "aggregate": (*call).aggregate,
	"insert": (*call).insert, "update": (*call).update, "delete": (*call).delete, "findAndModify": (*call).findAndModify,
}

// writes are the commands that the write block refuses.
var writes = []string{"create", "drop", "dropDatabase", "renameCollection", "collMod", "createIndexes", "dropIndexes", "insert", "update", "delete", "findAndModify"}

func (s *Server) run(ctx context.Context, who *session, name string, raw bson.Raw) bson.Raw {
	db, _ := raw.Lookup("$db").StringValueOK()
	c := &call{s: s, who: who, db: db, raw: raw, cmd: decode(raw), name: name}
	if name == "getMore" {
		return c.answer(c.getMore(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	handler, ok := commands[name]
	if !ok || s.opts.Lacks[name] {
		return failure(59, "no such command: '"+name+"'")
	}
	if s.state.blocked && slices.Contains(writes, name) && who.app != BypassApp && !slices.Contains([]string{"admin", "local", "config"}, c.target()) {
		return failure(371, "User writes blocked")
	}
	return c.answer(handler(c))
}

// target is the database that a command writes to.
func (c *call) target() string {
	if c.name == "renameCollection" {
		db, _, _ := strings.Cut(c.text("renameCollection"), ".")
		return db
	}
	return c.db
}

func (c *call) answer(answer bson.Raw, err error) bson.Raw {
	var r refusal
	var n notUnique
	switch {
	case errors.As(err, &n):
		return extend(failure(359, err.Error()), bson.E{Key: "violations", Value: n.violations})
	case errors.As(err, &r):
		return failure(r.code, r.message)
	case err != nil:
		return failure(1, err.Error())
	}
	return answer
}

// coll is the collection that the command names first; nil if there is none.
func (c *call) coll() *collection { return c.s.state.coll(c.db, c.text(c.name)) }

func (c *call) text(name string) string {
	text, _ := get(c.cmd, name).(string)
	return text
}

func (c *call) docs(name string) []bson.Raw {
	array, ok := c.raw.Lookup(name).ArrayOK()
	if !ok {
		return nil
	}
	values, _ := array.Values()
	out := make([]bson.Raw, len(values))
	for i, v := range values {
		out[i] = v.Document()
	}
	return out
}

func (c *call) doc(name string) bson.D {
	d, _ := get(c.cmd, name).(bson.D)
	return d
}

func (c *call) missing(ns string) error { return refuse(26, "ns not found: %s.%s", c.db, ns) }
