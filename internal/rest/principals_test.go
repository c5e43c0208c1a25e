package rest

import (
	"strings"
	"testing"
)

func TestUsers(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords})
	r.a("GET", "/db/_user/", "").want(200, `[]`)
	r.a("PUT", "/db/_user/bob", `{"name":"bob","password":"letmein","admin_channels":["b","a"],"admin_roles":["r"],"email":"bob@example.org"}`).want(201, "")
	r.a("POST", "/db/_user", `{"name":"amy","password":"letmein","disabled":true}`).want(201, "")
	r.a("POST", "/db/_user/", `{"name":"amy","password":"letmein"}`).fails(409, "Already exists")
	r.a("POST", "/db/_user/", `{"password":"letmein"}`).fails(400, "Missing name property")
	r.a("POST", "/db/_user/", `{"name":"","password":"letmein"}`).fails(400, "Missing name property")
	for _, path := range []string{"/db/_user", "/db/_user/", "/db/_user/?name_only=true"} {
		r.a("GET", path, "").want(200, `["amy","bob"]`)
		r.a("HEAD", path, "").is(200)
	}
	r.a("GET", "/db/_user/?name_only=false", "").want(200, `[{"name":"amy","email":"","disabled":true},{"name":"bob","email":"bob@example.org","disabled":false}]`)
	r.a("GET", "/db/_user/?name_only=false&limit=1", "").want(200, `[{"name":"amy","email":"","disabled":true}]`)
	r.a("GET", "/db/_user/?limit=1", "").is(400)

	a := r.a("GET", "/db/_user/bob", "")
	a.want(200, `{"name":"bob","admin_channels":["a","b"],"all_channels":["!","a","b"],"admin_roles":["r"],"roles":["r"],"email":"bob@example.org","disabled":false,"created_at":null,"updated_at":null}`)
	if strings.Contains(a.body, "letmein") || strings.Contains(a.body, "$2a$") || strings.Contains(a.body, "password") {
		t.Error("something of the password is returned")
	}
	r.a("HEAD", "/db/_user/bob/", "").is(200)
	r.a("PUT", "/db/_user/bob", a.body).want(200, "") // what was read can be written back
	r.a("GET", "/db/_user/nobody", "").fails(404, "missing")
	r.a("HEAD", "/db/_user/nobody", "").is(404)

	r.a("PUT", "/db/_user/bob", `{"admin_channels":[]}`).want(200, "")
	r.a("PUT", "/db/_user/bob", `{"name":"bob","email":"nonsense"}`).want(200, "")
	r.a("GET", "/db/_user/bob", "").want(200, `{"name":"bob","all_channels":["!"],"admin_roles":["r"],"roles":["r"],"email":"bob@example.org","disabled":false,"created_at":null,"updated_at":null}`)
	r.p("GET", "/db/", "", basic("bob", "letmein")).is(200)

	r.a("DELETE", "/db/_user/bob", "").want(200, "")
	r.a("DELETE", "/db/_user/bob", "").fails(404, "missing")
	r.p("GET", "/db/", "", basic("bob", "letmein")).fails(401, "Invalid login")
	r.a("GET", "/db/_user/", "").want(200, `["amy"]`)
}

