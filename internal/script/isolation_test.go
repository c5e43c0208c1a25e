package script

import (
	"testing"
	"time"
)

// tampering is what one call does to influence the next, and how the next would notice: the second must be falsy.
var tampering = []struct{ name, do, notice, mention string }{
	{"implicit global", `leak = 1;`, `typeof leak !== "undefined"`, ""},
	{"property of the global object", `(function () { this.leak = 1; })();`, `typeof leak !== "undefined"`, ""},
	{"fixed global", `Object.defineProperty(globalThis, "leak", { value: 1 });`, `typeof leak !== "undefined"`, ""},
	{"hidden global", `Object.defineProperty(globalThis, Symbol.for("leak"), { value: 1, configurable: true });`, `globalThis[Symbol.for("leak")]`, ""},
	{"closed global object", `Object.preventExtensions(globalThis);`, `!Object.isExtensible(globalThis)`, ""},
	{"prototype of the global object", `Object.setPrototypeOf(globalThis, { leak: 1 });`, `globalThis.leak`, ""},
	{"variable by Function", `Function("leak = 1")();`, `typeof leak !== "undefined"`, ""},
	{"variable by eval", `(0, eval)("var leak1 = 1; let leak2 = 2; const leak3 = 3");`, `typeof leak1 + typeof leak2 + typeof leak3 !== "undefinedundefinedundefined"`, "eval"},
	{"eval by another name", `(function () {}).constructor("return this['ev' + 'al']")()("let leak = 1");`, `typeof leak !== "undefined"`, ""},
	{"own property", `arguments.callee.leak = 1;`, `arguments.callee.leak`, ""},
	{"object prototype", `Object.prototype.leak = 1;`, `({}).leak`, ""},
	{"array prototype", `Array.prototype.indexOf = function () { return 7; };`, `[].indexOf(1) === 7`, ""},
	{"array iterator", `[][Symbol.iterator]().__proto__.next = function () { return { done: true }; };`, `[...[1]].length !== 1`, ""},
	{"string prototype", `String.prototype.leak = 1;`, `"".leak`, ""},
	{"function prototype", `Function.prototype.call = null;`, `Function.prototype.call === null`, ""},
	{"generator prototype", `Object.getPrototypeOf(function* () {}).leak = 1;`, `Object.getPrototypeOf(function* () {}).leak`, ""},
	{"matcher prototype", `Object.getPrototypeOf("".matchAll(/x/g)).leak = 1;`, `Object.getPrototypeOf("".matchAll(/x/g)).leak`, ""},
	{"prototype of a prototype", `Object.setPrototypeOf(Array.prototype, { leak: 1 });`, `[].leak`, ""},
	{"error prototype", `Error.prototype.message = "leak"; Error.prepareStackTrace = function () { return "leak"; }; Error.stackTraceLimit = 0;`, `new Error().message === "leak" || new Error().stack === "leak"`, ""},
	{"expression prototype", `RegExp.prototype.exec = function () { return null; };`, `!/a/.exec("a")`, ""},
	{"helper replaced", `channel = function () {}; requireAdmin = function () {};`, `!/put|each/.test(channel)`, ""},
	{"helper by the global object", `globalThis.channel = null; delete globalThis.channel;`, `!channel`, ""},
	{"property of a helper", `channel.leak = 1; console.leak = 1; JSON.leak = 1; Math.leak = 1;`, `channel.leak || console.leak || JSON.leak || Math.leak`, ""},
	{"JSON replaced", `JSON.parse = function () { return {}; };`, `!JSON.parse("1")`, ""},
	{"console replaced", `console.log = null;`, `!console.log`, ""},
	{"underscore", `_.leak = 1; _.mixin({ leak2: function () {} }); _.templateSettings.leak = 1; _.uniqueId(); _.uniqueId();`, `_.leak || _.leak2 || _.templateSettings.leak || _.uniqueId() !== "1"`, "_."},
	{"underscore's prototype", `_.prototype.leak = 1;`, `_([]).leak`, "_."},
	{"setter of Object.prototype", `Object.prototype.toString = function () { return "leak"; };`, `String({}) === "leak"`, ""},
	{"expression literal", `for (var i = 0; i < 2; i++) { var r = /a/g; r.test("aa"); r.leak = 1; }`, `/a/g.leak`, ""},
	{"template object", "(function (t) { try { t.leak = 1 } catch (e) {} })`x`;", "(function (t) { return t.leak; })`x`", ""},
	{"pending job", `Promise.resolve().then(function () { globalThis.leak = 1; }); (async function () { await 1; leak = 1; })();`, `typeof leak !== "undefined"`, ""},
	{"the arguments", `doc.leak = 1; meta.xattrs.leak = 1;`, `doc.leak || meta.xattrs.leak`, ""},
	{"a call that is stopped", `leak = 1; Object.defineProperty(globalThis, "leak2", { value: 1 }); for (;;);`, `typeof leak + typeof leak2 !== "undefinedundefined"`, ""},
}

