package replicate

import (
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/store"
)

// maxCollections bounds how many collections one connection may name.
const maxCollections = 1000

// handleGetCollections answers getCollections: from now on messages name collections by their place in the list
// (replication.md §5.3).
func (c *connection) handleGetCollections(r *blip.Request) error {
	if c.answering.Load() {
		return errAnswerPending
	}
	names, clients, err := parseCollections(r.Body())
	if err != nil {
		return err
	}
	collections := make([]*collection, len(names))
	answer, seen := []byte{'['}, make(map[store.Collection]bool, len(names))
	for i, name := range names {
		if i > 0 {
			answer = append(answer, ',')
		}
		scope, coll, err := splitCollection(name)
		if err != nil {
			return err
		}
		id, err := c.peer.DB.Collection(scope, coll)
		if err != nil {
			answer = append(answer, "null"...)
			continue
		}
		if seen[id] { // each would have a subscription of its own
			return errTwice
		}
		seen[id] = true
		collections[i] = c.newCollection(i, id)
		checkpoint, err := collections[i].checkpoint(c.ctx(), clients[i])
		if err != nil {
			return err
		}
		if answer = append(answer, checkpoint...); len(answer) > maxCheckpoints {
			return errCheckpointsLarge
		}
	}
	c.setCollections(collections)
	c.answering.Store(true) // it cannot be waited for here, where the connection is read
	r.Respond(&blip.Message{Body: append(answer, ']'), Done: func() { c.answering.Store(false) }})
	return nil
}

// maxCheckpoints bounds the answer to getCollections, in bytes.
const maxCheckpoints = 8 << 20

// setCollections makes the list the connection's. What was subscribed to under an earlier list ends.
func (c *connection) setCollections(collections []*collection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, old := range c.all() {
		old.unsubscribe()
	}
	c.collections, c.plain, c.aware = collections, nil, true
}

// errCollectionsBody is the answer to a body of getCollections that makes no sense.
var errCollectionsBody = tidegate.Errorf(tidegate.Invalid, "Malformed getCollections body")

// parseCollections reads the body of getCollections.
func parseCollections(body []byte) (names, clients []string, err error) {
	if err := jsondoc.Check(body, jsondoc.Limits{Depth: maxRowDepth, Bytes: max(len(body), 1)}); err != nil {
		return nil, nil, errCollectionsBody
	}
	for _, list := range []struct {
		member string
		to     *[]string
	}{{"collections", &names}, {"checkpoint_ids", &clients}} {
		raw, _ := jsondoc.Get(body, list.member)
		items, err := elementsOf(raw, maxCollections)
		if err != nil {
			return nil, nil, errCollectionsBody
		}
		for _, item := range items {
			text, ok := jsondoc.Unquote(item)
			if !ok {
				return nil, nil, errCollectionsBody
			}
			*list.to = append(*list.to, text)
		}
	}
	if len(names) != len(clients) {
		return nil, nil, errCollectionsBody
	}
	return names, clients, nil
}

// splitCollection splits scope.name; a name alone is in the default scope.
func splitCollection(text string) (scope, name string, err error) {
	scope, name, dotted := strings.Cut(text, ".")
	if !dotted {
		scope, name = database.DefaultScope, scope
	}
	if scope == "" || name == "" || strings.Contains(name, ".") {
		return "", "", errCollectionsBody
	}
	return scope, name, nil
}
