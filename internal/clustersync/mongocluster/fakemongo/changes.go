package fakemongo

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// stream is a change stream over the whole server.
type stream struct {
	after     bson.Timestamp
	inclusive bool // startAtOperationTime counts, a token is behind its event
	expanded  bool
	split     bool
	filter    bson.D
	parts     []bson.Raw // of a split event that did not fit
}

// changeStream opens a stream.
func (c *call) changeStream(stages []bson.Raw) (bson.Raw, error) {
	lacks := c.s.opts.Lacks
	if lacks["$changeStream"] || c.s.opts.Standalone {
		return nil, refuse(40573, "The $changeStream stage is only supported on replica sets")
	}
	options := decode(stages[0])[0].Value.(bson.D)
	st := &stream{after: c.s.state.clock}
	for _, e := range options {
		if lacks[e.Key] {
			return nil, refuse(40415, "BSON field '$changeStream.%s' is an unknown field.", e.Key)
		}
		switch e.Key {
		case "showExpandedEvents":
			st.expanded = truthy(e.Value)
		case "startAtOperationTime":
			st.after, st.inclusive = e.Value.(bson.Timestamp), true
		case "startAfter", "resumeAfter":
			at, ok := timeOfToken(marshal(e.Value))
			if !ok {
				return nil, refuse(260, "Bad resume token")
			}
			st.after = at
		case "allChangesForCluster", "fullDocument":
		default:
			return nil, refuse(40415, "BSON field '$changeStream.%s' is an unknown field.", e.Key)
		}
	}
	for _, raw := range stages[1:] {
		stage := decode(raw)[0]
		switch {
		case lacks[stage.Key]:
			return nil, refuse(40324, "Unrecognized pipeline stage name: '%s'", stage.Key)
		case stage.Key == "$match":
			st.filter = stage.Value.(bson.D)
		case stage.Key == "$changeStreamSplitLargeEvent":
			st.split = true
		default:
			return nil, refuse(40324, "Unrecognized pipeline stage name: '%s'", stage.Key)
		}
	}
	if st.after.Compare(c.s.state.floor) < 0 {
		return nil, refuse(286, "Resume of change stream was not possible, as the resume point may no longer be in the oplog.")
	}
	ns := "admin.$cmd.aggregate"
	id := c.s.keep(&cursor{ns: ns, stream: st}, true)
	return success(bson.E{Key: "cursor", Value: bson.D{{Key: "firstBatch", Value: bson.A{}}, {Key: "id", Value: id}, {Key: "ns", Value: ns}, {Key: "postBatchResumeToken", Value: st.token()}}}), nil
}

func (st *stream) token() bson.D {
	if st.inclusive { // a token is behind its event
		return token(bson.Timestamp{T: st.after.T, I: st.after.I - 1})
	}
	return token(st.after)
}

// next returns events behind the stream's place.
func (st *stream) next(s *Server, size int) (bson.A, error) {
	batch := bson.A{}
	if st.after.Compare(s.state.floor) < 0 {
		return nil, refuse(286, "the history is gone")
	}
	for len(st.parts) > 0 && len(batch) < size {
		batch, st.parts = append(batch, st.parts[0]), st.parts[1:]
	}
	from, _ := slices.BinarySearchFunc(s.state.events, st.after, func(e event, at bson.Timestamp) int { return e.at.Compare(at) })
	for _, e := range s.state.events[from:] {
		if len(batch) >= size {
			return batch, nil
		}
		if c := e.at.Compare(st.after); c < 0 || c == 0 && !st.inclusive {
			continue
		}
		st.after, st.inclusive = e.at, false
		if !e.plain && !st.expanded {
			continue
		}
		if ok, err := s.matches(e.doc, st.filter); err != nil || !ok {
			if err != nil {
				return nil, err
			}
			continue
		}
		parts := st.shape(s, e)
		for len(parts) > 0 && len(batch) < size {
			batch, parts = append(batch, parts[0]), parts[1:]
		}
		if st.parts = parts; len(parts) > 0 {
			return batch, nil
		}
	}
	if st.after.Compare(s.state.clock) < 0 {
		st.after, st.inclusive = s.state.clock, false // nothing more up to now
	}
	return batch, nil
}

// shape is an event as it is sent: in fragments, if it is large.
func (st *stream) shape(s *Server, e event) []bson.Raw {
	doc := append(bson.D{{Key: "_id", Value: token(e.at)}}, e.doc...)
	if !st.expanded {
		for _, name := range []string{"collectionUUID", "operationDescription"} {
			doc = unset(doc, name)
		}
	}
	whole := marshal(doc)
	if !st.split || s.opts.SplitBytes == 0 || len(whole) <= s.opts.SplitBytes {
		return []bson.Raw{whole}
	}
	var parts []bson.Raw
	for i, member := range []string{"fullDocument", "updateDescription"} {
		part := bson.D{{Key: "_id", Value: bson.D{{Key: "_data", Value: token(e.at)[0].Value.(string) + "0" + string(rune('1'+i))}}}}
		if i == 0 {
			part = append(part, unset(unset(e.doc, "fullDocument"), "updateDescription")...)
		}
		if v := get(e.doc, member); v != nil {
			part = append(part, bson.E{Key: member, Value: v})
		}
		parts = append(parts, marshal(append(part, bson.E{Key: "splitEvent", Value: bson.D{{Key: "fragment", Value: int32(i + 1)}, {Key: "of", Value: int32(2)}}})))
	}
	return parts
}

// wake tells waiting cursors that something has happened. The server is locked.
func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Log appends an entry to the oplog, as it would be written there; its time is added.
func (s *Server) Log(entry bson.D) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.log(entry)
	s.wake()
}
