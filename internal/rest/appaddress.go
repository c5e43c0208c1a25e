package rest

import (
	"context"
	"net/http"
	"strings"

	"github.com/tidegate/tidegate"
)

// This file is the address of a database under its app, /_app/{client_app_id}/{db} (device-sync.md §12.9). PouchDB's checkpoint ids
// contain the uuid that the root says; under the app the root says the epoch's id, so that each epoch has checkpoints of its own,
// one-sided ones included.

// AppDatabase finds the database that an app is bound to by the app's client_app_id. NotFound: there is no such app, or it has no database.
type AppDatabase func(ctx context.Context, clientAppID string) (string, error)

const appPrefix = "/_app/"

// pathOf is the undecoded path of a request, without the app before the database that it is bound to. A path under anything else stays as it
// is: it leads nowhere.
func (s *Server) pathOf(r *request) (string, error) {
	path := rawPath(r.Request)
	under, ok := strings.CutPrefix(path, appPrefix)
	if !ok {
		return path, nil
	}
	app, after, _ := strings.Cut(under, "/")
	keyspace, _, _ := strings.Cut(after, "/")
	if keyspace == "" {
		return path, nil // the root of the app
	}
	name, err := decodePath(keyspace)
	if err != nil {
		return "", err
	}
	name, _, _ = strings.Cut(name, ".")
	switch database, err := s.appDatabase(r, app); {
	case err != nil && tidegate.ErrorCode(err) != tidegate.NotFound:
		return "", err
	case err != nil || database != name:
		return path, nil
	}
	return "/" + after, nil
}

// appDatabase finds an app's database by the undecoded client_app_id.
func (s *Server) appDatabase(r *request, app string) (string, error) {
	id, err := decodePath(app)
	if err != nil {
		return "", err
	}
	if s.deps.AppDatabase == nil {
		return "", errUnknownURL
	}
	return s.deps.AppDatabase(r.Context(), id)
}

// handleAppRoot answers GET and HEAD /_app/{app}/ as the root does, with the epoch for the uuid.
func (s *Server) handleAppRoot(w http.ResponseWriter, r *request) error {
	name, err := s.appDatabase(r, r.vars.values[0])
	if err != nil {
		return err
	}
	running, err := s.gateway.Database(name)
	if err != nil {
		return err
	}
	return s.replyRoot(w, r, running.SyncEpoch())
}
