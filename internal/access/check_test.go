package access

import (
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// check returns the problems that Check finds.
func check(t *testing.T, r *Registry) (problems []string, principals, sessions int) {
	t.Helper()
	err := r.cfg.Store.View(t.Context(), func(rd store.Reader) (err error) {
		principals, sessions, err = Check(rd, r.cfg.Space, func(what string) { problems = append(problems, what) })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return problems, principals, sessions
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name  string
		plant func(tx store.Tx) error
		want  string
	}{
		{"nothing", func(store.Tx) error { return nil }, ""},
		{"a grant is lost", func(tx store.Tx) error {
			return tx.Delete(grantRow(testSpace, "user:bob", 0, "D"))
		}, `"user:bob": its channels in collection 0 are not those it is granted`},
		{"a grant nobody noticed", func(tx store.Tx) error {
			return tx.Put(grantRow(testSpace, "role:r", 1, "E"), grantSet{channels: tidegate.Grants{"z": 1}}.encode())
		}, `"role:r": its channels in collection 1 are not those it is granted`},
		{"a role nobody noticed", func(tx store.Tx) error {
			return tx.Put(grantRow(testSpace, "user:bob", 0, "E"), grantSet{roles: tidegate.Grants{"z": 1}}.encode())
		}, `"user:bob": its roles are not those it is granted`},
		{"a grant that is noticed", func(tx store.Tx) error {
			if err := mark(tx, testSpace, "user:bob", 1); err != nil {
				return err
			}
			return tx.Delete(grantRow(testSpace, "user:bob", 0, "D"))
		}, ""},
		{"a broken grant", func(tx store.Tx) error {
			return tx.Put(grantRow(testSpace, "user:bob", 0, "D"), []byte{9})
		}, `"user:bob": a grant to it does not decode`},
		{"a broken record", func(tx store.Tx) error {
			return tx.Put(principalRow(testSpace, "user:bob"), []byte{recordVersion})
		}, `"user:bob": its record does not decode`},
		{"a broken mark", func(tx store.Tx) error {
			return tx.Put(invalidRow(testSpace, "user:amy"), []byte{1})
		}, `"user:amy": its mark makes no sense`},
		{"a mark in the future", func(tx store.Tx) error {
			return mark(tx, testSpace, "user:amy", 1000)
		}, `"user:amy": its mark makes no sense`},
		{"a broken session", func(tx store.Tx) error {
			return tx.Put(sessionRow(testSpace, [32]byte{1}), []byte{sessionVersion})
		}, "a session does not decode"},
		{"a key too long", func(tx store.Tx) error {
			return tx.Put(append(principalRow(testSpace, "user:x"), 1), nil)
		}, "makes no sense"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := open(t, openStore(t), noPasswords)
			d := docs{}
			putRole(t, r, "r", "x")
			put(t, r, "bob", UserUpdate{AdminChannels: []string{"a"}, AdminRoles: []string{"r"}})
			d.write(t, r, 0, "D", lists{"bob": {"b"}, "role:r": {"c"}}, lists{"bob": {"s"}})
			makeSession(t, r, "bob", time.Hour, false)
			load(t, r, "bob")
			if err := r.DeleteRole(t.Context(), "r", false); err != nil {
				t.Fatal(err)
			}
			load(t, r, "bob")
			putRole(t, r, "r", "y")
			load(t, r, "bob")
			if err := r.cfg.Store.Update(t.Context(), tt.plant); err != nil {
				t.Fatal(err)
			}
			problems, principals, sessions := check(t, r)
			if got := strings.Join(problems, "\n"); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if principals < 2 || sessions < 1 {
				t.Errorf("%d principals, %d sessions", principals, sessions)
			}
		})
	}
}
