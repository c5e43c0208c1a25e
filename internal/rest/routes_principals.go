package rest

// routesPrincipals are the rows of sessions, users and roles (gateway-rest.md §15, §16).
func (s *Server) routesPrincipals() []route {
	return []route{
		{"GET HEAD", "/{db}/_session", public, needOpen, 0, s.handleGetSession},
		{"POST", "/{db}/_session", public, needOpen, 0, s.handleLogin},
		{"DELETE", "/{db}/_session", public, needLogin, 0, s.handleLogout},

		{"POST", "/{db}/_session", admin, needDatabase, 0, s.handleCreateSession},
		{"GET", "/{db}/_session/{id}", admin, needDatabase, 0, s.handleShowSession},
		{"DELETE", "/{db}/_session/{id}", admin, needDatabase, 0, s.handleDeleteSession},
		{"DELETE", "/{db}/_user/{name}/_session", admin, needDatabase, 0, s.handleDeleteUserSessions},
		{"DELETE", "/{db}/_user/{name}/_session/{id}", admin, needDatabase, 0, s.handleDeleteUserSession},

		{"GET HEAD", "/{db}/_user/", admin, needDatabase, 0, s.handleListUsers},
		{"POST", "/{db}/_user/", admin, needDatabase, 0, s.handlePostUser},
		{"GET HEAD", "/{db}/_user/{name}", admin, needDatabase, 0, s.handleGetUser},
		{"PUT", "/{db}/_user/{name}", admin, needDatabase, 0, s.handlePutUser},
		{"DELETE", "/{db}/_user/{name}", admin, needDatabase, 0, s.handleDeleteUser},

		{"GET HEAD", "/{db}/_role/", admin, needDatabase, 0, s.handleListRoles},
		{"POST", "/{db}/_role/", admin, needDatabase, 0, s.handlePostRole},
		{"GET HEAD", "/{db}/_role/{name}", admin, needDatabase, 0, s.handleGetRole},
		{"PUT", "/{db}/_role/{name}", admin, needDatabase, 0, s.handlePutRole},
		{"DELETE", "/{db}/_role/{name}", admin, needDatabase, 0, s.handleDeleteRole},
	}
}
