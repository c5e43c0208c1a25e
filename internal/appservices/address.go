package appservices

import (
	"context"

	"github.com/tidegate/tidegate"
)

// DatabaseOf returns the name of the database that an app is bound to, by the app's client_app_id, which devices may have in their address.
// NotFound: there is no such app, or it has no database.
func (s *Server) DatabaseOf(ctx context.Context, clientAppID string) (string, error) {
	notThere := tidegate.Errorf(tidegate.NotFound, "no app %q", printable(clientAppID))
	if id, ok := s.addresses.Load(clientAppID); ok {
		a, err := readRow[app](ctx, s.opts.Store, rowKey(rowApp, id.(string)))
		if err != nil {
			return "", err
		}
		if a != nil && s.running(a) != nil {
			return a.Database, nil
		}
	}
	all, err := s.apps(ctx)
	if err != nil {
		return "", err
	}
	for _, a := range all {
		if a.ClientAppID == clientAppID && s.running(a) != nil {
			s.addresses.Store(clientAppID, a.ID)
			return a.Database, nil
		}
	}
	return "", notThere
}
