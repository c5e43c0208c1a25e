package script

import (
	"bytes"
	"errors"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
)

// hostileScripts are functions that try to take the process down or to keep it busy. Any of them ends with the reason
// given, or, where the script's own error handling makes that depend on timing, with either.
var hostileScripts = []struct{ name, body, reason string }{
	{"endless loop", `while (true) {}`, reasonTimeout},
	{"endless loop in try", `for (;;) { try { for (;;) {} } catch (e) {} finally { for (;;) {} } }`, reasonTimeout},
	{"endless getter", `throw { get forbidden() { for (;;) {} } }`, reasonTimeout},
	{"endless toString", `throw { forbidden: { toString: function () { for (;;) {} } } }`, reasonTimeout},
	{"endless generator", `new Set(function* () { for (;;) yield 1; }())`, ""},
	{"endless built-in", `Array.prototype.indexOf.call({ length: 9007199254740991 }, 1)`, reasonException},
	{"endless built-in by getter", `var n = 0; Array.prototype.sort.call({ get length() { return n++ ? 9007199254740991 : 1; } })`, reasonException},
	{"endless sparse array", `var a = []; a.length = 4294967295; a.join("")`, reasonException},
	{"endless replacer", `JSON.stringify({}, new Array(4294967295))`, reasonException},
	{"endless concat", `[].concat(new Array(4294967295), [new Array(4294967295)].flat())`, reasonException},
	{"slow built-ins in a loop", `var b = 2n ** 500000n; for (;;) b * b`, ""},
	{"slow string search", `var s = "a".repeat(5e4), t = "a".repeat(1e3) + "b"; for (;;) s.indexOf(t)`, ""},
	{"endless string search", `"a".repeat(4e6).indexOf("a".repeat(2e6) + "b")`, reasonException},
	{"regular expression", `/(a+)+$/.test("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab")`, reasonTimeout},
	{"deep recursion", `function f() { return f() + 1; } f()`, reasonException},
	{"caught recursion", `function f() { try { return f() } catch (e) { return f() } } f()`, ""},
	{"recursion by toString", `var o = { toString: function () { return "" + o; } }; channel("" + o)`, reasonException},
	{"recursion by nesting", `var a = []; for (var i = 0; i < 2e4; i++) a = [a]; String(a)`, reasonException},
	{"nested JSON", `JSON.parse("[".repeat(1e5))`, reasonException},
	{"nested source", `Function("return " + "(".repeat(1e4) + "1" + ")".repeat(1e4))()`, reasonException},
	{"nested expression", `new RegExp("(a|b".repeat(250) + ")".repeat(250) + "*").test("ab".repeat(1e4))`, ""},
	{"huge string", `"x".repeat(1 << 29)`, reasonException},
	{"huge array", `new Array(4e6).fill("x")`, reasonException},
	{"growing string", `var s = "x"; for (;;) s += s`, reasonException},
	{"growing array", `var a = []; for (;;) a.push(new Array(1000))`, ""},
	{"growing object", `var o = {}; for (var i = 0; ; i++) o["k" + i] = { i: i }`, ""},
	{"allocation in try", `var a = []; for (;;) try { a.push("x".repeat(1e6) + a.length) } catch (e) { a = [a] }`, ""},
	{"growing output", `for (;;) channel("x".repeat(1e5))`, ""},
	{"growing promises", `for (;;) Promise.resolve().then(function () {})`, ""},
	{"huge log", `console.log("x".repeat(1e7))`, ""},
	{"huge exception", `throw new Error("x".repeat(1e6))`, reasonException},
	{"throwing description", `throw { toString: function () { throw 1; }, get stack() { throw 2; } }`, reasonException},
	{"proxy", `new Proxy({}, {})`, reasonException},
	{"waiting", `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)`, reasonException},
	{"files", `std.exit(1); os.exit(1)`, reasonException},
	{"modules", `import("os"); require("fs")`, reasonException},
}

// memoryCeiling is how much the process may grow while the hostile scripts run: a runtime's limit and what the engine and
// Go need besides.
const memoryCeiling = 160 << 20

