package config

import (
	"strings"
	"testing"
)

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestExpansion(t *testing.T) {
	getenv := env("A", "alpha", "EMPTY", "", "N", "7", "T", "true", "QUOTE", `"`)
	for _, tc := range []struct{ in, want, err string }{
		{in: "plain", want: "plain"},
		{in: "$A", want: "alpha"},
		{in: "${A}", want: "alpha"},
		{in: "x${A}y$A-$A", want: "xalphayalpha-alpha"},
		{in: "$$A", want: "$A"},
		{in: "$$$A", want: "$alpha"},
		{in: "a$$", want: "a$"},
		{in: "${B:-beta}", want: "beta"},
		{in: "${B:-}", want: ""},
		{in: "${A:-beta}", want: "alpha"},
		{in: "${EMPTY:-beta}", want: "beta"},
		{in: "$EMPTY", want: ""},
		{in: "${B:-a:b-c$d}", want: "a:b-c$d"},
		{in: "$QUOTE", want: `"`},
		{in: "$B", err: "the environment variable B is not set and has no default"},
		{in: "${B}", err: "the environment variable B is not set and has no default"},
		{in: "cost: 5$", err: "write '$$' for a dollar"},
		{in: "$5", err: "write '$$' for a dollar"},
		{in: "${A", err: "write '$$' for a dollar"},
		{in: "${}", err: "write '$$' for a dollar"},
		{in: "${A B}", err: "write '$$' for a dollar"},
	} {
		got, err := newExpander(getenv)(tc.in)
		switch {
		case tc.err == "" && (err != nil || got != tc.want):
			t.Errorf("%q: got %q, %v; want %q", tc.in, got, err, tc.want)
		case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
			t.Errorf("%q: got %q, %v; want the error %q", tc.in, got, err, tc.err)
		}
	}
}

func TestUnquotedVariables(t *testing.T) {
	getenv := env("N", "7", "T", "true", "S", "text", "J", `{"a":1}`, "SPACE", " 9 ")
	for _, tc := range []struct{ src, err string }{
		{src: `{"databases":{"db":{"revs_limit":$N,"allow_conflicts":${T}}}}`},
		{src: `{"databases":{"db":{"revs_limit":${X:-3}}}}`},
		{src: `{"databases":{"db":{"revs_limit":$SPACE}}}`},
		{src: `{"databases":{"db":{"revs_limit":$S}}}`, err: "not a number or boolean"},
		{src: `{"databases":{"db":{"cors":$J}}}`, err: "not a number or boolean"},
		{src: `{"databases":{"db":{"revs_limit":$X}}}`, err: "X is not set"},
		{src: `{"databases":{"db":{"revs_limit":$}}}`, err: "expected the name of an environment variable"},
	} {
		_, _, err := ParseStartup([]byte(tc.src), getenv)
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: got %v, want %q", tc.src, err, tc.err)
		}
	}
}

// A REST body must not read the server's environment.
func TestNoExpansionOverREST(t *testing.T) {
	cfg, err := ParseDatabase([]byte(`{"session_cookie_name":"$HOME"}`))
	if err != nil || cfg.SessionCookieName != "$HOME" {
		t.Fatalf("got %q, %v", cfg.SessionCookieName, err)
	}
	if _, err := ParseDatabase([]byte(`{"revs_limit":$N}`)); err == nil {
		t.Fatal("an unquoted variable was accepted over REST")
	}
}

func TestExpansionOfDatabasesCanBeSwitchedOff(t *testing.T) {
	src := `{"databases":{"db":{"session_cookie_name":"$A"}},"unsupported":{"allow_dbconfig_env_vars":false},"api":{"compat_version_string":"$A"}}`
	s, dbs, err := ParseStartup([]byte(src), env("A", "alpha"))
	if err != nil {
		t.Fatal(err)
	}
	if dbs["db"].SessionCookieName != "$A" || s.API.CompatVersionString != "alpha" {
		t.Fatalf("got %q and %q", dbs["db"].SessionCookieName, s.API.CompatVersionString)
	}
}
