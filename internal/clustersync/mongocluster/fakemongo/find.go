package fakemongo

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// defaultBatch is how many documents the first answer has that nobody has said a number for.
const defaultBatch = 101

// cursor is a cursor with what it has still to give; of a change stream it is the place where that stream is.
type cursor struct {
	rest    []bson.Raw
	ns      string
	stream  *stream
	records func(bson.Raw) int64 // of a natural read whose places are told
}

// find reads a collection, local.oplog.rs or a little of config.
func (c *call) find() (bson.Raw, error) {
	name := c.text("find")
	if refused := c.wrongUUID(name); refused != nil {
		return refused, nil
	}
	docs, err := c.selected(name)
	if err == nil {
		docs, err = c.resumed(docs, name)
	}
	if err != nil {
		return nil, err
	}
	var out []bson.Raw
	for _, doc := range docs {
		ok, err := c.s.matches(decode(doc), c.doc("filter"))
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, doc)
		}
	}
	if limit := integer(get(c.cmd, "limit")); limit > 0 && int64(len(out)) > limit {
		out = out[:limit]
	}
	if truthy(get(c.cmd, "showRecordId")) && !c.s.opts.Lacks["showRecordId"] {
		for i, doc := range out {
			out[i] = extend(doc, bson.E{Key: "$recordId", Value: c.record(name, doc)})
		}
	}
	return c.cursor(out, name), nil
}

// record is the number of a document's record.
func (c *call) record(name string, doc bson.Raw) int64 {
	if coll := c.s.state.coll(c.db, name); coll != nil {
		return int64(coll.byKey[keyText(idOf(doc))]) + 1
	}
	return 0
}

// resumed leaves out what is not behind the record to resume after, which must be there.
func (c *call) resumed(docs []bson.Raw, name string) ([]bson.Raw, error) {
	after := c.doc("$_resumeAfter")
	if get(c.cmd, "$_requestResumeToken") != nil && c.s.opts.Lacks["$_requestResumeToken"] {
		return nil, refuse(40415, "BSON field 'find.$_requestResumeToken' is an unknown field.")
	}
	if after == nil {
		return docs, nil
	}
	for i, doc := range docs {
		if c.record(name, doc) == integer(get(after, "$recordId")) {
			return docs[i+1:], nil
		}
	}
	return nil, refuse(211, "the recordId from which we are attempting to resume no longer exists")
}

// place is where a batch of a natural read ends.
func (cur *cursor) place(batch bson.A) []bson.E {
	if cur.records == nil {
		return nil
	}
	var last any
	if n := len(batch); n > 0 {
		last = cur.records(batch[n-1].(bson.Raw))
	}
	return []bson.E{{Key: "postBatchResumeToken", Value: bson.D{{Key: "$recordId", Value: last}}}}
}

// selected returns the documents in their order, within min and max.
func (c *call) selected(name string) ([]bson.Raw, error) {
	docs := c.source(name)
	ignores := c.s.opts.Ignores
	low, high := c.doc("min"), c.doc("max")
	if (low != nil || high != nil) && !ignores["min"] {
		if c.doc("hint") == nil {
			return nil, refuse(51173, "When using min()/max() a hint of which index to use must be provided")
		}
		docs = slices.DeleteFunc(docs, func(doc bson.Raw) bool {
			id := idOf(doc)
			return low != nil && order(id, get(low, "_id")) < 0 || high != nil && order(id, get(high, "_id")) >= 0
		})
	}
	direction := int64(1)
	switch sort, hint := c.doc("sort"), c.doc("hint"); {
	case get(sort, "$natural") != nil:
		if integer(get(sort, "$natural")) < 0 {
			slices.Reverse(docs)
		}
		return docs, nil
	case get(sort, "_id") != nil:
		direction = integer(get(sort, "_id"))
	case get(hint, "_id") != nil && !ignores["hint"]:
	default:
		return docs, nil
	}
	slices.SortStableFunc(docs, func(a, b bson.Raw) int { return int(direction) * order(idOf(a), idOf(b)) })
	return docs, nil
}

// source returns the documents of a namespace in the order of insertion.
func (c *call) source(name string) []bson.Raw {
	switch {
	case c.db == "local" && name == "oplog.rs":
		return slices.Clone(c.s.state.oplog)
	case c.db == "config" && name == "collections":
		var out []bson.Raw
		for ns, key := range c.s.opts.ShardKeys {
			out = append(out, marshal(bson.D{{Key: "_id", Value: ns}, {Key: "key", Value: key}}))
		}
		return out
	case c.db == "config" && name == "version":
		id, _ := bson.ObjectIDFromHex("65a000000000000000000002")
		return []bson.Raw{marshal(bson.D{{Key: "_id", Value: int32(1)}, {Key: "clusterId", Value: id}})}
	}
	coll := c.s.state.coll(c.db, name)
	if coll == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(coll.docs), func(doc bson.Raw) bool { return doc == nil })
}

// wrongUUID is the answer to a read with another collection's UUID; nil if there is nothing wrong.
func (c *call) wrongUUID(name string) bson.Raw {
	want, ok := get(c.cmd, "collectionUUID").(bson.Binary)
	if !ok || c.s.opts.Ignores["collectionUUID"] {
		return nil
	}
	if coll := c.s.state.coll(c.db, name); coll != nil && coll.uuid.Equal(want) {
		return nil
	}
	var actual any
	for _, coll := range c.s.state.dbs[c.db] {
		if coll.uuid.Equal(want) {
			actual = coll.name
		}
	}
	return extend(failure(361, "Collection UUID does not match that specified"), bson.E{Key: "actualCollection", Value: actual})
}

