package script

import (
	"testing"

	"pgregory.net/rapid"
)

// corpusFunction is a sync function of the kind that people write.
type corpusFunction struct {
	name   string
	direct bool // the direct evaluator takes it
	source string
}

var corpus = []corpusFunction{
	{"by type and owner", true, `function (doc, oldDoc) {
		if (doc._deleted) {
			requireUser(oldDoc ? oldDoc.owner : null);
			return;
		}
		if (!doc.type) { throw({forbidden: "type is required"}); }
		if (oldDoc && oldDoc.owner != null && oldDoc.owner !== doc.owner) { throw({forbidden: "owner is fixed"}); }
		channel("type-" + doc.type, doc.channels);
		access(doc.owner, "user-" + doc.owner);
	}`},
	{"to-do lists", true, `function (doc, oldDoc, meta) {
		var type = getType();
		var owner = doc._deleted ? oldDoc && oldDoc.owner : doc.owner;
		if (type === "task-list") {
			requireOwner(owner);
			channel("lists." + doc._id);
			access(owner, "lists." + doc._id);
		} else if (type === "task" || type === "task-list:user") {
			var list = oldDoc && oldDoc.sub ? oldDoc.sub : doc.sub;
			validateNotEmpty("sub", list);
			channel("lists." + list.k);
			if (type === "task-list:user") { access(doc.k, "lists." + list.k); role(doc.k, "role:lists." + list.k + ".contributor"); }
		} else if (type === "moderator") {
			requireAdmin();
		} else {
			throw({forbidden: "Invalid document type: " + type});
		}
		function getType() { return (isDelete() ? oldDoc && oldDoc.type : doc.type); }
		function isDelete() { return (doc._deleted == true); }
		function requireOwner(name) { requireUser(name); }
		function validateNotEmpty(key, value) { if (!value) { throw({forbidden: key + " is not provided."}); } }
	}`},
	{"loops and switch", true, `function (doc, oldDoc) {
		var list = doc.channels || [], seen = {};
		for (var i = 0; i < list.length; i++) {
			var name = list[i];
			if (typeof name !== "string" || seen[name]) continue;
			seen[name] = true;
			if (name.indexOf("x") === 0) break;
			channel("c-" + name);
		}
		switch (doc.type) {
			case "order": channel("orders");
			case "note": channel("notes"); break;
			case null: return;
			default: channel("other");
		}
		for (var key in doc) { if (key.indexOf("_") !== 0 && doc.hasOwnProperty(key)) channel("has-" + key); }
		(doc.items || []).forEach(function (item, i) { if (item && item.k) channel("item" + i + "-" + item.k); });
		while (i > 0) { i--; if (i === 1) break; }
		do { i += 2; } while (i < 5);
		console.log("done", doc._id, i);
	}`},
	{"modern syntax", false, "(doc, oldDoc) => {\n" +
		"	const { type } = doc;\n" +
		"	channel(`t-${type}`);\n}"},
	{"modern subset", true, "(doc, oldDoc) => {\n" +
		"	const names = Array.isArray(doc.channels) ? doc.channels : [doc.channels];\n" +
		"	let n = 0;\n" +
		"	for (const name of names) { if (typeof name === 'string') { channel(`c-${name}`); n++; } }\n" +
		"	const ok = names.some(x => x === 'a') || (doc.items ?? []).every(x => x !== null);\n" +
		"	if (!ok) throw({unauthorized: 'only ' + n});\n" +
		"	expiry(doc.n);\n}"},
	{"implicit globals", false, `function (doc) { for (i = 0; i < 3; i++) { channel("c" + i); } total = i; channel("n" + total); }`},
	{"try", false, `function (doc) { try { requireUser("bob"); channel("bob"); } catch (e) { channel("not-bob-" + e.forbidden); } }`},
	{"regular expressions", false, `function (doc) { var m = /^([a-z])/.exec(String(doc.type)); if (m) channel("m-" + m[1]); channel(String(doc.owner).replace(/b/g, "B") + "-"); }`},
	{"underscore", false, `function (doc) { channel(_.uniq(_.filter(_.flatten([doc.channels, "z"]), _.isString)).map(function (s) { return "u-" + s; })); channel(_.uniqueId("id")); }`},
	{"JSON and dates", false, `function (doc) { channel("j-" + JSON.stringify(doc.sub || null).length); channel("d-" + new Date(0).toISOString().slice(0, 4)); }`},
	{"changing the arguments", false, `function (doc, oldDoc, meta) { doc.type = "changed"; doc.channels = ["own"]; delete doc.owner; meta.xattrs.k = 1; doc.channels.push("more"); channel(doc.channels, doc.type); }`},
	{"constructors", false, `function (doc) { function P(n) { this.name = n; } P.prototype.toString = function () { return "p-" + this.name; }; channel(String(new P("x"))); }`},
	{"inherited members", true, `function (doc) { if (doc.toString) channel("has"); if ("constructor" in doc) channel("in"); channel(typeof doc.hasOwnProperty); }`},
	{"numbers", true, `function (doc) { channel("n:" + doc.n); channel(doc.n + 1 + "-" + doc.n * 2 + "-" + doc.n / 3); if (doc.n > 1e3) channel("big"); }`},
	{"identity", true, `function (doc, oldDoc) { channel(doc.sub === doc.sub ? "same" : "other", oldDoc && doc.sub === oldDoc.sub ? "shared" : "own", doc == oldDoc ? "a" : "b", doc === doc ? "c" : "d"); }`},
}

// TestCorpus holds the paths against one another on the corpus and made-up documents.
func TestCorpus(t *testing.T) {
	engines := loadEngines(anyProgram + "// _.")
	defer engines.close()
	functions := make([]*testFunction, len(corpus))
	for i, c := range corpus {
		functions[i] = engines.function(c.source)
		if (functions[i].direct != nil) != c.direct {
			t.Fatalf("%s: taken by the direct evaluator: %v, want %v", c.name, !c.direct, c.direct)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		in := inputs().Draw(t, "in")
		for range 3 {
			i := rapid.IntRange(0, len(corpus)-1).Draw(t, "function")
			results, err := functions[i].runAll(in)
			if err != nil {
				t.Fatalf("%s: %v", corpus[i].name, err)
			}
			if d := disagreement(results); d != "" {
				t.Fatalf("%s on %s\nold %s\n%s", corpus[i].name, in.Body, in.OldBody, d)
			}
		}
	})
}
