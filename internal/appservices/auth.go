package appservices

import (
	"context"
	"net/http"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
)

// The ways to log in.
const (
	providerCloud    = "mongodb-cloud"  // with an API key
	providerPassword = "local-userpass" // with an administrator account of the config file
	deviceKind       = "device"         // of derived ids
	administrator    = "administrator"  // of derived ids
	cookieName       = "tidegate_admin_refresh"
	cookiePath       = BasePath + "/auth"
)

// Identity is who asks.
type Identity struct {
	UserID   string // 24 hex digits
	Name     string // of the API key or the administrator
	Provider string // how they logged in
	Role     string // access.RoleOwner or access.RoleReadOnly
	DeviceID string // 24 hex digits, the same at each login
}

// by is how the identity is recorded as the cause of a change.
func (i Identity) by() string { return "user:" + i.UserID }

// IdentityOfKey is who logs in with an API key.
func IdentityOfKey(k access.APIKey) Identity {
	return Identity{k.ID, k.Name, providerCloud, k.Role, k.DeviceID}
}

// IdentityOfAdmin is who logs in as an administrator of the config file. Who may read the whole server may read here, who may write it may write; others
// may not log in: an app is not one database's alone.
func IdentityOfAdmin(a *access.Admin) (Identity, error) {
	who := Identity{derivedID(administrator, a.Name()), a.Name(), providerPassword, access.RoleReadOnly, derivedID(deviceKind, a.Name())}
	switch {
	case a.MayWriteServer():
		who.Role = access.RoleOwner
	case !a.MayReadServer():
		return who, fail(http.StatusForbidden, codeUnauthorized, "the administrator's role does not allow this")
	}
	return who, nil
}

// LoginKey checks a pair of API keys. The error is one of this API when they are wrong.
func (s *Server) LoginKey(ctx context.Context, public, private, remoteAddr string) (Identity, error) {
	key, err := s.opts.Keys.Authenticate(ctx, public, private, remoteAddr)
	if err != nil {
		return Identity{}, loginError(err)
	}
	return IdentityOfKey(key), nil
}

// LoginPassword checks the name and password of an administrator of the config file, as LoginKey.
func (s *Server) LoginPassword(ctx context.Context, name, password, remoteAddr string) (Identity, error) {
	if s.opts.Admins == nil {
		return Identity{}, errLogin
	}
	admin, err := s.opts.Admins.Authenticate(ctx, name, password, remoteAddr)
	if err != nil {
		return Identity{}, loginError(err)
	}
	return IdentityOfAdmin(admin)
}

// MayLogin reports whether there is anybody who could log in: an API key or an administrator.
func (s *Server) MayLogin(ctx context.Context) (bool, error) {
	if s.opts.Admins != nil && s.opts.Admins.Len() > 0 {
		return true, nil
	}
	keys, err := s.opts.Keys.List(ctx)
	return len(keys) > 0, err
}

func loginError(err error) error {
	switch tidegate.ErrorCode(err) {
	case tidegate.Unauthorized:
		return errLogin
	case tidegate.TooMany:
		return fail(http.StatusTooManyRequests, codeAuthError, "%s", tidegate.ErrorReason(err))
	}
	return err
}

// Lookup returns the identity of a user as it is now; ok is false if the user is gone.
func (s *Server) Lookup(ctx context.Context, provider, userID, name string) (who Identity, ok bool, err error) {
	switch provider {
	case providerCloud:
		key, err := s.opts.Keys.Get(ctx, userID)
		if tidegate.ErrorCode(err) == tidegate.NotFound && err != nil {
			return who, false, nil
		}
		return IdentityOfKey(key), err == nil, err
	case providerPassword:
		if s.opts.Admins == nil {
			return who, false, nil
		}
		admin := s.opts.Admins.Account(name)
		if admin == nil {
			return who, false, nil
		}
		who, err := IdentityOfAdmin(admin)
		return who, err == nil, nil
	}
	return who, false, nil
}

// authenticate finds out who the bearer of an access token is. Any fault is InvalidSession: clients then fetch a new access token.
func (c *call) authenticate() error {
	token, ok := bearer(c.Request)
	if !ok {
		return errNoSession
	}
	cl, ok := c.s.signer.verify(token, c.s.now())
	switch {
	case !ok:
		return errNoSession
	case cl.Type != typAccess:
		return errAccessType
	}
	_, who, err := c.s.findSession(c.Context(), cl)
	c.who = who
	return err
}

// bearer returns the token of the Authorization header.
func bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

