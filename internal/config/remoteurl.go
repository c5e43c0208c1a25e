package config

import (
	"net/url"
	"strings"
)

// RemoteURL is the URL of a remote database. A password in it is a secret: it is masked wherever the URL is
// shown; only Reveal gives all of it. The zero RemoteURL is "none".
type RemoteURL struct{ url Secret }

func (r *RemoteURL) decodeNode(d *decoder, n *node, path string) {
	text, ok := d.str(n, path)
	switch {
	case !ok:
	case d.stored:
		*r = openRemote(text, d.keys)
	default:
		*r = NewRemoteURL(text)
	}
}

// NewRemoteURL wraps a URL; "" gives the zero RemoteURL.
func NewRemoteURL(text string) RemoteURL { return RemoteURL{NewSecret(text)} }

// Reveal returns the URL with its password; without it if that is Locked.
func (r RemoteURL) Reveal() string {
	if !r.url.locked {
		return r.url.Reveal()
	}
	u, err := url.Parse(*r.url.text)
	if err != nil || u.Host == "" {
		return ""
	}
	u.User = url.User(u.User.Username())
	return u.String()
}

// IsZero reports whether there is no URL.
func (r RemoteURL) IsZero() bool { return r.url.IsZero() }

// Masked returns the URL with mask in place of the password, if it has one. A URL that does not parse is all
// mask: nobody knows what is in it.
func (r RemoteURL) Masked(mask string) string {
	if r.IsZero() {
		return ""
	}
	text := *r.url.text
	u, err := url.Parse(text)
	if err != nil || r.url.locked && u.Host == "" {
		return mask
	}
	if password, ok := u.User.Password(); !ok || password == "" {
		return text
	}
	u.User = url.UserPassword(u.User.Username(), Mask)
	return strings.Replace(u.String(), ":"+Mask+"@", ":"+mask+"@", 1)
}

// String masks the password.
func (r RemoteURL) String() string { return r.Masked(Mask) }

// MarshalText masks the password.
func (r RemoteURL) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
