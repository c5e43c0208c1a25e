package access

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// safeBuffer is a log that several goroutines write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// No password and no session id may be in an error, a log line, what is printed of a value, or JSON
// (hardening.md).
func TestSecretsAreNeverShown(t *testing.T) {
	var shown safeBuffer
	show := func(v ...any) {
		for _, x := range v {
			if err, ok := x.(error); ok && err == nil {
				continue
			}
			fmt.Fprintf(&shown, "%v|%+v|%#v|%s|%q|%d|%x\n", x, x, x, x, x, x, x)
			if j, err := json.Marshal(x); err == nil {
				_, _ = shown.Write(j)
			}
			slog.New(slog.NewJSONHandler(&shown, nil)).Info("seen", "value", x)
			slog.New(slog.NewTextHandler(&shown, nil)).Info("seen", "value", x)
		}
	}
	st := &fullStore{Store: openStore(t)}
	r := open(t, st, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&shown, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.WarnChannels = 1
	})
	const first, second, short = "hush-one-7f3a", "hush-two-9c1d", "h7"
	_, u, err := ParseUserUpdate([]byte(`{"password":"` + first + `","email":"nonsense"}`))
	show(u, err)
	_, err = r.PutUser(t.Context(), "bob", u, false)
	show(err)
	_, err = r.PutUser(t.Context(), "bob", user(short+"\x00"[:0]), false)
	show(err)
	for _, body := range []string{
		`{"password":"` + first + `","password":"x"}`, `{"password":["` + first + `"]}`, `{"password":{"` + "x" + `":"` + first + `"}}`,
		`{"password":"` + first + ``, `{"password":7319999}`, `{"password":"` + first + "\x01" + `"}`, `"` + first + `"`,
	} {
		_, _, err = ParseUserUpdate([]byte(body))
		show(err)
	}
	_, err = r.Authenticate(t.Context(), "bob", second, here)
	show(err)
	for range DefaultFailures {
		_, err = r.Authenticate(t.Context(), "nobody", second, here)
		show(err)
	}
	_, err = r.Authenticate(t.Context(), "nobody", second, here)
	show(err)
	got, err := r.Authenticate(t.Context(), "bob", first, here)
	show(got, err)
	s, err := r.CreateSession(t.Context(), "bob", time.Hour, false)
	show(s, &s, struct{ S Session }{s}, struct{ s Session }{s}, err)
	id := s.ID.Reveal()
	_, s2, err := r.Session(t.Context(), id)
	show(s2, err, r.DeleteSession(t.Context(), strings.Replace(id, "0", "1", 1)))
	show(r.DeleteUserSession(t.Context(), "amy", id))
	st.full = true
	put := user(second, "a", "b")
	_, err = r.PutUser(t.Context(), "bob", put, false)
	show(err, put)
	_, err = r.CreateSession(t.Context(), "bob", time.Hour, false)
	show(err, r.DeleteSession(t.Context(), id))
	st.full = false
	a, err := NewAdminAccounts([]AdminAccount{{Name: "root", PasswordHash: NewSecret(first)}}, r.passwords)
	show(a, err, AdminAccount{Name: "root", PasswordHash: NewSecret(first)})
	info, err := r.UserRecord(t.Context(), "bob")
	show(info, string(info.AppendJSON(nil)), err)
	rec, err := r.peek(t.Context(), "user:bob")
	if err != nil || bcrypt.CompareHashAndPassword(rec.hash, []byte(first)) != nil {
		t.Fatal("the hash is not there")
	}
	all := shown.b.String()
	if len(all) < 2000 {
		t.Fatalf("only %d bytes were looked at", len(all))
	}
	for what, secret := range map[string]string{
		"password": first, "other password": second, "number as password": "7319999",
		"session id": id, "hash": string(rec.hash), "hex of password": fmt.Sprintf("%x", first),
	} {
		if i := strings.Index(all, secret); i >= 0 {
			t.Errorf("a %s is shown: …%s…", what, all[max(0, i-100):i+20])
		}
	}
}
