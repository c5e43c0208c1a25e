package rest

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

const staffFunction = `function (doc) {
	channel(doc.channels);
	access(doc.who, doc.gives);
	role(doc.who, doc.roles);
}`

// newStaffRig is a database in which documents give roles.
func newStaffRig(t *testing.T) *rig {
	quoted, err := json.Marshal(staffFunction)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, rigOptions{database: `{"sync":` + string(quoted) + `,"scopes":{"_default":{"collections":{"_default":{}}},"s":{"collections":{"c":{}}}}}`})
	r.a("PUT", "/db/_role/sales", `{"admin_channels":["north"]}`).is(201)
	r.a("PUT", "/db/_user/bob", `{"password":"letmein","email":"bob@example.com"}`).is(201)
	r.put("staff-3", `{"who":"bob","roles":"role:sales","secret":"the body"}`)
	r.put("order-1", `{"channels":"north","secret":"the body"}`)
	return r
}

// explained is what the tests look at of an explanation.
type explained struct {
	Verdict   string
	Visible   bool
	Sentences []string
}

func (r *rig) explain(query string) explained {
	r.t.Helper()
	a := r.a("GET", "/db/_explain?"+query, "").is(200)
	if strings.Contains(a.body, "the body") || strings.Contains(a.body, "letmein") || strings.Contains(a.body, "$2a$") || strings.Contains(a.body, "bob@") {
		r.t.Fatalf("a body or a secret: %s", a.body)
	}
	var e explained
	if err := json.Unmarshal([]byte(a.body), &e); err != nil {
		r.t.Fatal(err)
	}
	return e
}

func (e explained) want(t *testing.T, verdict string, sentences ...string) {
	t.Helper()
	if e.Verdict != verdict || e.Visible != (verdict == "visible") || strings.Join(e.Sentences, "\n") != strings.Join(sentences, "\n") {
		t.Errorf("%s\n%s\nwant %s\n%s", e.Verdict, strings.Join(e.Sentences, "\n"), verdict, strings.Join(sentences, "\n"))
	}
}

func TestExplain(t *testing.T) {
	r := newStaffRig(t)
	r.explain("doc=order-1&user=bob").want(t, "visible",
		"bob sees order-1 because it is in channel north, which role sales has since 1, given by an administrator, and bob has role sales since 2, granted by document staff-3.")
	r.explain("doc=staff-3&user=bob").want(t, "not_visible",
		`bob does not see staff-3: it is in no channel, so only administrators and users with channel "*" see it.`)
	r.explain("doc=order-1&user=amy").want(t, "no_such_user", "There is no user amy.")
	r.explain("doc=order-1").want(t, "user_disabled", "The guest is disabled: who does not log in can read nothing.")
	r.explain("doc=order-2&user=bob").want(t, "no_such_document", "There is no document order-2 in _default._default.")

	r.a("PUT", "/db/_user/bob", `{"admin_channels":["a b"]}`).is(200)
	rev := r.put("moved", `{"channels":["a b","west"]}`)
	r.a("PUT", "/db/moved?rev="+rev, `{"channels":["west","east"]}`).is(201)
	e := r.explain("doc=moved&user=bob")
	if e.Verdict != "removed" || len(e.Sentences) != 2 || !strings.Contains(e.Sentences[1], `it left channel "a b", which bob has since 4, given by an administrator: the feed of bob tells of that.`) {
		t.Errorf("%+v", e)
	}
	rev = r.put("dead", `{"channels":"north"}`)
	r.a("DELETE", "/db/dead?rev="+rev, "").is(200)
	if e := r.explain("doc=dead&user=bob"); e.Verdict != "deleted" || e.Sentences[0] != "dead is deleted, and bob may know that." {
		t.Errorf("%+v", e)
	}
	r.p("GET", "/db/order-1", "", asUser("bob", "letmein")).is(200)
	r.a("DELETE", "/db/_role/sales", "").is(200)
	e = r.explain("doc=order-1&user=bob")
	if said := strings.Join(e.Sentences, "\n"); e.Visible || !strings.Contains(said, "bob had channel north from 2 to 9") || !strings.Contains(said, "bob is given role sales, which does not exist.") {
		t.Errorf("%+v", e)
	}
	r.a("PUT", "/db/_user/bob", `{"disabled":true}`).is(200)
	r.explain("doc=order-1&user=bob").want(t, "user_disabled", "bob is disabled and can read nothing.")
}

// TestExplainManyGrants: lists are bounded, and what is beyond is counted.
func TestExplainManyGrants(t *testing.T) {
	r := newStaffRig(t)
	for i := range 30 {
		r.put("grant-"+string(rune('a'+i%26))+string(rune('a'+i/26)), `{"who":"bob","gives":"south"}`)
	}
	r.put("order-2", `{"channels":"south"}`)
	r.put("order-3", `{"channels":"west"}`)
	var roles []string
	for i := range 25 {
		role := "r" + strconv.Itoa(i)
		roles = append(roles, strconv.Quote(role))
		r.a("PUT", "/db/_role/"+role, `{"admin_channels":["west"]}`).is(201)
	}
	r.a("PUT", "/db/_user/amy", `{"password":"letmein","admin_roles":[`+strings.Join(roles, ",")+`]}`).is(201)
	if a := r.a("GET", "/db/_explain?doc=order-3&user=amy", "").is(200); strings.Count(a.body, `"kind":"role"`) != 20 || !strings.Contains(a.body, `"more_roles":5,"history":[]`) {
		t.Error(a.body)
	}
	a := r.a("GET", "/db/_explain?doc=order-2&user=bob", "").is(200)
	if !strings.Contains(a.body, `"more_documents":10`) || !strings.Contains(a.body, "granted by document grant-aa (and by 29 more grants)") {
		t.Error(a.body)
	}
}

func TestExplainRefusals(t *testing.T) {
	r := newStaffRig(t)
	r.a("GET", "/db/_explain", "").fails(400, "doc must name a document")
	r.a("GET", "/db/_explain?doc=_x", "").is(400)
	r.a("GET", "/db/_explain?doc=x&user=a%2Fb", "").is(400)
	r.a("GET", "/db.s.c/_explain?doc=x&user=bob", "").is(200)
	r.a("GET", "/db.s.d/_explain?doc=x", "").fails(404, "keyspace db.s.d not found")
	r.a("GET", "/none/_explain?doc=x", "").is(404)
	r.p("GET", "/db/_explain?doc=order-1&user=bob", "").fails(404, "unknown URL")
	r.a("POST", "/db/_offline", "").is(200)
	r.a("GET", "/db/_explain?doc=order-1&user=bob", "").is(503)
}
