package main

import (
	"context"
	"net/http"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/console"
	"github.com/tidegate/tidegate/internal/rest"
)

// newConsole makes the web console of the admin listener. apps is the Admin API of App Services; nil: there is none.
func (g *gatewayServer) newConsole(gateway, apps http.Handler, logins *consoleLogins) (*console.Console, error) {
	return console.New(console.Options{
		Gateway: gateway, AppServices: apps, Logins: logins, Logger: g.log, Version: productVersion(),
		LocalOnly: isLoopback(g.settings.AdminAddr),
	})
}

// withConsole puts the console beside the admin API; they share a listener.
func withConsole(c http.Handler, api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == console.Base || strings.HasPrefix(r.URL.Path, console.Base+"/") {
			c.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}

// consoleLogins checks who may use the console: administrators of the config file, and API keys.
type consoleLogins struct {
	admins *access.AdminAccounts
	keys   *access.APIKeys
	// signApps makes a request to the Admin API of App Services one of whoever logged in; nil: there is no such API.
	signApps func(r *http.Request, who *consoleIdentity) *http.Request
}

// Any implements console.Logins.
func (l *consoleLogins) Any(ctx context.Context) (bool, error) {
	if l.admins.Len() > 0 {
		return true, nil
	}
	keys, err := l.keys.List(ctx)
	return len(keys) > 0, err
}

// What somebody is told whose login is refused.
const (
	wrongLogin     = console.LoginError("The name or the secret is wrong.")
	throttledLogin = console.LoginError("Too many wrong logins from this address. Wait a minute.")
)

// Login implements console.Logins. A name is an administrator's if there is one of that name, else a public key.
func (l *consoleLogins) Login(ctx context.Context, name, secret, remoteAddr string) (console.Identity, error) {
	who := &consoleIdentity{logins: l}
	var err error
	if l.admins.Account(name) != nil {
		who.insider.Name = name
		who.insider.Admin, err = l.admins.Authenticate(ctx, name, secret, remoteAddr)
	} else {
		var key access.APIKey
		key, err = l.keys.Authenticate(ctx, name, secret, remoteAddr)
		who.key = &key
		who.insider = rest.Insider{Name: key.Name, ReadOnly: key.Role != access.RoleOwner}
	}
	switch tidegate.ErrorCode(err) {
	case tidegate.Unauthorized:
		return nil, wrongLogin
	case tidegate.TooMany:
		return nil, throttledLogin
	}
	if err != nil {
		return nil, err
	}
	return who, nil
}

// consoleIdentity is somebody who logged in to the console.
type consoleIdentity struct {
	logins  *consoleLogins
	insider rest.Insider
	key     *access.APIKey // nil: an administrator
}

// Name implements console.Identity.
func (i *consoleIdentity) Name() string { return i.insider.Name }

// ReadOnly implements console.Identity.
func (i *consoleIdentity) ReadOnly() bool { return i.insider.ReadOnly }

// Sign implements console.Identity.
func (i *consoleIdentity) Sign(r *http.Request) *http.Request {
	r = rest.AsInsider(r, i.insider)
	if i.logins.signApps != nil {
		r = i.logins.signApps(r, i)
	}
	return r
}

// Valid implements console.Identity. Administrators are those of the config file, which is read at start.
func (i *consoleIdentity) Valid(ctx context.Context) bool {
	if i.key == nil {
		return true
	}
	key, err := i.logins.keys.Get(ctx, i.key.ID)
	return err == nil && key.Role == i.key.Role
}
