package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/testkit"
)

// runTool runs a command as main does, and returns what it prints and its exit status.
func runTool(ctx context.Context, args ...string) (out string, status int, err error) {
	var b bytes.Buffer
	if err = run(ctx, args, noEnv, stdio{strings.NewReader(""), &b, &b}); err != nil {
		status = exitCode(err)
	}
	return b.String(), status, err
}

func TestWhy(t *testing.T) {
	p := startServe(t, "--data", t.TempDir())
	want(t, "PUT", p.admin+"/db/", `{"sync":"function (doc) { channel(doc.channels); access(doc.who, doc.gives); role(doc.who, doc.roles); }",
		"scopes":{"_default":{"collections":{"_default":{}}},"shop":{"collections":{"orders":{"sync":"function (doc) { channel(doc.channels); }"}}}}}`, 201)
	want(t, "PUT", p.admin+"/db/_role/sales", `{"admin_channels":["north"]}`, 201)
	want(t, "PUT", p.admin+"/db/_user/bob", `{"password":"hush-hush","collection_access":{"shop":{"orders":{"admin_channels":["x y"]}}}}`, 201)
	want(t, "PUT", p.admin+"/db/staff-3", `{"who":"bob","roles":"role:sales","text":"a body"}`, 201)
	want(t, "PUT", p.admin+"/db/order-1", `{"channels":"north","text":"a body"}`, 201)
	want(t, "PUT", p.admin+"/db.shop.orders/o%0A1", `{"channels":"x y"}`, 201)
	for _, c := range []struct {
		args   []string
		status int
		want   []string
	}{
		{[]string{"--doc", "order-1", "--user", "bob"}, 0, []string{
			"order-1: visible for bob\n", "bob sees order-1 because it is in channel north, which role sales has since 1",
			"granted by document staff-3.\n", "  by role sales, since 3", "in channel north", "\nAs of sequence 5 of _default._default.\n",
		}},
		{[]string{"--doc", "staff-3", "--user", "bob"}, 1, []string{"staff-3: not visible for bob\n", "it is in no channel"}},
		{[]string{"--doc", "order-1"}, 1, []string{"order-1: user disabled for GUEST\n"}},
		{[]string{"--doc", "none", "--user", "bob"}, 1, []string{"no such document"}},
		{[]string{"--doc", "order-1", "--user", "amy"}, 1, []string{"no such user"}},
		{[]string{"--doc", "o\n1", "--user", "bob", "--keyspace", "shop.orders"}, 0, []string{`"o\n1": visible for bob`, `in channel "x y"`, "by an administrator, since 2"}},
		{[]string{"--doc", "x", "--keyspace", "shop.none"}, 2, []string{}},
		{[]string{"--doc", "_x"}, 2, []string{}},
		{[]string{"--doc", "x", "--keyspace", "orders"}, 2, []string{}},
		{[]string{"--doc", "x", "-o", "yaml"}, 2, []string{}},
		{[]string{}, 2, []string{}},
	} {
		out, status, err := runTool(t.Context(), append([]string{"why", "--db", "db", "--admin", p.admin}, c.args...)...)
		if status != c.status || status == 1 && err.Error() != "" || status == 2 && err.Error() == "" {
			t.Errorf("%q: status %d, want %d (%v)", c.args, status, c.status, err)
		}
		for _, w := range c.want {
			if !strings.Contains(out, w) {
				t.Errorf("%q: no %q in\n%s", c.args, w, out)
			}
		}
		if strings.Contains(out, "a body") || strings.Contains(out, "hush") || strings.Contains(out, "$2") {
			t.Errorf("%q: a body or a secret in\n%s", c.args, out)
		}
	}
	out, status, _ := runTool(t.Context(), "why", "--db", "db", "--doc", "order-1", "--user", "bob", "--admin", p.admin, "-o", "json")
	var e struct{ Verdict string }
	if err := json.Unmarshal([]byte(out), &e); err != nil || e.Verdict != "visible" || status != 0 {
		t.Errorf("status %d, %v: %s", status, err, out)
	}
}

// TestWhyWithoutGateway: a question that cannot be put is not a no.
func TestWhyWithoutGateway(t *testing.T) {
	gone := "http://" + testkit.FreePort(t).Address()
	_, status, err := runTool(t.Context(), "why", "--db", "db", "--doc", "x", "--admin", gone, "--admin-user", "adm", "--admin-password", "hush-hush")
	if status != 2 || strings.Contains(err.Error(), "hush") {
		t.Errorf("status %d, %v", status, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, status, err := runTool(ctx, "why", "--db", "db", "--doc", "x", "--admin", gone); status != 130 {
		t.Errorf("interrupted: status %d, %v", status, err)
	}
}
