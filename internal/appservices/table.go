package appservices

import (
	"slices"
	"strings"
)

// need says who may call an endpoint.
type need uint8

const (
	nobody   need = iota // no access token: the endpoints of logins
	somebody             // who is logged in; whoever does not read must be an owner
)

// row is an endpoint. Segments of the pattern in braces are variables.
type row struct {
	method, pattern string
	needs           need
	handler         func(*call) error
}

// item is what a pattern leads to.
type item struct {
	pattern  string
	segments []string
	rows     map[string]*row // by method
	allow    string
}

// table finds the item of a path. There are few enough of them to look at each.
type table struct{ items []*item }

func newTable(rows []row) *table {
	t := &table{}
	byPattern := map[string]*item{}
	for i := range rows {
		r := &rows[i]
		it := byPattern[r.pattern]
		if it == nil {
			it = &item{pattern: r.pattern, segments: strings.Split(r.pattern[1:], "/"), rows: map[string]*row{}}
			byPattern[r.pattern] = it
			t.items = append(t.items, it)
		}
		it.rows[r.method] = r
	}
	for _, it := range t.items {
		var methods []string
		for m := range it.rows {
			methods = append(methods, m)
		}
		slices.Sort(methods)
		it.allow = strings.Join(methods, ", ")
	}
	// A segment that is named wins over a variable.
	slices.SortStableFunc(t.items, func(a, b *item) int { return a.variables() - b.variables() })
	return t
}

func (it *item) variables() int {
	n := 0
	for _, seg := range it.segments {
		if seg[0] == '{' {
			n++
		}
	}
	return n
}

// find returns the item of a path and the values of its variables; nil if there is none. One trailing slash is optional.
func (t *table) find(path string) (*item, map[string]string) {
	segments := strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
	for _, it := range t.items {
		if vars, ok := it.match(segments); ok {
			return it, vars
		}
	}
	return nil, nil
}

func (it *item) match(segments []string) (map[string]string, bool) {
	if len(segments) != len(it.segments) {
		return nil, false
	}
	vars := map[string]string{}
	for i, seg := range it.segments {
		switch {
		case seg[0] == '{' && segments[i] != "":
			vars[seg[1:len(seg)-1]] = segments[i]
		case seg != segments[i]:
			return nil, false
		}
	}
	return vars, true
}