func (c *call) handleProviders() error {
	type provider struct {
		ID       string `json:"_id"`
		Name     string `json:"name"`
		Type     string `json:"type"`
		Disabled bool   `json:"disabled"`
	}
	admins := c.s.opts.Admins
	return c.reply(http.StatusOK, []provider{
		{derivedID("provider", providerCloud), providerCloud, providerCloud, false},
		{derivedID("provider", providerPassword), providerPassword, providerPassword, admins == nil || admins.Len() == 0},
	})
}

func (c *call) handleLogin() error {
	var body struct {
		Username string  `json:"username"`
		APIKey   *string `json:"apiKey"`
		APIKey2  *string `json:"api_key"`
		Password *string `json:"password"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.Username == "" {
		return missing("username")
	}
	var who Identity
	var err error
	switch c.vars["provider"] {
	case providerCloud:
		if body.APIKey == nil {
			body.APIKey = body.APIKey2
		}
		if body.APIKey == nil || *body.APIKey == "" {
			return missing("apiKey")
		}
		who, err = c.s.LoginKey(c.Context(), body.Username, *body.APIKey, c.RemoteAddr)
	case providerPassword:
		if body.Password == nil || *body.Password == "" {
			return missing("password")
		}
		who, err = c.s.LoginPassword(c.Context(), body.Username, *body.Password, c.RemoteAddr)
	default:
		return fail(http.StatusNotFound, codeBadRequest, "there is no such authentication provider")
	}
	if err != nil {
		c.s.log.Warn("a login to the App Services API failed", "provider", c.vars["provider"], "error", err)
		return err
	}
	c.who = who
	return c.login()
}

// login makes a session and answers with its tokens.
func (c *call) login() error {
	sess, err := c.s.newSession(c.Context(), c.who)
	if err != nil {
		return err
	}
	accessToken, err := c.s.accessToken(sess, c.who)
	if err != nil {
		return err
	}
	refresh, err := c.s.refreshToken(sess, c.who)
	if err != nil {
		return err
	}
	answer := map[string]string{"access_token": accessToken, "user_id": c.who.UserID, "device_id": c.who.DeviceID}
	if c.URL.Query().Get("cookie") == "true" {
		c.setCookie(refresh, int(c.s.opts.RefreshTTL.Seconds()))
	} else {
		answer["refresh_token"] = refresh
	}
	c.s.log.Info("login to the App Services API", "provider", c.who.Provider, "user", c.who.Name)
	return c.reply(http.StatusOK, answer)
}

// setCookie gives a browser its refresh token where scripts cannot read it; with a negative age it takes it back.
func (c *call) setCookie(token string, maxAge int) {
	http.SetCookie(c.w, &http.Cookie{
		Name: cookieName, Value: token, Path: cookiePath, MaxAge: maxAge, HttpOnly: true, Secure: c.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
}

// refreshing returns the session whose refresh token the request carries, as bearer or in the cookie.
func (c *call) refreshing() (*session, error) {
	token, ok := bearer(c.Request)
	if !ok {
		cookie, err := c.Cookie(cookieName)
		if err != nil {
			return nil, errNoToken
		}
		token = cookie.Value
	}
	cl, ok := c.s.signer.verify(token, c.s.now())
	switch {
	case !ok:
		return nil, errNoSession
	case cl.Type != typRefresh:
		return nil, errTokenType
	}
	sess, who, err := c.s.findSession(c.Context(), cl)
	c.who = who
	return sess, err
}

func (c *call) handleRefresh() error {
	sess, err := c.refreshing()
	if err != nil {
		return err
	}
	token, err := c.s.accessToken(sess, c.who)
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, map[string]string{"access_token": token})
}

func (c *call) handleLogout() error {
	sess, err := c.refreshing()
	if err != nil {
		return err
	}
	if err := c.s.store(c.Context(), write{rowKey(rowSession, sess.ID), nil}); err != nil {
		return err
	}
	c.setCookie("", -1)
	return c.noContent()
}

func (c *call) handleProfile() error {
	type identity struct {
		ID           string `json:"id"`
		ProviderType string `json:"provider_type"`
		ProviderID   string `json:"provider_id"`
	}
	type role struct {
		Name    string `json:"role_name"`
		GroupID string `json:"group_id"`
	}
	return c.reply(http.StatusOK, struct {
		UserID     string            `json:"user_id"`
		DomainID   string            `json:"domain_id"`
		Identities []identity        `json:"identities"`
		Data       map[string]string `json:"data"`
		Type       string            `json:"type"`
		Roles      []role            `json:"roles"`
	}{
		c.who.UserID, c.s.server.DomainID, []identity{{c.who.UserID, c.who.Provider, derivedID("provider", c.who.Provider)}},
		map[string]string{"email": "", "name": c.who.Name}, "normal", []role{{c.who.Role, c.s.server.GroupID}},
	})
}