func TestBadUsersAndRoles(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords})
	r.a("PUT", "/db/_user/bob", `{"password":"letmein"}`).is(201)
	r.a("PUT", "/db/_role/r", `{}`).is(201)
	for _, tt := range []struct {
		method, path, body string
		status             int
		reason             string
	}{
		{"PUT", "/db/_user/x", `{}`, 400, "Error creating user: …"},
		{"PUT", "/db/_user/x", `{"password":"ab"}`, 400, "Error creating user: …"},
		{"POST", "/db/_user/", `{"name":"x","password":""}`, 400, "Error creating user: …"},
		{"PUT", "/db/_user/bob", `{"password":"ab"}`, 400, "Error updating user/role: …"},
		{"PUT", "/db/_user/x", `{"name":"y","password":"letmein"}`, 400, "Name mismatch (can't change name)"},
		{"PUT", "/db/_user/x", `{"password":"letmein","admin_channels":["a,b"]}`, 400, `Illegal channel name "a,b"`},
		{"PUT", "/db/_user/x", `{"password":"letmein","admin_channels":[""]}`, 400, `Illegal channel name ""`},
		{"PUT", "/db/_user/x", `{"password":"letmein","all_channels":["q"]}`, 400, "all_channels is read-only"},
		{"PUT", "/db/_user/x", `{"password":"letmein","roles":["q"]}`, 400, "roles is read-only"},
		{"PUT", "/db/_user/x", `{"password":"letmein","created_at":"2020-01-01T00:00:00Z"}`, 400, "Can't change read-only properties"},
		{"PUT", "/db/_user/x", `{"password":"letmein","admin_channles":[]}`, 400, "JSON Unknown Field: …"},
		{"PUT", "/db/_user/x", `{"password":"letmein","password":"other"}`, 400, "Bad JSON…"},
		{"PUT", "/db/_user/x", `{"password":7654321}`, 400, "Bad JSON…"},
		{"PUT", "/db/_user/x", `{"password":"letmein"`, 400, "Bad JSON…"},
		{"PUT", "/db/_user/x", ``, 400, "Bad JSON…"},
		{"PUT", "/db/_user/x", `[]`, 400, "Bad JSON…"},
		{"PUT", "/db/_user/x", `{"password":"letmein","collection_access":{"s":{"c":{"admin_channels":["a"]}}}}`, 400, "Unknown collection…"},
		{"PUT", "/db/_user/a%2Fb", `{"password":"letmein"}`, 400, "Invalid name…"},
		{"PUT", "/db/_user/a:b", `{"password":"letmein"}`, 400, "Invalid name…"},
		{"PUT", "/db/_user/a,b", `{"password":"letmein"}`, 400, "Invalid name…"},
		{"PUT", "/db/_user/a%60b", `{"password":"letmein"}`, 400, "Invalid name…"},
		{"PUT", "/db/_user/-._", `{"password":"letmein"}`, 400, "Invalid name…"},
		{"PUT", "/db/_user/" + strings.Repeat("a", 240), `{"password":"letmein"}`, 400, "Invalid name…"},
		{"PUT", "/db/_user/GUEST", `{"password":"letmein"}`, 400, "The guest cannot have a password"},
		{"PUT", "/db/_user/GUEST", `{"admin_channels":["*"]}`, 400, `The guest may have the channel "*" only with unsupported.allow_guest_star`},
		{"DELETE", "/db/_user/GUEST", ``, 405, "The guest cannot be deleted, only disabled"},
		{"POST", "/db/_role/", `{}`, 400, "Missing name property"},
		{"POST", "/db/_role/", `{"name":"r"}`, 409, "Already exists"},
		{"PUT", "/db/_role/x", `{"name":"y"}`, 400, "Name mismatch (can't change name)"},
		{"PUT", "/db/_role/x", `{"password":"letmein"}`, 400, "JSON Unknown Field: …"},
		{"PUT", "/db/_role/x", `{"all_channels":["q"]}`, 400, "all_channels is read-only"},
		{"PUT", "/db/_role/a:b", `{}`, 400, "Invalid name…"},
		{"PUT", "/db/_role/x", `{"admin_channels":["a,b"]}`, 400, `Illegal channel name "a,b"`},
	} {
		a := r.a(tt.method, tt.path, tt.body)
		a.fails(tt.status, tt.reason)
		if strings.Contains(a.body, "letmein") || strings.Contains(a.body, "7654321") {
			t.Errorf("%s %s: the answer quotes the password: %s", tt.path, tt.body, a.body)
		}
	}
	r.a("PUT", "/db/_user/x", `{"password":"letmein"}`, "Content-Type: text/plain").is(415)
	r.a("GET", "/db/_user/", "").want(200, `["bob"]`) // nothing of that changed anything
	r.a("GET", "/db/_role/", "").want(200, `["r"]`)
}

