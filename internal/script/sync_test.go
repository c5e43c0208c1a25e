package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate"
)

// TestArguments looks at doc, oldDoc and meta as the script sees them (sync-function.md §2 and §3), on the engines, and on
// the direct evaluator where it can show them.
func TestArguments(t *testing.T) {
	engines := sharedEngines()
	old := func(body string, deleted bool) *SyncInput {
		in := input(`{"a":1}`)
		in.OldBody, in.OldDeleted = []byte(body), deleted
		return in
	}
	tombstone := input(`{}`)
	tombstone.Deleted = true
	attached := input(`{"a":1}`)
	attached.Attachments = []byte(`{"f":{"stub":true}}`)
	quoted := input(`{}`)
	quoted.DocID = "a\"\\\x01é\u2028"
	withMeta := input(`{}`)
	withMeta.Meta = []byte(`{"xattrs":{"k":null}}`)
	for _, c := range []struct {
		what string
		in   *SyncInput
		want string
	}{
		{"doc", input(`{"a":1}`), `object {"_id":"doc1";"_rev":"1-abc";"a":1}`},
		{"doc", input(" { \"a\" : 1 } "), `object {"_id":"doc1";"_rev":"1-abc";"a":1}`},
		{"doc", tombstone, `object {"_id":"doc1";"_rev":"1-abc";"_deleted":true}`},
		{"doc", attached, `object {"_id":"doc1";"_rev":"1-abc";"_attachments":{"f":{"stub":true}};"a":1}`},
		{"doc._id", quoted, "string a\"\\\x01é\u2028"},
		{"oldDoc", input(`{}`), `object null`},
		{"oldDoc", old(`{"b":2}`, false), `object {"_id":"doc1";"b":2}`},
		{"oldDoc", old(`{}`, true), `object {"_id":"doc1";"_deleted":true}`},
		{"oldDoc._deleted === true", old(`{}`, true), `boolean true`}, // vector 18
		{"oldDoc._rev", old(`{"b":2}`, false), `undefined undefined`},
		{"meta", input(`{}`), `object {"xattrs":{}}`},
		{"meta", withMeta, `object {"xattrs":{"k":null}}`},
		{"arguments.length", input(`{}`), `number 3`},
		{"doc.n", input(`{"n":9007199254740991}`), `number 9007199254740991`},
		{"doc.n", input(`{"n":-9007199254740991}`), `number -9007199254740991`},
		{"doc.n", input(`{"n":9007199254740992}`), `string 9007199254740992`},
		{"doc.n", input(`{"n":-9007199254740993}`), `string -9007199254740993`},
		{"doc.n[0]", input(`{"n":[12345678901234567890123, "12345678901234567890"]}`), `string 12345678901234567890123`},
		{"doc.n", input(`{"n":12345678901234567890.5}`), `number 12345678901234567000`},
		{"doc.n", input(`{"n":1e30}`), `number 1e+30`},
		{"oldDoc.n", old(`{"n":9007199254740993}`, false), `string 9007199254740993`},
		{"1 / doc.n", input(`{"n":-0}`), `number -Infinity`},
		{"doc.__proto__", input(`{"__proto__":5}`), `number 5`},
	} {
		t.Run(c.what+" "+string(c.in.Body), func(t *testing.T) {
			shown := "shown"
			if strings.HasPrefix(c.want, "object") {
				shown = "JSON.stringify(shown).split(',').join(';')"
			}
			f := engines.function(fn("var shown = " + c.what + "; channel(typeof shown + ' ' + " + shown + ");"))
			got := f.agree(t, c.in)
			if got.Out == nil || len(got.Out.Channels) != 1 || got.Out.Channels[0] != c.want {
				t.Errorf("got %v, want %s", got, c.want)
			}
		})
	}
}

