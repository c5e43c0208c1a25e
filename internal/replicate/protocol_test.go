package replicate_test

import (
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/replicate"
)

// TestCheckpoints walks replication.md §5.1 and §5.2.
func TestCheckpoints(t *testing.T) {
	e := newEnv(t, database.Options{})
	e.user("bob", "A")
	c := e.as("bob")
	for i, step := range []struct{ profile, body, rev, want string }{
		{"getCheckpoint", "", "", "HTTP/404: missing"},
		{"setCheckpoint", `{"a":1}`, "0-1", "HTTP/404: No previous revision to replace"},
		{"setCheckpoint", `nonsense`, "", "HTTP/400: Body is not JSON"},
		{"setCheckpoint", `{"time":1,"remote":9}`, "", "rev=0-1 "},
		{"getCheckpoint", "", "", `rev=0-1 {"time":1,"remote":9}`},
		{"setCheckpoint", `{"time":2}`, "", "HTTP/409: Document update conflict"},
		{"setCheckpoint", `{"time":2}`, "0-7", "HTTP/409: Document update conflict"},
		{"setCheckpoint", `{"_rev":"0-1","time":3}`, "0-1", "rev=0-2 "},
		{"getCheckpoint", "", "", `rev=0-2 {"time":3}`},
	} {
		if got := c.call(step.profile, step.body, "client", "cp-1", "rev", step.rev).String(); got != step.want {
			t.Errorf("step %d, %s %s: %q, want %q", i, step.profile, step.body, got, step.want)
		}
	}
	if got := c.call("getCheckpoint", "").String(); !strings.HasPrefix(got, "HTTP/404") {
		t.Errorf("without a client: %s", got)
	}
}

// TestCollections walks replication.md §3 and §5.3.
func TestCollections(t *testing.T) {
	e := newEnv(t, database.Options{Collections: []database.CollectionOptions{
		{}, {Scope: "s", Name: "one", ID: 1}, {Scope: "s", Name: "two", ID: 2},
	}})
	c := e.dial(replicate.Peer{Admin: true})
	if got := c.call("getCheckpoint", "", "client", "x", "collection", "0").String(); !strings.Contains(got, "calling GetCollections first") {
		t.Errorf("an index before the list: %s", got)
	}
	for _, bad := range []string{`{"collections":["s.one"],"checkpoint_ids":[]}`, `{"collections":["a.b.c"],"checkpoint_ids":["x"]}`,
		`{"collections":[".b"],"checkpoint_ids":["x"]}`, `{"collections":[1],"checkpoint_ids":["x"]}`, `[]`, `nonsense`} {
		if got := c.call("getCollections", bad).String(); !strings.HasPrefix(got, "HTTP/400") {
			t.Errorf("%s: %s", bad, got)
		}
	}
	list := `{"collections":["s.one","nowhere.x","_default","s.two"],"checkpoint_ids":["a","b","c","d"]}`
	if got := c.must("getCollections", list).body; got != `[{},null,{},{}]` {
		t.Errorf("first: %s", got)
	}
	c.must("setCheckpoint", `{"n":1}`, "client", "a", "collection", "0")
	if got := c.must("getCollections", list).body; got != `[{"_rev":"0-1","rev":"0-1","n":1},null,{},{}]` {
		t.Errorf("with a checkpoint: %s", got)
	}
	for index, want := range map[string]string{"": "Collection property missing", "1": "index is invalid", "4": "index is invalid", "-1": "index is invalid", "x": "index is invalid"} {
		props := []string{"client", "a"}
		if index != "" {
			props = append(props, "collection", index)
		}
		if got := c.call("getCheckpoint", "", props...).String(); !strings.HasPrefix(got, "HTTP/400") || !strings.Contains(got, want) {
			t.Errorf("collection %q: %s", index, got)
		}
	}
	// The same ID in two collections is two documents.
	c.must("rev", `{"n":1}`, "id", "d", "rev", "1-aa", "collection", "0")
	c.must("rev", `{"n":2}`, "id", "d", "rev", "1-bb", "collection", "3")
	for index, want := range map[string]string{"0": "1-aa", "3": "1-bb"} {
		if got := c.must("getRev", "", "id", "d", "collection", index).props["rev"]; got != want {
			t.Errorf("collection %s has %s", index, got)
		}
	}
	if got := c.call("getRev", "", "id", "d", "collection", "2").String(); got != "HTTP/404: missing" {
		t.Errorf("the default collection: %s", got)
	}
	c.must("subChanges", "", "collection", "3")
	if a := c.expect("changes"); a.props["collection"] != "3" || a.body != `[[2,"d","1-bb"]]` {
		t.Errorf("changes: %v %s", a.props, a.body)
	}
}

// TestNoDefaultCollection: who names no collection means the default one, and there may be none.
func TestNoDefaultCollection(t *testing.T) {
	e := newEnv(t, database.Options{Collections: []database.CollectionOptions{{Scope: "s", Name: "one", ID: 1}}})
	c := e.dial(replicate.Peer{Admin: true})
	if got := c.call("getCheckpoint", "", "client", "x").String(); !strings.HasPrefix(got, "HTTP/400: Collection property not specified") {
		t.Errorf("got %s", got)
	}
}

// TestUnknownProfile is blip.md §12.1: clients look for the words.
func TestUnknownProfile(t *testing.T) {
	e := newEnv(t, database.Options{})
	c := e.dial(replicate.Peer{Admin: true})
	if got := c.call("function", "").String(); got != "BLIP/404: No handler for BLIP request" {
		t.Errorf("got %s", got)
	}
	if got := c.must("PING", "").String(); got != "" {
		t.Errorf("PING: %s", got)
	}
}

// TestSubChangesRefusals is replication.md §5.4 and client-facts.md 9.
func TestSubChangesRefusals(t *testing.T) {
	e := newEnv(t, database.Options{})
	c := e.dial(replicate.Peer{Admin: true})
	for _, tt := range []struct {
		body  string
		props []string
		want  string
	}{
		{"", []string{"since", "x"}, "HTTP/400"},
		{"", []string{"filter", "mine"}, "HTTP/400: Unknown filter"},
		{"", []string{"filter", "sync_gateway/bychannel"}, "HTTP/400: Missing 'channels'"},
		{"", []string{"filter", "sync_gateway/bychannel", "channels", "a,,b"}, "HTTP/400: Illegal channel"},
		{"", []string{"batch", "many"}, "HTTP/400"},
		{`{"docIDs":["a"]}`, []string{"continuous", "true"}, "HTTP/400: DocIDs filter"},
		{`{"docIDs":[1]}`, nil, "HTTP/400"},
	} {
		if got := c.call("subChanges", tt.body, tt.props...).String(); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%v %s: %s, want %s", tt.props, tt.body, got, tt.want)
		}
	}
	c.must("subChanges", "[1]", "continuous", "true") // a body that is no object is no filter
	if got := c.call("subChanges", "").String(); !strings.HasPrefix(got, "HTTP/500: There is already an active") {
		t.Errorf("a second one: %s", got)
	}
	c.must("unsubChanges", "")
	c.must("subChanges", "", "continuous", "true")
}
