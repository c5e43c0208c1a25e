package console_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestBrowserUsersAndRoles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	b := newBrowser(t, s)
	b.login()
	b.open("/db/world/roles")
	b.waitVisible("[data-testid=empty]")
	b.click("[data-testid=new-role]")
	b.fill("[name=name]", "sales")
	b.fill("[data-testid=channels]", "north\nsouth")
	b.click("[data-testid=save]")
	b.waitText(".toast", "role sales was saved")
	b.waitText("[data-testid=all-channels]", "south")
	b.shoot("role")

	b.open("/db/world/users")
	b.waitVisible("[data-testid=empty]")
	b.click("[data-testid=new-user]")
	b.fill("[name=name]", "a:b")
	b.fill("[name=password]", "secret")
	b.fill("[data-testid=channels]", "east")
	b.click("[data-testid=save]")
	b.waitVisible("[data-testid=problem]")
	b.shoot("user-refused")
	if got := eval[string](b, `document.querySelector("[data-testid=channels]").value`); got != "east" {
		t.Errorf("what was typed is lost: %q", got)
	}
	b.set("[name=name]", "bob")
	b.set("[name=password]", "secret")
	b.fill("[data-testid=roles]", "sales")
	b.click("[data-testid=save]")
	b.waitText(".toast", "user bob was saved")
	b.waitText("[data-testid=all-channels]", "north")
	b.shoot("user")
	if got := s.do("GET", "/world/_user/bob", ""); !strings.Contains(got, `"admin_channels":["east"]`) || !strings.Contains(got, `"admin_roles":["sales"]`) {
		t.Errorf("made: %s", got)
	}

	// The same name again; then disable, and change channels without the password.
	b.open("/db/world/user/new")
	b.fill("[name=name]", "bob")
	b.fill("[name=password]", "secret")
	b.click("[data-testid=save]")
	b.waitText("[data-testid=problem]", "already")
	b.open("/db/world/user?name=bob")
	b.click("[data-testid=disabled]")
	b.set("[data-testid=channels]", "west, east")
	b.click("[data-testid=save]")
	b.waitText(".page-head .tag", "disabled")
	if got := s.do("GET", "/world/_user/bob", ""); !strings.Contains(got, `"disabled":true`) || !strings.Contains(got, `["east","west"]`) {
		t.Errorf("changed: %s", got)
	}
	b.click("[data-testid=disabled]")
	b.click("[data-testid=save]")
	b.until(`!document.querySelector(".page-head .tag")`)

	// Sessions.
	b.click("[data-testid=start-session]")
	b.waitText("[data-testid=session]", "SyncGatewaySession=")
	id := strings.TrimPrefix(b.text("[data-testid=session] pre"), "SyncGatewaySession=")
	s.do("GET", "/world/_session/"+id, "")
	b.click("[data-testid=end-sessions]")
	b.waitVisible("[data-testid=end-sessions-confirm]")
	b.click("[data-testid=end-sessions-confirm]")
	b.waitText(".toast", "All sessions of bob were ended")
	if code := s.status("GET", "/world/_session/"+id); code != 404 {
		t.Errorf("the session: %d", code)
	}

	// The guest, a long list, and deleting.
	b.open("/db/world/user?name=GUEST")
	b.waitText("h1", "GUEST")
	if eval[bool](b, `!!document.querySelector("[data-testid=delete]")`) {
		t.Error("the guest can be deleted")
	}
	for i := range 120 {
		s.do("PUT", fmt.Sprintf("/world/_role/r%03d", i), `{}`)
	}
	b.open("/db/world/roles")
	b.waitText("[data-testid=roles]", "r099")
	b.click("[data-testid=page-next]")
	b.waitText("[data-testid=roles]", "sales")
	b.fill("#prefix", "r11")
	b.until(`document.querySelectorAll("[data-testid=roles] li").length == 10`)
	b.shoot("roles")
	b.open("/db/world/user?name=bob")
	b.click("[data-testid=delete]")
	b.waitVisible("[data-testid=delete-confirm]")
	b.click("[data-testid=delete-confirm]")
	b.waitText(".toast", "user bob was deleted")
	b.open("/db/world/user?name=bob")
	b.waitText("[data-testid=error-page]", "Not found")
}

func TestBrowserCollectionsOfUsers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/shop/", `{"scopes":{"s":{"collections":{"items":{},"orders":{}}}}}`)
	b := newBrowser(t, s)
	b.login()
	b.open("/db/shop/user/new")
	b.fill("[name=name]", "eve")
	b.fill("[name=password]", "secret")
	b.fill("[name='channels:s.items']", "a")
	b.fill("[name='channels:s.orders']", "b")
	b.click("[data-testid=save]")
	b.waitText(".toast", "was saved")
	b.shoot("user-collections")
	if got := s.do("GET", "/shop/_user/eve", ""); !strings.Contains(got, `"items":{"admin_channels":["a"]`) || !strings.Contains(got, `"orders":{"admin_channels":["b"]`) {
		t.Errorf("made: %s", got)
	}
}
