package script

import (
	"strings"
	"testing"
)

// TestTrace: an exception is found in the source, whichever way the function was run.
func TestTrace(t *testing.T) {
	for _, c := range []struct {
		source       string
		kind         Failure
		status       int
		message      string
		line, column int
	}{
		{"function (doc) {\n  channel(doc.owner.name);\n}", FailureException, 500, "TypeError: cannot read property 'name' of undefined", 2, 20},
		{"\n\n  function (doc) {\n  nosuch(1);\n}", FailureException, 500, "ReferenceError: 'nosuch' is not defined", 4, 3},
		{"function (doc) { doc.type.toLowerCase(); }", FailureException, 500, "TypeError: cannot read property 'toLowerCase' of undefined", 1, 26},
		{"function (doc) {\n  throw new Error('boom');\n}", FailureException, 500, "Error: boom", 2, 18},
		{"function (doc) {\n  doc.channels.forEach(function (c) {\n    channel(c.x.y);\n  });\n}", FailureException, 500, "TypeError: cannot read property 'y' of undefined", 3, 16},
		{"function (doc) {\n  channel({get length() { throw new Error('in a helper') }});\n  expiry({});\n  _.each([1], function () { null.x; });\n}", FailureException, 500, "TypeError: cannot read property 'x' of null", 4, 33},
		{"function (doc) {\n  throw 'x';\n}", FailureException, 500, "x", 0, 0},
		{"function (doc) {\n  channel('a,b');\n}", FailureException, 500, `illegal channel name "a,b"`, 0, 0},
		{"function (doc) {\n  throw({forbidden: 'no'});\n}", FailureRejected, 403, "no", 0, 0},
		{"function (doc) {\n  reject(418, 'tea');\n}", FailureRejected, 418, "tea", 0, 0},
	} {
		f, err := CompileSync(c.source, "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		in := input(`{"channels":[1]}`)
		_, err = f.Sync(t.Context(), in)
		got := Trace(t.Context(), f, in, err)
		f.Close()
		if want := (Fault{c.kind, c.status, c.message, c.line, c.column}); got != want {
			t.Errorf("%s\n got %+v\nwant %+v", c.source, got, want)
		}
	}
}

func TestTraceIsBounded(t *testing.T) {
	f, err := CompileSync("function (doc) {\n  throw new Error(doc.s);\n}", "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := input(`{"s":"` + strings.Repeat("é", 2000) + `"}`)
	_, err = f.Sync(t.Context(), in)
	if got := Trace(t.Context(), f, in, err); len(got.Message) > maxFaultMessage || !strings.HasPrefix(got.Message, "Error: é") {
		t.Errorf("got %+v", got)
	}
}
