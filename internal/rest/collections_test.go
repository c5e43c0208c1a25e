package rest

import (
	"strings"
	"testing"
)

// twoCollections has the default collection beside two named ones, each with a sync function of its own.
const twoCollections = `{"scopes":{
	"_default":{"collections":{"_default":{"sync":"function(doc){ channel('d'); if (doc.gives) { access(doc.who, doc.gives); role(doc.who, doc.role); } }"}}},
	"s":{"collections":{
		"a":{"sync":"function(doc){ if (doc.bad) { throw({forbidden:'not in a'}); } channel(doc.channels); if (doc.gives) { access(doc.who, doc.gives); } }"},
		"b":{}}}}}`

func collectionRig(t *testing.T) *rig {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: twoCollections})
	r.a("PUT", "/db/_user/ann", `{"password":"letmein","admin_channels":["d"]}`).is(201)
	return r
}

var ann = basic("ann", "letmein")

// Documents with the same ID in several collections have nothing to do with each other.
func TestSameIDInCollections(t *testing.T) {
	r := collectionRig(t)
	first := r.a("PUT", "/db/doc", `{"in":"default"}`).is(201).rev()
	inA := r.a("PUT", "/db.s.a/doc", `{"in":"a","channels":["x"],"_attachments":{"f":{"data":"YQ=="}}}`).is(201).rev()
	inB := r.a("PUT", "/db.s.b/doc", `{"in":"b"}`).is(201).rev()
	r.a("PUT", "/db.s.a/doc", `{"in":"a","channels":["x"]}`).fails(409, "Document exists")
	r.a("PUT", "/db.s.a/doc?rev="+first, `{"in":"a"}`).fails(409, "Document revision conflict")
	second := r.a("PUT", "/db.s.b/doc?rev="+inB, `{"in":"b again"}`).is(201).rev()
	r.a("GET", "/db/doc", "").want(200, `{"_id":"doc","_rev":"`+first+`","in":"default"}`)
	r.a("GET", "/db._default._default/doc", "").want(200, `{"_id":"doc","_rev":"`+first+`","in":"default"}`)
	r.a("GET", "/db.s.b/doc", "").want(200, `{"_id":"doc","_rev":"`+second+`","in":"b again"}`)
	if got := r.a("GET", "/db.s.a/doc/f", "").is(200).body; got != "a" {
		t.Errorf("attachment %q", got)
	}
	r.a("GET", "/db.s.b/doc/f", "").is(404)
	// A checkpoint is kept for each collection.
	r.a("PUT", "/db.s.a/_local/cp", `{"at":1}`).is(201)
	r.a("GET", "/db.s.b/_local/cp", "").is(404)
	r.a("GET", "/db/_local/cp", "").is(404)
	// What one deletes and purges the others keep.
	r.a("DELETE", "/db.s.a/doc?rev="+inA, "").is(200)
	r.a("GET", "/db.s.a/doc", "").fails(404, "deleted")
	r.a("POST", "/db.s.b/_purge", `{"doc":["*"]}`).is(200)
	r.a("GET", "/db.s.b/doc", "").fails(404, "missing")
	r.a("GET", "/db/doc", "").is(200)
	r.a("POST", "/db.s.b/_revs_diff", `{"doc":["`+first+`"]}`).want(200, `{"doc":{"missing":["`+first+`"]}}`)
	r.a("POST", "/db/_bulk_get", `{"docs":[{"id":"doc"}]}`, "Accept: application/json").is(200)
	r.a("GET", "/db.s.b/_all_docs", "").want(200, `{"rows":[],"total_rows":0,"update_seq":null}`)
}

// Each collection has its own sync function; without one a document is in the channel named like its collection.
func TestSyncFunctionOfEachCollection(t *testing.T) {
	r := collectionRig(t)
	r.a("PUT", "/db.s.a/doc", `{"bad":true}`).fails(403, "not in a")
	r.a("PUT", "/db.s.b/doc", `{"bad":true,"channels":["x"]}`).is(201)
	r.a("PUT", "/db/doc", `{"bad":true}`).is(201)
	for ks, channel := range map[string]string{"db": "d", "db.s.b": "b"} {
		if got := r.a("GET", "/"+ks+"/_changes?filter=sync_gateway/bychannel&channels="+channel, "").is(200).body; !strings.Contains(got, `"id":"doc"`) {
			t.Errorf("%s: nothing in channel %s: %s", ks, channel, got)
		}
	}
	r.a("PUT", "/db.s.b/_config/sync", `function(doc){ throw({forbidden:'not in b'}); }`, "Content-Type: application/javascript").is(200)
	r.a("PUT", "/db.s.b/other", `{}`).fails(403, "not in b")
	r.a("PUT", "/db.s.a/other", `{}`).is(201)
	for group, want := range map[string]string{"s.a": `"sync_function_reject_count":1`, "s.b": `"num_doc_writes":1`} {
		body := r.a("GET", "/_expvar", "").is(200).body
		_, rest, ok := strings.Cut(body, `"`+group+`":{`)
		figures, _, _ := strings.Cut(rest, "}")
		if !ok || !strings.Contains(figures, want) {
			t.Errorf("%s: %s, want %s", group, figures, want)
		}
	}
}

