package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/tidegate/tidegate/internal/config"
)

// contract is api/openapi.yaml, which the server is held against.
type contract struct {
	doc        *openapi3.T
	operations map[string]*openapi3.Operation // by operationKey
	routes     map[*openapi3.Operation]*routers.Route
}

// readContract reads it once for all tests.
var readContract = sync.OnceValues(func() (*contract, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("../../api/openapi.yaml")
	if err != nil {
		return nil, err
	}
	c := &contract{doc, map[string]*openapi3.Operation{}, map[*openapi3.Operation]*routers.Route{}}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			c.routes[op] = &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: op}
			for _, tag := range op.Tags {
				c.operations[operationKey(tag, method, path)] = op
			}
		}
	}
	return c, doc.Validate(context.Background())
})

func loadContract(t testing.TB) *contract {
	t.Helper()
	c, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// listenersByTag are the tags that operations have.
var listenersByTag = map[string]listener{"public": public, "admin": admin, "metrics": metrics}

// operationKey names an operation so that the table and the contract agree: OpenAPI knows no variables that take
// several segments, and calls the first segment one thing only.
func operationKey(listener, method, path string) string {
	path = strings.ReplaceAll(path, "...}", "}")
	for _, name := range []string{"/{ks}", "/{keyspace}"} {
		if rest, ok := strings.CutPrefix(path, name); ok {
			path = "/{db}" + rest
		}
	}
	return listener + " " + method + " " + path
}

// rowKeys lists the operations of a route table in the same way.
func rowKeys(rows []route) map[string]bool {
	all := map[string]bool{}
	for _, rt := range rows {
		for tag, l := range listenersByTag {
			if rt.where&l == 0 {
				continue
			}
			for method := range strings.FieldsSeq(rt.methods) {
				all[operationKey(tag, method, rt.pattern)] = true
			}
		}
	}
	return all
}

// differences says where the contract and the table do not agree.
func (c *contract) differences(rows []route) []string {
	var diff []string
	described, routed := c.operations, rowKeys(rows)
	for key := range routed {
		if described[key] == nil {
			diff = append(diff, key+": a route that api/openapi.yaml does not describe")
		}
	}
	for key := range described {
		if !routed[key] {
			diff = append(diff, key+": described in api/openapi.yaml, but there is no such route")
		}
	}
	for path, item := range c.doc.Paths.Map() {
		for method, op := range item.Operations() {
			if len(op.Tags) == 0 {
				diff = append(diff, method+" "+path+": no tag says on which listener it is")
			}
			for _, tag := range op.Tags {
				if listenersByTag[tag] == 0 {
					diff = append(diff, method+" "+path+": no listener is called "+tag)
				}
			}
		}
	}
	slices.Sort(diff)
	return diff
}

func TestOpenAPIHasTheRoutesOfTheServer(t *testing.T) {
	c := loadContract(t)
	rows := newRig(t, rigOptions{}).server.routes()
	for _, d := range c.differences(rows) {
		t.Error(d)
	}
	// The check notices a route on either side alone, and a route on the wrong listener.
	if c.differences(append(rows, route{methods: "GET", pattern: "/{ks}/_new", where: admin})) == nil {
		t.Error("a route that is not described went unnoticed")
	}
	if c.differences(rows[1:]) == nil {
		t.Error("a description without a route went unnoticed")
	}
	moved := slices.Clone(rows)
	moved[0].where = metrics
	if c.differences(moved) == nil {
		t.Error("a route on another listener went unnoticed")
	}
}

// fault returns what is wrong with an answer to a request whose pattern is known; nil if nothing is.
func (c *contract) fault(key string, r *http.Request, vars map[string]string, status int, header http.Header, body []byte) error {
	op := c.operations[key]
	if op == nil {
		return fmt.Errorf("%s is not described", key)
	}
	explicit := op.Responses.Status(status)
	switch {
	case explicit == nil && status < 400:
		return fmt.Errorf("%s: status %d is not described", key, status)
	case r.Method == http.MethodHead:
		return nil // net/http sends no body
	case explicit != nil && len(explicit.Value.Content) == 0 && len(body) > 0:
		return fmt.Errorf("%s: status %d has a body, which is not described", key, status)
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: vars, QueryParams: r.URL.Query(), Route: c.routes[op],
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if status < 400 {
		if err := c.requestFault(op, in); err != nil {
			return fmt.Errorf("%s: a request that worked: %w", key, err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status, Header: header, Options: in.Options}
	out.SetBodyBytes(body)
	if err := openapi3filter.ValidateResponse(r.Context(), out); err != nil {
		return fmt.Errorf("%s: status %d: %w", key, status, err)
	}
	if media, params, _ := mime.ParseMediaType(header.Get("Content-Type")); status == http.StatusOK && strings.HasPrefix(media, "multipart/") {
		return c.partsFault(key, params["boundary"], body)
	}
	return nil
}

// requestFault checks a request that the server took: its parameters and body must be described too.
func (c *contract) requestFault(op *openapi3.Operation, in *openapi3filter.RequestValidationInput) error {
	for name := range in.QueryParams {
		item := in.Route.PathItem
		if op.Parameters.GetByInAndName(openapi3.ParameterInQuery, name) == nil && item.Parameters.GetByInAndName(openapi3.ParameterInQuery, name) == nil {
			return fmt.Errorf("the parameter %q is not described", name)
		}
	}
	return openapi3filter.ValidateRequest(in.Request.Context(), in)
}

// partsFault checks the JSON parts of a multipart answer.
func (c *contract) partsFault(key, boundary string, body []byte) error {
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: parts: %w", key, err)
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return fmt.Errorf("%s: parts: %w", key, err)
		}
		media, params, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		switch {
		case err != nil:
			return fmt.Errorf("%s: type of a part: %w", key, err)
		case strings.HasPrefix(media, "multipart/"):
			err = c.partsFault(key, params["boundary"], content)
		case params["error"] == "true" && !bytes.HasPrefix(content, []byte(`{"missing"`)):
			err = c.schemaFault("ItemError", content)
		case media == jsonType && params["error"] == "":
			err = c.schemaFault("Document", content)
		}
		if err != nil {
			return fmt.Errorf("%s: a part: %w", key, err)
		}
	}
}

func (c *contract) schemaFault(name string, body []byte) error {
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	return c.doc.Components.Schemas[name].Value.VisitJSON(v)
}

// tooManyLogins is a status that takes ten slow password checks to see; TestLoginFailuresAnswer429 does.
const tooManyLogins = "createSession 429"

func TestOpenAPIAnswers(t *testing.T) {
	c := loadContract(t)
	e := &exercise{t: t, c: c, seen: map[string]bool{}}
	e.run()
	// Everything that is described was seen: each operation on each of its listeners, and each status.
	for key, op := range c.operations {
		if !e.seen[key] && !e.seen[key+" refused"] {
			t.Errorf("%s: was not exercised", key)
		}
		for status := range op.Responses.Map() {
			if status != "default" && !e.sawStatus(op, status) && op.OperationID+" "+status != tooManyLogins {
				t.Errorf("%s: status %s is described and was never seen", op.OperationID, status)
			}
		}
	}
}

// exercise sends requests to a server and holds each answer against the contract.
type exercise struct {
	t    *testing.T
	c    *contract
	r    *rig
	seen map[string]bool // keys of operations that worked, and "operationId status"
}

func (e *exercise) sawStatus(op *openapi3.Operation, status string) bool {
	return e.seen[op.OperationID+" "+status]
}

// handler is the listener's handler.
func (e *exercise) handler(l listener) http.Handler {
	switch l {
	case public:
		return e.r.public
	case admin:
		return e.r.admin
	}
	return e.r.server.Metrics()
}

// call sends a request and checks the answer's status and form. Header lines are "Name: value".
func (e *exercise) call(l listener, method, target, body string, status int, header ...string) reply {
	e.t.Helper()
	if body != "" && !slices.ContainsFunc(header, func(h string) bool { return strings.HasPrefix(h, "Content-Type: ") }) {
		header = append(header, "Content-Type: application/json")
	}
	a := e.r.do(e.handler(l), method, target, body, header...)
	if a.status != status {
		e.t.Fatalf("%s %s %s: status %d, want %d: %s", l, method, target, a.status, status, a.body)
	}
	e.check(l, method, target, body, a, header...)
	return a
}

// check holds an answer against the contract.
func (e *exercise) check(l listener, method, target, body string, a reply, header ...string) {
	e.t.Helper()
	r := httptest.NewRequestWithContext(e.t.Context(), method, target, strings.NewReader(body))
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	res, values := newRouter(e.r.server.routesOf(l)).find(rawPath(r))
	if res == nil || res.routes[method] == nil {
		e.t.Fatalf("%s %s %s: no such route", l, method, target)
	}
	key := operationKey(l.String(), method, res.pattern)
	op := e.c.operations[key]
	if op == nil {
		e.t.Fatalf("%s is not described", key)
	}
	if err := e.c.fault(key, r, e.c.pathParams(op, values), a.status, a.header, []byte(a.body)); err != nil {
		e.t.Errorf("%v\nbody: %.500s", err, a.body)
	}
	e.seen[op.OperationID+" "+fmt.Sprint(a.status)] = true
	if a.status < 400 {
		e.seen[key] = true
	} else if op.Responses.Status(a.status) != nil {
		e.seen[key+" refused"] = e.refuses(key)
	}
}

// refuses tells the operations that do nothing but refuse.
func (e *exercise) refuses(key string) bool {
	return slices.Contains([]string{
		"public PUT /{db}/", "public PUT /{db}/_design/{ddoc}", "public DELETE /{db}/_design/{ddoc}", "admin POST /{db}/_repair",
	}, key)
}

// pathParams are the variables of a path under the names that the contract gives them.
func (c *contract) pathParams(op *openapi3.Operation, values pathVars) map[string]string {
	params, i := map[string]string{}, 0
	for seg := range strings.SplitSeq(c.routes[op].Path, "/") {
		if name, ok := strings.CutPrefix(seg, "{"); ok && i < values.n {
			params[strings.TrimSuffix(name, "}")], _ = url.PathUnescape(values.values[i])
			i++
		}
	}
	return params
}

func TestOpenAPIChecksSeeFaults(t *testing.T) {
	c := loadContract(t)
	jsonHeader := http.Header{"Content-Type": {jsonType}}
	written := http.Header{"Content-Type": {jsonType}, "Etag": {`"1-a"`}}
	for name, f := range map[string]struct {
		key, target, body string
		status            int
		header            http.Header
		good              bool
	}{
		"as described":                  {"admin GET /_all_dbs", "/_all_dbs", `["db"]`, 200, jsonHeader, true},
		"an operation nobody described": {"admin GET /{db}/_nothing", "/db/_nothing", `{}`, 200, jsonHeader, false},
		"another type":                  {"admin GET /_all_dbs", "/_all_dbs", `["db"]`, 200, http.Header{"Content-Type": {"text/plain"}}, false},
		"another schema":                {"admin GET /_all_dbs", "/_all_dbs", `[1]`, 200, jsonHeader, false},
		"another success":               {"admin GET /_all_dbs", "/_all_dbs", `["db"]`, 203, jsonHeader, false},
		"a parameter nobody described":  {"admin GET /_all_dbs", "/_all_dbs?sorted=true", `["db"]`, 200, jsonHeader, false},
		"an error":                      {"admin GET /_all_dbs", "/_all_dbs", `{"error":"x","reason":"y"}`, 500, jsonHeader, true},
		"an error with more":            {"admin GET /_all_dbs", "/_all_dbs", `{"error":"x","reason":"y","stack":"z"}`, 500, jsonHeader, false},
		"an error with less":            {"admin GET /_all_dbs", "/_all_dbs", `{"error":"x"}`, 500, jsonHeader, false},
		"a write":                       {"public DELETE /{db}/{docid}", "/db/a", `{"id":"a","ok":true,"rev":"1-a"}`, 200, written, true},
		"a write without ETag":          {"public DELETE /{db}/{docid}", "/db/a", `{"id":"a","ok":true,"rev":"1-a"}`, 200, jsonHeader, false},
		"a write with a bad revision":   {"public DELETE /{db}/{docid}", "/db/a", `{"id":"a","ok":true,"rev":"0-a"}`, 200, written, false},
		"a body where none belongs":     {"admin POST /{db}/_offline", "/db/_offline", `{}`, 200, jsonHeader, false},
		"a bad part": {"public GET /{db}/{docid}", "/db/a", "--x\r\nContent-Type: application/json\r\n\r\n[]\r\n--x--", 200,
			http.Header{"Content-Type": {`multipart/mixed; boundary="x"`}}, false},
	} {
		method := strings.Fields(f.key)[1]
		r := httptest.NewRequestWithContext(t.Context(), method, f.target, http.NoBody)
		vars := map[string]string{"db": "db", "keyspace": "db", "docid": "a"}
		if err := c.fault(f.key, r, vars, f.status, f.header, []byte(f.body)); (err == nil) != f.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The config of a database is what package config reads, no more and no less.
func TestOpenAPIConfigs(t *testing.T) {
	c := loadContract(t)
	for name, typ := range map[string]reflect.Type{
		"DatabaseConfig": reflect.TypeFor[config.Database](), "StartupConfig": reflect.TypeFor[withDatabases](),
	} {
		for _, d := range c.schemaDifferences(name, c.doc.Components.Schemas[name].Value, typ) {
			t.Error(d)
		}
	}
	type fewer struct {
		Name string `json:"name"`
	}
	if len(c.schemaDifferences("", c.doc.Components.Schemas["DatabaseConfig"].Value, reflect.TypeFor[fewer]())) == 0 {
		t.Error("keys that nobody reads went unnoticed")
	}
}

// withDatabases is what GET /_config shows with include_runtime.
type withDatabases struct {
	config.Startup
	Databases map[string]config.Database `json:"databases"`
}

// schemaDifferences compares a schema with the type that reads it, by its json tags.
func (c *contract) schemaDifferences(path string, s *openapi3.Schema, typ reflect.Type) []string {
	for {
		if kind := typ.Kind(); kind == reflect.Map && s.AdditionalProperties.Schema != nil {
			s = s.AdditionalProperties.Schema.Value
		} else if kind == reflect.Slice && s.Items != nil {
			s = s.Items.Value
		} else if kind != reflect.Pointer {
			break
		}
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return nil // a value
	}
	var diff []string
	known := map[string]bool{}
	for _, field := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		known[name] = true
		prop := s.Properties[name]
		if prop == nil {
			diff = append(diff, path+"."+name+": a key that the schema does not have")
			continue
		}
		diff = append(diff, c.schemaDifferences(path+"."+name, prop.Value, field.Type)...)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if !known[name] {
			diff = append(diff, path+"."+name+": a key that nobody reads")
		}
	}
	return diff
}

// docs/configuration.md says of every key what it does, but for those of parts that later versions bring.
func TestConfigurationPageHasEveryKey(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	for word := range strings.FieldsFuncSeq(string(page), func(r rune) bool {
		return r != '_' && (r < '0' || r > '9' && r < 'A' || r > 'Z' && r < 'a' || r > 'z')
	}) {
		words[word] = true
	}
	later := []string{"replications", "event_handlers", "oidc", "local_jwt", "audit"}
	keys := append(keysOf(reflect.TypeFor[config.Startup](), later), keysOf(reflect.TypeFor[config.Database](), later)...)
	for _, key := range keys {
		if !words[key] {
			t.Errorf("docs/configuration.md does not speak of %q", key)
		}
	}
	if len(keys) < 150 || words["no_such_key"] {
		t.Errorf("looked for %d keys", len(keys))
	}
}

// keysOf lists the keys of a type that is read from JSON, those of its members too, unless they are below shut.
func keysOf(typ reflect.Type, shut []string) []string {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Map || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return nil
	}
	var keys []string
	for _, field := range reflect.VisibleFields(typ) {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
			keys = append(keys, name)
			if !slices.Contains(shut, name) {
				keys = append(keys, keysOf(field.Type, shut)...)
			}
		}
	}
	return keys
}
