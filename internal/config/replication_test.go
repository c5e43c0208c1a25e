package config

import (
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
)

// upsert is what a request makes of a definition; old "" is none.
func upsert(t *testing.T, old, body, id string) (*Replication, error) {
	t.Helper()
	var before *Replication
	if old != "" {
		var err error
		if before, err = upsert(t, "", old, id); err != nil {
			t.Fatal(err)
		}
	}
	p, err := ParseReplicationPatch([]byte(body), id)
	if err != nil {
		return nil, err
	}
	return p.Apply(before, id)
}

// The first problem in the order of inter-gateway.md §2 is what the answer says, in its words.
func TestValidateReplicationOfTheAPI(t *testing.T) {
	known := func(name string) bool { return name == "s.known" }
	const at = `"remote":"http://h/d","direction":"push"`
	for _, tt := range []struct{ body, want string }{
		{`{` + at + `}`, ""},
		{`{"adhoc":true,"initial_state":"stopped"}`, "adhoc=true is not valid with initial_state=stopped"},
		{`{"initial_state":"walking"}`, "Invalid initial_state"},
		{`{"conflict_resolution_type":"mine","direction":"x","filter":"y"}`, "Replication remote must be specified"},
		{`{"remote":"nothing","conflict_resolution_type":"mine","direction":"x"}`, "Conflict resolution type is invalid, valid values are localWins/remoteWins/default/custom"},
		{`{"remote":"nothing","conflict_resolution_type":"custom","custom_conflict_resolver":" "}`, "no resolver function is defined"},
		{`{"remote":"http://h/d","conflict_resolution_type":"custom","custom_conflict_resolver":"/etc/passwd"}`, "neither a JavaScript function nor an http(s) URL"},
		{`{"remote":"nothing","username":"u","remote_username":"u"}`, "Replication remote URL is invalid"},
		{`{"remote":"http:///d"}`, "Replication remote URL is invalid"},
		{`{"remote":"http://:80/d"}`, "Replication remote URL is invalid"},
		{`{"remote":"ftp://h/d"}`, "Replication remote URL is invalid"},
		{`{"remote":"http://h/d","username":"u","remote_username":"u"}`, "username is the older spelling"},
		{`{"remote":"http://h/d","password":"u","remote_password":"u"}`, "password is the older spelling"},
		{`{"remote":"http://u:p@h/d","user":"u"}`, "Auth credentials can be specified using"},
		{`{"remote":"http://u:p@h/d","password":"p"}`, "Auth credentials can be specified using"},
		{`{"remote":"http://h/d","filter":"x"}`, "Replication direction must be specified"},
		{`{"remote":"http://h/d","direction":"x","filter":"x"}`, `Invalid replication direction "x", valid values are push/pull/pushAndPull`},
		{`{` + at + `,"filter":"sync_gateway/bychannel"}`, "Replication specifies sync_gateway/bychannel filter but is missing query_params"},
		{`{` + at + `,"filter":"sync_gateway/bychannel","query_params":{}}`, "Replication specifies sync_gateway/bychannel filter but is missing query_params"},
		{`{` + at + `,"filter":"sync_gateway/bychannel","query_params":[]}`, "Bad channels array in query_params for sync_gateway/bychannel filter"},
		{`{` + at + `,"filter":"other","collections_local":["a.b"]}`, "Unknown replication filter; try sync_gateway/bychannel"},
		{`{` + at + `,"max_backoff_time":-1}`, "max_backoff_time: must be at least 0"},
		{`{` + at + `,"batch_size":0}`, "batch_size: must be at least 1"},
		{`{` + at + `,"collections_local":["s.known"]}`, "collections_local and collections_remote need collections_enabled"},
		{`{` + at + `,"collections_enabled":true,"collections_local":["s.known"],"collections_remote":[]}`, "collections_remote must be as long as collections_local"},
		{`{` + at + `,"collections_enabled":true,"collections_local":["s.known","s.known"]}`, "names a collection twice"},
		{`{` + at + `,"collections_enabled":true,"collections_local":["known"]}`, "is not of the form scope.collection"},
		{`{` + at + `,"collections_enabled":true,"collections_local":["s.other"]}`, `the database has no collection "s.other"`},
		{`{` + at + `,"collections_enabled":true,"collections_local":["s.known"],"collections_remote":["x.y"]}`, ""},
		{`{` + at + `,"filter":"sync_gateway/bychannel","query_params":{"collections_channels":{"s.known":["a"]}}}`, "needs collections_enabled"},
	} {
		r, err := upsert(t, "", tt.body, "r")
		if err != nil {
			t.Fatalf("%s: %v", tt.body, err)
		}
		switch err := r.Validate(known); {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.body, err)
		case tt.want != "" && (tidegate.ErrorCode(err) != tidegate.Invalid || !strings.Contains(tidegate.ErrorReason(err), tt.want)):
			t.Errorf("%s:\ngot  %v\nwant %s", tt.body, err, tt.want)
		}
	}
	r, err := upsert(t, "", `{`+at+`}`, strings.Repeat("x", 161))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(known); tidegate.ErrorReason(err) != "Replication ID must be less than 160 characters" {
		t.Error(err)
	}
}

