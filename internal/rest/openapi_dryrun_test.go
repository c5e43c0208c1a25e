package rest

import "strings"

// dryRuns exercises action=dry_run, under both spellings, with a report that has something of everything.
func (e *exercise) dryRuns() {
	e.call(admin, "PUT", "/dry/", `{"sync":"function (doc) { channel(doc.channels); access(doc.who, doc.gives); role(doc.who, doc.roles); }"}`, 201)
	e.call(admin, "PUT", "/dry/_role/r", `{"admin_channels":["a"]}`, 201)
	e.call(admin, "PUT", "/dry/_user/eve", `{"password":"letmein","admin_roles":["r"]}`, 201)
	e.call(admin, "PUT", "/dry/one", `{"channels":["a"],"who":"eve","gives":"c","roles":"role:s"}`, 201)
	e.call(admin, "PUT", "/dry/two", `{"broken":true,"channels":["a"]}`, 201)
	rev := e.call(admin, "PUT", "/dry/three", `{"channels":["b"]}`, 201).rev()
	e.call(admin, "DELETE", "/dry/three?rev="+rev, "", 200)
	body := candidate("function (doc) { if (doc.broken) { doc.x.y(); } channel('all'); access('eve', 'd'); role('eve', 'role:t'); }")
	for _, path := range []string{"/dry/_resync", "/dry/resync"} {
		e.call(admin, "POST", path+"?action=dry_run", body, 200)
		e.call(admin, "POST", path+"?action=dry_run", "", 200)
		a := e.call(admin, "POST", path+"?action=dry_run&stream=true", body, 200)
		for line := range strings.Lines(a.body) {
			if err := e.c.schemaFault("PlanLine", []byte(line)); err != nil {
				e.t.Errorf("%s: %v: %s", path, err, line)
			}
		}
		e.call(admin, "POST", path+"?action=dry_run", candidate("function ("), 400)
	}
}