// A user has channels for each collection: explicitly, by a role, and granted by documents of the collection.
func TestAccessToEachCollection(t *testing.T) {
	r := collectionRig(t)
	r.a("PUT", "/db.s.a/doc", `{"channels":["x"]}`).is(201)
	r.a("PUT", "/db.s.b/doc", `{}`).is(201)
	r.a("PUT", "/db/doc", `{}`).is(201)
	sees := func(want ...bool) {
		t.Helper()
		for i, ks := range []string{"db", "db.s.a", "db.s.b"} {
			status, feed := 403, false
			if want[i] {
				status, feed = 200, true
			}
			r.p("GET", "/"+ks+"/doc", "", ann).is(status)
			if got := strings.Contains(r.p("GET", "/"+ks+"/_changes", "", ann).is(200).body, `"id":"doc"`); got != feed {
				t.Errorf("the feed of %s shows it: %v", ks, got)
			}
		}
	}
	sees(true, false, false)
	// The same name of a channel is another channel elsewhere.
	r.a("PUT", "/db/_user/ann", `{"admin_channels":["d","x","b"]}`).is(200)
	sees(true, false, false)
	r.a("PUT", "/db/_user/ann", `{"collection_access":{"s":{"a":{"admin_channels":["x"]}}}}`).is(200)
	sees(true, true, false)
	r.a("GET", "/db/_user/ann", "").want(200, `{"name":"ann","email":"","disabled":false,"admin_channels":["b","d","x"],"all_channels":["!","b","d","x"],
		"collection_access":{"s":{"a":{"admin_channels":["x"],"all_channels":["!","x"]},"b":{"all_channels":["!"]}}},"created_at":null,"updated_at":null}`)
	r.a("PUT", "/db/_role/r", `{"collection_access":{"s":{"b":{"admin_channels":["*"]}}}}`).is(201)
	r.a("PUT", "/db/_user/ann", `{"admin_channels":[],"admin_roles":["r"],"collection_access":{"s":{"a":{"admin_channels":[]}}}}`).is(200)
	sees(false, false, true)
	// A document of the default collection gives channels of the default collection, and roles for all.
	r.a("PUT", "/db/_user/ann", `{"admin_roles":[]}`).is(200)
	sees(false, false, false)
	r.a("PUT", "/db/grant", `{"who":"ann","gives":["d","x"],"role":"role:r"}`).is(201)
	sees(true, false, true)
	r.a("PUT", "/db.s.a/grant", `{"who":"ann","gives":["x"]}`).is(201)
	sees(true, true, true)
	r.a("PUT", "/db/_user/ann", `{"collection_access":{"s":{"none":{"admin_channels":["x"]}}}}`).
		fails(400, `Unknown collection "s.none" in collection_access`)
	r.a("PUT", "/db/_user/ann", `{"collection_access":{"none":{"a":{"admin_channels":["x"]}}}}`).is(400)
}

// A feed is one collection's; its sequences are the database's.
func TestFeedOfEachCollection(t *testing.T) {
	r := collectionRig(t)
	r.a("PUT", "/db.s.a/one", `{}`).is(201)
	since := r.a("GET", "/db.s.b/_changes", "").want(200, `{"results":[],"last_seq":null}`).member("last_seq")
	r.a("PUT", "/db.s.b/two", `{}`).is(201)
	r.a("PUT", "/db/three", `{}`).is(201)
	last := map[string]string{}
	for ks, id := range map[string]string{"db": "three", "db.s.a": "one", "db.s.b": "two"} {
		a := r.a("GET", "/"+ks+"/_changes", "").want(200, `{"results":[{"seq":null,"id":"`+id+`","changes":[{"rev":"REV"}]}],"last_seq":null}`)
		last[ks] = a.member("last_seq")
	}
	if last["db.s.a"] == last["db.s.b"] || last["db.s.b"] == last["db"] {
		t.Errorf("last sequences %v", last)
	}
	r.a("GET", "/db.s.b/_changes?since="+since, "").want(200, `{"results":[{"seq":null,"id":"two","changes":[{"rev":"REV"}]}],"last_seq":"`+last["db.s.b"]+`"}`)
}

