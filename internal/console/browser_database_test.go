package console_test

import "testing"

func TestBrowserDatabases(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := newBrowser(t, s)
	b.login()
	b.waitVisible("[data-testid=empty]")
	b.shoot("databases-empty")

	b.click("[data-testid=new-database]")
	b.fill("[name=name]", "World")
	b.fill("[name=sync]", "function (doc) { channel(doc.region) }")
	b.fill("[name=collections]", "items")
	b.click("[data-testid=create-database]")
	b.waitText("[data-testid=problem]", "items has no dot")
	b.set("[name=collections]", "")
	b.click("[data-testid=create-database]")
	b.waitText("[data-testid=problem]", "name")
	b.shoot("new-database-refused")
	if got := eval[string](b, `document.querySelector("[name=sync]").value`); got != "function (doc) { channel(doc.region) }" {
		t.Errorf("what was typed is lost: %q", got)
	}
	b.set("[name=name]", "world")
	b.click("[data-testid=create-database]")
	b.waitText("h1", "world")
	b.waitText(".toast", "The database world was created.")
	b.click("[data-dismiss]")
	b.waitHidden(".toast")

	// The figures are live.
	s.bulk("world", "a", 3)
	b.waitText("[data-key=writes]", "3")
	b.shoot("database")

	b.click("[data-testid=offline]")
	b.waitVisible("[data-testid=offline-confirm]")
	b.shoot("database-offline-dialog")
	b.press(escapeKey)
	b.waitHidden("[data-testid=offline-confirm]")
	b.click("[data-testid=offline]")
	b.click("[data-testid=offline-confirm]")
	b.waitText(".toast", "is offline")
	b.waitText("[data-testid=db-state]", "Offline")
	b.open("/db/world/documents")
	b.waitText("[data-testid=error-page] h1", "Not available now")
	b.shoot("error-offline")
	b.click("[data-testid=error-page] .primary")
	b.click("[data-testid=online]")
	b.waitText(".toast", "is online")
	b.waitText("[data-testid=db-state]", "Online")

	// A database that comes shows by itself.
	b.open("/")
	b.waitText("[data-testid=database-card] .state", "Online")
	s.do("PUT", "/another/", "{}")
	b.until(`document.querySelectorAll("[data-testid=database-card]").length == 2`)
	b.shoot("databases")

	b.open("/db/another/")
	b.click("[data-testid=delete-database]")
	b.fill("[data-testid=delete-text]", "anothe")
	b.until(`document.querySelector("[data-testid=delete-confirm]").disabled`)
	b.fill("[data-testid=delete-text]", "another")
	b.click("#delete-database [name=purge]")
	b.click("[data-testid=delete-confirm]")
	b.waitText(".toast", "deleted with everything")
	b.until(`document.querySelectorAll("[data-testid=database-card]").length == 1`)
}

func TestBrowserConfig(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{"revs_limit":30}`)
	b := newBrowser(t, s)
	b.login()
	b.open("/db/world/config")
	b.waitVisible("[data-testid=config-text]")
	b.shoot("config")
	b.set("[data-testid=config-text]", "{\n  \"revs_limit\": 40,\n  \"revs_limt\": 3\n}")
	b.click("[data-testid=save-config]")
	b.waitText("[data-testid=problems]", "Line 3")
	b.waitText("[data-testid=problems]", `"revs_limit"`) // the nearest valid key
	b.shoot("config-refused")
	b.click("[data-testid=problems] .place")
	if got := eval[string](b, `(() => { const e = document.activeElement; return e.value.slice(e.selectionStart, e.selectionEnd) })()`); got != `"revs_limt": 3` && got != `"revs_limt": 3 ` {
		t.Errorf("selected: %q", got)
	}
	b.set("[data-testid=config-text]", `{"revs_limit":`)
	b.click("[data-testid=save-config]")
	b.waitVisible("[data-testid=problems]")

	// Somebody else is faster.
	b.set("[data-testid=config-text]", `{"revs_limit":50}`)
	s.do("POST", "/world/_config", `{"revs_limit":60}`)
	b.click("[data-testid=save-config]")
	b.waitVisible("[data-testid=config-changed]")
	b.click("[data-testid=save-config]")
	b.waitText(".toast", "was changed")
	b.waitText("[data-testid=config-text]", `"revs_limit": 50`)
}
