package rest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
)

// query reads the query parameters of a request by the rules of gateway-rest.md §2. All parameters of all
// endpoints are read through it.
type query struct {
	values url.Values
}

// parseQuery reads a query string. A malformed one is refused rather than read in part: a rev that got lost
// would turn an update into something else.
func parseQuery(raw string) (query, error) {
	if raw == "" {
		return query{}, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return query{}, tidegate.Errorf(tidegate.Invalid, "Bad query string")
	}
	return query{values}, nil
}

// has reports whether the parameter is there, be it empty.
func (q query) has(name string) bool { return q.values.Has(name) }

// text returns a parameter as it is; "" if absent.
func (q query) text(name string) string { return q.values.Get(name) }

// boolean returns a true/false parameter: also 1/0 and t/f; absent takes the default, and what cannot be
// parsed counts as false.
func (q query) boolean(name string, absent bool) bool {
	if !q.values.Has(name) {
		return absent
	}
	return parseBool(q.values.Get(name))
}

func parseBool(s string) bool {
	v, err := strconv.ParseBool(s)
	return err == nil && v
}

// integer returns a non-negative number; absent, negative or unparsable gives the default.
func (q query) integer(name string, def uint64) uint64 {
	text := q.values.Get(name)
	if text == "" {
		return def // the usual case: an error would cost more than all the rest
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return def
	}
	return n
}

// jsonText returns a parameter that may come as a JSON string ("abc" in quotes) or bare (abc).
func (q query) jsonText(name string) string { return unquoteParam(q.values.Get(name)) }

// jsonTextOf is jsonText for a parameter with several spellings; ok tells whether one is there.
func (q query) jsonTextOf(names ...string) (value string, ok bool) {
	for _, name := range names {
		if q.values.Has(name) {
			return q.jsonText(name), true
		}
	}
	return "", false
}

func unquoteParam(s string) string {
	if len(s) < 2 || s[0] != '"' {
		return s
	}
	var unquoted string
	if json.Unmarshal([]byte(s), &unquoted) != nil {
		return s
	}
	return unquoted
}

// array returns a parameter that is a JSON array of strings; nil if absent. Anything else is the 400 of
// gateway-rest.md §11.3.
func (q query) array(name string) ([]string, error) {
	if !q.values.Has(name) {
		return nil, nil
	}
	list, ok := parseStrings(q.values.Get(name))
	if !ok {
		return nil, tidegate.Errorf(tidegate.Invalid, "%s URL param is not a JSON string array", name)
	}
	return list, nil
}

// parseStrings reads a JSON array of strings, and nothing but that.
func parseStrings(s string) ([]string, bool) {
	if !strings.HasPrefix(strings.TrimSpace(s), "[") {
		return nil, false
	}
	list := []string{}
	var raw []json.RawMessage
	if json.Unmarshal([]byte(s), &raw) != nil {
		return nil, false
	}
	for _, e := range raw {
		var one string
		if !bytes.HasPrefix(e, []byte{'"'}) || json.Unmarshal(e, &one) != nil {
			return nil, false
		}
		list = append(list, one)
	}
	return list, true
}

// revs returns a parameter that is a JSON array of revision IDs.
func (q query) revs(name string) ([]tidegate.RevID, error) {
	list, err := q.array(name)
	if err != nil || list == nil {
		return nil, err
	}
	return parseRevs(list)
}

func parseRevs(list []string) ([]tidegate.RevID, error) {
	revs := make([]tidegate.RevID, len(list))
	for i, s := range list {
		rev, err := tidegate.ParseRevID(s)
		if err != nil {
			return nil, err
		}
		revs[i] = rev
	}
	return revs, nil
}

// rev returns the revision a request names: the rev parameter, else the If-Match header, quoted or not
// (gateway-rest.md §11.4). Zero if there is neither.
func (q query) rev(h http.Header) (tidegate.RevID, error) {
	s := q.values.Get("rev")
	if s == "" {
		s = unquoteETag(h.Get("If-Match"))
	}
	if s == "" {
		return tidegate.RevID{}, nil
	}
	return tidegate.ParseRevID(s)
}

// unquoteETag takes the quotes (and a weakness mark) off an entity tag; one without quotes is returned as it
// is.
func unquoteETag(s string) string {
	s = strings.TrimPrefix(strings.TrimSpace(s), "W/")
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
