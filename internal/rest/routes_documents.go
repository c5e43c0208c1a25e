package rest

// routesDocuments are the rows of the client API and of the admin's document tools (gateway-rest.md §8).
func (s *Server) routesDocuments() []route {
	return []route{
		{"POST", "/{ks}/", client, needLogin, hides | writes, s.handlePostDocument},
		{"GET HEAD", "/{ks}/{docid}", client, needLogin, hides | anyType, s.handleGetDocument},
		{"PUT", "/{ks}/{docid}", client, needLogin, hides | writes, s.handlePutDocument},
		{"DELETE", "/{ks}/{docid}", client, needLogin, hides | writes, s.handleDeleteDocument},
		{"GET HEAD", "/{ks}/{docid}/{attachment...}", client, needLogin, hides | anyType, s.handleGetAttachment},
		{"PUT", "/{ks}/{docid}/{attachment...}", client, needLogin, hides | writes, s.handlePutAttachment},
		{"DELETE", "/{ks}/{docid}/{attachment...}", client, needLogin, hides | writes, s.handleDeleteAttachment},

		{"GET HEAD", "/{ks}/_local/{docid}", client, needLogin, syncs, s.handleGetLocal},
		{"PUT", "/{ks}/_local/{docid}", client, needLogin, writes | syncs, s.handlePutLocal},
		{"DELETE", "/{ks}/_local/{docid}", client, needLogin, writes | syncs, s.handleDeleteLocal},
		{"GET HEAD", "/{ks}/_design/{ddoc}", client, needLogin, 0, s.handleGetDesign},
		{"PUT", "/{ks}/_design/{ddoc}", client, needLogin, writes, s.handlePutDesign},
		{"DELETE", "/{ks}/_design/{ddoc}", client, needLogin, writes, s.handleDeleteDesign},

		{"POST", "/{ks}/_bulk_docs", client, needLogin, hides | writes, s.handleBulkDocs},
		{"POST", "/{ks}/_bulk_get", client, needLogin, hides | anyType | syncs, s.handleBulkGet},
		{"POST", "/{ks}/_revs_diff", client, needLogin, syncs, s.handleRevsDiff},
		{"GET HEAD POST", "/{ks}/_all_docs", client, needLogin, hides, s.handleAllDocs},
		{"GET HEAD POST", "/{ks}/_changes", client, needLogin, anyType | syncs, s.handleChanges},

		{"POST", "/{ks}/_purge", admin, needDatabase, writes, s.handlePurge},
		{"GET", "/{ks}/_raw/{docid}", admin, needDatabase, 0, s.handleRaw},
		{"GET", "/{ks}/_explain", admin, needDatabase, 0, s.handleExplain},
		{"GET", "/{ks}/_channels", admin, needDatabase, 0, s.handleChannels},
		{"GET", "/{ks}/_revtree/{docid}", admin, needDatabase, anyType, s.handleRevTree},
		{"GET", "/{ks}/_dumpchannel/{channel}", admin, needDatabase, anyType, s.handleDumpChannel},
		{"POST", "/{db}/_repair", admin, needDatabase, 0, s.handleRepair},
		{"POST", "/{db}/_vacuum", admin, needDatabase, 0, s.handleVacuum},
	}
}
