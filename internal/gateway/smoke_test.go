package gateway

import (
	"testing"
	"time"

	"github.com/tidegate/tidegate"
)

// A function that throws for a document by design is taken; one that cannot be meant is not (docs/resync.md).
func TestFunctionsAreTried(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	create(t, g, "db", `{}`)
	for _, tt := range []struct{ source, refused string }{
		{`function (doc) { channel(doc.channels); }`, ""},
		{`function (doc) { throw({forbidden: "no"}); }`, ""},
		{`function (doc) { throw "no"; }`, ""},
		{`function (doc) { throw new Error("no"); }`, ""},
		{`function (doc) { channel(doc.owner.name.first); }`, ""}, // throws for what has no owner
		{`function (doc, oldDoc) { if (oldDoc.owner !== doc.owner) throw({forbidden: "no"}); }`, ""},
		{`function (doc) { requireUser("nobody"); requireAdmin(); }`, ""},
		{`function (doc) { access("a bad name,", "c"); }`, ""},
		{`function (doc) { if (typeof extra !== "undefined") extra(); }`, ""},
		{`function (doc) { chanel(doc.channels); }`, "ReferenceError: 'chanel' is not defined"},
		{`function (doc) { if (doc.type === "example") { chanel("x"); } }`, "ReferenceError: 'chanel' is not defined"},
		{`function (doc) { if (doc._deleted) { chanel("x"); } }`, "ReferenceError: 'chanel' is not defined"},
		{`function (doc) { for (;;) {} }`, "time limit"},
		{`function (doc) { var s = "x"; for (;;) s += s; }`, "InternalError: "},
		{`function f(doc) { f(doc); }`, "InternalError: stack overflow"},
		{`function (doc) {`, "Syntax error"},
		{`(function () { return missing; })()`, "'missing' is not defined"},
	} {
		err := g.trySource(t.Context(), tt.source, time.Second)
		if tt.refused != "" {
			wantCode(t, err, tidegate.Invalid, tt.refused)
		} else if err != nil {
			t.Errorf("%s: %v", tt.source, err)
		}
	}
	_, err := update(t, g, "db", "", `{"sync":"function (doc) { throw('always'); }"}`)
	if err != nil {
		t.Error(err)
	}
	_, err = update(t, g, "db", "", `{"import_filter":"function (doc) { return missing; }"}`)
	wantCode(t, err, tidegate.Invalid, "import_filter: the function cannot be meant so")
	_, err = g.Create(t.Context(), "other", parse(t, `{"sync":"function (doc) { chanel(doc.channels); }"}`))
	wantCode(t, err, tidegate.Invalid, "sync: the function cannot be meant so: tried on the document {} it ended with: ReferenceError: 'chanel' is not defined")
}

// What is in force is not tried again: a change of something else is not held up by it.
func TestOnlyChangedFunctionsAreTried(t *testing.T) {
	e := newEnv(t)
	files := fileDBs(t, `{"db":{"sync":"function (doc) { chanel(doc.channels); }"}}`) // of a file it is only compiled
	g := e.open(files)
	wantState(t, get(t, g, "db"), Online)
	if _, err := update(t, g, "db", "", `{"revs_limit":9}`); err != nil {
		t.Error(err)
	}
	_, err := update(t, g, "db", "", `{"sync":"function (doc) { chanel(doc.channel); }"}`)
	wantCode(t, err, tidegate.Invalid, "chanel")
}