// Taking a collection out of the config keeps its documents, and with them who may see them.
func TestCollectionsComeAndGo(t *testing.T) {
	r := collectionRig(t)
	r.a("PUT", "/db.s.a/doc", `{"channels":["x"]}`).is(201)
	r.a("PUT", "/db/doc", `{}`).is(201)
	r.a("PUT", "/db/_user/ann", `{"collection_access":{"s":{"a":{"admin_channels":["x"]}}}}`).is(200)
	r.p("GET", "/db.s.a/doc", "", ann).is(200)

	r.a("POST", "/db/_config", `{"scopes":{"s":{"collections":{"a":null,"new":{}}}}}`).is(201)
	r.p("GET", "/db.s.a/doc", "", ann).fails(404, "keyspace db.s.a not found")
	r.a("GET", "/db.s.a/_changes", "").fails(404, "keyspace db.s.a not found")
	r.a("GET", "/db.s.a/_config/sync", "").fails(404, "keyspace db.s.a not found")
	r.a("GET", "/db.s.new/_changes", "").want(200, `{"results":[],"last_seq":null}`)
	if body := r.a("GET", "/db/_user/ann", "").is(200).body; strings.Contains(body, `"a":`) {
		t.Errorf("the user shows a collection that is not there: %s", body)
	}

	r.a("POST", "/db/_config", `{"scopes":{"_default":null,"s":{"collections":{"a":{"sync":"function(doc){ channel(doc.channels); }"}}}}}`).is(201)
	r.p("GET", "/db.s.a/doc", "", ann).is(200)
	r.p("GET", "/db.a/doc", "", ann).is(200) // there is one scope now
	r.a("GET", "/db/doc", "").fails(404, "keyspace db not found")
	// The database itself is there all the same.
	r.a("GET", "/db/", "").is(200)
	r.p("GET", "/db/", "", ann).is(200)
	r.p("GET", "/db/_session", "", ann).is(200)
	r.p("POST", "/db/_ensure_full_commit", "", ann).is(201)
	r.a("GET", "/_all_dbs", "").want(200, `["db"]`)

	r.a("PUT", "/db/_config", `{}`).is(201) // the default collection alone
	r.p("GET", "/db/doc", "", ann).is(200)
	r.a("GET", "/db.s.a/doc", "").fails(404, "keyspace db.s.a not found")
	r.a("PUT", "/db/_config", twoCollections).is(201)
	r.p("GET", "/db.s.a/doc", "", ann).is(200)
	r.a("PUT", "/db/_config", `{"scopes":{"s":{"collections":{"a":{}}},"t":{"collections":{"a":{}}}}}`).is(400)
}

// The default collection has several names.
func TestNamesOfTheDefaultCollection(t *testing.T) {
	const src = `function(doc) { channel("z"); }`
	for _, cfg := range []string{`{}`, `{"scopes":{"_default":{"collections":{"_default":{}}}}}`, twoCollections} {
		r := newRig(t, rigOptions{database: cfg})
		names := []string{"db", "db._default._default"}
		if cfg != twoCollections { // which has two scopes
			names = append(names, "db._default")
		}
		for _, ks := range names {
			r.a("PUT", "/"+ks+"/_config/sync", src, "Content-Type: application/javascript").is(200)
			for _, other := range names {
				if got := r.a("GET", "/"+other+"/_config/sync", "").is(200).body; got != src {
					t.Errorf("%s: set as %s, as %s it is %q", cfg, ks, other, got)
				}
			}
			r.a("DELETE", "/"+ks+"/_config/sync", "").is(200)
			r.a("PUT", "/"+ks+"/"+ks, `{}`).is(201)
			r.a("GET", "/db/"+ks, "").is(200)
		}
	}
}

func TestUnknownKeyspaces(t *testing.T) {
	r := collectionRig(t)
	for ks, want := range map[string]string{
		"db.x": "keyspace db.x not found", "db.a": "keyspace db.a not found", // which of two scopes is not said
		"db.s.x": "keyspace db.s.x not found", "db.x.a": "keyspace db.x.a not found", "db.s._default": "keyspace db.s._default not found",
		"db._default.a": "keyspace db._default.a not found", "db.S.a": "keyspace db.S.a not found",
	} {
		for _, path := range []string{"/doc", "/_changes", "/_all_docs", "/_local/x"} {
			r.a("GET", "/"+ks+path, "").fails(404, want)
			r.p("GET", "/"+ks+path, "", ann).fails(404, want)
		}
		r.p("GET", "/"+ks+"/doc", "").fails(401, "Login required")
	}
	for _, ks := range []string{"db.", "db..a", ".s.a", "db.s.a.x", "db.s."} {
		r.a("GET", "/"+ks+"/doc", "").is(400)
	}
}
