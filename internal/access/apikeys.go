package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Roles of an API key.
const (
	RoleOwner    = "GROUP_OWNER"     // everything
	RoleReadOnly = "GROUP_READ_ONLY" // reading
)

// Bounds of API keys.
const (
	MaxAPIKeys       = 1000
	maxAPIKeyName    = 128 // characters
	publicKeyLetters = 8
	apiKeyFormat     = 1
)

// APIKey is a pair of keys that programs log in with to the App Services API. The private half is kept as a bcrypt hash.
type APIKey struct {
	ID        string    `json:"id"` // 24 hex digits
	Name      string    `json:"name"`
	PublicKey string    `json:"public_key"` // 8 lower-case letters
	Role      string    `json:"role"`       // RoleOwner or RoleReadOnly
	DeviceID  string    `json:"device_id"`  // 24 hex digits; what logins with the key are told to be
	Created   time.Time `json:"created"`
}

// storedAPIKey is the stored form, under the id.
type storedAPIKey struct {
	Format int    `json:"format"`
	Hash   string `json:"hash"`
	APIKey
}

// APIKeys are the API keys of a store. They are kept in space 0, so that a backup has them. It is safe for concurrent use.
type APIKeys struct {
	st        store.Store
	passwords *Passwords
}

// NewAPIKeys returns the keys of a store; passwords hashes and checks the private halves.
func NewAPIKeys(st store.Store, passwords *Passwords) *APIKeys { return &APIKeys{st, passwords} }

func apiKeyPrefix() store.Key       { return store.NewKey(0, store.KindMeta).Name("access.apikey") }
func apiKeyKey(id string) store.Key { return apiKeyPrefix().Name(id) }

// Create makes a key and returns it with its private half, which is not to be had again. Invalid: the name is too long or empty, or
// there is no such role. TooMany: there are MaxAPIKeys already.
func (k *APIKeys) Create(ctx context.Context, name, role string) (APIKey, Secret, error) {
	if name == "" || utf8.RuneCountInString(name) > maxAPIKeyName || !utf8.ValidString(name) {
		return APIKey{}, Secret{}, tidegate.Errorf(tidegate.Invalid, "the name of a key has 1 to %d characters", maxAPIKeyName)
	}
	if role != RoleOwner && role != RoleReadOnly {
		return APIKey{}, Secret{}, tidegate.Errorf(tidegate.Invalid, "role %q: expected %s or %s", role, RoleOwner, RoleReadOnly)
	}
	key := APIKey{newObjectID(), name, newPublicKey(), role, newObjectID(), k.passwords.cfg.Now().UTC().Truncate(time.Second)}
	private := newPrivateKey()
	hash, err := k.passwords.hash(ctx, private)
	if err != nil {
		return APIKey{}, Secret{}, err
	}
	value, err := json.Marshal(storedAPIKey{apiKeyFormat, string(hash), key})
	if err != nil {
		return APIKey{}, Secret{}, fmt.Errorf("encode API key: %w", err)
	}
	err = k.st.Update(ctx, func(tx store.Tx) error {
		n := 0
		it := tx.Scan(store.Prefix(apiKeyPrefix()))
		for it.Next() {
			n++
		}
		err := cmp.Or(it.Err(), it.Close())
		if err == nil && n >= MaxAPIKeys {
			err = tidegate.Errorf(tidegate.TooMany, "there are %d API keys already; delete some first", n)
		}
		if err != nil {
			return err
		}
		return tx.Put(apiKeyKey(key.ID), value)
	})
	if err != nil {
		return APIKey{}, Secret{}, fmt.Errorf("store API key: %w", err)
	}
	return key, NewSecret(private), nil
}

// List returns all keys, the oldest first.
func (k *APIKeys) List(ctx context.Context) ([]APIKey, error) {
	stored, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]APIKey, len(stored))
	for i, s := range stored {
		keys[i] = s.APIKey
	}
	slices.SortFunc(keys, func(a, b APIKey) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return keys, nil
}

// Get returns the key of an id. NotFound: there is none.
func (k *APIKeys) Get(ctx context.Context, id string) (APIKey, error) {
	var s storedAPIKey
	err := k.st.View(ctx, func(r store.Reader) error {
		value, err := r.Get(apiKeyKey(id))
		if err != nil {
			return err
		}
		if value == nil {
			return errNoAPIKey
		}
		s, err = decodeAPIKey(value)
		return err
	})
	return s.APIKey, err
}

// Delete deletes the key of an id: logins with it end at once. NotFound: there is none.
func (k *APIKeys) Delete(ctx context.Context, id string) error {
	return k.st.Update(ctx, func(tx store.Tx) error {
		value, err := tx.Get(apiKeyKey(id))
		if err == nil && value == nil {
			err = errNoAPIKey
		}
		if err != nil {
			return err
		}
		return tx.Delete(apiKeyKey(id))
	})
}

var errNoAPIKey = tidegate.Errorf(tidegate.NotFound, "no such API key")

// Authenticate checks a pair of keys, with the errors of Registry.Authenticate: Unauthorized when they are wrong, TooMany after too
// many wrong ones from the same address.
func (k *APIKeys) Authenticate(ctx context.Context, public, private, remoteAddr string) (APIKey, error) {
	stored, err := k.read(ctx)
	if err != nil {
		return APIKey{}, err
	}
	var found storedAPIKey
	var hash []byte
	for _, s := range stored {
		if s.PublicKey == public {
			found, hash = s, []byte(s.Hash)
		}
	}
	ok, _, err := k.passwords.check(ctx, remoteAddr, "apikey:"+public, hash, private)
	if err != nil {
		return APIKey{}, fmt.Errorf("check API key: %w", err)
	}
	if !ok || hash == nil {
		return APIKey{}, errInvalidLogin
	}
	return found.APIKey, nil
}

// read returns what is stored of all keys.
func (k *APIKeys) read(ctx context.Context) ([]storedAPIKey, error) {
	var all []storedAPIKey
	err := k.st.View(ctx, func(r store.Reader) error {
		all = nil
		it := r.Scan(store.Prefix(apiKeyPrefix()))
		defer it.Close()
		for it.Next() {
			s, err := decodeAPIKey(it.Value())
			if err != nil {
				return err
			}
			all = append(all, s)
		}
		return it.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("read API keys: %w", err)
	}
	return all, nil
}

func decodeAPIKey(value []byte) (storedAPIKey, error) {
	var s storedAPIKey
	if err := json.Unmarshal(value, &s); err != nil || s.Format != apiKeyFormat {
		return s, tidegate.Errorf(tidegate.Corrupt, "a stored API key does not make sense")
	}
	return s, nil
}

// newObjectID returns 24 random hex digits.
func newObjectID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// newPublicKey returns random lower-case letters, with a little more weight on the first ones: it is a name and no secret.
func newPublicKey() string {
	var b [publicKeyLetters]byte
	_, _ = rand.Read(b[:])
	for i, c := range b {
		b[i] = 'a' + c%26
	}
	return string(b[:])
}

// newPrivateKey returns a random UUID (version 4): 122 random bits.
func newPrivateKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
