package config

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
)

func keyring(t *testing.T, keys ...string) *Keyring {
	t.Helper()
	k, err := ParseKeys([]byte(strings.Join(keys, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What is stored holds no secret, and reads back as it was, with the key alone.
func TestSealedConfig(t *testing.T) {
	d := full()
	one, other := NewKey(), NewKey()
	sealed := d.Seal(keyring(t, one))
	if strings.Contains(string(sealed), theSecret) {
		t.Fatal("a secret is stored in the clear")
	}
	if n := strings.Count(string(sealed), sealedPrefix); n != strings.Count(string(d.Encode()), theSecret) {
		t.Errorf("%d secrets are sealed", n)
	}
	for name, k := range map[string]*Keyring{"the key": keyring(t, one), "an older key": keyring(t, "# new", other, "", one)} {
		if again, err := Decode(sealed, k); err != nil || !reflect.DeepEqual(again, d) {
			t.Errorf("%s: %v, %s", name, err, again.Encode())
		}
	}
	for name, k := range map[string]*Keyring{"none": nil, "another": keyring(t, other)} {
		locked, err := Decode(sealed, k)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !locked.Password.Locked() || locked.Password.Reveal() != "" || locked.Password.IsZero() {
			t.Errorf("%s: the password is not locked", name)
		}
		if masked := string(locked.Masked()); strings.Contains(masked, sealedPrefix) || masked != string(d.Masked()) {
			t.Errorf("%s: shows %s", name, masked)
		}
		// Stored again it is not lost.
		if again, err := Decode(locked.Seal(k), keyring(t, one)); err != nil || !reflect.DeepEqual(again, d) {
			t.Errorf("%s: lost something, %v", name, err)
		}
	}
	// What was stored before there were keys.
	if again, err := Decode(d.Encode(), keyring(t, one)); err != nil || !reflect.DeepEqual(again, d) {
		t.Errorf("plain: %v", err)
	}
}

func TestSealedReplication(t *testing.T) {
	key := NewKey()
	for _, body := range []string{
		`{"remote":"http://us%3Aer:p%40ss%2F%25@h:1/d?x=1","direction":"pull"}`,
		`{"remote":"http://h/d","direction":"pull","user":"u","password":"p:@/%"}`,
		`{"remote":"http://a:b@[bad","direction":"pull"}`,
		`{"remote":"http://u:@h/d","direction":"pull"}`,
	} {
		r, err := upsert(t, "", body, "r")
		if err != nil {
			t.Fatal(err)
		}
		sealed := r.Seal(keyring(t, key))
		again, err := DecodeReplication(sealed, keyring(t, key))
		if err != nil || !again.Same(r) || again.Remote.Reveal() != r.Remote.Reveal() || again.RemotePassword.Reveal() != r.RemotePassword.Reveal() {
			t.Errorf("%s\n%s\n%v", body, sealed, err)
		}
		locked, err := DecodeReplication(sealed, keyring(t, NewKey()))
		if err != nil {
			t.Fatal(err)
		}
		if string(locked.Masked()) != string(r.Masked()) {
			t.Errorf("locked it shows %s", locked.Masked())
		}
		if strings.Contains(string(sealed), sealedPrefix) {
			_, _, _, err = locked.Endpoint()
			if tidegate.ErrorCode(err) != tidegate.Unavailable || !strings.Contains(err.Error(), keyring(t, key).ID()) {
				t.Errorf("%s: %v", body, err)
			}
		}
	}
}

// A definition whose password cannot be read can be changed, and repaired by giving it again.
func TestLockedReplicationIsRepaired(t *testing.T) {
	key, other := keyring(t, NewKey()), keyring(t, NewKey())
	r, err := upsert(t, "", `{"remote":"http://u:secret@h/d","direction":"pull"}`, "r")
	if err != nil {
		t.Fatal(err)
	}
	locked, err := DecodeReplication(r.Seal(key), other)
	if err != nil {
		t.Fatal(err)
	}
	apply := func(body string) (*Replication, error) {
		p, err := ParseReplicationPatch([]byte(body), "r")
		if err != nil {
			t.Fatal(err)
		}
		return p.Apply(locked, "r")
	}
	changed, err := apply(`{"batch_size":5}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := changed.Validate(nil); err != nil {
		t.Error(err)
	}
	if again, err := DecodeReplication(changed.Seal(other), key); err != nil || again.Remote.Reveal() != "http://u:secret@h/d" {
		t.Errorf("the password is lost: %v, %v", again, err)
	}
	if _, err := apply(`{"remote":"http://u:****@h/e"}`); !strings.Contains(tidegate.ErrorReason(err), "cannot be decrypted") {
		t.Error(err)
	}
	repaired, err := apply(`{"remote":"http://u:new@h/d"}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, password, err := repaired.Endpoint(); err != nil || password != "new" {
		t.Errorf("%q, %v", password, err)
	}
}

func TestSealing(t *testing.T) {
	k := keyring(t, NewKey())
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.String().Draw(t, "plain")
		sealed := k.seal(plain)
		if got, ok := k.open(sealed); !ok || got != plain {
			t.Fatalf("%q comes back as %q", plain, got)
		}
		if plain == "" {
			return
		}
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "at")
		broken := []byte(sealed)
		broken[i] ^= 1 << rapid.IntRange(0, 6).Draw(t, "bit")
		if got, ok := k.open(string(broken)); ok && got == plain && i >= len(sealedPrefix) && i < len(sealed)-1 { // the last digit has spare bits
			t.Fatalf("a change at %d went unnoticed", i)
		}
	})
	if once, twice := k.seal("x"), k.seal("x"); once == twice {
		t.Error("the same text is sealed alike twice")
	}
}

func TestParseKeys(t *testing.T) {
	for text, ok := range map[string]bool{
		NewKey(): true, NewKey() + "\n" + NewKey() + "\n": true, "# only a comment": false, "": false, "abc": false,
		strings.Repeat("00", 31): false, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=": true, NewKey() + "\nx": false,
	} {
		k, err := ParseKeys([]byte(text))
		if (err == nil) != ok || ok && len(k.ID()) != 8 {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && len(text) > 20 && strings.Contains(err.Error(), text[:20]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	if (*Keyring)(nil).ID() != "" {
		t.Error("no key has an id")
	}
}
