package rest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
)

// A router finds the route of a request by its undecoded path, so that "%2F" inside a variable does not
// split it (gateway-rest.md §2). Nothing is cleaned or redirected; one trailing slash is optional
// everywhere.
type router struct {
	root node
}

// node is a place in the tree of patterns. Literals win over the variable, which wins over the rest.
type node struct {
	literals map[string]*node
	variable *node
	rest     *node // a variable that takes everything that is left, slashes included
	resource *resource
	top      bool // what stands here is the first segment
}

// resource is what one pattern leads to: a route for each method.
type resource struct {
	pattern string
	vars    []string // names of the pattern's variables, in order
	routes  map[string]*route
	allow   string // value of the Allow header
	methods []string
}

// maxPathVars is the most variables a pattern may have.
const maxPathVars = 4

// pathVars holds the values of a pattern's variables, still percent-encoded, in order.
type pathVars struct {
	values [maxPathVars]string
	n      int
}

func (v *pathVars) push(s string) { v.values[v.n] = s; v.n++ }

// newRouter makes a router over the routes of one listener. Two routes with the same pattern and method are
// a mistake in the table, which the panic tells at start.
func newRouter(routes []route) *router {
	t := &router{root: node{top: true}}
	for i := range routes {
		rt := &routes[i]
		res := t.resource(rt.pattern)
		for method := range strings.FieldsSeq(rt.methods) {
			if res.routes[method] != nil {
				panic("rest: two routes for " + method + " " + rt.pattern)
			}
			res.routes[method] = rt
			res.methods = append(res.methods, method)
		}
		slices.Sort(res.methods)
		res.allow = strings.Join(res.methods, ", ")
	}
	return t
}

// resource returns the resource of a pattern, made if it is new.
func (t *router) resource(pattern string) *resource {
	n := &t.root
	var vars []string
	for seg := range strings.SplitSeq(strings.Trim(pattern, "/"), "/") {
		if seg == "" {
			continue // the root
		}
		name, isVar := strings.CutPrefix(seg, "{")
		if !isVar {
			n = n.literal(seg)
			continue
		}
		name = strings.TrimSuffix(name, "}")
		next := &n.variable
		if base, ok := strings.CutSuffix(name, "..."); ok {
			name, next = base, &n.rest
		}
		if *next == nil {
			*next = new(node)
		}
		n = *next
		vars = append(vars, name)
	}
	if len(vars) > maxPathVars {
		panic("rest: too many variables in " + pattern)
	}
	if n.resource == nil {
		n.resource = &resource{pattern: pattern, vars: vars, routes: make(map[string]*route)}
	}
	return n.resource
}

func (n *node) literal(seg string) *node {
	if n.literals == nil {
		n.literals = make(map[string]*node)
	}
	if n.literals[seg] == nil {
		n.literals[seg] = new(node)
	}
	return n.literals[seg]
}

// find returns the resource that path, undecoded, leads to and the values of its variables; nil if there is
// none. A variable never matches an empty segment, nor one that begins with "_": names of resources and of
// endpoints share the space, and an endpoint that does not exist must not look like a document.
func (t *router) find(path string) (*resource, pathVars) {
	var vars pathVars
	path, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, vars
	}
	if path == "" {
		return t.root.resource, vars
	}
	return t.root.find(strings.TrimSuffix(path, "/"), vars)
}

func (n *node) find(path string, vars pathVars) (*resource, pathVars) {
	seg, after, more := strings.Cut(path, "/")
	if next := n.literals[seg]; next != nil {
		if !more && next.resource != nil {
			return next.resource, vars
		}
		if more {
			if res, v := next.find(after, vars); res != nil {
				return res, v
			}
		}
	}
	if next := n.variable; next != nil && seg != "" && (seg[0] != '_' || n.underscored()) {
		v := vars
		v.push(seg)
		if !more && next.resource != nil {
			return next.resource, v
		}
		if more {
			if res, v := next.find(after, v); res != nil {
				return res, v
			}
		}
	}
	if next := n.rest; next != nil && path != "" {
		vars.push(path)
		return next.resource, vars
	}
	return nil, vars
}

// underscored reports whether the variable at n may begin with "_": only where no endpoints are beside it.
func (n *node) underscored() bool { return len(n.literals) == 0 && !n.top }

// rawPath is the path of a request as the client sent it. url.URL cannot be relied on for that: its
// EscapedPath re-encodes a path that holds a character it thinks should have been escaped, and in doing so
// turns "%2F" into "/".
func rawPath(r *http.Request) string {
	uri := r.RequestURI
	if uri == "" {
		return r.URL.EscapedPath()
	}
	if uri[0] != '/' { // absolute form, RFC 9112 §3.2.2
		_, rest, ok := strings.Cut(uri, "://")
		slash := strings.IndexByte(rest, '/')
		if !ok || slash < 0 {
			return r.URL.EscapedPath()
		}
		uri = rest[slash:]
	}
	path, _, _ := strings.Cut(uri, "?")
	return path
}

// decodePath percent-decodes one variable, once. "+" stays "+".
func decodePath(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	decoded, err := url.PathUnescape(s)
	if err != nil {
		return "", tidegate.Errorf(tidegate.Invalid, "Bad percent-encoding in the path")
	}
	return decoded, nil
}
