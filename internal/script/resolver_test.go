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
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// anyResolver runs the function whose source is in the remote document's "source": runtimes take long to make.
const anyResolver = `function (conflict) { // with _.
	var source = conflict.RemoteDocument.source;
	delete conflict.RemoteDocument.source;
	return Function("return (" + source + "\n)")()(conflict);
}`

func compileResolver(t testing.TB, source string, opts Options) Resolver {
	t.Helper()
	f, err := CompileResolver(source, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// conflictOf makes a conflict of two bodies.
func conflictOf(local, remote string) *ConflictInput {
	return &ConflictInput{
		DocID: "d", Local: ConflictDoc{Rev: "2-a", Body: []byte(local)}, Remote: ConflictDoc{Rev: "2-b", Body: []byte(remote)},
	}
}

func TestResolver(t *testing.T) {
	f := compileResolver(t, anyResolver, Options{Limits: Limits{Time: 300 * time.Millisecond}})
	const local, remote = `{"n":1,"big":12345678901234567890,"f":1.50,"o":{"x":1e2,"y":1},"far":1e999}`, `{"n":2,"r":[1.0],"body":5}`
	for _, c := range []struct {
		source string
		choice Choice // 0: an error
		want   string // of a merge
	}{
		{`function (c) { return c.LocalDocument; }`, ChoiceLocal, ""},
		{`function (c) { return c.RemoteDocument; }`, ChoiceRemote, ""},
		{`c => c.LocalDocument`, ChoiceLocal, ""},
		{`function (c) { return null; }`, ChoiceDelete, ""},
		{`function (c) { }`, ChoiceDelete, ""},
		{`function (c) { throw "x"; }`, 0, ""},
		{`function (c) { return c.a.b; }`, 0, ""},
		{`function (c) { return 5; }`, 0, ""},
		{`function (c) { return "x"; }`, 0, ""},
		{`function (c) { return true; }`, 0, ""},
		{`function (c) { return [c.LocalDocument]; }`, 0, ""},
		{`function (c) { return function () {}; }`, 0, ""},
		{`function (c) { return new String("x"); }`, 0, ""},
		{`function (c) { return {toJSON: function () { return 1; }}; }`, 0, ""},
		{`function (c) { return {toJSON: function () { throw 1; }}; }`, 0, ""},
		{`function (c) { var o = {}; o.o = o; return o; }`, 0, ""},
		{`function (c) { for (;;); }`, 0, ""},
		// What is there.
		{`function (c) { return c.LocalDocument._id === "d" && c.LocalDocument._rev === "2-a" && c.RemoteDocument._rev === "2-b" &&
			c.LocalDocument._deleted === false && c.LocalDocument._attachments === null && c.LocalDocument._exp === null &&
			c.RemoteDocument._exp === undefined ? null : 1; }`, ChoiceDelete, ""},
		{`function (c) { return c.LocalDocument.body.n === 1 && c.RemoteDocument.body === 5 ? null : 1; }`, ChoiceDelete, ""},
		{`function (c) { return JSON.stringify(c.LocalDocument).indexOf("body") < 0 ? null : 1; }`, ChoiceDelete, ""},
		{`function (c) { return c.LocalDocument.big === "12345678901234567890" ? null : 1; }`, ChoiceDelete, ""},
		{`function (c) { return defaultPolicy(c); }`, ChoiceRemote, ""},
		{`function (c) { return localPolicy(c) === localWinsPolicy(c) && localWins(c) === localPolicy(c) ? localPolicy(c) : 1; }`, ChoiceLocal, ""},
		{`function (c) { return remotePolicy(c) === remoteWinsPolicy(c) && remoteWins(c) === remotePolicy(c) ? remoteWins(c) : 1; }`, ChoiceRemote, ""},
		{`function (c) { return defaultPolicy({LocalDocument: c.RemoteDocument, RemoteDocument: c.LocalDocument}); }`, ChoiceRemote, ""},
		{`function (c) { c.LocalDocument._deleted = true; return defaultPolicy(c) === c.LocalDocument ? null : 1; }`, ChoiceDelete, ""},
		{`function (c) { c.LocalDocument._rev = "9-z"; return defaultPolicy(c); }`, 0, ""},
		{`function (c) { return defaultPolicy(); }`, 0, ""},
		{`function (c) { return localPolicy({}); }`, 0, ""},
		{`function (c) { return remotePolicy(c.LocalDocument); }`, 0, ""},
		{`function (c) { return channel("x"); }`, 0, ""}, // the helpers are the sync function's
		{`function (c) { return typeof _ === "function" && _.isEqual({a: 1}, {a: 1}) ? null : 1; }`, ChoiceDelete, ""},
		// The same content under the same revision is the document, whatever object it is.
		{`function (c) { return JSON.parse(JSON.stringify(c.LocalDocument)); }`, ChoiceLocal, ""},
		{`function (c) { c.LocalDocument._exp = 5; delete c.LocalDocument._attachments; return c.LocalDocument; }`, ChoiceLocal, ""},
		{`function (c) { delete c.LocalDocument._deleted; delete c.LocalDocument._id; return c.LocalDocument; }`, ChoiceLocal, ""},
		// Edits are kept, and all else keeps its digits.
		{`function (c) { c.LocalDocument.n = 5; return c.LocalDocument; }`, ChoiceMerge,
			`{"n":5,"big":12345678901234567890,"f":1.50,"o":{"x":1e2,"y":1},"far":1e999,"_id":"d","_rev":"2-a","_deleted":false,"_attachments":null,"_exp":null}`},
		{`function (c) { return {f: 1.5, r: [1], o: {x: 100, y: 2}, q: "a\u2028\ud83d\ude00"}; }`, ChoiceMerge,
			"{\"f\":1.50,\"r\":[1.0],\"o\":{\"x\":1e2,\"y\":2},\"q\":\"a\u2028\U0001F600\"}"},
		{`function (c) { c.LocalDocument._rev = "2-b"; return c.LocalDocument; }`, ChoiceMerge,
			`{"n":1,"big":12345678901234567890,"f":1.50,"o":{"x":1e2,"y":1},"far":1e999,"_id":"d","_rev":"2-b","_deleted":false,"_attachments":null,"_exp":null}`},
		{`function (c) { return {_deleted: true}; }`, ChoiceMerge, `{"_deleted":true}`},
		{`function (c) { return {}; }`, ChoiceMerge, `{}`},
		{`function (c) { c.LocalDocument.body = 7; return {body: c.LocalDocument.body}; }`, ChoiceMerge, `{"body":7}`},
		{`function (c) { delete c.RemoteDocument.r; return {n: c.RemoteDocument.n}; }`, ChoiceMerge, `{"n":2}`},
	} {
		in := conflictOf(local, string(appendMembers(appendJSONString([]byte(`{"source":`), c.source), []byte(remote))))
		out, err := f.Resolve(t.Context(), in)
		if c.choice == ChoiceRemote { // the source was taken out of it, so it is an edited one
			if err != nil || out.Choice != ChoiceMerge || !strings.HasPrefix(string(out.Doc), remote[:len(remote)-1]) {
				t.Errorf("%s: got %+v, %v, want the remote document", c.source, out, err)
			}
			continue
		}
		switch {
		case c.choice == 0 && err == nil:
			t.Errorf("%s: got %d %s, want an error", c.source, out.Choice, out.Doc)
		case c.choice == 0:
			if kind := Classify(err); kind != FailureException && (kind != FailureTimeout || !strings.Contains(c.source, "for (;;)")) {
				t.Errorf("%s: %v is of kind %d", c.source, err, kind)
			}
		case err != nil:
			t.Errorf("%s: %v", c.source, err)
		case out.Choice != c.choice || string(out.Doc) != c.want:
			t.Errorf("%s: got %d %s, want %d %s", c.source, out.Choice, out.Doc, c.choice, c.want)
		}
	}
}

// TestResolverSameContent: what counts as the document that was given.
func TestResolverSameContent(t *testing.T) {
	f := compileResolver(t, `function (c) {
		var edit = c.RemoteDocument.edit;
		switch (edit) {
		case "digest": c.LocalDocument._attachments.a.digest = "sha1-y"; break;
		case "type": c.LocalDocument._attachments.a.content_type = "y"; break;
		case "drop": delete c.LocalDocument._attachments; break;
		case "add": c.LocalDocument._attachments.b = {stub: true}; break;
		case "wrong": c.LocalDocument._attachments = "x"; break;
		case "revive": c.LocalDocument._deleted = false; break;
		case "expire": c.LocalDocument._exp = c.LocalDocument._exp + 1; break;
		case "odd": c.LocalDocument._deleted = 1; break;
		}
		return edit === "remote" ? c.RemoteDocument : c.LocalDocument;
	}`, Options{})
	for edit, want := range map[string]Choice{
		"none": ChoiceLocal, "remote": ChoiceRemote, "digest": ChoiceMerge, "type": ChoiceLocal, "drop": ChoiceMerge, "add": ChoiceMerge,
		"wrong": ChoiceMerge, "revive": ChoiceMerge, "expire": ChoiceLocal, "odd": ChoiceMerge,
	} {
		in := conflictOf(` { "a" : [ 1.0 , {"b":null} ] } `, `{"edit":"`+edit+`"}`)
		in.Local.Deleted, in.Local.Expiry = true, 1<<31
		in.Local.Attachments = []byte(`{"a":{"content_type":"x","digest":"sha1-x","length":1,"revpos":1,"stub":true}}`)
		if out, err := f.Resolve(t.Context(), in); err != nil || out.Choice != want {
			t.Errorf("%s: got %+v, %v, want %d", edit, out, err, want)
		}
	}
}

func TestResolverErrors(t *testing.T) {
	for _, source := range []string{"", "``", "function (", "`function (c) {`", "5", "{}"} {
		if f, err := CompileResolver(source, Options{}); tidegate.ErrorCode(err) != tidegate.Invalid || !strings.HasPrefix(err.Error(), "Syntax error in conflict resolver: ") {
			t.Errorf("%q: got %v, %v", source, f, err)
		}
	}
	for _, source := range []string{"`function (c) { return null; }`", " \n`\nfunction (c) { return null; };\n`;", "function (c) { return `` || null; }"} {
		f := compileResolver(t, source, Options{})
		if out, err := f.Resolve(t.Context(), conflictOf(`{}`, `{}`)); err != nil || out.Choice != ChoiceDelete || f.Source() != source {
			t.Errorf("%q: got %v, %v", source, out, err)
		}
	}
	var buf bytes.Buffer
	f := compileResolver(t, `function (c) { console.log("seen", c.LocalDocument.n); return null; }`, Options{Logger: slog.New(slog.NewTextHandler(&buf, nil))})
	if _, err := f.Resolve(t.Context(), conflictOf(`{"n":1}`, `{}`)); err != nil || !strings.Contains(buf.String(), "seen 1") {
		t.Errorf("got %v, log %q", err, buf.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Resolve(ctx, conflictOf(`{}`, `{}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: got %v", err)
	}
}

// TestResolverIsolated: no call leaves anything behind for the next, and none takes more memory than it may.
func TestResolverIsolated(t *testing.T) {
	f := compileResolver(t, anyResolver, Options{Limits: Limits{Memory: 4 << 20, Runtimes: 1}})
	run := func(source string) (*ConflictOutput, error) {
		return f.Resolve(t.Context(), conflictOf(`{}`, `{"source":`+string(appendJSONString(nil, source))+`}`))
	}
	for _, source := range []string{
		`function (c) { "use strict"; defaultPolicy = null; return null; }`,
		`function (c) { "use strict"; localPolicy.x = 1; return null; }`,
		`function (c) { var a = []; for (;;) a.push("0123456789".repeat(1000)); }`,
		`function f(c) { return f(c) || f(c); }`,
	} {
		if out, err := run(source); err == nil {
			t.Errorf("%s: got %+v", source, out)
		}
	}
	if _, err := run(`function (c) { leak = 1; return null; }`); err != nil {
		t.Error(err)
	}
	if out, err := run(`function (c) { return typeof leak === "undefined" && defaultPolicy(c) === c.RemoteDocument ? null : 1; }`); err != nil || out.Choice != ChoiceDelete {
		t.Errorf("got %+v, %v", out, err)
	}
}

// FuzzResolverSameContent: a document that goes through the engine unchanged is recognised, whatever is in it.
func FuzzResolverSameContent(f *testing.F) {
	fn, err := CompileResolver(`function (c) { return JSON.parse(JSON.stringify(c.LocalDocument)); }`, Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer fn.Close()
	for _, seed := range []string{`{}`, `{"a":1e999,"b":-0,"c":0.1e-7,"10":1,"2":2,"__proto__":{"x":1}}`, `{"body":null,"é":"\ud83d\ude00","n":123456789012345678}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		doc := fuzzBody(raw)
		if doc == nil {
			return
		}
		out, err := fn.Resolve(t.Context(), conflictOf(string(doc), `{}`))
		if err != nil || out.Choice != ChoiceLocal {
			t.Errorf("%s: got %+v, %v", doc, out, err)
		}
	})
}

// fuzzBody makes a body of raw JSON; nil if it is none that a document could have.
func fuzzBody(raw []byte) []byte {
	doc, err := jsondoc.Split(raw, jsondoc.Limits{}, false)
	if err != nil || len(raw) > 1<<16 {
		return nil
	}
	return doc.Body
}
