package gateway

import (
	"strings"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
)

func containsLine(text, prefix string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

func login(t *testing.T, r *Running, name, password string) (*access.User, error) {
	t.Helper()
	db, _, release, err := r.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	return db.Access().Authenticate(t.Context(), name, password, "127.0.0.1")
}

func TestPrincipalsOfAFileAreCreatedAndNotOverwritten(t *testing.T) {
	e := newEnv(t)
	const file = `{"db":{"users":{"ada":{"password":"ada-secret","admin_channels":["europe"],"admin_roles":["reader"],"email":"ada@example.com"}},
		"roles":{"reader":{"admin_channels":["news"]}},"guest":{"disabled":false,"admin_channels":["public"]}}}`
	g := e.open(fileDBs(t, file))
	r := get(t, g, "db")
	ada, err := login(t, r, "ada", "ada-secret")
	if err != nil {
		t.Fatal(err)
	}
	channels := ada.Channels(0)
	for _, want := range []string{"europe", "news", "!"} {
		if _, ok := channels[want]; !ok {
			t.Errorf("ada lacks %s: %v", want, channels)
		}
	}
	guest, err := r.DB().Access().Guest(t.Context())
	if err != nil || guest.Disabled() {
		t.Fatalf("guest: %v", err)
	}
	secret := access.NewSecret("changed-later")
	if _, err := r.DB().Access().PutUser(t.Context(), "ada", access.UserUpdate{Password: &secret, AdminChannels: []string{"asia"}}, false); err != nil {
		t.Fatal(err)
	}
	disabled := true
	if _, err := r.DB().Access().PutUser(t.Context(), tidegate.GuestName, access.UserUpdate{Disabled: &disabled}, false); err != nil {
		t.Fatal(err)
	}
	if err := r.DB().Access().DeleteRole(t.Context(), "reader", true); err != nil {
		t.Fatal(err)
	}
	e.close(g)

	r = get(t, e.open(fileDBs(t, file)), "db")
	ada, err = login(t, r, "ada", "changed-later")
	if err != nil {
		t.Fatal(err)
	}
	channels = ada.Channels(0)
	if _, ok := channels["europe"]; ok {
		t.Error("the file's channels are back")
	}
	if _, ok := channels["news"]; !ok {
		t.Error("the missing role was not created again")
	}
	if guest, err := r.DB().Access().Guest(t.Context()); err != nil || !guest.Disabled() {
		t.Errorf("the guest was overwritten: %v", err)
	}
	for _, password := range []string{"ada-secret", "changed-later"} {
		if e.logs.has(password) {
			t.Errorf("the log shows %s", password)
		}
	}
	if cfg, _ := r.Config(); cfg.Users != nil || strings.Contains(string(cfg.Encode()), "ada-secret") {
		t.Error("the stored config holds users")
	}
}

// The guest of a config change is meant for now, also while the database is offline.
func TestGuestOfAConfigChange(t *testing.T) {
	e := newEnv(t)
	g := e.open(nil)
	r := create(t, g, "db", `{"guest":{"disabled":false}}`)
	guest := func() *access.User {
		t.Helper()
		u, err := r.DB().Access().Guest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	if guest().Disabled() {
		t.Fatal("the guest of a new database is disabled")
	}
	if _, err := update(t, g, "db", "", `{"guest":{"disabled":true}}`); err != nil {
		t.Fatal(err)
	}
	if !guest().Disabled() {
		t.Error("the guest was not changed")
	}
	if err := g.TakeOffline(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	if _, err := update(t, g, "db", "", `{"guest":{"disabled":false,"admin_channels":["x"]}}`); err != nil {
		t.Fatal(err)
	}
	if err := g.BringOnline(t.Context(), "db", 0, true); err != nil {
		t.Fatal(err)
	}
	if u := guest(); u.Disabled() || u.Channels(0)["x"] == 0 {
		t.Error("the change of an offline database was lost")
	}
	_, err := update(t, g, "db", "", `{"guest":{"admin_channels":["*"]}}`)
	wantCode(t, err, tidegate.Invalid, "allow_guest_star")
}
