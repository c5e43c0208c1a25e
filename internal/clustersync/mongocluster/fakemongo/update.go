package fakemongo

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// updated is a document after an update; nil before means that it is made by an upsert whose filter gives the _id.
func (s *Server) updated(before bson.Raw, id any, u any) (after bson.Raw, replaced bool, err error) {
	var d bson.D
	if before != nil {
		d = decode(before)
	}
	switch x := u.(type) {
	case bson.A:
		d, err = s.pipeline(d, x)
		return marshal(withID(d, id)), false, err
	case bson.D:
		if len(x) == 0 || !strings.HasPrefix(x[0].Key, "$") {
			for _, e := range x {
				if strings.HasPrefix(e.Key, "$") {
					return nil, false, refuse(52, "The dollar ($) prefixed field '%s' is not allowed in the context of an update's replacement document", e.Key)
				}
			}
			return marshal(withID(x, id)), true, nil
		}
		d = withID(d, id)
		for _, op := range x {
			if d, err = modify(d, op); err != nil {
				return nil, false, err
			}
		}
		return marshal(d), false, nil
	}
	return nil, false, refuse(9, "update of an unknown kind")
}

// withID puts the _id into a document that has none, in front.
func withID(d bson.D, id any) bson.D {
	if get(d, "_id") != nil {
		return d
	}
	return append(bson.D{{Key: "_id", Value: id}}, d...)
}

func modify(d bson.D, op bson.E) (bson.D, error) {
	for _, e := range op.Value.(bson.D) {
		path := strings.Split(e.Key, ".")
		was, _ := at(d, e.Key)
		switch op.Key {
		case "$set":
			d = put(d, path, e.Value)
		case "$unset":
			d = cut(d, path)
		case "$inc":
			d = put(d, path, integer(was)+integer(e.Value))
		case "$push":
			array, _ := was.(bson.A)
			spec := e.Value.(bson.D)
			array = append(slices.Clone(array), get(spec, "$each").(bson.A)...)
			d = put(d, path, array[:min(int64(len(array)), integer(get(spec, "$slice")))])
		default:
			return nil, refuse(9, "Unknown modifier: %s", op.Key)
		}
	}
	return d, nil
}

func (s *Server) pipeline(d bson.D, stages bson.A) (bson.D, error) {
	for _, stage := range stages {
		e := stage.(bson.D)[0]
		switch e.Key {
		case "$set":
			next := d
			for _, member := range e.Value.(bson.D) {
				v, err := s.evaluate(member.Value, d, nil)
				if err != nil {
					return nil, err
				}
				next = set(next, member.Key, v)
			}
			d = next
		case "$unset":
			for _, name := range e.Value.(bson.A) {
				d = unset(d, name.(string))
			}
		case "$replaceWith":
			v, err := s.evaluate(e.Value, d, nil)
			if err != nil {
				return nil, err
			}
			d = v.(bson.D)
		default:
			return nil, refuse(40324, "Unrecognized pipeline stage name: '%s'", e.Key)
		}
	}
	return d, nil
}