func TestOddNames(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords})
	for _, name := range []string{"a%20b", "%C3%A9", "_x", "a%25b", "a+b", "a@b.c", "x'y", "%3Cb%3E", "a%5Cb", strings.Repeat("a", 239)} {
		r.a("PUT", "/db/_user/"+name, `{"password":"letmein"}`).is(201)
		r.a("PUT", "/db/_role/"+name, `{}`).is(201)
		r.a("GET", "/db/_user/"+name, "").is(200)
		r.a("GET", "/db/_role/"+name, "").is(200)
	}
	r.p("GET", "/db/", "", basic("a%b", "letmein")).is(200)
	r.p("GET", "/db/", "", basic("a+b", "letmein")).is(200)
	r.p("GET", "/db/", "", basic("é", "letmein")).is(200)
	a := r.a("GET", "/db/_user/%3Cb%3E", "").is(200)
	if !strings.Contains(a.body, `"name":"<b>"`) {
		t.Error(a.body)
	}
}

func TestRoles(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords})
	r.a("GET", "/db/_role/", "").want(200, `[]`)
	r.a("PUT", "/db/_role/r", `{"name":"r","admin_channels":["x"]}`).want(201, "")
	r.a("POST", "/db/_role/", `{"name":"s"}`).want(201, "")
	r.a("GET", "/db/_role", "").want(200, `["r","s"]`)
	r.a("GET", "/db/_role/r", "").want(200, `{"name":"r","admin_channels":["x"],"all_channels":["!","x"],"created_at":null,"updated_at":null}`)
	r.a("HEAD", "/db/_role/r", "").is(200)
	r.a("GET", "/db/_role/none", "").fails(404, "missing")
	r.a("PUT", "/db/_user/bob", `{"password":"letmein","admin_roles":["r","later"]}`).is(201)
	r.p("GET", "/db/_session", "", basic("bob", "letmein")).
		want(200, `{"ok":true,"userCtx":{"name":"bob","channels":{"!":1,"x":3}},"authentication_handlers":["default","cookie"]}`)
	r.a("PUT", "/db/_role/later", `{"admin_channels":["y"]}`).is(201)
	r.a("GET", "/db/_user/bob", "").
		want(200, `{"name":"bob","all_channels":["!","x","y"],"admin_roles":["later","r"],"roles":["later","r"],"email":"","disabled":false,"created_at":null,"updated_at":null}`)
	r.a("PUT", "/db/_role/r", `{}`).want(200, "")
	r.a("DELETE", "/db/_role/r", "").want(200, "")
	r.a("DELETE", "/db/_role/r", "").fails(404, "missing")
	r.a("GET", "/db/_role/r", "").fails(404, "missing")
	r.a("GET", "/db/_role/", "").want(200, `["later","s"]`)
	r.a("GET", "/db/_role/?deleted=true", "").want(200, `["later","r","s"]`)
	r.p("GET", "/db/_session", "", basic("bob", "letmein")).
		want(200, `{"ok":true,"userCtx":{"name":"bob","channels":{"!":1,"y":4}},"authentication_handlers":["default","cookie"]}`)
	r.a("DELETE", "/db/_role/r?purge=true", "").want(200, "")
	r.a("GET", "/db/_role/?deleted=true", "").want(200, `["later","s"]`)
	r.a("POST", "/db/_role/", `{"name":"r"}`).want(201, "")
}

