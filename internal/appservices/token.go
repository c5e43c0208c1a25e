package appservices

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/store"
)

// Kinds of tokens.
const (
	typAccess  = "access"
	typRefresh = "refresh"
)

// claims are what a token says. Clients read exp of the access token.
type claims struct {
	Expires  int64  `json:"exp"`
	Issued   int64  `json:"iat"`
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Session  string `json:"sid"`
	Type     string `json:"typ"`
	DeviceID string `json:"baas_device_id,omitempty"`
	DomainID string `json:"baas_domain_id,omitempty"`
}

// signer makes and checks tokens: JSON Web Tokens signed with HMAC-SHA-256 under a key of the store.
type signer struct{ key []byte }

// tokenHeader is the first part of every token. Another one is not looked at: who could choose the algorithm could sign.
var tokenHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

// maxTokenBytes bounds a token that is looked at.
const maxTokenBytes = 4096

// sign returns the token of claims.
func (s *signer) sign(c claims) (string, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode token: %w", err)
	}
	text := tokenHeader + "." + base64.RawURLEncoding.EncodeToString(body)
	return text + "." + s.mac(text), nil
}

func (s *signer) mac(text string) string {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// verify returns the claims of a token that this signer made and that has not expired at now.
func (s *signer) verify(token string, now time.Time) (claims, bool) {
	var c claims
	header, rest, _ := strings.Cut(token, ".")
	body, mac, ok := strings.Cut(rest, ".")
	if !ok || len(token) > maxTokenBytes || header != tokenHeader || !hmac.Equal([]byte(mac), []byte(s.mac(header+"."+body))) {
		return c, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || json.Unmarshal(raw, &c) != nil {
		return c, false
	}
	return c, now.Unix() < c.Expires
}

// storedKey is the stored form of the key, sealed where the store's secrets are.
type storedKey struct {
	Format int    `json:"format"`
	Key    string `json:"key"` // hex, perhaps sealed
}

// openSigner returns the signer of a store, whose key is made at the first start. A key that cannot be unsealed any more is replaced:
// logins end then.
func openSigner(ctx context.Context, st store.Store, secrets *config.Keyring) (*signer, error) {
	at := store.NewKey(0, store.KindMeta).Name("appservices.signing")
	fresh := make([]byte, 32)
	_, _ = rand.Read(fresh) // never fails
	value, err := json.Marshal(storedKey{1, secrets.Seal(hex.EncodeToString(fresh))})
	if err != nil {
		return nil, fmt.Errorf("encode signing key: %w", err)
	}
	var key []byte
	err = st.Update(ctx, func(tx store.Tx) error {
		stored, err := tx.Get(at)
		if err != nil {
			return err
		}
		if stored != nil {
			var ok bool
			if key, ok, err = openKey(stored, secrets); ok || err != nil {
				return err
			}
		}
		key = fresh
		return tx.Put(at, value)
	})
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	return &signer{key}, nil
}

func openKey(value []byte, secrets *config.Keyring) (key []byte, ok bool, err error) {
	var s storedKey
	if err := json.Unmarshal(value, &s); err != nil || s.Format != 1 {
		return nil, false, tidegate.Errorf(tidegate.Corrupt, "the stored signing key does not make sense")
	}
	text, ok := secrets.Open(s.Key)
	if !ok {
		return nil, false, nil
	}
	key, err = hex.DecodeString(text)
	return key, err == nil && len(key) == 32, nil
}
