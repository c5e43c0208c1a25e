package console_test

import (
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/console"
)

func TestBrowserLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	b := newBrowser(t, s)
	b.open("/db/world/documents?prefix=a%26b")
	b.waitVisible("[data-testid=login]")
	b.shoot("login")
	b.fill("[name=name]", "admin")
	b.fill("[name=secret]", "wrong")
	b.click("[data-testid=login]")
	b.waitText("[data-testid=problem]", "The name or the secret is wrong.")
	b.shoot("login-wrong")
	if got := eval[string](b, `document.querySelector("[name=name]").value + document.querySelector("[name=secret]").value`); got != "admin" {
		t.Errorf("in the form: %q", got)
	}
	b.fill("[name=secret]", "correct horse")
	b.press("\r")
	b.waitAt("/db/world/documents?prefix=a%26b")
	b.click(".account summary")
	b.waitVisible("[data-testid=logout]")
	b.click("[data-testid=logout]")
	b.waitVisible("[data-testid=login]")
	b.open("/")
	b.waitVisible("[data-testid=login]")

	s.logins.nobody = true
	b.open("/login")
	b.waitText("[data-testid=nobody]", "tidegate admin apikey create")
	b.shoot("login-nobody")
}

func TestBrowserSessionExpires(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	b := newBrowser(t, s)
	b.login()
	b.open("/db/world/channels?prefix=x")
	b.until(`document.documentElement.dataset.connected`)
	s.clock.forward(console.DefaultIdleTimeout + time.Minute)
	b.waitVisible("[data-testid=session-ended]")
	b.shoot("session-ended")
	b.fill("[name=name]", "admin")
	b.fill("[name=secret]", "correct horse")
	b.click("[data-testid=login]")
	b.waitAt("/db/world/channels?prefix=x")
}

// TestBrowserServerGone shows that a page says that the server is gone, loses nothing that was typed, and goes on when it
// is there again.
func TestBrowserServerGone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	b := newBrowser(t, s)
	b.login()
	b.open("/db/world/document/new")
	b.fill("[name=newid]", "precious")
	b.set("[data-testid=doc-text]", `{"typed":"for an hour"}`)
	b.until(`document.documentElement.dataset.connected`)
	b.waitHidden("#gone")
	s.stop()
	b.waitVisible("#gone")
	b.shoot("server-gone")
	b.click("[data-testid=save]")
	b.until(`!document.querySelector("form[aria-busy]") && document.querySelector("[data-testid=doc-text]").value.includes("for an hour")`)
	b.click(".brand")
	if got := eval[string](b, "location.pathname"); got != "/_console/db/world/document/new" {
		t.Errorf("left the page for %s", got)
	}
	s.start(s.address)
	b.waitHidden("#gone")
	b.click("[data-testid=save]")
	b.waitText(".toast", "was created")
	b.waitText("[data-testid=body]", "for an hour")

	// After a restart nobody is logged in any more, and comes back to where they were.
	b.open("/db/world/")
	b.until(`document.documentElement.dataset.connected`)
	s.stop()
	b.waitVisible("#gone")
	s.newConsole()
	s.start(s.address)
	b.waitVisible("[data-testid=session-ended]")
	b.fill("[name=name]", "admin")
	b.fill("[name=secret]", "correct horse")
	b.click("[data-testid=login]")
	b.waitText("[data-testid=db-state]", "Online")
}

func TestBrowserLog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := newBrowser(t, s)
	b.login()
	s.log.Info("first", "password", "hunter2", "n", 1)
	s.log.Error("something broke", "why", "no reason")
	b.open("/log")
	b.waitText("[data-testid=log]", "first")
	s.log.Warn("later", "token", "hunter2")
	b.waitText("[data-testid=log]", "later")
	if got := eval[bool](b, `document.body.innerText.includes("hunter2")`); got {
		t.Error("the log shows a secret")
	}
	b.shoot("log")
	b.click("[data-testid=log-hold]")
	s.log.Info("while held")
	s.log.Info("and another")
	b.until(`!document.querySelector("[data-testid=log]").textContent.includes("while held")`)
	b.click("[data-testid=log-hold]")
	b.waitText("[data-testid=log]", "and another")
	eval[bool](b, `(() => { const s = document.querySelector("[data-testid=log-level]"); s.value = "error"; s.dispatchEvent(new Event("change", {bubbles: true})); return true })()`)
	b.waitAt("/log?level=error&q=")
	b.waitText("[data-testid=log]", "something broke")
	if got := b.text("[data-testid=log]"); got == "" || len(got) > 400 {
		t.Errorf("errors alone: %s", got)
	}
	b.fill("[data-testid=log-text]", "Nowhere")
	b.press("\r")
	b.waitVisible("[data-testid=empty]")
	s.log.Error("it is nowhere")
	b.waitText("[data-testid=log]", "it is nowhere")
}

