package console_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestBrowserDocuments(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{"allow_conflicts":true,"scopes":{"_default":{"collections":{"_default":{}}},"shop":{"collections":{"items":{}}}}}`)
	b := newBrowser(t, s)
	b.login()
	b.open("/db/world/documents")
	b.waitVisible("[data-testid=empty]")
	b.shoot("documents-empty")

	// Create: a text that is no JSON, an id that is taken, one that the server makes up.
	b.click("[data-testid=new-document]")
	b.fill("[name=newid]", "order 1/ä")
	b.set("[data-testid=doc-text]", "{\n  \"a\": 1,\n}")
	b.click("[data-testid=save]")
	b.waitText("[data-testid=problems]", "Line 3")
	b.shoot("document-new-refused")
	b.set("[data-testid=doc-text]", `{"channels":["north"],"total":12345678901234567890,"half":1.50}`)
	b.click("[data-testid=save]")
	b.waitText(".toast", "was created")
	b.waitText("[data-testid=doc-id]", "order 1/ä")
	if body := b.text("[data-testid=body]"); !strings.Contains(body, "12345678901234567890") || !strings.Contains(body, "1.50") {
		t.Errorf("numbers lost their digits: %s", body)
	}
	b.open("/db/world/document/new")
	b.fill("[name=newid]", "order 1/ä")
	b.set("[data-testid=doc-text]", `{}`)
	b.click("[data-testid=save]")
	b.waitText("[data-testid=problem]", "already")
	b.set("[name=newid]", "")
	b.click("[data-testid=save]")
	b.waitText(".toast", "was created")

	// Edit, while somebody else is faster.
	b.open("/db/world/document?id=order+1%2F%C3%A4")
	b.click("[data-testid=edit]")
	b.waitText("[data-testid=doc-text]", `"north"`)
	rev := eval[string](b, `document.querySelector("[name=rev]").value`)
	s.do("PUT", "/world/order%201%2F%C3%A4?rev="+rev, `{"channels":["south"],"by":"somebody else"}`)
	b.set("[data-testid=doc-text]", `{"channels":["north","west"],"by":"me"}`)
	b.click("[data-testid=save]")
	b.waitText("[data-testid=theirs]", "somebody else")
	b.shoot("document-edit-conflict")
	b.click("[data-testid=save-onto]")
	b.waitText(".toast", "was saved")
	b.waitText("[data-testid=body]", `"by": "me"`)
	b.waitText("[data-testid=history]", "3-")

	// A conflict that devices made, an attachment, and an older revision.
	s.do("POST", "/world/_bulk_docs", `{"new_edits":false,"docs":[{"_id":"order 1/ä","_rev":"3-ffff","_revisions":{"start":3,"ids":["ffff","`+strings.SplitN(rev, "-", 2)[1]+`0","`+strings.SplitN(rev, "-", 2)[1]+`"]},"by":"a device"}]}`)
	b.open("/db/world/document?id=order+1%2F%C3%A4")
	b.waitVisible("[data-testid=conflict]")
	current := eval[string](b, `document.querySelector("#delete [name=rev]").value`)
	s.do("PUT", "/world/order%201%2F%C3%A4/note.html?rev="+current, `<script>alert(1)</script>`)
	b.open("/db/world/document?id=order+1%2F%C3%A4")
	b.waitText("[data-testid=attachment]", "note.html")
	b.shoot("document")
	b.click("[data-testid=history] li:last-child a")
	b.waitVisible("[data-testid=old-revision]")
	b.click("[data-testid=old-revision] a")
	b.click("[data-testid=close-branch]")
	b.waitText(".toast", "branch was closed")
	b.waitHidden("[data-testid=conflict]")

	b.click("[data-testid=delete]")
	b.waitVisible("[data-testid=delete-confirm]")
	b.click("[data-testid=delete-confirm]")
	b.waitText(".toast", "was deleted")

	// The other collection, and the deleted ones.
	b.waitFor("#deleted")
	b.click("#deleted")
	b.waitText("#rows", "deleted")
	s.do("PUT", "/world.shop.items/thing", `{}`)
	eval[bool](b, `(() => { const s = document.querySelector("[data-testid=collection]"); s.value = "shop.items"; s.dispatchEvent(new Event("change", {bubbles: true})); return true })()`)
	b.waitText("[data-testid=documents]", "thing")
}

// TestBrowserManyDocuments shows that 10,000 documents are paged and searched.
func TestBrowserManyDocuments(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	s.bulk("world", "doc-", 10_000)
	b := newBrowser(t, s)
	b.login()
	b.open("/db/world/documents")
	b.waitText("[data-testid=documents]", "doc-000049")
	b.shoot("documents")
	if n := eval[int](b, `document.querySelectorAll("[data-testid=documents] tbody tr").length`); n != 50 {
		t.Errorf("%d rows", n)
	}
	b.click("[data-testid=page-next]")
	b.waitText("[data-testid=documents]", "doc-000050")
	b.click("[data-testid=page-first]")
	b.waitText("[data-testid=documents]", "doc-000000")
	b.fill("#prefix", "doc-0099")
	b.waitText("[data-testid=documents]", "doc-009900")
	b.until(`location.search.includes("prefix=doc-0099")`)
	b.click("[data-testid=page-next]")
	b.waitText("[data-testid=documents]", "doc-009950")
	b.until(`!document.querySelector("[data-testid=page-next]")`)
	b.fill("#prefix", "nothing")
	b.waitVisible("[data-testid=empty]")
	b.open("/db/world/documents?from=doc-009990")
	b.waitText("[data-testid=documents]", "doc-009999")
	// The channel that all of them are in.
	b.open("/db/world/channels")
	b.click("[data-testid=channels] a")
	b.waitText("[data-testid=channel-docs]", "doc-000000")
	b.click("[data-testid=page-next]")
	b.waitText("[data-testid=channel-docs]", "doc-000050")
}

// TestBrowserEscapes puts markup and scripts wherever a name or text can be, and looks whether any of it is alive.
func TestBrowserEscapes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	const evil = `"><img src=x onerror=alert(1)><script>alert(2)</script>{{.}}'` + "`${alert(3)}`"
	s.do("PUT", "/world/"+escape(evil), `{"channels":["<b>c</b>"],"<i>":`+jsonText(evil)+`}`)
	s.do("PUT", "/world/_user/u", `{"password":"secret","email":"a@b.example","admin_channels":["<b>c</b>"]}`)
	b := newBrowser(t, s)
	b.login()
	alive := func(where string) {
		t.Helper()
		if n := eval[int](b, `document.querySelectorAll("main img, main script, main b, main i").length`); n != 0 {
			t.Errorf("%s: markup is alive", where)
		}
	}
	b.open("/db/world/documents")
	b.waitText("[data-testid=documents] a", evil)
	alive("the list")
	b.click("[data-testid=documents] a")
	b.waitText("[data-testid=doc-id]", evil)
	b.waitText("[data-testid=body]", "onerror=alert(1)")
	alive("the document")
	b.shoot("document-hostile")
	b.click("[data-testid=edit]")
	b.waitText("[data-testid=doc-text]", "onerror=alert(1)")
	alive("the editor")
	b.set("[data-testid=doc-text]", `{"channels":["<b>c</b>"],"v":2}`)
	b.click("[data-testid=save]")
	b.waitText(".toast", "was saved")
	b.waitText("[data-testid=body]", `"v": 2`)
	b.open("/db/world/channels")
	b.waitText("[data-testid=channels]", "<b>c</b>")
	b.click("[data-testid=channels] a")
	b.waitText("h1", "<b>c</b>")
	alive("the channel")
	b.open("/db/world/why?user=u&doc=" + escape(evil))
	b.waitText("[data-testid=why-answer]", "sees it")
	alive("the explanation")
	s.log.Warn(evil, "value", evil)
	b.open("/log")
	b.waitText("[data-testid=log]", evil)
	s.log.Warn("second " + evil)
	b.waitText("[data-testid=log]", "second "+evil)
	alive("the log")
	b.open("/db/world/documents?prefix=" + escape(evil) + "&ks=" + escape(evil))
	b.waitVisible("[data-testid=error-page]")
	alive("an error")
	b.open("/login?next=" + escape(`javascript:alert(1)`))
	b.waitAt("/_console/")
}

