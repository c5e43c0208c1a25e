package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/appservices"
)

// appsAsOwner is the App Services API for the administrator of a site.
func (s *site) appsAsOwner() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := appservices.Identity{UserID: strings.Repeat("0", 24), Name: "owner", Role: access.RoleOwner}
		s.apps.ServeHTTP(w, appservices.AsUser(r, who))
	})
}

// call calls a handler; it fails the test if the answer is no success.
func (s *site) call(h http.Handler, method, target, body string) string {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, target, strings.NewReader(body))
	r.Host = "localhost"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code/100 != 2 {
		s.t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
	}
	return w.Body.String()
}

// focus gives an element the keyboard.
func (b *window) focus(selector string) {
	b.t.Helper()
	b.run("focus "+selector, chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Focus(chromedp.CSS(selector)))
}

// waitFocus waits until an element has the keyboard.
func (b *window) waitFocus(selector string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.activeElement && document.activeElement.matches(%q)`, selector))
}

// post sends a form as the page would, with its token, and returns the status of the answer.
func (b *window) post(path, form string) int {
	b.t.Helper()
	return eval[int](b, fmt.Sprintf(`fetch("/_console%s", {method: "POST", body: new URLSearchParams(%q + "&csrf=" + encodeURIComponent(document.body.dataset.csrf))}).then((r) => r.status)`, path, form))
}

// postText is post, and returns the page that comes in the end.
func (b *window) postText(path, form string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf(`fetch("/_console%s", {method: "POST", body: new URLSearchParams(%q + "&csrf=" + encodeURIComponent(document.body.dataset.csrf))}).then((r) => r.text())`, path, form))
}

// waitState waits until the Device Sync page shows a state, and has drawn the buttons that belong to it.
func (b *window) waitState(state string) {
	b.t.Helper()
	b.waitText("[data-testid=sync-state]", state)
	b.until(`document.documentElement.dataset.connected && document.querySelector("#panel").dataset.drawn == document.querySelector("#panel").parentElement.dataset.version`)
}

// enableGuided goes from the filled-in guide through its review.
func (b *window) enableGuided() {
	b.t.Helper()
	b.click("[data-testid=enable-guide] [data-testid=enable-sync]")
	b.waitVisible("[data-testid=enable-review]")
	b.click("[data-testid=enable-review] [data-testid=enable-confirm]")
}

// clearToasts takes messages away, which would cover a part of a picture.
func (b *window) clearToasts() {
	b.t.Helper()
	eval[bool](b, `(document.querySelectorAll(".toast").forEach((t) => t.remove()), true)`)
}

// chooseOption chooses an option of a list.
func chooseOption(selector, value string) chromedp.Action[chromedp.Void] {
	return chromedp.SetValue(chromedp.CSS(selector), value)
}

// sessionIdle is longer than a session lasts without use.
func (s *site) sessionIdle() time.Duration { return time.Hour }

// loginAsOnly logs in, whatever page comes then.
func (b *window) loginAsOnly(name, secret string) {
	b.t.Helper()
	b.open("/login")
	b.fill("[name=name]", name)
	b.fill("[name=secret]", secret)
	b.click("[data-testid=login]")
	b.waitFor("[data-testid=logout]")
}

// setSync changes the sync function of a database.
func (s *site) setSync(database, source string) {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), http.MethodPut, "/"+database+"/_config/sync", strings.NewReader(source))
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/javascript")
	w := httptest.NewRecorder()
	s.admin.ServeHTTP(w, r)
	if w.Code/100 != 2 {
		s.t.Fatalf("change the sync function: %d %s", w.Code, w.Body)
	}
}
