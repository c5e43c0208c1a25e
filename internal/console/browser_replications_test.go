package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestBrowserReplications(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/here/", "{}")
	s.do("PUT", "/there/", "{}")
	s.bulk("here", "h", 20)
	s.bulk("there", "t", 5)
	server := httptest.NewServer(s.admin)
	defer server.Close()
	b := newBrowser(t, s)
	b.login()
	b.open("/db/here/replications")
	b.waitText("[data-testid=empty]", "There are no replications")

	// What is refused stays in the form.
	b.click("[data-testid=new-replication]")
	b.set("[name=id]", "to-there")
	b.click("[data-testid=save-replication]")
	b.waitText("[data-testid=problem]", "Remote")
	b.set("[name=remote]", "ftp://example.com/db")
	b.waitHidden("[name=resolver]")
	b.run("choose", chooseOption("[name=resolution]", "custom"))
	b.waitVisible("[name=resolver]")
	b.set("[name=resolver]", "function (conflict) { return conflict.LocalDocument; }")
	b.click("[data-testid=save-replication]")
	b.waitText("[data-testid=problem]", "remote URL is invalid")
	if got := eval[string](b, `document.querySelector("[name=resolver]").value`); !strings.Contains(got, "LocalDocument") {
		t.Errorf("what was typed is lost: %q", got)
	}
	b.shoot("replication-form")
	b.set("[name=remote]", server.URL+"/there")
	b.click("[name=start]")
	b.click("[data-testid=save-replication]")
	b.waitText(".toast", "to-there was made")
	b.waitText("[data-testid=replication-status]", "stopped")
	b.waitText("[data-testid=lag]", "20 sequences")

	// It starts, and the figures come by themselves.
	b.click("[data-testid=start]")
	b.waitText("[data-testid=replication-status]", "running")
	b.waitText("[data-testid=lag]", "caught up")
	b.waitText(`[data-key="written:to-there"]`, "20")
	b.waitText(`[data-key="read:to-there"]`, "5")
	b.clearToasts()
	b.shoot("replications")
	b.open("/db/here/sync")
	b.waitText("#terminate", "to-there") // a termination says what it stops
	b.open("/db/here/replication?id=to-there")
	b.waitText("[data-testid=docs-written]", "20")
	s.bulk("here", "more", 3)
	b.waitText("[data-testid=docs-written]", "23")
	b.shoot("replication")
	b.click("[data-testid=stop]")
	b.waitText("[data-testid=replication-status]", "stopped")
	b.click("[data-testid=reset]")
	b.click("[data-testid=reset-confirm]")
	b.waitText(".toast", "from the beginning")

	// Changed: the name is wrong now, and it says so when it runs.
	b.click("[data-testid=edit]")
	b.set("[name=remote]", server.URL+"/nowhere")
	b.set("[name=channels]", "one\ntwo")
	b.click("[data-testid=save-replication]")
	b.waitText(".toast", "was changed")
	b.click("[data-testid=replications] a")
	b.waitText("main", "one, two")
	b.click("[data-testid=start]")
	b.waitVisible("[data-testid=replication-error]")
	b.shoot("replication-error")
	b.click("[data-testid=delete]")
	b.press(escapeKey)
	b.click("[data-testid=delete]")
	b.click("[data-testid=delete-confirm]")
	b.waitText(".toast", "was deleted")
	b.waitText("[data-testid=empty]", "There are no replications")
	b.open("/db/here/replication?id=to-there")
	b.waitText("[data-testid=error-page]", "No such replication")
	// Names may hold anything.
	hostile := `a&id=b +c/"<b>`
	s.do("PUT", "/here/_replication/"+url.PathEscape(hostile), `{"remote":"`+server.URL+`/there","direction":"push","initial_state":"stopped"}`)
	b.open("/db/here/replications")
	b.waitText("[data-testid=replications] a", hostile)
	b.click("[data-testid=reset]")
	b.click("[data-testid=reset-confirm]")
	b.waitText(".toast", hostile+" starts again")
	b.click("[data-testid=replications] a")
	b.waitText("h1", hostile)
	if status := b.post("/db/here/replication/act", "id=x&action=explode"); status != http.StatusBadRequest {
		t.Errorf("an action that does not exist is answered with %d", status)
	}
}

func TestBrowserResync(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{"sync":"function (doc) { channel(doc.channels); }"}`)
	s.bulk("world", "d", 300)
	s.do("PUT", "/world/_user/eve", `{"password":"correct horse","admin_channels":["all"]}`)
	b := newBrowser(t, s)
	b.login()
	b.open("/db/world/resync")
	b.waitText("[data-testid=resync-never]", "none yet")

	// A dry run of a function that is wrong, and of one that changes something.
	b.set("[data-testid=dry-source]", "function (doc) { chanel(doc.x); }")
	b.click("[data-testid=dry-run]")
	b.waitText("[data-testid=problem]", "chanel")
	b.set("[data-testid=dry-source]", `function (doc) { channel(doc.number < 100 ? "few" : "all"); }`)
	b.click("[data-testid=dry-run]")
	b.waitText("[data-testid=would-change]", "100")
	b.waitText("[data-testid=dry-channels]", "few")
	b.waitText("[data-testid=dry-principals]", "eve")
	eval[bool](b, `(window.scrollTo(0, 0), true)`)
	b.shoot("resync-dry-run")

	// The function changes: a resync is due, and is made without downtime.
	s.setSync("world", `function (doc) { channel(doc.number < 100 ? "few" : "all"); }`)
	b.open("/db/world/resync")
	b.waitText("[data-testid=resync-due]", "A resync is due")
	b.shoot("resync-due")
	b.click("[data-testid=start-resync]")
	b.waitText("[data-testid=resync-status]", "completed")
	b.waitText("[data-testid=processed]", "300")
	b.waitText("[data-testid=changed]", "100")
	b.until(`document.querySelector("[data-testid=resync-progress]").value == 100`)
	b.waitHidden("[data-testid=resync-due]")
	b.shoot("resync-done")

	// And offline, with new sequences.
	b.click("[data-testid=take-offline]")
	b.press(escapeKey)
	b.waitText("[data-testid=database-state]", "Online")
	b.click("[data-testid=take-offline]")
	b.click("[data-testid=offline-confirm]")
	b.waitText("[data-testid=database-state]", "Offline")
	b.click("[name=regenerate]")
	b.click("[name=reset]")
	b.click("[data-testid=start-resync]")
	b.waitText("[data-testid=resync-status]", "completed")
	b.waitText("[data-testid=changed]", "300")
	b.waitText("[data-testid=database-state]", "Offline")
	b.shoot("resync-offline")
	b.open("/db/world/sync") // device sync is administered in every state of the database
	b.waitText("[data-testid=sync-state]", "Sync on")
	b.open("/db/world/resync")
	b.click("[data-testid=bring-online]")
	b.waitText(".toast", "The database is online")
	b.waitText("[data-testid=database-state]", "Online")
	// There is none to stop.
	if page := b.postText("/db/world/resync/stop", ""); !strings.Contains(page, "Database _resync is not running") {
		t.Errorf("stopping none is answered with %s", page)
	}
}
