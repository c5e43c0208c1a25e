package script

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
)

func TestImportFilter(t *testing.T) {
	opts := Options{Limits: Limits{Time: 500 * time.Millisecond}}
	// The engine's runtime is expensive to make; one runs all cases.
	onEngine, err := CompileImportFilter(`function (doc) { // with _.
		var source = doc.source;
		delete doc.source;
		return Function("return (" + source + "\n)")()(doc);
	}`, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer onEngine.Close()
	for _, c := range []struct {
		source, body string
		deleted      bool
		want         bool
	}{
		{`function (doc) { return true; }`, `{}`, false, true},
		{`function (doc) { return false; }`, `{}`, false, false},
		{`function (doc) { return doc.type === "mobile"; }`, `{"type":"mobile"}`, false, true},
		{`function (doc) { return doc.type === "mobile"; }`, `{"type":"x"}`, false, false},
		{`function (doc) { return "true"; }`, `{}`, false, true},
		{`function (doc) { return doc.s; }`, `{"s":"1"}`, false, true},
		{`function (doc) { return doc.s; }`, `{"s":"T"}`, false, true},
		{`function (doc) { return doc.s; }`, `{"s":"false"}`, false, false},
		{`function (doc) { return doc.s; }`, `{"s":"yes"}`, false, false},
		{`function (doc) { return doc.s; }`, `{"s":1}`, false, false},
		{`function (doc) { return doc.s; }`, `{"s":[true]}`, false, false},
		{`function (doc) { return doc.s; }`, `{"s":null}`, false, false},
		{`function (doc) { }`, `{}`, false, false},
		{`function (doc) { throw "x"; }`, `{}`, false, false},
		{`function (doc) { return doc.a.b; }`, `{}`, false, false},
		{`function (doc) { return nobody(); }`, `{}`, false, false},
		{`function (doc) { channel("x"); return true; }`, `{}`, false, false}, // the helpers are the sync function's
		{`function (doc) { return doc._deleted; }`, `{}`, true, true},
		{`function (doc) { return doc._deleted === undefined; }`, `{}`, false, true},
		{`function (doc) { return doc._id === undefined && doc._rev === undefined; }`, `{"a":1}`, false, true},
		{`function (doc) { return JSON.stringify(doc) === '{"_deleted":true}'; }`, ``, true, true},
		{`function (doc) { return JSON.stringify(doc) === '{"a":"12345678901234567890"}'; }`, `{"a":12345678901234567890}`, false, true},
		{`doc => /^a/.test(doc.s)`, `{"s":"abc"}`, false, true},
		{`function (doc) { for (;;); }`, `{}`, false, false},
		{`function (doc) { return _.isEqual(doc, {a: 1}); }`, `{"a":1}`, false, true},
	} {
		t.Run(c.source+c.body, func(t *testing.T) {
			f, err := CompileImportFilter(c.source, opts)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			in := &FilterInput{DocID: "d", Deleted: c.deleted}
			if c.body != "" {
				in.Body = []byte(c.body)
			}
			if f.(importFilter).direct != nil {
				if got, err := f.Filter(t.Context(), in); err != nil || got != c.want {
					t.Errorf("directly: got %v, %v, want %v", got, err, c.want)
				}
			}
			in.Body = append([]byte(`{"source":`), appendJSONString(nil, c.source)...)
			in.Body = appendMembers(in.Body, []byte(c.body))
			if got, err := onEngine.Filter(t.Context(), in); err != nil || got != c.want {
				t.Errorf("on the engine: got %v, %v, want %v", got, err, c.want)
			}
		})
	}
}

func TestImportFilterErrors(t *testing.T) {
	if _, err := CompileImportFilter("function (", Options{}); tidegate.ErrorCode(err) != tidegate.Invalid || !strings.HasPrefix(err.Error(), "Syntax error in import filter: ") {
		t.Errorf("got %v", err)
	}
	if _, err := CompileImportFilter("", Options{}); tidegate.ErrorCode(err) != tidegate.Invalid {
		t.Errorf("empty source: got %v", err)
	}
	var buf bytes.Buffer
	f, err := CompileImportFilter("function (doc) { return doc.a.b; }", Options{Logger: slog.New(slog.NewTextHandler(&buf, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ok, err := f.Filter(t.Context(), &FilterInput{DocID: "d"}); ok || err != nil || !strings.Contains(buf.String(), "import filter: TypeError") {
		t.Errorf("got %v, %v, log %q", ok, err, buf.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, err := f.Filter(ctx, &FilterInput{DocID: "d"}); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v, %v", ok, err)
	}
}
