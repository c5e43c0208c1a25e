package script

import (
	"reflect"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
)

// vector is one of the test vectors of sync-function.md §11 that concern the function, or a case of §4 in the same form.
type vector struct {
	name   string
	source string // "" is the default function
	in     *SyncInput
	want   *SyncOutput // nil if the run fails
	reason string
	code   tidegate.Code
	status int
	kind   Failure
}

func as(u User, body string) *SyncInput {
	in := input(body)
	in.User = u
	return in
}

func channels(names ...string) *SyncOutput {
	return &SyncOutput{Channels: tidegate.NewChannelSet(names...)}
}

func rejected(name, source string, in *SyncInput, code tidegate.Code, reason string, kind Failure) vector {
	return vector{name: name, source: source, in: in, code: code, reason: reason, kind: kind}
}

func failing(name, source, body, reason string) vector {
	return vector{name: name, source: source, in: input(body), code: tidegate.Internal, status: 500, reason: reason, kind: FailureException}
}

var (
	guest = User{}
	amy   = User{Name: "amy", Roles: []string{"r", "s"}, Channels: []string{"!", "x", "y"}}
	star  = User{Name: "star", Channels: []string{"!", "*"}}
)

// fn makes a sync function of statements.
func fn(body string) string { return "function (doc, oldDoc, meta) { " + body + " }" }

func vectors() []vector {
	forbid := func(name, body string, u User, reason string) vector {
		return rejected(name, fn(body), as(u, "{}"), tidegate.Forbidden, reason, FailureAccess)
	}
	accept := func(name, body string, u User) vector {
		return vector{name: name, source: fn(body), in: as(u, "{}"), want: &SyncOutput{}}
	}
	out := func(name, body, doc string, want *SyncOutput) vector {
		return vector{name: name, source: fn(body), in: input(doc), want: want}
	}
	warned := func(n int, o *SyncOutput) *SyncOutput { o.Warnings = n; return o }
	list := []vector{
		{name: "1 array", in: input(`{"channels":["a",1,null,"b"]}`), want: warned(1, channels("a", "b"))},
		{name: "1 string", in: input(`{"channels":"a"}`), want: channels("a")},
		{name: "1 none", in: input(`{}`), want: &SyncOutput{}},
		out("2 mixed", `channel("a",["b","c"],null)`, `{}`, channels("a", "b", "c")),
		out("2 star", `channel("*","a")`, `{}`, channels("*")),
		failing("3 comma", fn(`channel("a,b")`), `{}`, "Exception in JS sync function"),
		failing("3 empty", fn(`channel("")`), `{}`, "Exception in JS sync function"),
		out("4 access", `access("bob","x"); access(["role:r","amy"],["x","*"])`, `{}`, &SyncOutput{
			Access: map[string]tidegate.ChannelSet{"bob": {"x"}, "role:r": {"x"}, "amy": {"x"}}}),
		failing("5 no prefix", fn(`role("bob","r")`), `{}`, "Exception in JS sync function"),
		out("5 role", `role("bob","role:r")`, `{}`, &SyncOutput{Roles: map[string][]string{"bob": {"r"}}}),
		forbid("6 guest", `requireUser("bob")`, guest, "sg wrong user"),
		accept("7 admin", `requireAccess("x"); requireUser("u"); requireRole("r"); requireAdmin()`, User{Admin: true}),
		rejected("8 forbidden", fn(`throw({forbidden:"no"})`), input("{}"), tidegate.Forbidden, "no", FailureRejected),
		rejected("8 unauthorized", fn(`throw({unauthorized:"login"})`), input("{}"), tidegate.Unauthorized, "login", FailureRejected),
		failing("8 string", fn(`throw("x")`), `{}`, "Exception in JS sync function"),
		failing("8 null", fn(`throw(null)`), `{}`, "Exception in JS sync function"),
		failing("8 error", fn(`throw new Error("x")`), `{}`, "Exception in JS sync function"),
		failing("8 empty message", fn(`throw({forbidden:""})`), `{}`, "Exception in JS sync function"),
		{name: "9 reject", source: fn(`reject(418,"t"); reject(500,"u")`), in: input("{}"),
			code: tidegate.Invalid, reason: "t", status: 418, kind: FailureRejected},
		{name: "reject goes on", source: fn(`reject(409,"t"); throw({forbidden:"x"})`), in: input("{}"),
			code: tidegate.Conflict, reason: "t", status: 409, kind: FailureRejected},
		out("reject below 400", `reject(399,"t"); channel("a")`, `{}`, channels("a")),
		failing("reject then exception", fn(`reject(404,"t"); doc.no.member`), `{}`, "Exception in JS sync function"),
		failing("undefined name", fn(`nobody()`), `{}`, "Exception in JS sync function"),
		failing("bad user name", fn(`access("a/b","x")`), `{}`, "Error in JS sync function"),
		failing("bad role name", fn(`role("bob","role:a:b")`), `{}`, "Error in JS sync function"),
		failing("bad channel in access", fn(`access("bob",["a,b"])`), `{}`, "Exception in JS sync function"),
		out("nobody to grant to", `access(null,"x"); access([],"x"); access("","x"); access("bob",null); access("bob",[]); access("bob",""); role(undefined,"r"); access("bob","*")`,
			`{}`, &SyncOutput{}),
		out("ignored kinds", `channel(5, {}, [["x"]], true, ["k"]); access(["bob",7],"x"); access({}, "x")`, `{}`, warned(6, &SyncOutput{
			Channels: tidegate.ChannelSet{"k"}, Access: map[string]tidegate.ChannelSet{"bob": {"x"}}})),
		out("repeated grants", `access("bob",["b","a"]); access("bob","a"); role("bob",["role:z","role:y","role:z"])`, `{}`, &SyncOutput{
			Access: map[string]tidegate.ChannelSet{"bob": {"a", "b"}}, Roles: map[string][]string{"bob": {"y", "z"}}}),
		forbid("wrong user", `requireUser(["bob","eve"])`, amy, "sg wrong user"),
		accept("right user", `requireUser("amy"); requireUser(["bob","amy"])`, amy),
		forbid("no user named", `requireUser(null)`, amy, "sg wrong user"),
		forbid("missing role", `requireRole("q")`, amy, "sg missing role"),
		forbid("role with prefix", `requireRole("role:r")`, amy, "sg missing role"),
		accept("has role", `requireRole(["q","s"])`, amy),
		forbid("missing channel", `requireAccess(["z",5])`, amy, "sg missing channel access"),
		accept("has channel", `requireAccess(["z","y"])`, amy),
		forbid("star is no wildcard", `requireAccess("x")`, star, "sg missing channel access"),
		accept("star is literal", `requireAccess("*")`, star),
		forbid("names are whole", `requireAccess("x,y")`, amy, "sg missing channel access"),
		forbid("admin required", `requireAdmin()`, amy, "sg admin required"),
		forbid("admin required of guest", `requireAdmin()`, guest, "sg admin required"),
	}
	return append(list, expiryVectors(out)...)
}

