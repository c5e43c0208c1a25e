package gatewaycluster

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
)

// secret is a password. It does not show in logs or messages.
type secret string

func (secret) String() string                 { return "****" }
func (secret) GoString() string               { return "****" }
func (secret) LogValue() slog.Value           { return slog.StringValue("****") }
func (s secret) MarshalText() ([]byte, error) { return []byte("****"), nil }

// address is what a URI says.
type address struct {
	scheme   string // http or https
	hosts    []string
	user     string
	password secret
}

// defaultPort is the admin listener's.
const defaultPort = "4985"

// maxHosts bounds the gateways of one URI.
const maxHosts = 50

var errBadURI = errors.New("the URI of a tidegate cluster is not well-formed (a password with characters such as @ / : % must be percent-encoded)")

// parseURI reads a URI. Errors do not quote it: it may hold a password.
func parseURI(uri string) (address, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return address{}, errBadURI // what the parser says may quote the password
	}
	a := address{}
	switch u.Scheme {
	case "tidegate":
		a.scheme = "http"
	case "tidegates":
		a.scheme = "https"
	default:
		return a, fmt.Errorf("the URI of a tidegate cluster begins with tidegate:// or tidegates://")
	}
	if u.User != nil {
		password, _ := u.User.Password()
		a.user, a.password = u.User.Username(), secret(password)
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return a, fmt.Errorf("the URI of a tidegate cluster has user, password, host and port, and nothing else")
	}
	for host := range strings.SplitSeq(u.Host, ",") {
		if host == "" {
			return a, fmt.Errorf("the URI of a tidegate cluster names no host")
		}
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), defaultPort)
		}
		a.hosts = append(a.hosts, strings.ToLower(host))
	}
	if len(a.hosts) > maxHosts {
		return a, fmt.Errorf("the URI of a tidegate cluster names more than %d hosts", maxHosts)
	}
	return a, nil
}

// sorted are the hosts in order.
func (a address) sorted() []string { return slices.Sorted(slices.Values(a.hosts)) }
