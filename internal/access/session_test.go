package access

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// makeSession logs a user in.
func makeSession(t testing.TB, r *Registry, name string, ttl time.Duration, oneTime bool) string {
	t.Helper()
	s, err := r.CreateSession(t.Context(), name, ttl, oneTime)
	if err != nil {
		t.Fatal(err)
	}
	return s.ID.Reveal()
}

// use returns the outcome of using a session, in words.
func use(t testing.TB, r *Registry, id string) string {
	t.Helper()
	u, s, err := r.Session(t.Context(), id)
	switch {
	case err != nil:
		return tidegate.ErrorReason(err)
	case s.Refreshed:
		return u.PrincipalName() + " refreshed"
	default:
		return u.PrincipalName()
	}
}

func TestCreateSession(t *testing.T) {
	c := newClock()
	r := open(t, openStore(t), noPasswords, c.config)
	put(t, r, "bob", UserUpdate{})
	put(t, r, "off", UserUpdate{Disabled: ptr(true)})
	s, err := r.CreateSession(t.Context(), "bob", 90*time.Second, false)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[0-9a-f]{40}$`).MatchString(s.ID.Reveal()) {
		t.Errorf("id %q", s.ID.Reveal())
	}
	if s.User != "bob" || s.TTL != 90*time.Second || !s.Expires.Equal(c.at.Add(90*time.Second)) || s.OneTime || s.Refreshed {
		t.Errorf("%+v", s)
	}
	for _, tt := range []struct {
		name string
		ttl  time.Duration
		want string
	}{
		{"", time.Hour, "invalid: Invalid or missing user name"},
		{"GUEST", time.Hour, "invalid: Invalid or missing user name"},
		{"x", time.Hour, `not found: No such user "x"`},
		{"bob", 0, "invalid: Invalid or missing ttl"},
		{"bob", 999 * time.Millisecond, "invalid: Invalid or missing ttl"},
		{"off", time.Hour, "invalid: User is disabled"},
	} {
		_, err := r.CreateSession(t.Context(), tt.name, tt.ttl, false)
		if got := tidegate.ErrorCode(err).String() + ": " + tidegate.ErrorReason(err); got != tt.want {
			t.Errorf("%q for %v: %s, want %s", tt.name, tt.ttl, got, tt.want)
		}
	}
}

func TestSessionLifetime(t *testing.T) {
	c := newClock()
	r := open(t, openStore(t), noPasswords, c.config)
	put(t, r, "bob", UserUpdate{})
	id := makeSession(t, r, "bob", 100*time.Minute, false)
	for _, step := range []struct {
		pass time.Duration
		want string
	}{
		{0, "bob"},
		{10 * time.Minute, "bob"}, // a tenth is not more than a tenth
		{time.Second, "bob refreshed"},
		{0, "bob"},
		{99 * time.Minute, "bob refreshed"},
		{99 * time.Minute, "bob refreshed"},
		{100 * time.Minute, "Session Invalid"},
	} {
		c.pass(step.pass)
		if got := use(t, r, id); got != step.want {
			t.Fatalf("after %v more: %s, want %s", step.pass, got, step.want)
		}
	}
	for _, bad := range []string{"", "x", strings.Repeat("0", 40), strings.Repeat("é", 20)} {
		if got := use(t, r, bad); got != "Session Invalid" {
			t.Errorf("%q: %s", bad, got)
		}
	}
}

func TestRefreshTellsTheNewEnd(t *testing.T) {
	c := newClock()
	r := open(t, openStore(t), noPasswords, c.config)
	put(t, r, "bob", UserUpdate{})
	id := makeSession(t, r, "bob", time.Hour, false)
	c.pass(7 * time.Minute)
	_, s, err := r.Session(t.Context(), id)
	if err != nil || !s.Refreshed || !s.Expires.Equal(c.at.Add(time.Hour)) || s.ID.Reveal() != id {
		t.Fatalf("%+v, %v", s, err)
	}
	c.pass(7 * time.Minute)
	if _, s, err = r.PeekSession(t.Context(), id); err != nil || s.Refreshed || !s.Expires.Equal(c.at.Add(53*time.Minute)) {
		t.Fatalf("a look extended it: %+v, %v", s, err)
	}
}

func TestWhatEndsSessions(t *testing.T) {
	const noLonger = "Session no longer valid for user"
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, r *Registry, id string) error
		want string
	}{
		{"nothing", func(*testing.T, *Registry, string) error { return nil }, "bob"},
		{"a new password", func(t *testing.T, r *Registry, _ string) error {
			put(t, r, "bob", user("other"))
			return nil
		}, noLonger},
		{"disabling", func(t *testing.T, r *Registry, _ string) error {
			put(t, r, "bob", UserUpdate{Disabled: ptr(true)})
			return nil
		}, noLonger},
		{"disabling, although enabled again", func(t *testing.T, r *Registry, _ string) error {
			put(t, r, "bob", UserUpdate{Disabled: ptr(true)})
			put(t, r, "bob", UserUpdate{Disabled: ptr(false)})
			return nil
		}, noLonger},
		{"deleting", func(t *testing.T, r *Registry, _ string) error { return r.DeleteUser(t.Context(), "bob") }, noLonger},
		{"deleting, although made again", func(t *testing.T, r *Registry, _ string) error {
			err := r.DeleteUser(t.Context(), "bob")
			put(t, r, "bob", user("secret"))
			return err
		}, noLonger},
		{"ending all of the user's", func(t *testing.T, r *Registry, _ string) error {
			return r.DeleteUserSessions(t.Context(), "bob")
		}, noLonger},
		{"ending it", func(t *testing.T, r *Registry, id string) error { return r.DeleteSession(t.Context(), id) }, "Session Invalid"},
		{"ending it as the user's", func(t *testing.T, r *Registry, id string) error {
			return r.DeleteUserSession(t.Context(), "bob", id)
		}, "Session Invalid"},
		{"other changes", func(t *testing.T, r *Registry, _ string) error {
			put(t, r, "bob", UserUpdate{AdminChannels: []string{"x"}, Email: ptr("b@x.y")})
			return r.DeleteUserSessions(t.Context(), "nobody")
		}, "bob"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := open(t, openStore(t))
			put(t, r, "bob", user("secret"))
			id := makeSession(t, r, "bob", time.Hour, false)
			if got := use(t, r, id); got != "bob" { // it is in memory from now on
				t.Fatal(got)
			}
			if err := tt.do(t, r, id); err != nil {
				t.Fatal(err)
			}
			if got := use(t, r, id); got != tt.want {
				t.Fatalf("%s, want %s", got, tt.want)
			}
			if _, _, err := r.PeekSession(t.Context(), id); (tt.want != "bob") != errors.Is(err, tidegate.ErrMissing) {
				t.Errorf("peek: %v", err)
			}
		})
	}
}

// Another node ends a session: this one believes its memory only for a while.
func TestSessionEndedElsewhere(t *testing.T) {
	st, c := openStore(t), newClock()
	r, other := open(t, st, noPasswords, c.config), open(t, st, noPasswords, c.config)
	put(t, r, "bob", UserUpdate{})
	id := makeSession(t, r, "bob", time.Hour, false)
	if got := use(t, r, id); got != "bob" {
		t.Fatal(got)
	}
	if err := other.DeleteSession(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	c.pass(sessionCacheTTL)
	if got := use(t, r, id); got != "Session Invalid" {
		t.Fatal(got)
	}
}

func TestDeleteSessionOfOthers(t *testing.T) {
	c := newClock()
	r := open(t, openStore(t), noPasswords, c.config)
	put(t, r, "bob", UserUpdate{})
	put(t, r, "amy", UserUpdate{})
	id := makeSession(t, r, "bob", time.Hour, false)
	for what, err := range map[string]error{
		"another user's": r.DeleteUserSession(t.Context(), "amy", id),
		"unknown":        r.DeleteSession(t.Context(), strings.Repeat("a", 40)),
	} {
		if !errors.Is(err, tidegate.ErrMissing) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := use(t, r, id); got != "bob" {
		t.Fatal(got)
	}
	c.pass(time.Hour)
	if err := r.DeleteSession(t.Context(), id); !errors.Is(err, tidegate.ErrMissing) {
		t.Errorf("an expired one: %v", err)
	}
}

func TestOneTimeSession(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	put(t, r, "bob", UserUpdate{})
	id := makeSession(t, r, "bob", time.Hour, true)
	if _, s, err := r.PeekSession(t.Context(), id); err != nil || !s.OneTime {
		t.Fatalf("peek: %+v, %v", s, err)
	}
	var good atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if got := use(t, r, id); got == "bob" {
				good.Add(1)
			} else if got != "Session Invalid" {
				t.Error(got)
			}
		})
	}
	wg.Wait()
	if good.Load() != 1 {
		t.Fatalf("it was good %d times", good.Load())
	}
}

// Only the hash of a session id, and of a password, may be in the store.
func TestStoreHoldsNoSecret(t *testing.T) {
	st := openStore(t)
	r := open(t, st)
	put(t, r, "bob", user("my-plain-password"))
	id := makeSession(t, r, "bob", time.Hour, false)
	rows := 0
	err := st.View(t.Context(), func(rd store.Reader) error {
		it := rd.Scan(store.Range{})
		defer it.Close()
		for it.Next() {
			rows++
			for _, s := range []string{"my-plain-password", id} {
				if bytes.Contains(it.Key(), []byte(s)) || bytes.Contains(it.Value(), []byte(s)) {
					t.Errorf("a secret is in the row %q", it.Key())
				}
			}
		}
		return it.Err()
	})
	if err != nil || rows < 2 {
		t.Fatal(rows, err)
	}
}

func TestRunSweepsExpiredSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t, openStore(t), noPasswords)
		put(t, r, "bob", UserUpdate{})
		for range sweepBatch + 20 {
			makeSession(t, r, "bob", 15*time.Minute, false)
		}
		kept := makeSession(t, r, "bob", time.Hour, false)
		done := make(chan error, 1)
		go func() { done <- r.Run(t.Context()) }()
		for _, step := range []struct {
			pass time.Duration
			want int
		}{{time.Minute, sweepBatch + 21}, {10 * time.Minute, sweepBatch + 21}, {10 * time.Minute, 1}, {2 * time.Hour, 0}} {
			time.Sleep(step.pass)
			synctest.Wait()
			if got := countRows(t, r, store.KindSession); got != step.want {
				t.Fatalf("%d sessions are stored, want %d", got, step.want)
			}
			if step.want == 1 && use(t, r, kept) != "bob refreshed" {
				t.Fatal("the session that had not expired is gone")
			}
		}
	})
}

func countRows(t testing.TB, r *Registry, kind store.Kind) int {
	t.Helper()
	n := 0
	err := r.cfg.Store.View(t.Context(), func(rd store.Reader) error {
		it := rd.Scan(store.Prefix(store.NewKey(r.cfg.Space, kind)))
		defer it.Close()
		for it.Next() {
			n++
		}
		return it.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSweepEvents(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"x"}})
	put(t, r, "amy", UserUpdate{AdminChannels: []string{"x"}})
	to(t, r, keptEvents+2)
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"y"}}) // leaves keptEvents+1 and 2 behind it
	for _, want := range []bool{false, false} {
		more, err := r.sweepEvents(t.Context(), 10)
		if err != nil || more != want {
			t.Fatal(more, err)
		}
	}
	if got := countRows(t, r, store.KindEvent); got != 2 {
		t.Fatalf("%d events are kept, want 2", got)
	}
}

// Who missed events is told that the session may have ended, and can ask the store.
func TestWatchSession(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	put(t, r, "bob", UserUpdate{})
	s, err := r.CreateSession(t.Context(), "bob", time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte(s.ID.Reveal()))
	var told []bool
	stop := r.WatchSession(hash, func(ended bool) { told = append(told, ended) })
	r.InvalidateAll()
	if stored, err := r.SessionStored(t.Context(), hash); err != nil || !stored {
		t.Fatalf("stored: %v, %v", stored, err)
	}
	if err := r.DeleteSession(t.Context(), s.ID.Reveal()); err != nil {
		t.Fatal(err)
	}
	load(t, r, "bob") // applies the event
	if stored, err := r.SessionStored(t.Context(), hash); err != nil || stored {
		t.Fatalf("stored after its end: %v, %v", stored, err)
	}
	stop()
	r.InvalidateAll()
	if want := []bool{false, true}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	if len(r.ends) != 0 {
		t.Errorf("%d sessions are still watched", len(r.ends))
	}
}
