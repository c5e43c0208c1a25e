package mongocluster

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// parsedURI is a connection string that keeps its secrets to itself.
type parsedURI struct {
	uri     string
	name    string   // "host:port" of the first host
	secrets []string // what must not be shown
}

// String hides what is not the name.
func (p parsedURI) String() string   { return p.name }
func (p parsedURI) GoString() string { return p.name }

// CheckURI tells what is wrong with a connection string (spec §2.1), in words that hold no secret of it.
func CheckURI(uri string) error {
	_, err := parseURI(uri)
	return err
}

func parseURI(uri string) (parsedURI, error) {
	p := parsedURI{uri: uri, name: firstHost(uri), secrets: secretsOf(uri)}
	if !strings.HasPrefix(uri, "mongodb://") && !strings.HasPrefix(uri, "mongodb+srv://") {
		return p, errors.New("read URI: it begins with neither mongodb:// nor mongodb+srv://")
	}
	settings := settingsOf(uri)
	if level, ok := settings["readconcernlevel"]; ok && level != "majority" {
		return p, invalidOption("read concern must be majority")
	}
	if w, ok := settings["w"]; ok && w != "majority" {
		return p, invalidOption("write concern must be majority")
	}
	if pref, ok := settings["readpreference"]; ok && pref != "primary" {
		return p, invalidOption("read preference must be primary")
	}
	if _, ok := settings["sockettimeoutms"]; ok {
		return p, invalidOption("socketTimeoutMS is not allowed")
	}
	if strings.HasPrefix(uri, "mongodb+srv://") {
		return p, nil // it is looked up in the DNS when the client is made
	}
	if err := options.Client().ApplyURI(uri).Validate(); err != nil {
		if text := err.Error(); !strings.Contains(text, "password") && !strings.Contains(text, "username") {
			return p, fmt.Errorf("read URI: %s", p.redact(text))
		}
		// The parser quotes the part of a password that it stumbles over.
		return p, errors.New("read URI: the user's name or password must be percent-encoded (characters such as @ / : %)")
	}
	return p, nil
}

// invalidOption says in the words of the original what is wrong with an option.
func invalidOption(what string) error { return errors.New("Invalid URI option, " + what) }

// redact takes the secrets of the URI out of a text.
func (p parsedURI) redact(text string) string {
	for _, secret := range p.secrets {
		text = strings.ReplaceAll(text, secret, "…")
	}
	return text
}

// authority splits a connection string without the help of net/url, which refuses several hosts.
func authority(uri string) (user, hosts, rest string) {
	_, after, _ := strings.Cut(uri, "://")
	hosts, rest = after, ""
	if i := strings.IndexAny(after, "/?"); i >= 0 && !strings.Contains(after[i:], "@") {
		hosts, rest = after[:i], after[i:]
	}
	// A password with a slash that is not escaped is wrong, and secret all the same: the last @ ends it.
	if i := strings.LastIndex(hosts, "@"); i >= 0 {
		user, hosts = hosts[:i], hosts[i+1:]
	}
	if i := strings.IndexAny(hosts, "/?"); i >= 0 {
		hosts, rest = hosts[:i], hosts[i:]
	}
	return user, hosts, rest
}

func firstHost(uri string) string {
	_, hosts, _ := authority(uri)
	host, _, _ := strings.Cut(hosts, ",")
	switch {
	case host == "":
		return "unknown"
	case strings.HasPrefix(uri, "mongodb+srv://"), strings.HasSuffix(host, ".sock"):
		return host
	case strings.LastIndex(host, ":") <= strings.LastIndex(host, "]"):
		return host + ":27017"
	}
	return host
}

// secretsOf returns the passwords in a connection string, escaped and not: of the user, of a key file, of a proxy.
func secretsOf(uri string) []string {
	user, _, rest := authority(uri)
	var found []string
	add := func(s string) {
		if s == "" {
			return
		}
		found = append(found, s)
		if plain, err := url.QueryUnescape(s); err == nil && plain != s && plain != "" {
			found = append(found, plain)
		}
		if plain, err := url.PathUnescape(s); err == nil && plain != s && plain != "" {
			found = append(found, plain)
		}
	}
	if user != "" {
		add(user)
		_, password, _ := strings.Cut(user, ":")
		add(password)
	}
	_, query, _ := strings.Cut(rest, "?")
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		switch strings.ToLower(name) {
		case "tlscertificatekeyfilepassword", "sslclientcertificatekeypassword", "proxypassword", "authmechanismproperties":
			add(value)
		}
	}
	return found
}

// settingsOf returns the options of a connection string, names in lower case.
func settingsOf(uri string) map[string]string {
	_, _, rest := authority(uri)
	_, query, _ := strings.Cut(rest, "?")
	settings := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, ok := strings.Cut(pair, "=")
		if ok {
			settings[strings.ToLower(name)] = value
		}
	}
	return settings
}