func TestReplicationUpsert(t *testing.T) {
	const old = `{"remote":"http://h/d","direction":"pull","user":"u","password":"secret","continuous":true,"batch_size":7,
		"filter":"sync_gateway/bychannel","query_params":["a","b"],"conflict_resolution_type":"localWins"}`
	const defaults = `"initial_state":"running","max_backoff_time":5,`
	for _, tt := range []struct{ name, old, body, want string }{
		{"new", "", `{"remote":"http://h/d","direction":"push_and_pull"}`,
			`{"remote":"http://h/d","direction":"pushAndPull","conflict_resolution_type":"default","initial_state":"running","max_backoff_time":5,"batch_size":200}`},
		{"other spellings", "", `{"remote":"http://h/d","direction":"push","state":"stopped","purge-on-removal":true,"username":"v","remote_password":"w"}`,
			`{"remote":"http://h/d","remote_username":"v","remote_password":"w","direction":"push","initial_state":"stopped","purge_on_removal":true}`},
		{"nothing", old, `{}`, old},
		{"null is nothing", old, `{"continuous":null,"filter":null,"query_params":null,"password":null}`, old},
		{"a field", old, `{"continuous":false}`, strings.Replace(old, `"continuous":true`, `"continuous":false`, 1)},
		{"lists as a whole", old, `{"query_params":{"channels":["c"]}}`, strings.Replace(old, `["a","b"]`, `{"channels":["c"]}`, 1)},
		{"another user", old, `{"username":"w"}`, strings.Replace(old, `"user":"u"`, `"user":"w"`, 1)},
		{"another password", old, `{"remote_password":"w"}`, strings.Replace(old, `"password":"secret"`, `"password":"w"`, 1)},
		{"no user", old, `{"remote_username":"","remote_password":""}`, strings.Replace(old, `"user":"u","password":"secret",`, ``, 1)},
		{"a mask", old, `{"password":"****","batch_size":8}`, strings.Replace(old, `"batch_size":7`, `"batch_size":8`, 1)},
		{"a mask with another path", old, `{"password":"xxxxx","remote":"https://h/e"}`, strings.Replace(old, `http://h/d`, `https://h/e`, 1)},
		{"what was read", old, `{"replication_id":"r","assigned_node":"n (local)","target_state":"running","cluster_uuid":"c","created_at":"t","updated_at":"t","r":{"replication_id":"r","assigned_node":"n"}}`, old},
		{"cancel is not stored", old, `{"cancel":false}`, old},
	} {
		got, err := upsert(t, tt.old, tt.body, "r")
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		want, err := upsert(t, "", strings.Replace(tt.want, "{", "{"+defaults, 1), "r")
		if strings.Contains(tt.want, "initial_state") {
			want, err = upsert(t, "", tt.want, "r")
		}
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Seal(nil)) != string(want.Seal(nil)) || !got.Same(want) {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got.Seal(nil), want.Seal(nil))
		}
	}
}

