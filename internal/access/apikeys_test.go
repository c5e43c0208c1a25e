package access_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

func newAPIKeys(t *testing.T) *access.APIKeys {
	t.Helper()
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return access.NewAPIKeys(st, access.NewPasswords(access.PasswordsConfig{Cost: 4}))
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	keys, ctx := newAPIKeys(t), t.Context()
	owner, private, err := keys.Create(ctx, "deploy", access.RoleOwner)
	if err != nil {
		t.Fatal(err)
	}
	reader, _, err := keys.Create(ctx, "watch", access.RoleReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	for text, form := range map[string]string{
		owner.ID: `^[0-9a-f]{24}$`, owner.DeviceID: `^[0-9a-f]{24}$`, owner.PublicKey: `^[a-z]{8}$`,
		private.Reveal(): `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`,
	} {
		if !regexp.MustCompile(form).MatchString(text) {
			t.Errorf("%q is not of the form %s", text, form)
		}
	}
	got, err := keys.Authenticate(ctx, owner.PublicKey, private.Reveal(), "192.0.2.1:1")
	if err != nil || got != owner {
		t.Errorf("the key logs in as %+v, %v; want %+v", got, err, owner)
	}
	for _, pair := range [][2]string{{owner.PublicKey, "wrong"}, {reader.PublicKey, private.Reveal()}, {"nobody", private.Reveal()}} {
		if _, err := keys.Authenticate(ctx, pair[0], pair[1], "192.0.2.1:1"); err == nil || tidegate.ErrorCode(err) != tidegate.Unauthorized {
			t.Errorf("%s logs in: %v", pair[0], err)
		}
	}
	all, err := keys.List(ctx)
	if err != nil || len(all) != 2 {
		t.Fatalf("listed: %+v, %v", all, err)
	}
	if err := keys.Delete(ctx, owner.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Authenticate(ctx, owner.PublicKey, private.Reveal(), "192.0.2.1:1"); tidegate.ErrorCode(err) != tidegate.Unauthorized {
		t.Errorf("a deleted key logs in: %v", err)
	}
	if err := keys.Delete(ctx, owner.ID); tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := keys.Get(ctx, owner.ID); tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Errorf("a deleted key is there: %v", err)
	}
	if got, err := keys.Get(ctx, reader.ID); err != nil || got != reader {
		t.Errorf("got %+v, %v; want %+v", got, err, reader)
	}
}

func TestAPIKeysAreThrottledAndChecked(t *testing.T) {
	t.Parallel()
	keys, ctx := newAPIKeys(t), t.Context()
	key, private, err := keys.Create(ctx, "k", access.RoleOwner)
	if err != nil {
		t.Fatal(err)
	}
	for range access.DefaultFailures {
		if _, err := keys.Authenticate(ctx, key.PublicKey, "guess", "192.0.2.1:1"); tidegate.ErrorCode(err) != tidegate.Unauthorized {
			t.Fatal(err)
		}
	}
	if _, err := keys.Authenticate(ctx, key.PublicKey, private.Reveal(), "192.0.2.1:2"); tidegate.ErrorCode(err) != tidegate.TooMany {
		t.Errorf("after %d failures: %v", access.DefaultFailures, err)
	}
	if _, err := keys.Authenticate(ctx, key.PublicKey, private.Reveal(), "192.0.2.9:2"); err != nil {
		t.Errorf("from another address: %v", err)
	}
	for _, c := range [][2]string{{"", access.RoleOwner}, {"n", "ADMIN"}} {
		if _, _, err := keys.Create(ctx, c[0], c[1]); tidegate.ErrorCode(err) != tidegate.Invalid {
			t.Errorf("name %q, role %q: %v", c[0], c[1], err)
		}
	}
	if since := time.Since(key.Created); since < 0 || since > time.Hour {
		t.Errorf("created %v ago", since)
	}
}