func TestBrowserMetrics(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	b := newBrowser(t, s)
	b.login()
	b.open("/metrics")
	b.until(`document.querySelectorAll(".u-wrap canvas").length == 6`)
	b.until(`Number(document.querySelector("#plots").dataset.samples) >= 3`)
	s.bulk("world", "d", 2000)
	b.until(`/^[1-9]/.test(document.querySelector("[data-series=resident] [data-value]").textContent)`)
	b.until(`Number(document.querySelector("#plots").dataset.samples) >= 6`)
	b.shoot("metrics")
	b.click("[data-span='30']")
	b.until(`document.querySelector("[data-span='30']").getAttribute("aria-pressed") == "true"`)
	b.open("/metrics") // the past is there at once
	b.until(`Number(document.querySelector("#plots").dataset.samples) >= 6`)
	b.click("[data-theme-toggle]")
	b.until(`document.documentElement.dataset.theme == "dark" && document.querySelectorAll(".u-wrap canvas").length == 6`)
}

// TestBrowserKeyboard goes through the console without a mouse.
func TestBrowserKeyboard(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	b := newBrowser(t, s)
	b.login()
	b.open("/db/world/")
	b.press("\t")
	b.until(`document.activeElement.classList.contains("skip")`)
	b.press("\r")
	b.until(`location.hash == "#main"`)
	b.press("\t")
	b.until(`document.activeElement.dataset.testid == "offline"`)
	b.press("\r")
	b.waitVisible("[data-testid=offline-confirm]")
	b.until(`document.querySelector("#offline").contains(document.activeElement)`)
	b.press(escapeKey)
	b.waitHidden("[data-testid=offline-confirm]")
	b.until(`document.activeElement.dataset.testid == "offline"`)

	// The menu at phone width.
	b.run("narrow", viewport(360, "light"))
	b.waitVisible("[data-menu]")
	b.waitHidden("#nav")
	b.click("[data-menu]")
	b.waitVisible("#nav")
	b.shootNow("menu-phone")
	b.press(escapeKey)
	b.waitHidden("#nav")
	b.until(`document.activeElement.hasAttribute("data-menu")`)
	b.click("[data-menu]")
	b.click("#nav a[href$='/documents']")
	b.waitText("h1", "Documents")
}

// TestBrowserReader shows what somebody sees who may only read, and somebody for one database.
func TestBrowserReader(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	s.do("PUT", "/world/d", `{"a":1}`)
	b := newBrowser(t, s)
	b.loginAs("reader", "only looking")
	for path, absent := range map[string]string{
		"/": "[data-testid=new-database]", "/db/world/": "[data-testid=offline]", "/db/world/documents": "[data-testid=new-document]",
		"/db/world/document?id=d": "[data-testid=edit]", "/db/world/config": "[data-testid=save-config]", "/db/world/users": "[data-testid=new-user]",
		"/db/world/user?name=GUEST": "[data-testid=save]",
	} {
		b.open(path)
		b.waitFor("h1")
		if eval[bool](b, `!!document.querySelector("`+absent+`")`) {
			t.Errorf("%s offers %s to a reader", path, absent)
		}
	}
	c := newBrowser(t, s)
	c.loginAs("worlds", "one database")
	c.waitVisible("[data-testid=open-database]")
	c.shoot("databases-hidden")
	c.fill("[name=name]", "world")
	c.click("[data-testid=open-database]")
	c.waitText("[data-testid=db-state]", "Online")
	c.open("/metrics")
	c.waitText("[data-testid=error-page]", "You may not do this")
}
