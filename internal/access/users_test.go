package access

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
)

func TestPutUserCreatesAndUpdates(t *testing.T) {
	r := open(t, openStore(t))
	for _, tt := range []struct {
		name         string
		u            UserUpdate
		mustNotExist bool
		created      bool
		want         string // reason of the error
	}{
		{"bob", UserUpdate{}, false, false, "Error creating user: the password is missing"},
		{"bob", user("ab"), false, false, "Error creating user: the password needs at least 3 characters"},
		{"bob", user("äö"), false, false, "Error creating user: the password needs at least 3 characters"},
		{"bob", user(""), false, false, "Error creating user: the password is missing"},
		{"bob", user("äöü"), true, true, ""},
		{"bob", user("abc"), true, false, "Already exists"},
		{"bob", user("ab"), false, false, "Error updating user/role: the password needs at least 3 characters"},
		{"bob", user(""), false, false, "Error updating user/role: the password is missing"},
		{"bob", UserUpdate{}, false, false, ""},
		{"amy", user("abc", "ok", "b,c"), false, false, `Illegal channel name "b,c"`},
		{"amy", user("abc", ""), false, false, `Illegal channel name ""`},
		{"a:b", user("abc"), false, false, "Invalid name \"a:b\": must not contain / : , or `"},
		{"..", user("abc"), false, false, `Invalid name "..": must contain a letter or digit`},
		{strings.Repeat("a", 240), user("abc"), false, false, "Invalid name: longer than 239 bytes"},
		{"a\xffb", user("abc"), false, false, "Invalid name: not UTF-8"},
		{"amy", UserUpdate{Password: secret("abc"), AdminRoles: []string{"r/s"}}, false, false, "Invalid name \"r/s\": must not contain / : , or `"},
		{"amy", UserUpdate{Password: secret("abc"), CollectionAccess: map[string]map[string]CollectionUpdate{"s": {"no": {}}}}, false, false,
			`Unknown collection "s.no" in collection_access`},
		{"amy", UserUpdate{Password: secret("abc"), AdminChannels: []string{}, CollectionAccess: map[string]map[string]CollectionUpdate{
			"_default": {"_default": {AdminChannels: []string{"x"}}}}}, false, false, "admin_channels of the default collection are given twice"},
		{"amy", user("abc", "*", "!", "x y", "é"), false, true, ""},
		{"GUEST", user("abc"), false, false, "The guest cannot have a password"},
		{"GUEST", UserUpdate{AdminChannels: []string{"*"}}, false, false, `The guest may have the channel "*" only with unsupported.allow_guest_star`},
		{"", UserUpdate{AdminChannels: []string{"x"}}, false, false, ""},
	} {
		created, err := r.PutUser(t.Context(), tt.name, tt.u, tt.mustNotExist)
		got := ""
		if err != nil {
			got = tidegate.ErrorReason(err)
		}
		if created != tt.created || got != tt.want {
			t.Errorf("%q %+v: created %v, %q; want %v, %q", tt.name, tt.u, created, got, tt.created, tt.want)
		}
	}
	if got, err := r.Users(t.Context()); err != nil || !slices.Equal(got, []string{"amy", "bob"}) {
		t.Errorf("Users: %q, %v", got, err)
	}
}

