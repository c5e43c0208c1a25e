package rest

// explain exercises _explain with documents and users of every kind.
func (e *exercise) explain() {
	const path = "/db/_explain"
	e.call(admin, "PUT", "/db/_role/given", `{"admin_channels":["g"]}`, 201)
	e.call(admin, "PUT", "/db/given", `{"channels":["t","g","!"],"who":"bob","gives":["t"],"roles":["role:given"]}`, 201)
	for _, doc := range []string{"tool", "given", "doc-admin", "read-admin", "none"} {
		for _, user := range []string{"bob", "GUEST", "nobody"} {
			e.call(admin, "GET", path+"?doc="+doc+"&user="+user, "", 200)
		}
	}
	e.call(admin, "GET", path+"?doc=tool", "", 200)
	e.call(admin, "GET", path, "", 400)
	e.call(admin, "GET", path+"?doc=_a", "", 400)
	e.call(admin, "GET", path+"?doc=a&user=a%3Ab", "", 400)
	e.call(admin, "GET", "/db.s.none/_explain?doc=a", "", 404)
}
