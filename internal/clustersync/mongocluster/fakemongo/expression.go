package fakemongo

import (
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// removed is the value of $$REMOVE.
type removed struct{}

// evaluate computes the few aggregation expressions that a sync uses.
func (s *Server) evaluate(e any, root, vars bson.D) (any, error) {
	switch x := e.(type) {
	case string:
		switch {
		case x == "$$NOW":
			return bson.NewDateTimeFromTime(time.Now()), nil
		case x == "$$ROOT":
			return root, nil
		case x == "$$REMOVE":
			return removed{}, nil
		case strings.HasPrefix(x, "$"):
			v, _ := at(root, x[1:])
			return v, nil
		}
		return x, nil
	case bson.A:
		out := make(bson.A, len(x))
		for i, part := range x {
			v, err := s.evaluate(part, root, vars)
			if err != nil {
				return nil, err
			}
			out[i] = v
		}
		return out, nil
	case bson.D:
		if len(x) == 1 && strings.HasPrefix(x[0].Key, "$") {
			return s.call(x[0].Key, x[0].Value, root, vars)
		}
		var out bson.D
		for _, member := range x {
			v, err := s.evaluate(member.Value, root, vars)
			if err != nil {
				return nil, err
			}
			out = append(out, bson.E{Key: member.Key, Value: v})
		}
		return out, nil
	}
	return e, nil
}

func (s *Server) call(name string, arg any, root, vars bson.D) (any, error) {
	switch name {
	case "$literal":
		return arg, nil
	case "$setField", "$getField":
		return s.field(name, arg.(bson.D), root, vars)
	}
	v, err := s.evaluate(arg, root, vars)
	if err != nil {
		return nil, err
	}
	args, isArray := v.(bson.A)
	if !isArray {
		args = bson.A{v}
	}
	switch name {
	case "$eq":
		return equal(args[0], args[1]), nil
	case "$lte":
		return order(args[0], args[1]) <= 0, nil
	case "$lt":
		return order(args[0], args[1]) < 0, nil
	case "$gte":
		return order(args[0], args[1]) >= 0, nil
	case "$not":
		return !truthy(args[0]), nil
	case "$and", "$or":
		for _, a := range args {
			if truthy(a) == (name == "$or") {
				return name == "$or", nil
			}
		}
		return name == "$and", nil
	case "$ifNull":
		if args[0] == nil {
			return args[1], nil
		}
		return args[0], nil
	case "$cond":
		if truthy(args[0]) {
			return args[1], nil
		}
		return args[2], nil
	case "$add":
		return integer(args[0]) + integer(args[1]), nil
	case "$toLong":
		return int64(args[0].(bson.DateTime)), nil
	}
	return nil, refuse(168, "Unrecognized expression '%s'", name)
}

func (s *Server) field(name string, arg, root, vars bson.D) (any, error) {
	field, err := s.evaluate(get(arg, "field"), root, vars)
	if err != nil {
		return nil, err
	}
	input, err := s.evaluate(get(arg, "input"), root, vars)
	if err != nil {
		return nil, err
	}
	doc, _ := input.(bson.D)
	if name == "$getField" {
		return get(doc, field.(string)), nil
	}
	v, err := s.evaluate(get(arg, "value"), root, vars)
	if _, gone := v.(removed); gone {
		return unset(doc, field.(string)), err
	}
	return set(doc, field.(string), v), err
}
