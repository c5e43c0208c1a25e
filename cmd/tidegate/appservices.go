package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/appservices"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/rest"
)

// newAppServices makes the App Services Admin API of the admin listener.
func (g *gatewayServer) newAppServices(ctx context.Context, gw *gateway.Gateway, st *engine, api *rest.Server, keys *access.APIKeys, admins *access.AdminAccounts) (*appservices.Server, error) {
	secrets, err := g.secretKeys()
	if err != nil {
		return nil, err
	}
	return appservices.New(ctx, appservices.Options{
		Gateway: gw, Store: st.Store, Keys: keys, Admins: admins, Secrets: secrets, Guard: api.CheckOrigin, Journal: g.journal,
		RefreshTTL: g.startup.Settings().RefreshTokenExpiry, Logger: g.log,
	})
}

// withAppServices puts the App Services Admin API beside the gateway's; they share a listener.
func withAppServices(apps, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, appservices.BasePath+"/") {
			apps.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// signApps makes a request of the console one of whoever logged in there.
func signApps(r *http.Request, who *consoleIdentity) *http.Request {
	if who.key != nil {
		return appservices.AsUser(r, appservices.IdentityOfKey(*who.key))
	}
	id, err := appservices.IdentityOfAdmin(who.insider.Admin)
	if err != nil {
		return r // an administrator without a role there is asked for a token
	}
	return appservices.AsUser(r, id)
}