func TestBrowserChannelsAndWhy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/shop/", `{"sync":"function (doc) { if (doc.type == 'staff') { access(doc.user, doc.regions); role(doc.user, doc.role); return } channel(doc.region) }"}`)
	s.do("PUT", "/shop/_role/sales", `{"admin_channels":["north"]}`)
	s.do("PUT", "/shop/_user/bob", `{"password":"secret"}`)
	s.do("PUT", "/shop/_user/eve", `{"password":"secret","admin_channels":["south"]}`)
	s.do("PUT", "/shop/staff-3", `{"type":"staff","user":"bob","role":"role:sales"}`)
	for i, region := range []string{"north", "south", "east", "north"} {
		s.do("PUT", fmt.Sprintf("/shop/order-%d", i), `{"region":"`+region+`"}`)
	}
	b := newBrowser(t, s)
	b.login()
	b.open("/db/shop/channels")
	b.waitText("[data-testid=channels]", "east")
	b.shoot("channels")
	b.fill("#prefix", "no")
	b.until(`document.querySelectorAll("[data-testid=channels] li").length == 1`)
	b.click("[data-testid=channels] a")
	b.waitText("[data-testid=channel-docs]", "order-3")
	b.waitText("[aria-labelledby=holders]", "sales")
	b.waitText("[aria-labelledby=holders]", "bob")
	b.shoot("channel")

	b.open("/db/shop/document?id=order-0")
	b.click("[data-testid=why]")
	b.fill("[data-testid=why-user]", "bob")
	b.click("[data-testid=why-ask]")
	b.waitText("[data-testid=why-answer]", "bob sees order-0 because it is in channel north")
	b.waitText("main", "document staff-3")
	b.shoot("why")
	b.set("[data-testid=why-user]", "eve")
	b.click("[data-testid=why-ask]")
	b.waitText("[data-testid=why-answer]", "eve does not see order-0")
	b.shoot("why-not")
	b.set("[data-testid=why-user]", "a:b")
	b.click("[data-testid=why-ask]")
	b.waitVisible("[data-testid=problem]")
	b.set("[data-testid=why-user]", "nobody")
	b.click("[data-testid=why-ask]")
	b.waitText("[data-testid=why-answer]", "there is no such user")
}

// TestAttachmentsAreFiles shows that nothing that a device uploaded is shown by the console's origin.
func TestAttachmentsAreFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do("PUT", "/world/", `{}`)
	s.do("PUT", "/world/d", `{"_attachments":{"a\"b.html":{"content_type":"text/html","data":"PHNjcmlwdD4="}}}`)
	c := newHTTPClient(t, s)
	c.login("admin", "correct horse")
	answer := c.get("/db/world/document/attachment?id=d&name=" + escape(`a"b.html`))
	h := answer.Header
	if answer.StatusCode != http.StatusOK || h.Get("Content-Type") != "application/octet-stream" || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") ||
		h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || c.body != "<script>" {
		t.Errorf("%d %v %q", answer.StatusCode, h, c.body)
	}
	if answer := c.get("/db/world/document/attachment?id=d&name=none"); answer.StatusCode != http.StatusNotFound {
		t.Errorf("one that is not there: %d", answer.StatusCode)
	}
}
