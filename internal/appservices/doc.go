// Package appservices is the administration API in the shape of MongoDB App Services' Admin API (device-sync.md §3–§7, §14.1):
// logins for a bearer token, groups, apps and their services, the service configuration with which device sync is paused,
// terminated and enabled, drafts and deployments, import and export, logs.
//
// An app is a view on one database of the gateway: what an app's sync configuration says is in the database's own row, which the
// gateway keeps; apps, drafts, deployments and login sessions are rows of space 0 (records.go). So a backup has all of it.
//
// A Server is an http.Handler for the base path /api/admin/v3.0. Routes are in routes.go; a request goes through server.go.
package appservices
