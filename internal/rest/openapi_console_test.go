package rest

// console exercises what was made for the web console: the names of channels, and the newest records of the log.
func (e *exercise) console() {
	e.call(admin, "GET", "/db/_channels", "", 200)
	e.call(admin, "GET", "/db/_channels?prefix=t&after=a&limit=1", "", 200)
	e.call(admin, "GET", "/db.s.none/_channels", "", 404)
	e.call(admin, "GET", "/_log", "", 200)
	e.call(admin, "GET", "/_log?level=warn&q=x&after=1&limit=5", "", 200)
	e.call(admin, "GET", "/_log?level=loud", "", 400)
}
