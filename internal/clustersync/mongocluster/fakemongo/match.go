package fakemongo

import (
	"fmt"
	"regexp"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// refusal is an error that a client gets.
type refusal struct {
	code    int
	message string
}

func (r refusal) Error() string { return r.message }

func refuse(code int, format string, args ...any) error {
	return refusal{code, fmt.Sprintf(format, args...)}
}

// matches reports whether a filter takes a document.
func (s *Server) matches(d, filter bson.D) (bool, error) {
	for _, e := range filter {
		var ok bool
		var err error
		switch e.Key {
		case "$and", "$or":
			ok = e.Key == "$and"
			for _, part := range e.Value.(bson.A) {
				one, err := s.matches(d, part.(bson.D))
				if err != nil {
					return false, err
				}
				if one != ok {
					ok = one
					break
				}
			}
		case "$expr":
			var v any
			v, err = s.evaluate(e.Value, d, nil)
			ok = truthy(v)
		default:
			value, present := at(d, e.Key)
			ok, err = condition(value, present, e.Value)
		}
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// condition reports whether a value is what a filter asks for.
func condition(value any, present bool, want any) (bool, error) {
	switch w := want.(type) {
	case bson.Regex:
		text, ok := value.(string)
		return ok && regexp.MustCompile(w.Pattern).MatchString(text), nil
	case bson.D:
		if len(w) == 0 || w[0].Key == "" || w[0].Key[0] != '$' {
			break
		}
		for _, op := range w {
			ok, err := operator(value, present, op)
			if err != nil || !ok {
				return false, err
			}
		}
		return true, nil
	}
	return equal(value, want), nil
}

func operator(value any, present bool, op bson.E) (bool, error) {
	sameType := present && rankOf(value) == rankOf(op.Value)
	switch op.Key {
	case "$eq":
		return equal(value, op.Value), nil
	case "$ne":
		return !equal(value, op.Value), nil
	case "$gt":
		return sameType && order(value, op.Value) > 0, nil
	case "$gte":
		return sameType && order(value, op.Value) >= 0, nil
	case "$lt":
		return sameType && order(value, op.Value) < 0, nil
	case "$lte":
		return sameType && order(value, op.Value) <= 0, nil
	case "$in":
		return slices.ContainsFunc(op.Value.(bson.A), func(v any) bool { return equal(value, v) }), nil
	case "$not":
		ok, err := condition(value, present, op.Value)
		return !ok, err
	case "$exists":
		return present == truthy(op.Value), nil
	}
	return false, refuse(2, "unknown operator: %s", op.Key)
}

func truthy(v any) bool {
	switch x := v.(type) {
	case bool:
		return x
	case nil:
		return false
	}
	n, ok := float(v)
	return !ok || n != 0
}