func expiryVectors(out func(name, body, doc string, want *SyncOutput) vector) []vector {
	at := func(t time.Time, warnings int) *SyncOutput {
		return &SyncOutput{Expiry: t, HasExpiry: true, Warnings: warnings}
	}
	y2030 := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	return []vector{
		out("17 RFC 3339", `expiry("2030-01-01T00:00:00Z")`, `{}`, at(y2030, 0)),
		out("17 negative", `expiry(-1)`, `{}`, &SyncOutput{Warnings: 1}),
		out("relative", `expiry(3600)`, `{}`, at(testNow.Add(time.Hour), 0)),
		out("relative text", `expiry("3600")`, `{}`, at(testNow.Add(time.Hour), 0)),
		out("fraction", `expiry(3600.9)`, `{}`, at(testNow.Add(time.Hour), 0)),
		out("absolute", `expiry(1893456000)`, `{}`, at(y2030, 0)),
		out("the last call wins", `expiry(3600); expiry(1893456000); expiry("soon"); expiry(null); expiry()`, `{}`, at(y2030, 1)),
		out("never", `expiry(0)`, `{}`, at(time.Time{}, 0)),
		out("too late", `expiry(4294967296)`, `{}`, &SyncOutput{Warnings: 1}),
		out("other kinds", `expiry([1]); expiry(true); expiry({}); expiry("")`, `{}`, &SyncOutput{Warnings: 4}),
		out("not a number", `expiry(0/0); expiry(1/0)`, `{}`, &SyncOutput{Warnings: 2}),
	}
}

// TestVectors runs every vector through the public function, and on each path apart.
func TestVectors(t *testing.T) {
	engines := sharedEngines()
	for _, v := range vectors() {
		t.Run(v.name, func(t *testing.T) {
			want := result{Out: v.want, Code: v.code, Reason: v.reason, Status: v.status, Kind: v.kind}
			f, err := CompileSync(v.source, "", Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			out, err := f.Sync(t.Context(), v.in)
			got := result{Out: out, Kind: Classify(err)}
			if e, ok := err.(*tidegate.Error); ok {
				got.Code, got.Reason, got.Status = e.Code, e.Reason, e.Status
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("Sync\n got %v\nwant %v", got, want)
			}
			code := v.source
			if code == "" {
				code = defaultSource("")
			}
			all := engines.function(code)
			if got := all.agree(t, v.in); !reflect.DeepEqual(got, want) {
				t.Errorf("engines\n got %v\nwant %v", got, want)
			}
			if v.name != "undefined name" && all.direct == nil {
				t.Error("the direct evaluator does not take this function")
			}
		})
	}
}
