package rest

import "encoding/json"

// resync exercises the operations of a resync, under both spellings.
func (e *exercise) resync() {
	e.call(admin, "PUT", "/rs/", `{"sync":"function (doc) { channel('a'); }"}`, 201)
	e.call(admin, "PUT", "/rs/doc", `{}`, 201)
	for _, path := range []string{"/rs/_resync", "/rs/resync"} {
		e.call(admin, "GET", path, "", 200)
		e.call(admin, "POST", path, "", 503)
		e.call(admin, "POST", path+"?action=none", "", 400)
		e.call(admin, "POST", path+"?action=stop", "", 400)
	}
	e.call(admin, "PUT", "/rs/_config/sync", `function (doc) { channel('b'); }`, 200, "Content-Type: application/javascript")
	e.call(admin, "GET", "/rs/", "", 200)
	e.call(admin, "GET", "/_status", "", 200)

	e.call(admin, "POST", "/rs/_offline", "", 200)
	e.call(admin, "POST", "/rs/_resync?action=start&regenerate_sequences=false&reset=true&wait=true",
		`{"scopes":{"_default":["_default"]},"regenerate_sequences":false}`, 200)
	e.call(admin, "POST", "/rs/resync?wait=true", "", 200)
	e.call(admin, "GET", "/rs/resync", "", 200)
	e.call(admin, "POST", "/rs/_resync?online=true", "", 503)
	e.call(admin, "POST", "/rs/_online?wait=true", "", 200)
	e.call(admin, "POST", "/rs/_resync?online=true&wait=true", `{"sync_function":"function (doc) { channel('c'); }"}`, 200)

	e.r.bulk("rs", 20, `"slow":true`)
	slow, _ := json.Marshal(map[string]string{"sync": slowly})
	e.call(admin, "POST", "/rs/_config", string(slow), 201)
	e.call(admin, "POST", "/rs/_offline", "", 200)
	e.call(admin, "POST", "/rs/_resync", "", 200)
	e.call(admin, "POST", "/rs/_online", "", 503)
	e.call(admin, "POST", "/rs/_resync?action=stop&wait=true", "", 200)
	e.call(admin, "POST", "/rs/_online?wait=true", "", 200)

	rev := e.call(admin, "PUT", "/rs/resync", `{}`, 201).rev()
	e.call(admin, "GET", "/rs/resync", "", 200)
	e.call(admin, "HEAD", "/rs/resync", "", 200)
	e.call(admin, "DELETE", "/rs/resync?rev="+rev, "", 200)

	e.call(admin, "PUT", "/rsc/", `{"scopes":{"s":{"collections":{"c":{}}}},"read_only":true,"offline":true}`, 201)
	e.call(admin, "POST", "/rsc/_resync", "", 403)
	e.call(admin, "POST", "/rsc/_resync", `{"scopes":{"s":["d"]}}`, 403)
	e.call(admin, "POST", "/rsc.s.c/resync", "", 405)
	e.call(admin, "POST", "/rsc/_online?wait=true", "", 200)
	e.call(admin, "GET", "/rsc.s.c/resync", "", 404)
	e.call(admin, "GET", "/none/_resync", "", 404)
	e.call(admin, "POST", "/none/_resync", "", 404)
}
