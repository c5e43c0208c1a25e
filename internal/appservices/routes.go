package appservices

import "strings"

const appPath = "/groups/{group}/apps/{app}"

// routes is the whole table. What is not in it does not exist: hosting, functions, triggers, GraphQL and the Data API among it.
func (s *Server) routes() []row {
	rows := []row{
		{"GET", "/auth/providers", nobody, (*call).handleProviders},
		{"POST", "/auth/providers/{provider}/login", nobody, (*call).handleLogin},
		{"POST", "/auth/session", nobody, (*call).handleRefresh},
		{"DELETE", "/auth/session", nobody, (*call).handleLogout},
		{"GET", "/auth/profile", somebody, (*call).handleProfile},

		{"GET", "/groups/{group}/apps", somebody, (*call).handleListApps},
		{"POST", "/groups/{group}/apps", somebody, (*call).handleCreateApp},
		{"GET", appPath, somebody, (*call).handleGetApp},
		{"DELETE", appPath, somebody, (*call).handleDeleteApp},
		{"GET", appPath + "/description", somebody, (*call).handleDescription},
		{"GET", appPath + "/logs", somebody, (*call).handleLogs},
		{"GET", appPath + "/event_subscriptions", somebody, (*call).handleEventSubscriptions},

		{"GET", appPath + "/services", somebody, (*call).handleListServices},
		{"POST", appPath + "/services", somebody, (*call).handleCreateService},
		{"GET", appPath + "/services/{service}", somebody, (*call).handleGetService},
		{"PATCH", appPath + "/services/{service}", somebody, (*call).handlePatchService},
		{"DELETE", appPath + "/services/{service}", somebody, (*call).handleDeleteService},
	}
	for _, word := range []string{"services", "service"} { // the original's reference has it under both
		path := appPath + "/" + word + "/{service}/config"
		rows = append(rows, row{"GET", path, somebody, (*call).handleGetConfig}, row{"PATCH", path, somebody, (*call).handlePatchConfig})
	}
	return append(append(rows, syncRoutes()...), deployRoutes()...)
}

// syncRoutes are the endpoints about sync.
func syncRoutes() []row {
	const path = appPath + "/sync"
	return []row{
		{"GET", path + "/config", somebody, (*call).handleGetSyncConfig},
		{"PUT", path + "/config", somebody, (*call).handlePutSyncConfig},
		{"GET", path + "/data", somebody, (*call).handleSyncData},
		{"GET", path + "/progress", somebody, (*call).handleSyncProgress},
		{"GET", path + "/state", somebody, (*call).handleSyncState},
		{"GET", path + "/client_schemas/{language}", somebody, (*call).handleClientSchemas},
		{"PATCH", path + "/schemas", somebody, (*call).handlePartitionKey},
		{"GET", path + "/schemas/versions", somebody, (*call).handleSchemaVersions},
		{"PUT", path + "/force_reset", somebody, (*call).handleForceReset},
		{"GET", path + "/migration", somebody, (*call).handleGetMigration},
		{"PUT", path + "/migration", somebody, (*call).handlePutMigration},

		{"GET", path + "/lifecycle", somebody, (*call).handleLifecycle},
		{"GET", path + "/clients", somebody, (*call).handleClients},
		{"GET", path + "/sessions", somebody, (*call).handleSessions},
		{"POST", path + "/reset_all", somebody, (*call).handleResetAll},
		{"POST", path + "/trim", somebody, (*call).handleTrim},
		{"GET", path + "/quarantine", somebody, (*call).handleQuarantine},
		{"GET", path + "/quarantine/{id}", somebody, (*call).handleQuarantined},
		{"POST", path + "/quarantine/{id}/restore", somebody, (*call).handleRestoreQuarantined},
		{"DELETE", path + "/quarantine/{id}", somebody, (*call).handleDropQuarantined},
	}
}

// deployRoutes are the endpoints of drafts, deployments, schemas, imports and exports.
func deployRoutes() []row {
	return []row{
		{"GET", appPath + "/drafts", somebody, (*call).handleListDrafts},
		{"POST", appPath + "/drafts", somebody, (*call).handleCreateDraft},
		{"GET", appPath + "/drafts/{draft}", somebody, (*call).handleGetDraft},
		{"DELETE", appPath + "/drafts/{draft}", somebody, (*call).handleDeleteDraft},
		{"GET", appPath + "/drafts/{draft}/diff", somebody, (*call).handleDraftDiff},
		{"POST", appPath + "/drafts/{draft}/deployment", somebody, (*call).handleDeployDraft},

		{"GET", appPath + "/deployments", somebody, (*call).handleListDeployments},
		{"GET", appPath + "/deployments/{deployment}", somebody, (*call).handleGetDeployment},
		{"POST", appPath + "/deployments/{deployment}/redeploy", somebody, (*call).handleRedeploy},
		{"GET", appPath + "/deploy/config", somebody, (*call).handleGetDeployConfig},
		{"PATCH", appPath + "/deploy/config", somebody, (*call).handleSetDeployConfig},
		{"PUT", appPath + "/deploy/config", somebody, (*call).handleSetDeployConfig},

		{"GET", appPath + "/schemas", somebody, (*call).handleListSchemas},
		{"POST", appPath + "/schemas", somebody, (*call).handleCreateSchema},
		{"GET", appPath + "/schemas/{schema}", somebody, (*call).handleGetSchema},
		{"PUT", appPath + "/schemas/{schema}", somebody, (*call).handlePutSchema},
		{"DELETE", appPath + "/schemas/{schema}", somebody, (*call).handleDeleteSchema},

		{"GET", appPath + "/export", somebody, (*call).handleExport},
		{"POST", appPath + "/import", somebody, (*call).handleImport},
		{"GET", appPath + "/pull", somebody, (*call).handlePull},
		{"PATCH", appPath + "/push", somebody, (*call).handlePush},
	}
}

// Endpoint is an endpoint of this API: a method and a path below BasePath with variables in braces.
type Endpoint struct{ Method, Path string }

// Endpoints lists all endpoints.
func (s *Server) Endpoints() []Endpoint {
	var all []Endpoint
	for _, r := range s.routes() {
		all = append(all, Endpoint{r.method, strings.TrimSuffix(r.pattern, "/")})
	}
	return all
}
