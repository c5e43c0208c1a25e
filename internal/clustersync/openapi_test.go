package clustersync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// readContract reads api/clustersync-openapi.yaml, which every answer of every test of this package is held against.
var readContract = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("../../api/clustersync-openapi.yaml")
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background())
})

// checkAnswer holds an answer against the contract. Paths that are not in it are for those who look for what is not there.
func checkAnswer(t testing.TB, req *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	doc, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	path := req.URL.Path
	if path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	item := doc.Paths.Value(path)
	if item == nil {
		return
	}
	method := req.Method
	op := item.GetOperation(method)
	if op == nil {
		// What is refused for its method is described with the one that is right.
		for m, o := range item.Operations() {
			method, op = m, o
		}
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: req, Route: &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: op},
		},
		Status: w.Code, Header: w.Result().Header, Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	kind, _, _ := mime.ParseMediaType(w.Header().Get("Content-Type"))
	if described := op.Responses.Status(w.Code); described != nil && described.Value.Content.Get(kind) == nil {
		t.Errorf("%s %s answers with %q, which the contract does not know", req.Method, path, kind)
	}
	if kind != "application/json" {
		input.Options.ExcludeResponseBody = true
	}
	if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
		t.Errorf("%s %s: %v\n%d %s", req.Method, path, err, w.Code, w.Body)
	}
}

// The routes are those of the contract, and none else.
func TestContractRoutes(t *testing.T) {
	doc, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.bring("IDLE")
		routes := r.api.Routes()
		for path, item := range doc.Paths.Map() {
			for method := range item.Operations() {
				if routes[path] != method {
					t.Errorf("%s %s is in the contract and not served", method, path)
				}
			}
		}
		for path, method := range routes {
			if item := doc.Paths.Value(path); item == nil || item.GetOperation(method) == nil {
				t.Errorf("%s %s is served and not in the contract", method, path)
			}
		}
		for path := range routes {
			req := httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil)
			w := httptest.NewRecorder()
			r.api.ServeHTTP(w, req)
			checkAnswer(t, req, w)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// Bodies of /start that the contract takes are those that the parser takes.
func TestContractOfStart(t *testing.T) {
	doc, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	schema := doc.Components.Schemas["Start"].Value
	const pair = `"source":"cluster0","destination":"cluster1"`
	for body, good := range map[string]bool{
		`{` + pair + `}`: true,
		`{` + pair + `,"reversible":true,"enableUserWriteBlocking":"none","buildIndexes":"never","detectRandomId":false,"skipDiskSpaceCheck":true}`:                                  true,
		`{` + pair + `,"enableUserWriteBlocking":true,"verification":{"enabled":false},"preExistingDestinationData":true,"destinationDataHandling":"requireEmptyDestination"}`:       true,
		`{` + pair + `,"includeNamespaces":[{"database":"a","collections":["b"]},{"databaseRegex":{"pattern":"a","options":"i"},"collectionsRegex":{"pattern":"b"}}]}`:               true,
		`{` + pair + `,"excludeNamespaces":[{"database":"a"}],"copyInNaturalOrder":[{"database":"."}]}`:                                                                              true,
		`{` + pair + `,"sharding":{"createSupportingIndexes":true,"shardingEntries":[{"database":"a","collection":"b","shardCollection":{"key":[{"x":1},{"y":"hashed"}]}}]}}`:        true,
		`{` + pair + `,"namespaceRemap":[{"from":{"database":"a"},"to":{"database":"b"}}],"documentFilter":{"field":"a","matchValues":[1,"x",{"$oid":"0123456789abcdef01234567"}]}}`: true,
		`{` + pair + `,"more":1}`:                                    false,
		`{` + pair + `,"reversible":"yes"}`:                          false,
		`{` + pair + `,"reversible":null}`:                           false,
		`{` + pair + `,"enableUserWriteBlocking":1}`:                 false,
		`{` + pair + `,"includeNamespaces":[{"db":"a"}]}`:            false,
		`{` + pair + `,"verification":{"enabled":true,"on":true}}`:   false,
		`{` + pair + `,"documentFilter":{"field":1}}`:                false,
		`{` + pair + `,"namespaceRemap":[{"from":"a","to":"b"}]}`:    false,
		`{` + pair + `,"sharding":{"shardingEntries":[{"ns":"a"}]}}`: false,
	} {
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatal(err)
		}
		err := schema.VisitJSON(v)
		_, parsed := clustersync.ParseStart([]byte(body))
		if (err == nil) != good || (parsed == nil) != good {
			t.Errorf("%s: the contract says %v, the parser %v", body, err, parsed)
		}
	}
}
