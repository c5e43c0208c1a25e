package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tidegate/tidegate/internal/config"
)

// The flag wins over the config file, that over the environment, and that over the key of the data directory, which is
// made once and only its owner can read.
func TestSecretKeys(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) (path, id string) {
		t.Helper()
		path = filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(config.NewKey()), 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := readKeys(path)
		if err != nil {
			t.Fatal(err)
		}
		return path, keys.ID()
	}
	flag, flagID := file("flag")
	_, configID := file("config")
	inEnv, envID := file("env")
	text, err := os.ReadFile(inEnv)
	if err != nil {
		t.Fatal(err)
	}
	unset := func(string) (string, bool) { return "", false }
	set := func(name string) (string, bool) { return string(text), name == secretsKeyEnv }
	g := &gatewayServer{serveFlags: serveFlags{data: dir, config: filepath.Join(dir, "tidegate.json")}, getenv: unset, startup: &config.Startup{}}
	id := func() string {
		t.Helper()
		keys, err := g.secretKeys()
		if err != nil {
			t.Fatal(err)
		}
		return keys.ID()
	}
	own := id()
	if own == "" || own != id() {
		t.Error("the key of the data directory changes")
	}
	info, err := os.Stat(filepath.Join(dir, secretsKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	g.getenv = set
	if got := id(); got != envID {
		t.Errorf("environment: %s, want %s", got, envID)
	}
	g.startup.SecretsKeyFile = "config"
	if got := id(); got != configID {
		t.Errorf("config: %s, want %s", got, configID)
	}
	g.secretsKey = flag
	if got := id(); got != flagID {
		t.Errorf("flag: %s, want %s", got, flagID)
	}
	// A wrong key is an error: another one would lock what is stored.
	g.secretsKey = filepath.Join(dir, "none")
	if _, err := g.secretKeys(); err == nil {
		t.Error("a file that is not there")
	}
	g.secretsKey, g.startup.SecretsKeyFile = "", ""
	g.getenv = func(string) (string, bool) { return "short", true }
	if _, err := g.secretKeys(); err == nil {
		t.Error("a key that is none")
	}
	g.getenv = unset
	if err := os.WriteFile(filepath.Join(dir, secretsKeyFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := g.secretKeys(); err == nil {
		t.Error("an empty file is not replaced")
	}
}
