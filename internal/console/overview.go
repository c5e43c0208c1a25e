package console

// overviewPages are the databases of the server.
func (c *Console) overviewPages() page {
	return page{
		routes: []route{{pattern: "GET /{$}", nav: "Databases", handler: c.showOverview}},
		nav:    []navEntry{{label: "Databases", icon: "databases", href: "/", section: navServer, order: 10}},
	}
}

func (c *Console) showOverview(rq *request) error {
	return rq.render("overview", "Databases", nil)
}