func TestGuestUser(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: `{"sync":"function(doc){channel(doc.channels)}"}`})
	r.put("d", `{"channels":["a"]}`)
	r.a("GET", "/db/_user/GUEST", "").want(200, `{"name":"GUEST","all_channels":["!"],"email":"","disabled":true}`)
	r.p("GET", "/db/d", "").fails(401, "Login required")
	r.a("PUT", "/db/_user/GUEST", `{"disabled":false,"admin_channels":["a"]}`).want(200, "")
	r.p("GET", "/db/d", "").is(200)
	r.a("PUT", "/db/_user/GUEST", `{"admin_channels":[]}`).want(200, "")
	r.p("GET", "/db/d", "").fails(401, "login required…") // as a guest without the channel: so that clients prompt
	r.a("GET", "/db/_user/GUEST", "").want(200, `{"name":"GUEST","all_channels":["!"],"email":"","disabled":false,"created_at":null,"updated_at":null}`)
	r.a("PUT", "/db/_user/GUEST", `{"disabled":true}`).want(200, "")
	r.p("GET", "/db/d", "").fails(401, "Login required")
	r.a("GET", "/db/_user/", "").want(200, `[]`)
	r.a("DELETE", "/db/_user/GUEST", "").is(405).has("Allow", "GET, HEAD, PUT")
}

// Who reads what, through the real handlers: a user sees the documents of its channels and nothing else
// (I7, hardening.md).
func TestWhoSeesWhat(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: `{"guest":{"disabled":false},
		"sync":"function(doc){channel(doc.channels); if (doc.to) access(doc.to, doc.channels); if (doc.mine) requireUser(doc.mine)}"}`})
	r.a("PUT", "/db/_user/rich", `{"password":"letmein","admin_channels":["a"]}`).is(201)
	r.a("PUT", "/db/_user/all", `{"password":"letmein","admin_channels":["*"]}`).is(201)
	r.a("PUT", "/db/_user/poor", `{"password":"letmein"}`).is(201)
	r.a("PUT", "/db/_user/off", `{"password":"letmein","admin_channels":["*"],"disabled":true}`).is(201)
	rev := r.put("secret", `{"channels":["a"],"word":"treasure","_attachments":{"f":{"data":"dHJlYXN1cmU="}}}`)
	r.put("open", `{"channels":["!"],"word":"public"}`)
	r.put("none", `{"word":"treasure"}`)
	for _, tt := range []struct {
		who     string
		header  string
		secret  int // status of GET for the documents
		none    int
		visible string // documents in listings and feeds
	}{
		{"guest", "X: y", 401, 401, "open"},
		{"poor", basic("poor", "letmein"), 403, 403, "open"},
		{"rich", basic("rich", "letmein"), 200, 403, "open secret"},
		{"all", basic("all", "letmein"), 200, 200, "none open secret"},
		{"off", basic("off", "letmein"), 401, 401, ""},
	} {
		get := func(path string) reply { return r.p("GET", path, "", tt.header, "Accept: application/json") }
		get("/db/secret").is(tt.secret)
		get("/db/none").is(tt.none)
		get("/db/secret/f").is(tt.secret)
		post := func(path, body string) reply { return r.p("POST", path, body, tt.header, "Accept: application/json") }
		answers := []reply{
			get("/db/secret"), get("/db/secret/f"), get("/db/secret?rev=" + rev), get("/db/secret?open_revs=all&attachments=true"),
			get(`/db/secret?open_revs=["` + rev + `"]`), get("/db/_all_docs?include_docs=true"), get(`/db/_all_docs?include_docs=true&keys=["secret","none"]`),
			post("/db/_bulk_get?attachments=true", `{"docs":[{"id":"secret"},{"id":"secret","rev":"`+rev+`"},{"id":"none"}]}`),
			get("/db/_changes?include_docs=true"), get("/db/_changes?include_docs=true&style=all_docs&filter=_doc_ids&doc_ids=[\"secret\",\"none\"]"),
			get("/db/_changes?include_docs=true&filter=sync_gateway/bychannel&channels=a,*"),
		}
		for i, a := range answers {
			leaks := strings.Contains(a.body, "treasure") || strings.Contains(a.body, "dHJlYXN1cmU=")
			if leaks && tt.secret != 200 {
				t.Errorf("%s: answer %d leaks: %s", tt.who, i, a.body)
			}
			if !leaks && tt.secret == 200 {
				t.Errorf("%s: answer %d lacks the document: %d %s", tt.who, i, a.status, a.body)
			}
		}
		for _, listing := range []reply{get("/db/_all_docs"), get("/db/_changes")} {
			var seen []string
			for _, id := range []string{"none", "open", "secret"} {
				if strings.Contains(listing.body, `"id":"`+id+`"`) {
					seen = append(seen, id)
				}
			}
			if got := strings.Join(seen, " "); got != tt.visible {
				t.Errorf("%s sees %q, want %q: %s", tt.who, got, tt.visible, listing.body)
			}
		}
	}
	// Grants by a document and their end are seen at once, and so is the end of the user.
	granting := r.put("grant", `{"to":"poor","channels":["a"]}`)
	r.p("GET", "/db/secret", "", basic("poor", "letmein")).is(200)
	r.a("DELETE", "/db/grant?rev="+granting, "").is(200)
	r.p("GET", "/db/secret", "", basic("poor", "letmein")).fails(403, "forbidden")
	r.p("PUT", "/db/new", `{"mine":"rich"}`, basic("poor", "letmein")).fails(403, "sg wrong user")
	r.p("PUT", "/db/new", `{"mine":"rich"}`, basic("rich", "letmein")).is(201)
	r.a("PUT", "/db/_user/rich", `{"disabled":true}`).is(200)
	r.p("GET", "/db/secret", "", basic("rich", "letmein")).fails(401, "Invalid login")
}