// An absent field is unchanged, an empty list clears; what is not listed any more is lost by this change.
func TestUpdateOfExplicitGrants(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	to(t, r, 10)
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"a", "b"}, AdminRoles: []string{"r"}})
	for _, tt := range []struct {
		name     string
		u        UserUpdate
		channels string
		seq      tidegate.Seq // of the user afterwards
		taken    tidegate.Seq // sequences that the update took
	}{
		{"nothing", UserUpdate{}, "!1 a10 b10", 10, 0},
		{"the same", UserUpdate{AdminChannels: []string{"b", "a", "a"}, AdminRoles: []string{"r"}}, "!1 a10 b10", 10, 0},
		{"email and disabled", UserUpdate{Email: ptr("a@b.c"), Disabled: ptr(false)}, "!1 a10 b10", 10, 1}, // for the other nodes; readers see nothing of it
		{"one more", UserUpdate{AdminChannels: []string{"a", "b", "c"}}, "!1 a10 b10 c12", 12, 1},
		{"one less", UserUpdate{AdminChannels: []string{"b", "c"}}, "!1 b10 c12", 13, 1},
		{"roles", UserUpdate{AdminRoles: []string{}}, "!1 b10 c12", 14, 1},
		{"cleared", UserUpdate{AdminChannels: []string{}}, "!1", 15, 1},
		{"again", UserUpdate{AdminChannels: []string{"a"}}, "!1 a16", 16, 1},
	} {
		before := bump(t, r, 0)
		put(t, r, "bob", tt.u)
		u := load(t, r, "bob")
		if got := text(u.Channels(0)); got != tt.channels || u.Sequence() != tt.seq || bump(t, r, 0)-before != tt.taken {
			t.Errorf("%s: %s, sequence %d, took %d; want %s, %d, %d",
				tt.name, got, u.Sequence(), bump(t, r, 0)-before, tt.channels, tt.seq, tt.taken)
		}
	}
	if got := text(load(t, r, "bob").Revoked(0, 1)); got != "b15 c15" {
		t.Errorf("revoked: %s", got)
	}
}

// text shows grants in order.
func text(g tidegate.Grants) string {
	var parts []string
	for _, n := range sortedNames(g) {
		parts = append(parts, n+tidegate.Since{Seq: g[n]}.String())
	}
	return strings.Join(parts, " ")
}

func TestGuest(t *testing.T) {
	st := openStore(t)
	r := open(t, st, noPasswords)
	created, err := r.PutUser(t.Context(), "GUEST", UserUpdate{AdminChannels: []string{"x"}, AdminRoles: []string{"r"}}, false)
	if created || err != nil {
		t.Fatalf("created %v, %v: the guest is always there", created, err)
	}
	if _, err := r.User(t.Context(), ""); tidegate.ErrorCode(err) != tidegate.Unauthorized {
		t.Fatalf("it was enabled by being configured: %v", err)
	}
	put(t, r, "GUEST", UserUpdate{Disabled: ptr(false)})
	putRole(t, r, "r", "y", "*")
	docs{}.write(t, r, 0, "D", lists{"GUEST": {"z"}}, nil)
	u := load(t, r, "GUEST")
	if got := names(u.Channels(0)); !slices.Equal(got, []string{"!", "x", "y"}) || u.PrincipalName() != "" {
		t.Fatalf("channels %v of %q: neither * by a role nor what a document grants under its name", got, u.PrincipalName())
	}
	star := open(t, st, noPasswords, func(c *Config) { c.AllowGuestStar = true })
	if _, ok := load(t, star, "").Channels(0)["*"]; !ok {
		t.Error("the guest has no * although that is allowed")
	}
	put(t, star, "", UserUpdate{AdminChannels: []string{"*"}})
	if err := r.DeleteUser(t.Context(), "GUEST"); tidegate.ErrorCode(err) != tidegate.NotAllowed {
		t.Errorf("DeleteUser: %v", err)
	}
	if list, err := r.Users(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("the guest is listed: %v, %v", list, err)
	}
}

func TestStarHasLostNothing(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"a", "*"}})
	load(t, r, "bob")
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"*"}})
	if got := load(t, r, "bob").Revoked(0, 0); got != nil {
		t.Errorf("revoked with *: %v", got)
	}
	put(t, r, "bob", UserUpdate{AdminChannels: []string{}})
	if got := text(load(t, r, "bob").Revoked(0, 0)); got != "*3 a2" {
		t.Errorf("revoked without *: %s", got)
	}
}