func TestReplicationUpsertRefuses(t *testing.T) {
	const inURL = `{"remote":"http://u:secret@h:4984/d","direction":"pull"}`
	const inFields = `{"remote":"http://h/d","direction":"pull","user":"u","password":"secret"}`
	for _, tt := range []struct{ old, body, want string }{
		{"", `[]`, "expected an object"},
		{"", `{"filtr":"sync_gateway/bychannel"}`, `unknown key "filtr"; the nearest valid key is "filter"`},
		{"", `{"query_params":{"chanels":[]}}`, `the nearest valid key is "channels"`},
		{"", `{"query_params":{"channels":"a"}}`, "Bad channels array in query_params for sync_gateway/bychannel filter"},
		{"", `{"query_params":["a",1]}`, "Bad channels array in query_params for sync_gateway/bychannel filter"},
		{"", `{"query_params":"a"}`, "Bad channels array in query_params for sync_gateway/bychannel filter"},
		{"", `{"continuous":"yes"}`, "expected a boolean"},
		{"", `{"s":{"replication_id":"r"}}`, `unknown key "s"`},
		{"", `{"remote":"http://u:****@h/d"}`, "a masked password means the stored one"},
		{"", `{"remote":"http://h/d","password":"****"}`, "a masked secret means the stored one"},
		{inURL, `{"remote":"http://u:****@other:4984/d"}`, "a masked password means the stored one"},
		{inURL, `{"remote":"http://v:xxxxx@h:4984/d"}`, "a masked password means the stored one"},
		{inFields, `{"remote":"http://other/d","password":"****"}`, "a masked secret means the stored one"},
		{inFields, `{"user":"v","password":"*****"}`, "a masked secret means the stored one"},
	} {
		_, err := upsert(t, tt.old, tt.body, "r")
		if tidegate.ErrorCode(err) != tidegate.Invalid || !strings.Contains(tidegate.ErrorReason(err), tt.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", tt.body, err, tt.want)
		}
	}
	if got, err := upsert(t, inURL, `{"remote":"http://u:****@h:4984/e"}`, "r"); err != nil || got.Remote.Reveal() != "http://u:secret@h:4984/e" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestReplicationMasked(t *testing.T) {
	r, err := upsert(t, "", `{"remote":"http://u:secret@h/d","direction":"pull","purge_on_removal":false,"enable_delta_sync":true,"max_backoff_time":0}`, "r")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"replication_id":"r","remote":"http://u:****@h/d","direction":"pull","continuous":false,"initial_state":"running",` +
		`"conflict_resolution_type":"default","enable_delta_sync":true,"batch_size":200}`
	if got := string(r.Masked()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r, err = upsert(t, "", `{"remote":"http://h/d","direction":"pull","user":"u","password":"secret"}`, "r")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(r.Masked()); strings.Contains(got, "secret") || !strings.Contains(got, `"remote_password":"****"`) {
		t.Error(got)
	}
}

func TestReplicationEndpoint(t *testing.T) {
	for body, want := range map[string]string{
		`{"remote":"http://h:4984/d"}`:                                   "http://h:4984/d  ",
		`{"remote":"https://h/d/"}`:                                      "https://h/d  ",
		`{"remote":"ws://h/d/"}`:                                         "http://h/d  ",
		`{"remote":"wss://u%40x:p%2Fq@h/d"}`:                             "https://h/d u@x p/q",
		`{"remote":"http://u@h/d"}`:                                      "http://h/d u ",
		`{"remote":"http://h/d","user":"u","password":"p%2F"}`:           "http://h/d u p%2F",
		`{"remote":"http://[::1]:4984/d","remote_username":"u"}`:         "http://[::1]:4984/d u ",
		`{"remote":"http://h/d%2Fe","username":"u","password":"é \" x"}`: `http://h/d%2Fe u é " x`,
	} {
		r, err := upsert(t, "", body, "r")
		if err != nil {
			t.Fatal(err)
		}
		u, user, password, err := r.Endpoint()
		if err != nil {
			t.Fatal(err)
		}
		path := strings.TrimSuffix(u.String(), "/")
		if got := path + " " + user + " " + password; got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

// FuzzReplicationPatch looks for bodies that make reading fail otherwise than by an error, or that make a definition which
// does not stay the same when it is stored, or shown and written back.
func FuzzReplicationPatch(f *testing.F) {
	for _, body := range []string{
		`{"remote":"http://u:p@h/d","direction":"push_and_pull","state":"stopped","query_params":["a"],"filter":"sync_gateway/bychannel"}`,
		`{"remote":"ws://h/d/","user":"u","password":"p","collections_enabled":true,"query_params":{"collections_channels":{"a.b":["c"]}},"cancel":true}`,
		`{"replication_id":"r","r":{},"continuous":null,"custom_conflict_resolver":"` + "`function(c){}`" + `"}`,
	} {
		f.Add([]byte(body))
	}
	keys, err := ParseKeys([]byte(NewKey()))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ParseReplicationPatch(body, "r")
		if err != nil {
			return
		}
		r, err := p.Apply(nil, "r")
		if err != nil {
			return
		}
		valid := r.Validate(func(string) bool { return true }) == nil
		again, err := DecodeReplication(r.Seal(keys), keys)
		if err != nil {
			t.Fatalf("what is stored does not read back: %v\n%s", err, r.Seal(nil))
		}
		if valid && !again.Same(r) {
			t.Fatalf("what is stored changes:\n%s\n%s", r.Seal(nil), again.Seal(nil))
		}
		shown, err := ParseReplicationPatch(r.Masked(), "r")
		if err != nil {
			t.Fatalf("what is shown is not understood: %v\n%s", err, r.Masked())
		}
		if back, err := shown.Apply(r, "r"); valid && (err != nil || !back.Same(r)) {
			t.Fatalf("what was shown and is written back makes another definition: %v\n%s\n%s", err, r.Masked(), r.Seal(nil))
		}
	})
}