// What a user gains and loses reaches its feed without a new write of the documents: older ones as a backfill at
// the grant's sequence, lost ones as revocations for those who ask (gateway-rest.md §14.4, §14.5).
func TestGrantsReachTheFeed(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: `{"sync":"function(doc){channel(doc.channels); if (doc.to) access(doc.to, doc.give)}"}`})
	r.put("a1", `{"channels":["a"]}`)                                                    // 1
	r.put("b1", `{"channels":["b"]}`)                                                    // 2
	r.put("c1", `{"channels":["c"]}`)                                                    // 3
	r.a("PUT", "/db/_user/bob", `{"password":"letmein","admin_channels":["a"]}`).is(201) // 4
	feed := func(query, want string) {
		t.Helper()
		a := r.p("GET", "/db/_changes?"+query, "", basic("bob", "letmein")).is(200)
		a.want(200, want)
	}
	feed("", `{"results":[{"seq":"4:1","id":"a1","changes":[{"rev":"REV"}]},{"seq":4,"id":"_user/bob","changes":[]}],"last_seq":"4"}`)

	r.a("PUT", "/db/_role/r", `{"admin_channels":["b"]}`).is(201) // 5
	r.a("PUT", "/db/_user/bob", `{"admin_roles":["r"]}`).is(200)  // 6
	rev := r.put("granter", `{"to":"bob","give":"c"}`)            // 7
	feed("since=4", `{"results":[{"seq":"6:2","id":"b1","changes":[{"rev":"REV"}]},{"seq":6,"id":"_user/bob","changes":[]},
		{"seq":"7:3","id":"c1","changes":[{"rev":"REV"}]}],"last_seq":"7:3"}`)

	r.a("PUT", "/db/_role/r", `{"admin_channels":[]}`).is(200) // 8
	r.a("DELETE", "/db/granter?rev="+rev, "").is(200)          // 9
	feed("since=7", `{"results":[],"last_seq":"7"}`)
	feed("since=7&revocations=true", `{"results":[{"seq":"8:2","id":"b1","changes":[{"rev":"REV"}],"revoked":true},
		{"seq":"9:3","id":"c1","changes":[{"rev":"REV"}],"revoked":true}],"last_seq":"9:3"}`)
	r.a("PUT", "/db/_user/bob", `{"admin_channels":[]}`).is(200) // 10
	feed("since=9&revocations=true", `{"results":[{"seq":"10:1","id":"a1","changes":[{"rev":"REV"}],"revoked":true},
		{"seq":10,"id":"_user/bob","changes":[]}],"last_seq":"10"}`)
	r.p("GET", "/db/a1", "", basic("bob", "letmein")).fails(403, "forbidden")
}