func TestUserList(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	put(t, r, "bob", UserUpdate{Email: ptr("bob@example.org")})
	put(t, r, "amy", UserUpdate{Disabled: ptr(true), Email: ptr("not an address")})
	put(t, r, "GUEST", UserUpdate{Disabled: ptr(false)})
	all := []UserSummary{{"amy", "", true}, {"bob", "bob@example.org", false}}
	for limit, want := range map[int][]UserSummary{0: all, 1: all[:1], 2: all, 5: all} {
		if got, err := r.UserList(t.Context(), limit); err != nil || !slices.Equal(got, want) {
			t.Errorf("limit %d: %v, %v", limit, got, err)
		}
	}
}

func TestInfoJSON(t *testing.T) {
	c := newClock()
	r := open(t, openStore(t), noPasswords, c.config)
	put(t, r, "bob", UserUpdate{
		Password: secret("secret"), Email: ptr("b@x.org"), AdminChannels: []string{"b", "a"}, AdminRoles: []string{"r", "none"},
		CollectionAccess: map[string]map[string]CollectionUpdate{"s": {"c": {AdminChannels: []string{"k"}}}},
	})
	putRole(t, r, "r", "rc")
	docs{}.write(t, r, 1, "D", lists{"bob": {"dc"}}, lists{"bob": {"dr"}})
	c.pass(time.Second)
	put(t, r, "bob", UserUpdate{Email: ptr("")})
	put(t, r, "min", UserUpdate{})
	if _, err := r.PutRole(t.Context(), "<é>1", RoleUpdate{}, true); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"bob": `{"name":"bob","admin_channels":["a","b"],"all_channels":["!","a","b","rc"],` +
			`"collection_access":{"s":{"c":{"admin_channels":["k"],"all_channels":["!","dc","k"]}}},` +
			`"created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:06Z",` +
			`"email":"","disabled":false,"admin_roles":["none","r"],"roles":["dr","none","r"]}`,
		"min": `{"name":"min","all_channels":["!"],"collection_access":{"s":{"c":{"all_channels":["!"]}}},` +
			`"created_at":"2026-01-02T03:04:06Z","updated_at":"2026-01-02T03:04:06Z","email":"","disabled":false}`,
		"": `{"name":"GUEST","all_channels":["!"],"collection_access":{"s":{"c":{"all_channels":["!"]}}},"email":"","disabled":true}`,
	} {
		info, err := r.UserRecord(t.Context(), name)
		if got := string(info.AppendJSON(nil)); err != nil || got != want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, want)
		}
	}
	info, err := r.RoleRecord(t.Context(), "r")
	if got, want := string(info.AppendJSON(nil)), `{"name":"r","admin_channels":["rc"],"all_channels":["!","rc"],`+
		`"collection_access":{"s":{"c":{"all_channels":["!"]}}},"created_at":"2026-01-02T03:04:05Z","updated_at":"2026-01-02T03:04:05Z"}`; err != nil || got != want {
		t.Errorf("role: %v\n got %s\nwant %s", err, got, want)
	}
	info, err = r.RoleRecord(t.Context(), "<é>1")
	if got := string(info.AppendJSON(nil)); err != nil || !strings.HasPrefix(got, `{"name":"<é>1",`) {
		t.Errorf("role: %v %s", err, got)
	}
	if _, err := r.UserRecord(t.Context(), "nobody"); !errors.Is(err, tidegate.ErrMissing) {
		t.Errorf("nobody: %v", err)
	}
	plain := open(t, openStore(t), noPasswords, func(c *Config) { c.Collections = nil })
	put(t, plain, "bob", UserUpdate{})
	got, err := plain.UserRecord(t.Context(), "bob")
	if err != nil || strings.Contains(string(got.AppendJSON(nil)), "collection_access") {
		t.Errorf("without named collections: %s, %v", got.AppendJSON(nil), err)
	}
}