// cursor makes the first answer with documents.
func (c *call) cursor(docs []bson.Raw, name string) bson.Raw {
	size := defaultBatch
	for _, d := range []bson.D{c.cmd, c.doc("cursor")} {
		if n := get(d, "batchSize"); n != nil {
			size = int(integer(n))
		}
	}
	first, rest := c.s.take(docs, size)
	cur := &cursor{rest: rest, ns: c.db + "." + name}
	if get(c.cmd, "$_requestResumeToken") != nil && !c.s.opts.Ignores["$_requestResumeToken"] {
		cur.records = func(doc bson.Raw) int64 { return c.record(name, doc) }
	}
	reply := bson.D{{Key: "firstBatch", Value: first}, {Key: "id", Value: c.s.keep(cur, len(rest) > 0)}, {Key: "ns", Value: cur.ns}}
	return success(bson.E{Key: "cursor", Value: append(reply, cur.place(first)...)})
}

// take cuts a batch off, by number and bytes.
func (s *Server) take(docs []bson.Raw, size int) (first bson.A, rest []bson.Raw) {
	first = bson.A{}
	bytes, most := 0, cmp.Or(s.opts.MaxReply, 16<<20)
	for len(docs) > 0 && len(first) < size && (len(first) == 0 || bytes+len(docs[0]) <= most) {
		bytes += len(docs[0])
		first = append(first, docs[0])
		docs = docs[1:]
	}
	return first, docs
}

// keep gives an open cursor its number; a finished one has none.
func (s *Server) keep(cur *cursor, open bool) int64 {
	if !open {
		return 0
	}
	s.nextID++
	s.cursors[s.nextID] = cur
	return s.nextID
}

// getMore goes on with a cursor. A change stream's waits for what happens.
func (c *call) getMore(ctx context.Context) (bson.Raw, error) {
	id, size := integer(get(c.cmd, "getMore")), int(integer(get(c.cmd, "batchSize")))
	if size == 0 {
		size = 100_000
	}
	deadline := time.Now().Add(time.Duration(integer(get(c.cmd, "maxTimeMS"))) * time.Millisecond)
	for {
		c.s.mu.Lock()
		cur := c.s.cursors[id]
		changed := c.s.changed
		if cur == nil {
			c.s.mu.Unlock()
			return nil, refuse(43, "cursor id %d not found", id)
		}
		if cur.stream == nil {
			first, rest := c.s.take(cur.rest, size)
			place := cur.place(first)
			if cur.rest = rest; len(rest) == 0 {
				delete(c.s.cursors, id)
				id = 0
			}
			c.s.mu.Unlock()
			return success(bson.E{Key: "cursor", Value: append(bson.D{{Key: "nextBatch", Value: first}, {Key: "id", Value: id}, {Key: "ns", Value: cur.ns}}, place...)}), nil
		}
		batch, err := cur.stream.next(c.s, size)
		token := cur.stream.token()
		c.s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if len(batch) > 0 || !time.Now().Before(deadline) {
			return success(bson.E{Key: "cursor", Value: bson.D{{Key: "nextBatch", Value: batch}, {Key: "id", Value: id}, {Key: "ns", Value: cur.ns}, {Key: "postBatchResumeToken", Value: token}}}), nil
		}
		if waitChange(ctx, changed, time.Until(deadline)) != nil {
			return nil, refuse(11600, "shutting down")
		}
	}
}

func waitChange(ctx context.Context, changed <-chan struct{}, most time.Duration) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-timer.C:
	}
	return nil
}

func (c *call) killCursors() (bson.Raw, error) {
	for _, id := range get(c.cmd, "cursors").(bson.A) {
		delete(c.s.cursors, integer(id))
	}
	return success(), nil
}

// aggregate knows change streams, and what cuts and measures a collection.
func (c *call) aggregate() (bson.Raw, error) {
	stages := c.docs("pipeline")
	if len(stages) > 0 && stages[0].Lookup("$changeStream").Type == bson.TypeEmbeddedDocument {
		return c.changeStream(stages)
	}
	name := c.text("aggregate")
	docs := c.source(name)
	for _, raw := range stages {
		stage := decode(raw)[0]
		if c.s.opts.Lacks[stage.Key] {
			return nil, refuse(40324, "Unrecognized pipeline stage name: '%s'", stage.Key)
		}
		switch stage.Key {
		case "$sample":
			docs = sample(docs, int(integer(get(stage.Value.(bson.D), "size"))))
		case "$project":
		case "$bucketAuto":
			docs = buckets(docs, int(integer(get(stage.Value.(bson.D), "buckets"))))
		case "$collStats":
			stats, _ := c.collStats()
			docs = []bson.Raw{marshal(bson.D{{Key: "storageStats", Value: stats}})}
		default:
			return nil, refuse(40324, "Unrecognized pipeline stage name: '%s'", stage.Key)
		}
	}
	return c.cursor(docs, name), nil
}

// sample takes every n-th document.
func sample(docs []bson.Raw, size int) []bson.Raw {
	if size >= len(docs) || size == 0 {
		return docs
	}
	var out []bson.Raw
	for i := range size {
		out = append(out, docs[i*len(docs)/size])
	}
	return out
}

func buckets(docs []bson.Raw, n int) []bson.Raw {
	slices.SortFunc(docs, func(a, b bson.Raw) int { return order(idOf(a), idOf(b)) })
	var out []bson.Raw
	for i := range min(n, len(docs)) {
		from, to := i*len(docs)/n, (i+1)*len(docs)/n
		if from < to {
			out = append(out, marshal(bson.D{{Key: "_id", Value: bson.D{{Key: "min", Value: idOf(docs[from])}, {Key: "max", Value: idOf(docs[min(to, len(docs)-1)])}}}, {Key: "count", Value: fmt.Sprint(to - from)}}))
		}
	}
	return out
}
