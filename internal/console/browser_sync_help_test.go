package console_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

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
