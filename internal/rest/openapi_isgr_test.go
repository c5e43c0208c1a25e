package rest

// gatewayReplications exercises the endpoints of replications with other gateways.
func (e *exercise) gatewayReplications() {
	const all = "/db/_replication/"
	const valid = `{"remote":"http://u:p@h/d","direction":"pushAndPull","continuous":true,"filter":"sync_gateway/bychannel","query_params":["a"]}`
	for method, id := range map[string]string{"PUT": "put", "POST": "post"} {
		e.call(admin, method, all+id, valid, 201)
		e.call(admin, method, all+id, `{"batch_size":7}`, 200)
		e.call(admin, method, all+id, `{"batch_size":0}`, 400)
		e.call(admin, method, all+"none", `{"cancel":true}`, 404)
	}
	e.call(admin, "POST", all, `{"replication_id":"put","purge_on_removal":true}`, 200)
	e.call(admin, "POST", all, `{}`, 400)
	e.call(admin, "POST", all, valid, 201)
	for _, path := range []string{all, all + "put"} {
		for _, query := range []string{"", "?format=2.8"} {
			e.call(admin, "GET", path+query, "", 200)
		}
		e.call(admin, "HEAD", path, "", 200)
	}
	e.call(admin, "GET", all+"none", "", 404)
	e.r.settled(e.t, "put", "running")
	for _, name := range []string{"_replicationStatus", "_replicationstatus"} {
		all := "/db/" + name + "/"
		for _, path := range []string{all, all + "put"} {
			for _, query := range []string{"?includeConfig=true", "?activeOnly=true&localOnly=true&includeError=false&format=2.8"} {
				e.call(admin, "GET", path+query, "", 200)
			}
			e.call(admin, "HEAD", path, "", 200)
		}
		e.call(admin, "GET", all+"none", "", 404)
		for _, method := range []string{"PUT", "POST"} {
			e.call(admin, method, all+"put?action=reset", "", 400)
			e.call(admin, method, all+"put/reset", "", 400)
			for _, action := range []string{"?action=stop", "?action=reset", "/reset", "?action=start", "/stop", "/start"} {
				e.call(admin, method, all+"put"+action, "", 200)
			}
			e.call(admin, method, all+"none?action=start", "", 404)
			e.call(admin, method, all+"none/start", "", 404)
		}
	}
	e.call(admin, "PUT", all+"adhoc", `{"remote":"http://h/d","direction":"push","adhoc":true}`, 201)
	e.call(admin, "PUT", "/db/_replicationStatus/adhoc?action=stop", "", 200)
	e.call(admin, "GET", "/db/_replicationStatus/adhoc", "", 404)
	e.call(admin, "GET", "/db/_replicationStatus/adhoc?includeEnded=true", "", 200)
	e.call(admin, "GET", "/db/_replicationStatus/none?includeEnded=true", "", 404)
	e.call(admin, "PUT", "/db/_replicationStatus/put?action=stop", "", 200)
	e.call(admin, "GET", "/db/_replicationStatus/put?activeOnly=true", "", 200)
	e.call(admin, "GET", "/db/_replicationStatus/put?includeRuns=true", "", 200)
	e.call(admin, "GET", "/_status", "", 200)
	e.call(admin, "GET", "/_expvar", "", 200)
	e.call(admin, "DELETE", all+"put", "", 200)
	e.call(admin, "DELETE", all+"put", "", 404)
}
