package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tidegate/tidegate/internal/config"
)

// secretsKeyEnv holds the keys that stored passwords are encrypted with, unless a file does.
const secretsKeyEnv = "TIDEGATE_SECRETS_KEY"

// secretsKeyFile is the key in the data directory that is made when none is given.
const secretsKeyFile = "secrets.key"

// maxKeyFile bounds a file of keys.
const maxKeyFile = 64 << 10

// secretKeys returns the keys that passwords in the store are encrypted with: those of the file that the flag or else the
// config names, or else of the environment, or else one of the data directory, made at the first start.
func (g *gatewayServer) secretKeys() (*config.Keyring, error) {
	path := g.secretsKey
	if path == "" {
		path = g.startup.SecretsKeyFile
		if path != "" && !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(g.config), path)
		}
	}
	if path != "" {
		return readKeys(path)
	}
	if text, ok := g.getenv(secretsKeyEnv); ok && text != "" {
		keys, err := config.ParseKeys([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", secretsKeyEnv, err)
		}
		return keys, nil
	}
	return ownKey(g.data)
}

func readKeys(path string) (*config.Keyring, error) {
	text, err := readLimited(path, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read keys for stored passwords: %w", err)
	}
	keys, err := config.ParseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("read keys for stored passwords from %s: %w", path, err)
	}
	return keys, nil
}

// ownKey reads the key in the data directory, and makes it if there is none. Only its owner can read it.
func ownKey(dir string) (*config.Keyring, error) {
	path := filepath.Join(dir, secretsKeyFile)
	keys, err := readKeys(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	if err := writeKey(dir, path); err != nil {
		return nil, fmt.Errorf("make key for stored passwords: %w", err)
	}
	return readKeys(path)
}

// writeKey writes a new key so that it is either there, whole and durable, or not: passwords that were encrypted with a key
// that a crash took away would be lost.
func writeKey(dir, path string) error {
	f, err := os.CreateTemp(dir, secretsKeyFile+"-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // is not there any more when all went well
	_, err = f.WriteString(config.NewKey() + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
