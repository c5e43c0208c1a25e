package config

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
)

// Secrets inside stored configs and definitions are sealed: encrypted with AES-256-GCM under a key of a Keyring. A sealed
// secret is the text
//
//	tidegate.sealed.v1.KEY.DATA
//
// where KEY is the id of the key and DATA nonce, ciphertext and tag in URL-safe base64. All its characters may stand in
// the user information of a URL, where it takes the place of the password, so that host and user stay readable.
const sealedPrefix = "tidegate.sealed.v1."

// keyBytes is the length of a key: AES-256.
const keyBytes = 32

// Keyring is the keys that secrets are encrypted with. The first one encrypts; all decrypt, so that a key can be replaced.
// A nil Keyring has no key: secrets are stored as they are. It is safe for concurrent use.
type Keyring struct{ keys []sealingKey }

type sealingKey struct {
	id   string // 8 hex digits
	aead cipher.AEAD
}

// NewKey returns a random key in the form that ParseKeys reads: 64 hex digits.
func NewKey() string {
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails
	return hex.EncodeToString(key)
}

// ParseKeys reads keys, one a line: 64 hex digits, or 32 bytes in base64. Empty lines and those that begin with "#" are
// left out. Invalid: a line is no key, or there is none. Errors do not hold what was read.
func ParseKeys(text []byte) (*Keyring, error) {
	k := &Keyring{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := hex.DecodeString(line)
		if err != nil {
			key, err = base64.StdEncoding.DecodeString(line)
		}
		if err != nil || len(key) != keyBytes {
			return nil, tidegate.Errorf(tidegate.Invalid, "line %d is no key: expected 64 hex digits, or 32 bytes in base64", n)
		}
		one, err := newSealingKey(key)
		if err != nil {
			return nil, err
		}
		k.keys = append(k.keys, one)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if len(k.keys) == 0 {
		return nil, tidegate.Errorf(tidegate.Invalid, "there is no key")
	}
	return k, nil
}

func newSealingKey(key []byte) (sealingKey, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealingKey{}, fmt.Errorf("make cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealingKey{}, fmt.Errorf("make cipher: %w", err)
	}
	sum := sha256.Sum256(append([]byte("tidegate key id "), key...))
	return sealingKey{hex.EncodeToString(sum[:4]), aead}, nil
}

// ID is the id of the key that encrypts; "" without one.
func (k *Keyring) ID() string {
	if k == nil {
		return ""
	}
	return k.keys[0].id
}

// Has reports whether what was encrypted with the key of the id can be read.
func (k *Keyring) Has(id string) bool {
	return k != nil && slices.ContainsFunc(k.keys, func(key sealingKey) bool { return key.id == id })
}

// seal encrypts a text; without a key it returns it as it is.
func (k *Keyring) seal(plain string) string {
	if k == nil || plain == "" {
		return plain
	}
	key := k.keys[0]
	head := sealedPrefix + key.id + "."
	nonce := make([]byte, key.aead.NonceSize())
	rand.Read(nonce) // never fails
	return head + base64.RawURLEncoding.EncodeToString(key.aead.Seal(nonce, nonce, []byte(plain), []byte(head)))
}

// open decrypts what seal made; a text that is not sealed is returned as it is.
func (k *Keyring) open(text string) (plain string, ok bool) {
	rest, sealed := strings.CutPrefix(text, sealedPrefix)
	if !sealed {
		return text, true
	}
	id, data, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(data)
	if err != nil || k == nil {
		return "", false
	}
	for _, key := range k.keys {
		if n := key.aead.NonceSize(); key.id == id && len(raw) > n {
			out, err := key.aead.Open(nil, raw[:n], raw[n:], []byte(sealedPrefix+id+"."))
			return string(out), err == nil
		}
	}
	return "", false
}

// Seal encrypts a secret of another package for the store; without a key it returns it as it is.
func (k *Keyring) Seal(plain string) string { return k.seal(plain) }

// Open decrypts what Seal made; a text that is not sealed is returned as it is. ok is false if no key decrypts it.
func (k *Keyring) Open(text string) (plain string, ok bool) { return k.open(text) }

// sealingKeyOf is the id of the key that a text was sealed with; "" if it is not sealed.
func sealingKeyOf(text string) string {
	rest, sealed := strings.CutPrefix(text, sealedPrefix)
	if !sealed {
		return ""
	}
	id, _, _ := strings.Cut(rest, ".")
	return id
}

// stored returns the form of a secret that is stored. One that could not be decrypted stays what it was.
func (s Secret) stored(k *Keyring) string {
	switch {
	case s.text == nil:
		return ""
	case s.locked:
		return *s.text
	default:
		return k.seal(*s.text)
	}
}

// openSecret reads what stored returned.
func openSecret(text string, k *Keyring) Secret {
	plain, ok := k.open(text)
	if !ok {
		return Secret{&text, true}
	}
	return NewSecret(plain)
}

// Locked reports whether the secret is one that was encrypted with a key that is not there. It cannot be used; it can be
// stored again as it is.
func (s Secret) Locked() bool { return s.locked }

// stored returns the form of a URL that is stored: the password in it is sealed, or all of it if it does not parse.
func (r RemoteURL) stored(k *Keyring) string {
	if r.url.locked || r.url.text == nil {
		return r.url.stored(k)
	}
	u, err := url.Parse(*r.url.text)
	if err != nil {
		return k.seal(*r.url.text)
	}
	if password, ok := u.User.Password(); !ok || password == "" {
		return *r.url.text
	}
	before, password, after, ok := cutPassword(*r.url.text)
	if !ok {
		return k.seal(*r.url.text)
	}
	return before + k.seal(password) + after
}

// cutPassword takes the password out of a URL, percent-encoded as it stands there, so that the rest stays letter by letter
// what was given.
func cutPassword(text string) (before, password, after string, ok bool) {
	_, rest, ok := strings.Cut(text, "//")
	if !ok {
		return "", "", "", false
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return "", "", "", false
	}
	_, password, ok = strings.Cut(authority[:at], ":")
	from := len(text) - len(rest) + at
	return text[:from-len(password)], password, text[from:], ok
}

// openRemote reads what stored returned.
func openRemote(text string, k *Keyring) RemoteURL {
	if strings.HasPrefix(text, sealedPrefix) {
		return RemoteURL{openSecret(text, k)}
	}
	before, sealed, after, ok := cutPassword(text)
	if !ok || !strings.HasPrefix(sealed, sealedPrefix) {
		return NewRemoteURL(text)
	}
	password, ok := k.open(sealed)
	if !ok {
		return RemoteURL{Secret{&text, true}}
	}
	return NewRemoteURL(before + password + after)
}

// Locked reports whether the URL has a password that was encrypted with a key that is not there.
func (r RemoteURL) Locked() bool { return r.url.locked }

// sealedWith is the id of the key that is missing to read the URL's password.
func (r RemoteURL) sealedWith() string {
	if !r.url.locked {
		return ""
	}
	if id := sealingKeyOf(*r.url.text); id != "" {
		return id
	}
	u, err := url.Parse(*r.url.text)
	if err != nil {
		return ""
	}
	password, _ := u.User.Password()
	return sealingKeyOf(password)
}