// TestHostileScripts runs each hostile script, then a good call on the same function, and looks at the memory of the
// process.
func TestHostileScripts(t *testing.T) {
	debug.FreeOSMemory()
	before := residentBytes(t)
	f, err := CompileSync(fn(`Function("doc", doc.code)(doc)`), "", Options{Limits: Limits{Time: 250 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run := func(code string) (*SyncOutput, error) {
		return f.Sync(t.Context(), input(`{"code":`+string(appendJSONString(nil, code))+`}`))
	}
	for _, h := range thin(hostileScripts) {
		t.Run(h.name, func(t *testing.T) {
			_, err := run(h.body)
			e, ok := errors.AsType[*tidegate.Error](err)
			switch {
			case !ok && h.reason == "" && err == nil: // it is only cut, or swallows its own failure
			case !ok:
				t.Fatalf("got %v, want an error", err)
			case e.Code != tidegate.Internal || e.Status != 500, e.Reason != reasonTimeout && e.Reason != reasonException:
				t.Errorf("got %v %d %q", e.Code, e.Status, e.Error())
			case h.reason == reasonTimeout && e.Reason != reasonTimeout:
				t.Errorf("got %q, want %q", e.Error(), h.reason)
			}
			// A busy machine may need several attempts.
			out, err := run("channel('good')")
			for i := 0; i < 50 && Classify(err) == FailureTimeout; i++ {
				out, err = run("channel('good')")
			}
			if err != nil || !out.Channels.Has("good") {
				t.Errorf("the next call: %v, %v", out, err)
			}
			if grown := residentBytes(t) - before; grown > memoryCeiling {
				t.Errorf("the process has grown by %d MiB", grown>>20)
			}
		})
	}
}

// residentBytes reads the resident memory of this process, 0 where /proc is not there.
func residentBytes(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestHostileSources compiles sources that are hard on parsers: each is refused or accepted in bounded time and stack.
func TestHostileSources(t *testing.T) {
	repeat := func(s string, n int) string { return strings.Repeat(s, n) }
	for _, c := range thin([]struct{ name, source string }{
		{"open brackets", repeat("(", 1<<16)},
		{"nested brackets", fn("return " + repeat("(", 1<<14) + "1" + repeat(")", 1<<14))},
		{"hidden brackets", fn("return " + repeat("(", 1<<13) + "1" + repeat(")", 1<<13))},
		{"nested arrows", fn("return " + repeat("(a=(", 30) + "1" + repeat("))", 30))},
		{"broken arrows", fn("return " + repeat("(a,(", 40) + "..." + repeat("))", 40))},
		{"unary operators", fn("return " + repeat("!", 10000) + "1")},
		{"conditionals", fn("return " + repeat("a?", 3000) + "1" + repeat(":2", 3000))},
		{"long sum", fn("return 1" + repeat("+1", 5000))},
		{"else if", fn(repeat("if (doc.a) {} else ", 800) + ";")},
		{"long source", fn(repeat("doc.a;", 1<<14))},
		{"many names", fn(repeat("channel(doc.a", 1) + repeat(",doc.a", 4000) + ")")},
		{"source map", fn("") + "\n//# sourceMappingURL=file:///etc/passwd"},
		{"bytes", "function (doc) { \xff\xfe \x00 }"},
		{"template", "function () { return `" + repeat("${`", 3000) + repeat("`}", 3000) + "` }"},
		{"regular expession", fn("return /" + repeat("(", 20000) + "/")},
	}) {
		t.Run(c.name, func(t *testing.T) {
			f, err := CompileSync(c.source, "", Options{Limits: Limits{Time: 10 * time.Second}})
			if err != nil {
				if tidegate.ErrorCode(err) != tidegate.Invalid {
					t.Errorf("got %v: %.200v", tidegate.ErrorCode(err), err)
				}
				return
			}
			defer f.Close()
			if _, err := f.Sync(t.Context(), input(`{}`)); err != nil && Classify(err) != FailureException {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestMemoryRunsOut lets a busy function fail for lack of memory at many points, of the prelude and of the script. The
// engine must come out of each with an exception.
func TestMemoryRunsOut(t *testing.T) {
	p := newProgram(kindSync, `function (doc) {
		var a = [];
		for (var i = 0; i < 100; i++) a.push({ k: "v" + i, r: /x+/.exec("xxx" + i), f: function () { return a; }, m: new Map([[i, i]]) });
		try { null.x; } catch (e) { a.push(String(e.stack)); }
		channel(a.map(function (x) { return typeof x; }).join("-"));
		console.log(JSON.stringify(a));
	}`)
	args := syncArgs(input("{}"), false)
	lim := Limits{}.withDefaults(1)
	step := int64(37_777)
	if raceBuild {
		step *= 6
	}
	for lim.Memory = 128 << 10; lim.Memory < 1<<20; lim.Memory += step {
		v, err := quickEngine{}.load(p, lim)
		if err != nil {
			continue
		}
		text, err := v.call(args)
		if v.(*quickVM).dead {
			t.Fatalf("with %d bytes the engine failed: %v", lim.Memory, err)
		}
		if recs, bad := splitRecords(text, nil); err == nil && (bad != nil || len(recs) == 0) {
			t.Errorf("with %d bytes: %q", lim.Memory, text)
		}
		v.close()
	}
}

// TestBigDocument runs a document near the size limit directly, without the engine and its memory.
func TestBigDocument(t *testing.T) {
	body := append([]byte(`{"items":[`), bytes.Repeat([]byte(`{"k":1},`), 1<<20)...)
	body = append(body, `null],"channels":["a","b"]}`...)
	f, err := CompileSync("", "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := input("")
	in.Body = body
	out, err := f.Sync(t.Context(), in)
	if err != nil || len(out.Channels) != 2 {
		t.Errorf("got %v, %v", out, err)
	}
}