func TestReadOnlyFields(t *testing.T) {
	c := newClock()
	r := open(t, openStore(t), noPasswords, c.config)
	putRole(t, r, "r", "rc")
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"a"}, AdminRoles: []string{"r"}})
	info, err := r.UserRecord(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ body, want string }{
		{string(info.AppendJSON(nil)), ""}, // what was read can be written back
		{`{"all_channels":["rc","a"]}`, ""},
		{`{"all_channels":["!","a","rc"],"roles":["r"]}`, ""},
		{`{"all_channels":null,"roles":null,"created_at":null}`, ""},
		{`{"all_channels":["a"]}`, "all_channels is read-only"},
		{`{"all_channels":[]}`, "all_channels is read-only"},
		{`{"roles":[]}`, "roles is read-only"},
		{`{"roles":["r","s"]}`, "roles is read-only"},
		{`{"collection_access":{"s":{"c":{"all_channels":["!"]}}}}`, ""},
		{`{"collection_access":{"s":{"c":{"all_channels":["z"]}}}}`, "all_channels is read-only"},
		{`{"created_at":"2026-01-02T03:04:05Z"}`, ""},
		{`{"created_at":"2026-01-02T03:04:06Z"}`, "Can't change read-only properties"},
		{`{"updated_at":"2020-01-02T03:04:05+01:00"}`, "Can't change read-only properties"},
		{`{"jwt_issuer":"","jwt_roles":[],"jwt_channels":[],"jwt_last_updated":"0001-01-01T00:00:00Z"}`, ""},
		{`{"jwt_issuer":"x"}`, "Can't change read-only properties"},
		{`{"jwt_roles":["x"]}`, "Can't change read-only properties"},
		{`{"jwt_last_updated":"2026-01-02T03:04:05Z"}`, "Can't change read-only properties"},
		{`{"collection_access":{"s":{"c":{"jwt_channels":["x"]}}}}`, "Can't change read-only properties"},
	} {
		_, u, err := ParseUserUpdate([]byte(tt.body))
		if err == nil {
			_, err = r.PutUser(t.Context(), "bob", u, false)
		}
		if got := reason(err); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.body, got, tt.want)
		}
	}
	for _, tt := range []struct{ body, want string }{
		{`{"all_channels":["!","rc"]}`, ""}, {`{"all_channels":["x"]}`, "all_channels is read-only"},
		{`{"updated_at":"2020-01-02T03:04:05Z"}`, "Can't change read-only properties"},
	} {
		_, u, err := ParseRoleUpdate([]byte(tt.body))
		if err == nil {
			_, err = r.PutRole(t.Context(), "r", u, false)
		}
		if got := reason(err); got != tt.want {
			t.Errorf("role %s: %q, want %q", tt.body, got, tt.want)
		}
	}
	_, u, err := ParseUserUpdate([]byte(`{"all_channels":["x"]}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.PutUser(t.Context(), "new", u, false); reason(err) != "all_channels is read-only" {
		t.Errorf("a new user: %v", err)
	}
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return tidegate.ErrorReason(err)
}

func TestParseUserUpdate(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{`{}`, ""},
		{`{"name":"bob","password":"abc","admin_channels":["a"],"admin_roles":["r"],"email":"x","disabled":true,"collection_access":{"s":{"c":{"admin_channels":[]}}}}`, ""},
		{`{"name":null,"password":null,"admin_channels":null,"disabled":null}`, ""},
		{``, "Bad JSON: syntax error at byte 0"},
		{`{"name":"bob"`, "Bad JSON: syntax error at byte 13"},
		{`{} {}`, "Bad JSON: syntax error at byte 3"},
		{`[]`, `Bad JSON: wrong type of value at ""`},
		{`"x"`, `Bad JSON: wrong type of value at ""`},
		{`{"password":"abc","password":"abd"}`, `Bad JSON: duplicate member /password`},
		{`{"password":12345}`, `Bad JSON: wrong type of value at "/password"`},
		{`{"password":{"abc":1}}`, `Bad JSON: wrong type of value at "/password"`},
		{`{"disabled":"true"}`, `Bad JSON: wrong type of value at "/disabled"`},
		{`{"admin_channels":"a"}`, `Bad JSON: wrong type of value at "/admin_channels"`},
		{`{"admin_channels":["a",1]}`, `Bad JSON: wrong type of value at "/admin_channels/1"`},
		{`{"admin_chanels":["a"]}`, "JSON Unknown Field: /admin_chanels"},
		{`{"Password":"abc"}`, "JSON Unknown Field: /Password"},
		{`{"collection_access":{"s":{"c":{"x":1}}}}`, "JSON Unknown Field: /collection_access/s/c/x"},
		{"{\"name\":\"a\xff\"}", "Bad JSON: syntax error at byte 10"},
	} {
		if _, _, err := ParseUserUpdate([]byte(tt.body)); reason(err) != tt.want {
			t.Errorf("%s: %q, want %q", tt.body, reason(err), tt.want)
		}
	}
	for _, body := range []string{`{"password":"abc"}`, `{"admin_roles":[]}`, `{"email":""}`} {
		if _, _, err := ParseRoleUpdate([]byte(body)); !strings.HasPrefix(reason(err), "JSON Unknown Field: ") {
			t.Errorf("role %s: %v", body, err)
		}
	}
	name, u, err := ParseUserUpdate([]byte(`{"name":"bob","password":"","admin_channels":[],"email":"","disabled":false}`))
	if err != nil || name != "bob" || u.Password == nil || u.AdminChannels == nil || u.Email == nil || u.Disabled == nil ||
		u.AdminRoles != nil || u.CollectionAccess != nil || u.ReadOnly != nil {
		t.Errorf("%q %+v %v", name, u, err)
	}
}

func FuzzParseUserUpdate(f *testing.F) {
	f.Add([]byte(`{"name":"bob","password":"abc","admin_channels":["a"],"collection_access":{"s":{"c":{"all_channels":[]}}}}`))
	f.Add([]byte(`{"created_at":"2026-01-02T03:04:05Z","jwt_last_updated":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, u, err := ParseUserUpdate(body)
		if err != nil && tidegate.ErrorCode(err) != tidegate.Invalid {
			t.Fatalf("%v", err)
		}
		if err == nil && u.ReadOnly != nil {
			_ = u.ReadOnly.check(UserInfo{})
		}
		_, _, err = ParseRoleUpdate(body)
		if err != nil && tidegate.ErrorCode(err) != tidegate.Invalid {
			t.Fatalf("%v", err)
		}
	})
}

// Updates of different fields at once: none undoes another.
func TestUpdatesAtOnce(t *testing.T) {
	const n = 30
	r := open(t, openStore(t), noPasswords)
	put(t, r, "bob", UserUpdate{})
	var wg sync.WaitGroup
	for _, update := range []func(string) UserUpdate{
		func(s string) UserUpdate { return UserUpdate{AdminChannels: []string{s}} },
		func(s string) UserUpdate { return UserUpdate{AdminRoles: []string{s}} },
		func(s string) UserUpdate { return UserUpdate{Email: ptr(s + "@x.y")} },
	} {
		wg.Go(func() {
			for i := range n {
				put(t, r, "bob", update(strconv.Itoa(i)))
			}
		})
	}
	wg.Wait()
	info, err := r.UserRecord(t.Context(), "bob")
	last := strconv.Itoa(n - 1)
	if err != nil || !slices.Equal(info.AdminChannels, []string{last}) || !slices.Equal(info.AdminRoles, []string{last}) || info.Email != last+"@x.y" {
		t.Fatalf("%s, %v", info.AppendJSON(nil), err)
	}
	if got := bump(t, r, 0); got != 3*n {
		t.Errorf("last sequence %d, want %d", got, 3*n)
	}
}
