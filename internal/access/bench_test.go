package access

import (
	"fmt"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// A login whose credentials were verified before: the path of every request with Basic authentication.
func BenchmarkAuthenticateHit(b *testing.B) {
	r := open(b, openStore(b))
	putRole(b, r, "r", "a", "b")
	put(b, r, "bob", UserUpdate{Password: secret("secret"), AdminChannels: []string{"x"}, AdminRoles: []string{"r"}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Authenticate(b.Context(), "bob", "secret", here); err != nil {
			b.Fatal(err)
		}
	}
}

// The same from all processors at once.
func BenchmarkAuthenticateHitParallel(b *testing.B) {
	r := open(b, openStore(b))
	put(b, r, "bob", user("secret", "x"))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.Authenticate(b.Context(), "bob", "secret", here); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// A first login at the default cost.
func BenchmarkAuthenticateMiss(b *testing.B) {
	r := open(b, openStore(b), func(c *Config) { c.BcryptCost = DefaultBcryptCost; c.VerifiedTTL = 1 })
	put(b, r, "bob", user("secret", "x"))
	for b.Loop() {
		if _, err := r.Authenticate(b.Context(), "bob", "secret", here); err != nil {
			b.Fatal(err)
		}
	}
}

// The path of every request with a session cookie.
func BenchmarkSession(b *testing.B) {
	r := open(b, openStore(b), noPasswords)
	put(b, r, "bob", UserUpdate{AdminChannels: []string{"x"}})
	id := makeSession(b, r, "bob", time.Hour, false)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.Session(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

// What a feed asks when it wakes.
func BenchmarkUser(b *testing.B) {
	r := open(b, openStore(b), noPasswords)
	put(b, r, "bob", UserUpdate{AdminChannels: []string{"x"}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.User(b.Context(), "bob"); err != nil {
			b.Fatal(err)
		}
	}
}

// A user of 100 channels from 100 documents is rebuilt.
func BenchmarkRebuild(b *testing.B) {
	r := open(b, openStore(b), noPasswords)
	put(b, r, "bob", UserUpdate{})
	d := docs{}
	for i := range 100 {
		d.write(b, r, 0, fmt.Sprint("doc", i), lists{"bob": {fmt.Sprint("c", i)}}, nil)
	}
	b.ReportAllocs()
	for b.Loop() {
		err := r.cfg.Store.View(b.Context(), func(rd store.Reader) error {
			docs, err := scanGrants(rd, testSpace, nil, "user:bob")
			if err == nil {
				rebuild(newRecord(time.Time{}), docs, 1, time.Hour, time.Now())
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// The commit section's part of a document that grants two channels, one of them anew each time.
func BenchmarkWriteGrants(b *testing.B) {
	r := open(b, openStore(b), noPasswords)
	old := &DocGrants{Access: map[string]tidegate.Grants{"bob": {"x": 1}}}
	n := tidegate.Seq(1)
	err := r.cfg.Store.Update(b.Context(), func(tx store.Tx) error {
		b.ReportAllocs()
		for b.Loop() {
			n++
			next := &DocGrants{Access: map[string]tidegate.Grants{"bob": {"x": 1, "y": n}}}
			if _, err := WriteGrants(tx, testSpace, 0, "doc", old, next, n); err != nil {
				return err
			}
			old = &DocGrants{Access: map[string]tidegate.Grants{"bob": {"x": 1}}}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