// TestNoStateSurvives runs each tampering call and then looks for traces of it, on one runtime. The code comes in the
// documents; the function mentions what the cases need, which is not there otherwise.
func TestNoStateSurvives(t *testing.T) {
	for _, mention := range []string{"", "_.", "eval"} {
		f, err := CompileSync(`function (doc, oldDoc, meta) { /* `+mention+` */ return Function("doc", "meta", doc.code).call(undefined, doc, meta); }`, "",
			Options{Limits: Limits{Runtimes: 1, Time: time.Second}})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		run := func(code string) (*SyncOutput, error) {
			return f.Sync(t.Context(), input(`{"code":`+string(appendJSONString(nil, code))+`}`))
		}
		for _, c := range thin(tampering) {
			if c.mention != mention {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				for range 2 {
					_, _ = run(c.do) // many of these throw
					out, err := run("channel((" + c.notice + ") ? 'leak' : 'clean')")
					if err != nil || len(out.Channels) != 1 || out.Channels[0] != "clean" {
						t.Fatalf("after tampering: %v, %v", out, err)
					}
				}
			})
		}
	}
}

// TestOwnPropertiesDespiteFreezing: a frozen prototype must not keep scripts from giving their own objects members that
// the prototype has too.
func TestOwnPropertiesDespiteFreezing(t *testing.T) {
	f := sharedEngines().function(fn(`
		var o = {}; o.toString = function () { return "own"; }; o.constructor = "c"; o.valueOf = 1; channel(String(o), o.constructor);
		function P() {} P.prototype.toString = function () { return "proto"; }; channel(String(new P()));
		var e = new Error("a"); e.message = "b"; e.name = "N"; channel(String(e).replace(": ", "-"));
		var seen = {}; seen["constructor"] = true; seen.hasOwnProperty = 5; channel(typeof seen.constructor, typeof seen.hasOwnProperty);
		var a = ["x"]; a.toString = function () { return "array"; }; channel("" + a);
		(function () { "use strict"; var s = {}; s.toString = 1; channel(typeof s.toString); })();
		channel(Object.keys(o).join("."));`))
	got := f.agree(t, input("{}"))
	want := channels("own", "c", "proto", "N-b", "boolean", "number", "array", "toString.constructor.valueOf")
	if got.Out == nil || len(got.Out.Channels) != len(want.Channels) {
		t.Fatalf("got %v", got)
	}
	for i, c := range want.Channels {
		if got.Out.Channels[i] != c {
			t.Errorf("got %v, want %v", got.Out.Channels, want.Channels)
		}
	}
}

// TestFunctionIsMadeAnew: what a call stores on the function itself, or in variables around it, is gone with the call.
func TestFunctionIsMadeAnew(t *testing.T) {
	for _, source := range []string{
		`function f(doc) { f.n = (f.n || 0) + 1; channel("n-" + f.n); }`,
		`function (doc) { var f = arguments.callee; f.n = (f.n || 0) + 1; channel("n-" + f.n); }`,
		`(function () { var n = 0; return function (doc) { n++; channel("n-" + n); }; })()`,
		`function (doc) { if (typeof n === "undefined") n = 0; n++; channel("n-" + n); }`,
	} {
		f, err := CompileSync(source, "", Options{Limits: Limits{Runtimes: 1}})
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		for range 3 {
			out, err := f.Sync(t.Context(), input(`{}`))
			if err != nil || len(out.Channels) != 1 || out.Channels[0] != "n-1" {
				t.Errorf("%s: got %v, %v", source, out, err)
			}
		}
		f.Close()
	}
}
