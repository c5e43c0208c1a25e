package rest

// routesAdmin are the rows of server and database administration (gateway-rest.md §8).
func (s *Server) routesAdmin() []route {
	rows := []route{
		{"GET HEAD", "/_ping", public | admin | metrics, needNothing, anyType, s.handlePing},
		{"GET HEAD", "/", client, needOpen, 0, s.handleRoot},
		{"GET HEAD", "/_app/{app}", client, needOpen, 0, s.handleAppRoot},
		{"GET HEAD", "/_all_dbs", admin, needServerRead, 0, s.handleAllDBs},
		{"GET", "/_backup", admin, needServerWrite, 0, s.handleBackup},
		{"GET", "/_status", admin, needServerRead, 0, s.handleStatus},

		{"GET HEAD", "/{db}/", client, needLogin, anyState, s.handleGetDatabase},
		{"PUT", "/{db}/", admin, needServerWrite, anyState | creates, s.handleCreateDatabase},
		{"PUT", "/{db}/", public, needOpen, anyState | creates, s.handlePublicCreate},
		{"DELETE", "/{db}/", admin, needServerWrite, anyState, s.handleDeleteDatabase},
		{"POST", "/{db}/_ensure_full_commit", client, needLogin, syncs, s.handleEnsureFullCommit},
		{"GET POST", "/{db}/_index_init", admin, needDatabase, anyState, s.handleIndexInit},
		{"POST", "/{db}/_flush", admin, needDatabase, anyState, s.handleFlush},
		{"GET POST", "/{db}/_compact", admin, needDatabase, 0, s.handleCompact},
		{"POST", "/{db}/_offline", admin, needDatabase, anyState, s.handleOffline},
		{"POST", "/{db}/_online", admin, needDatabase, anyState, s.handleOnline},

		{"GET", "/{db}/_config", admin, needDatabase, anyState, s.handleGetConfig},
		{"PUT POST", "/{db}/_config", admin, needDatabase, anyState, s.handleChangeConfig},
	}
	for _, script := range []string{"sync", "import_filter"} {
		path := "/{ks}/_config/" + script
		rows = append(rows,
			route{"GET", path, admin, needDatabase, anyState | anyType, s.scriptHandler(script, s.getScript)},
			route{"PUT", path, admin, needDatabase, anyState | anyType, s.scriptHandler(script, s.putScript)},
			route{"DELETE", path, admin, needDatabase, anyState | anyType, s.scriptHandler(script, s.deleteScript)},
		)
	}
	return append(rows, s.routesDiagnostics()...)
}