func TestDefaultFunction(t *testing.T) {
	for _, c := range []struct{ source, channel, body, want string }{
		{"", "", `{"channels":["b","a"]}`, "[a b]"},
		{" \n; ", "", `{"channels":"a"}`, "[a]"},
		{"", "coll", `{"channels":"a"}`, "[coll]"},
		{"", `q"\`, `{}`, `[q"\]`},
		{"function () { channel('own') };\n", "coll", `{}`, "[own]"},
	} {
		f, err := CompileSync(c.source, c.channel, Options{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := f.Sync(t.Context(), input(c.body))
		if err != nil || fmt.Sprint(out.Channels) != c.want {
			t.Errorf("%q %q: got %v, %v, want %s", c.source, c.channel, out, err, c.want)
		}
		if f.Source() != c.source {
			t.Errorf("Source() = %q, want %q", f.Source(), c.source)
		}
		f.Close()
	}
}

func TestCompileErrors(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{"function (doc) {\n  channel(doc.channels;\n}", "Syntax error in sync function: line 2, column "},
		{"function (doc) { var 1a; }", "Syntax error in sync function: line 1, column 2"},
		{"function (doc) {", "Syntax error in sync function: line "},
		{"function (doc) {}; channel('x')", "Syntax error in sync function: line 1, column "},
		{"5", "Syntax error in sync function: not a function expression but of type number"},
		{"doc.x", "Syntax error in sync function: not a function expression: ReferenceError"},
		{"x.y = function () {}", "Syntax error in sync function: not a function expression: ReferenceError"},
	} {
		f, err := CompileSync(c.source, "", Options{})
		if err == nil {
			f.Close()
			t.Errorf("%q compiles", c.source)
			continue
		}
		if tidegate.ErrorCode(err) != tidegate.Invalid || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q:\n got %v %v\nwant %s", c.source, tidegate.ErrorCode(err), err, c.want)
		}
	}
}

func TestClassify(t *testing.T) {
	if got := Classify(nil); got != FailureNone {
		t.Errorf("nil: %d", got)
	}
	if got := Classify(errors.New("x")); got != FailureException {
		t.Errorf("foreign error: %d", got)
	}
	if got := Classify(fmt.Errorf("run: %w", context.DeadlineExceeded)); got != FailureCanceled {
		t.Errorf("context error: %d", got)
	}
	if got := Classify(fmt.Errorf("put: %w", thrownRejection(403, reasonWrongUser))); got != FailureAccess {
		t.Errorf("wrapped rejection: %d", got)
	}
}

// TestRejectionStatus: reject's status becomes the error's, and the code nearest to it.
func TestRejectionStatus(t *testing.T) {
	f := sharedEngines().function(fn(`reject(doc.n, "msg")`))
	for _, c := range []struct {
		n      string
		code   tidegate.Code
		status int
	}{
		{"400", tidegate.Invalid, 400}, {"401", tidegate.Unauthorized, 401}, {"403", tidegate.Forbidden, 403},
		{"404", tidegate.NotFound, 404}, {"405", tidegate.NotAllowed, 405}, {"409", tidegate.Conflict, 409},
		{"410", tidegate.Gone, 410}, {"412", tidegate.Exists, 412}, {"413", tidegate.TooLarge, 413},
		{"415", tidegate.BadType, 415}, {"429", tidegate.TooMany, 429}, {"503", tidegate.Unavailable, 503},
		{"418.9", tidegate.Invalid, 418}, {"500", tidegate.Internal, 500}, {"999", tidegate.Internal, 999},
		{"1000", tidegate.Internal, 500}, {"1e300", tidegate.Internal, 500},
	} {
		got := f.agree(t, input(`{"n":`+c.n+`}`))
		if got.Code != c.code || got.Status != c.status || got.Reason != "msg" || got.Kind != FailureRejected {
			t.Errorf("reject(%s): %v", c.n, got)
		}
	}
}

func TestLongRejectionIsCut(t *testing.T) {
	f := sharedEngines().function(fn(`throw({forbidden: "é" + doc.s})`))
	got := f.agree(t, input(`{"s":"`+strings.Repeat("é", maxRejectionMessage)+`"}`))
	if len(got.Reason) != maxRejectionMessage || !strings.HasSuffix(got.Reason, "é") {
		t.Errorf("%d bytes, ends in %q", len(got.Reason), got.Reason[len(got.Reason)-2:])
	}
}

// TestLogging looks at what reaches the log: console's methods, warnings, and the bounds on both.
func TestLogging(t *testing.T) {
	for _, c := range []struct{ name, body string }{
		{"direct", `console.log("hello", 1, null, true); log("legacy"); console.error("bad"); channel(5);`},
		{"engine", `console.log("hello", 1, null, true); log("legacy"); console.error("bad"); channel(5); try {} catch (e) {}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var buf bytes.Buffer
			f, err := CompileSync(fn(c.body), "", Options{Logger: slog.New(slog.NewTextHandler(&buf, nil))})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.Sync(t.Context(), input(`{}`)); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				`level=INFO msg="hello 1 null true" key=Javascript doc=doc1`,
				`level=INFO msg=legacy key=Javascript doc=doc1`,
				`level=ERROR msg=bad key=Javascript doc=doc1`,
				`level=WARN msg="channel: ignored number 5" key=Javascript doc=doc1`,
			} {
				if !strings.Contains(buf.String(), want) {
					t.Errorf("no %s in\n%s", want, buf.String())
				}
			}
		})
	}
	engines := sharedEngines()
	f := engines.function(fn(`for (var i = 0; i < 200; i++) { console.log("x" + doc.s); channel(i); } console.log({a: doc.o}, [1], undefined)`))
	got := f.agree(t, input(`{"s":"`+strings.Repeat("y", 5000)+`","o":{"b":1}}`))
	if len(got.Lines) != maxLogLines || len(got.Lines[0].text) != maxLogText || got.Out.Warnings != 200 {
		t.Errorf("%d lines, %d bytes, %d warnings", len(got.Lines), len(got.Lines[0].text), got.Out.Warnings)
	}
	shown := engines.function(fn(`console.log({a: doc.o}, [1, "x"], undefined, function () {} && 1)`)).agree(t, input(`{"o":{"b":1}}`))
	if len(shown.Lines) != 1 || shown.Lines[0].text != `{"a":{"b":1}} [1,"x"] undefined 1` {
		t.Errorf("objects are shown as %v", shown.Lines)
	}
}

// TestCanceled: a caller whose context ends gets its error at once, and the function goes on to work.
func TestCanceled(t *testing.T) {
	f, err := CompileSync(fn(`if (doc.loop) { try { for (;;); } catch (e) {} } channel("ok")`), "", Options{Limits: Limits{Runtimes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Sync(ctx, input(`{}`)); !errors.Is(err, context.Canceled) || Classify(err) != FailureCanceled {
		t.Errorf("canceled before: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.Sync(ctx, input(`{"loop":true}`)); !errors.Is(err, context.DeadlineExceeded) || Classify(err) != FailureCanceled {
		t.Errorf("canceled within: %v", err)
	}
	if out, err := f.Sync(t.Context(), input(`{}`)); err != nil || !out.Channels.Has("ok") {
		t.Errorf("afterwards: %v, %v", out, err)
	}
}

// TestConcurrentCalls runs one function on both paths from many goroutines; each must get its own result.
func TestConcurrentCalls(t *testing.T) {
	f, err := CompileSync(fn(`
		requireUser(doc.who);
		if (doc.engine) { doc.k = "changed"; count = (typeof count === "undefined" ? 0 : count) + 1; channel("count-" + count); }
		channel("d-" + doc.n);
		doc.items.forEach(function (i) { access(doc.who, "i-" + i); });`), "", Options{Limits: Limits{Runtimes: 3}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 40 {
				in := input(fmt.Sprintf(`{"n":%d,"who":"u%d","items":[1,2],"engine":%v}`, i, g, i%2 == 0))
				in.User = User{Name: fmt.Sprintf("u%d", g)}
				out, err := f.Sync(t.Context(), in)
				if err != nil {
					t.Errorf("goroutine %d, call %d: %v", g, i, err)
					return
				}
				want := fmt.Sprintf("[d-%d]", i)
				if i%2 == 0 {
					want = fmt.Sprintf("[count-1 d-%d]", i)
				}
				if fmt.Sprint(out.Channels) != want || fmt.Sprint(out.Access) != fmt.Sprintf("map[u%d:[i-1 i-2]]", g) {
					t.Errorf("goroutine %d, call %d: %+v, want %s", g, i, out, want)
				}
			}
		})
	}
	wg.Wait()
}

// TestResultIsOwnMemory: what a run returns must not change when the caller uses the document's buffer again.
func TestResultIsOwnMemory(t *testing.T) {
	f, err := CompileSync(fn(`channel(doc.channels); access(doc.who, doc.channels); role(doc.who, "role:" + doc.who);`), "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := input(`{"channels":["abc","def"],"who":"amy"}`)
	out, err := f.Sync(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprint(*out)
	for i := range in.Body {
		in.Body[i] = 'Z'
	}
	if _, err := f.Sync(t.Context(), input(`{"channels":["uvw","xyz"],"who":"eve"}`)); err != nil {
		t.Fatal(err)
	}
	if after := fmt.Sprint(*out); after != before {
		t.Errorf("the result changed:\n%s\n%s", before, after)
	}
}

// TestUserIsFoundWhenAskedForInDisguise: the user's names are given to the engine only if the source mentions a helper that
// needs them; a source that hides it must still be answered.
func TestUserIsFoundWhenAskedForInDisguise(t *testing.T) {
	f, err := CompileSync(fn(`globalThis["req" + "uireRole"]("r"); try { globalThis["req" + "uireUser"]("bob"); } catch (e) { channel("caught-" + e.forbidden); }`), "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, err := f.Sync(t.Context(), as(amy, `{}`))
	if err != nil || fmt.Sprint(out.Channels) != "[caught-sg wrong user]" {
		t.Errorf("got %v, %v", out, err)
	}
	if _, err := f.Sync(t.Context(), as(guest, `{}`)); Classify(err) != FailureAccess {
		t.Errorf("the guest got %v", err)
	}
}

// TestDirectGivesUpGracefully: a function whose documents the direct evaluator cannot do goes to the engine at once after
// a while, with the same results.
func TestDirectGivesUpGracefully(t *testing.T) {
	f, err := CompileSync(fn(`channel("v-" + (doc.v < "10"))`), "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := f.(syncFunction).direct
	if d == nil {
		t.Fatal("not in the subset")
	}
	for i := range 200 {
		out, err := f.Sync(t.Context(), input(`{"v":9}`))
		if err != nil || fmt.Sprint(out.Channels) != "[v-true]" {
			t.Fatalf("call %d: %v, %v", i, out, err)
		}
	}
	if d.score.Load() >= 0 {
		t.Errorf("the score is %d after 200 runs given up", d.score.Load())
	}
	for range 4000 {
		if out, err := f.Sync(t.Context(), input(`{"v":"9"}`)); err != nil || fmt.Sprint(out.Channels) != "[v-false]" {
			t.Fatal(out, err)
		}
		if d.score.Load() >= 0 {
			return
		}
	}
	t.Errorf("the score stays at %d although runs succeed", d.score.Load())
}

// TestNothingIsLeftRunning: a closed function has no goroutines.
func TestNothingIsLeftRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := CompileSync(fn(`try { channel("x") } catch (e) {}`), "", Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Sync(t.Context(), input(`{}`)); err != nil {
			t.Fatal(err)
		}
		f.Close() // the bubble ends only when every goroutine has
	})
}
