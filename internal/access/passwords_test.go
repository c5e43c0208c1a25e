package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/tidegate/tidegate"
)

const here = "192.0.2.1:1000"

// login returns the code of the outcome, ok as -1.
func login(t testing.TB, r *Registry, name, password, from string) string {
	t.Helper()
	u, err := r.Authenticate(t.Context(), name, password, from)
	if err != nil {
		return tidegate.ErrorCode(err).String() + ": " + tidegate.ErrorReason(err)
	}
	return "ok " + u.PrincipalName()
}

func TestAuthenticate(t *testing.T) {
	r := open(t, openStore(t), func(c *Config) { c.LoginFailuresPerMinute = -1 })
	long := strings.Repeat("p", 72)
	for name, u := range map[string]UserUpdate{
		"bob": user("secret"), "off": {Password: secret("secret"), Disabled: ptr(true)},
		"long": user(long + "tail"), "utf": user("пароль"), "o'x %": user("abc"),
	} {
		put(t, r, name, u)
	}
	const invalid = "unauthorized: Invalid login"
	for _, tt := range []struct{ name, password, want string }{
		{"bob", "secret", "ok bob"},
		{"bob", "secret", "ok bob"}, // from memory
		{"bob", "Secret", invalid},
		{"bob", "", invalid},
		{"bob", "secret\x00", invalid},
		{"Bob", "secret", invalid},
		{"nobody", "secret", invalid},
		{"off", "secret", invalid},
		{"off", "wrong", invalid},
		{"long", long + "tail", "ok long"},
		{"long", long, invalid},
		{"long", long + "Tail", invalid},
		{"utf", "пароль", "ok utf"},
		{"o'x %", "abc", "ok o'x %"},
		{"GUEST", "", invalid},
		{"GUEST", "secret", invalid},
		{"", "secret", invalid},
		{"", "", invalid}, // the guest is disabled by default
		{"a:b", "secret", invalid},
		{strings.Repeat("n", 5000), "secret", invalid},
	} {
		if got := login(t, r, tt.name, tt.password, here); got != tt.want {
			t.Errorf("%.20q with %.20q: %s, want %s", tt.name, tt.password, got, tt.want)
		}
	}
	put(t, r, "GUEST", UserUpdate{Disabled: ptr(false)})
	if got := login(t, r, "", "", here); got != "ok " {
		t.Errorf("guest: %s", got)
	}
	s := r.Stats()
	if s.AuthSuccess != 6 || s.AuthFailed != 15 || s.AuthTime <= 0 {
		t.Errorf("stats: %+v", s)
	}
}

func TestEmptyPassword(t *testing.T) {
	st := openStore(t)
	r := open(t, st, noPasswords)
	put(t, r, "bob", UserUpdate{})
	put(t, r, "amy", user("secret"))
	put(t, r, "amy", user("")) // takes it away
	for _, name := range []string{"bob", "amy"} {
		if got := login(t, r, name, "", here); got != "ok "+name {
			t.Errorf("%s: %s", name, got)
		}
		if got := login(t, r, name, "x", here); !strings.HasPrefix(got, "unauthorized") {
			t.Errorf("%s with a password: %s", name, got)
		}
		if got := login(t, open(t, st), name, "", here); !strings.HasPrefix(got, "unauthorized") {
			t.Errorf("%s where empty passwords are not allowed: %s", name, got)
		}
	}
}

func TestChangedPasswordIsForgottenAtOnce(t *testing.T) {
	r := open(t, openStore(t))
	put(t, r, "bob", user("first"))
	for _, step := range []struct {
		set, try, want string
	}{
		{"", "first", "ok bob"},
		{"second", "first", "unauthorized: Invalid login"},
		{"", "second", "ok bob"},
		{"first", "first", "ok bob"},
	} {
		if step.set != "" {
			put(t, r, "bob", user(step.set))
		}
		if got := login(t, r, "bob", step.try, here); got != step.want {
			t.Errorf("after setting %q, %q: %s, want %s", step.set, step.try, got, step.want)
		}
	}
}

func TestVerifiedCredentialsExpireAndAreBounded(t *testing.T) {
	c := newClock()
	p := NewPasswords(PasswordsConfig{Cost: bcrypt.MinCost, CacheSize: 2, CacheTTL: time.Minute, Now: c.now})
	hash, err := p.hash(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	check := func(password string) (ok, fresh bool) {
		t.Helper()
		ok, fresh, err := p.check(t.Context(), here, "bob", hash, password)
		if err != nil {
			t.Fatal(err)
		}
		return ok, fresh
	}
	for _, step := range []struct {
		pass  time.Duration
		fresh bool
	}{{0, true}, {0, false}, {59 * time.Second, false}, {time.Second, true}, {0, false}} {
		c.pass(step.pass)
		if ok, fresh := check("secret"); !ok || fresh != step.fresh {
			t.Fatalf("ok %v, computed %v, want computed %v", ok, fresh, step.fresh)
		}
	}
	for range 2 {
		if ok, fresh := check("wrong"); ok || !fresh {
			t.Fatalf("wrong password: ok %v, computed %v; failures must not be remembered", ok, fresh)
		}
	}
	for range 3 {
		h, err := p.hash(t.Context(), "other")
		if err != nil {
			t.Fatal(err)
		}
		if ok, _, err := p.check(t.Context(), here, "x", h, "other"); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if n := p.verified.len(); n != 2 {
		t.Fatalf("%d verified credentials in memory, want 2", n)
	}
	if ok, fresh := check("secret"); !ok || !fresh {
		t.Fatalf("ok %v, computed %v, want it to be computed again", ok, fresh)
	}
}

func TestDummyHash(t *testing.T) {
	for cost := bcrypt.MinCost; cost <= 6; cost++ {
		h := dummyHash(cost)
		if got, err := bcrypt.Cost(h); err != nil || got != cost {
			t.Fatalf("cost %d, %v", got, err)
		}
		if err := bcrypt.CompareHashAndPassword(h, []byte("x")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			t.Fatalf("comparing with it: %v: it would take no time", err)
		}
	}
}

func TestLoginFailuresAreLimited(t *testing.T) {
	c := newClock()
	r := open(t, openStore(t), c.config)
	put(t, r, "bob", user("secret"))
	put(t, r, "amy", user("secret"))
	const tooMany = "too many: Too many failed logins; try again in a minute"
	if got := login(t, r, "bob", "secret", here); got != "ok bob" {
		t.Fatal(got)
	}
	for i := range DefaultFailures {
		if got := login(t, r, "bob", fmt.Sprint("guess", i), here); got != "unauthorized: Invalid login" {
			t.Fatalf("guess %d: %s", i, got)
		}
	}
	for _, tt := range []struct{ why, name, password, from, want string }{
		{"one more guess", "bob", "guess", here, tooMany},
		{"the right one, which is in memory: else it could be guessed there", "bob", "secret", "192.0.2.1:77", tooMany},
		{"another address", "bob", "secret", "192.0.2.2:1000", "ok bob"},
		{"another name", "amy", "secret", here, "ok amy"},
	} {
		if got := login(t, r, tt.name, tt.password, tt.from); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.why, got, tt.want)
		}
	}
	c.pass(59 * time.Second)
	if got := login(t, r, "bob", "secret", here); got != tooMany {
		t.Errorf("after 59 s: %s", got)
	}
	c.pass(time.Second)
	if got := login(t, r, "bob", "secret", here); got != "ok bob" {
		t.Errorf("after a minute: %s", got)
	}
}

func TestFailuresOfOneIPv6Network(t *testing.T) {
	if attemptKey("[2001:db8::1]:5", "x") != attemptKey("[2001:db8::ffff:1]:6", "x") {
		t.Error("addresses of one network are told apart")
	}
	if attemptKey("[2001:db8:0:1::1]:5", "x") == attemptKey("[2001:db8::1]:5", "x") {
		t.Error("addresses of two networks are not told apart")
	}
	if attemptKey("[::ffff:192.0.2.1]:5", "x") != attemptKey("192.0.2.1:6", "x") {
		t.Error("an IPv4 address in IPv6 form is told apart")
	}
	if attemptKey("192.0.2.1:5", "x") == attemptKey("192.0.2.2:5", "x") {
		t.Error("IPv4 addresses are not told apart")
	}
	if attemptKey("pipe", "x") == attemptKey("pipe", "y") {
		t.Error("names are not told apart")
	}
}

func TestFailureRecordsAreBounded(t *testing.T) {
	p := NewPasswords(PasswordsConfig{Cost: bcrypt.MinCost})
	for i := range maxFailureRecords + 10 {
		p.countFailure(attemptKey(here, fmt.Sprint(i)), time.Time{})
	}
	if n := p.failures.len(); n != maxFailureRecords {
		t.Fatalf("%d records, want %d", n, maxFailureRecords)
	}
}

// Guesses at the same time must not get past the limit together, and who logs in many times at once with
// the right password must not run into it.
func TestLoginsAtOnce(t *testing.T) {
	r := open(t, openStore(t))
	put(t, r, "bob", user("secret"))
	var wrong, refused, right atomic.Int64
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			_, err := r.Authenticate(t.Context(), "bob", fmt.Sprint("guess", i), here)
			switch tidegate.ErrorCode(err) {
			case tidegate.Unauthorized:
				wrong.Add(1)
			case tidegate.TooMany:
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := r.Authenticate(t.Context(), "bob", "secret", "192.0.2.9:1"); err != nil {
				t.Error(err)
				return
			}
			right.Add(1)
		})
	}
	wg.Wait()
	if wrong.Load() != DefaultFailures || refused.Load() != 30 || right.Load() != 40 {
		t.Fatalf("%d wrong, %d refused, %d right; want %d, 30, 40", wrong.Load(), refused.Load(), right.Load(), DefaultFailures)
	}
}

func TestTooManyWaitForAHash(t *testing.T) {
	p := NewPasswords(PasswordsConfig{Cost: bcrypt.MinCost, Concurrency: 1})
	p.turns <- struct{}{} // somebody is at it
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range maxWaitingForHash {
		wg.Go(func() {
			_, _, err := p.check(ctx, here, fmt.Sprint(i), nil, fmt.Sprint(i))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("waiting: %v", err)
			}
		})
	}
	for waiting := 0; waiting < maxWaitingForHash; {
		p.mu.Lock()
		waiting = p.waiting
		p.mu.Unlock()
	}
	if _, _, err := p.check(t.Context(), here, "one", nil, "more"); tidegate.ErrorCode(err) != tidegate.Unavailable {
		t.Errorf("one more: %v", err)
	}
	cancel()
	wg.Wait()
	<-p.turns
	if n := p.failures.len(); n != 0 {
		t.Errorf("%d failures counted of checks that did not happen", n)
	}
	if len(p.flights) != 0 || p.waiting != 0 {
		t.Errorf("%d flights, %d waiting are left", len(p.flights), p.waiting)
	}
	if _, fresh, err := p.check(t.Context(), here, "one", nil, "more"); !fresh || err != nil {
		t.Errorf("afterwards: %v, %v", fresh, err)
	}
}

// A check that its caller gives up is done by one of those who wait for it.
func TestWaiterTakesOverAnAbandonedCheck(t *testing.T) {
	p := NewPasswords(PasswordsConfig{Cost: bcrypt.MinCost, Concurrency: 1})
	hash, err := p.hash(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	p.turns <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := p.check(ctx, here, "bob", hash, "secret"); !errors.Is(err, context.Canceled) {
			t.Errorf("first: %v", err)
		}
	})
	for n := 0; n == 0; {
		p.mu.Lock()
		n = len(p.flights)
		p.mu.Unlock()
	}
	wg.Go(func() {
		if ok, _, err := p.check(t.Context(), here, "bob", hash, "secret"); !ok || err != nil {
			t.Errorf("second: %v, %v", ok, err)
		}
	})
	cancel()
	<-p.turns
	wg.Wait()
}

func TestCostIsRaisedAtTheNextLogin(t *testing.T) {
	st := openStore(t)
	r := open(t, st)
	put(t, r, "bob", user("secret"))
	s, err := r.CreateSession(t.Context(), "bob", time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}
	r = open(t, st, func(c *Config) { c.BcryptCost = bcrypt.MinCost + 1 })
	cost := func() int {
		rec, err := r.peek(t.Context(), "user:bob")
		if err != nil {
			t.Fatal(err)
		}
		n, err := bcrypt.Cost(rec.hash)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	login(t, r, "bob", "wrong", here)
	if got := cost(); got != bcrypt.MinCost {
		t.Fatalf("cost %d after a failed login", got)
	}
	for range 2 {
		if got := login(t, r, "bob", "secret", here); got != "ok bob" {
			t.Fatal(got)
		}
		if got := cost(); got != bcrypt.MinCost+1 {
			t.Fatalf("cost %d, want %d", got, bcrypt.MinCost+1)
		}
	}
	if _, _, err := r.Session(t.Context(), s.ID.Reveal()); err != nil {
		t.Fatalf("the session ended: %v", err)
	}
}

func TestHashPassword(t *testing.T) {
	h, err := HashPassword("secret", bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAdminAccounts([]AdminAccount{{Name: "root", PasswordHash: NewSecret(h), Roles: []string{"admin"}}},
		NewPasswords(PasswordsConfig{Cost: bcrypt.MinCost}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Authenticate(t.Context(), "root", "secret", here); err != nil {
		t.Fatal(err)
	}
	if _, err := HashPassword("secret", 99); err == nil {
		t.Fatal("cost 99 was accepted")
	}
}

func TestAdminAccounts(t *testing.T) {
	h, err := HashPassword("secret", bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	hash := NewSecret(h)
	p := NewPasswords(PasswordsConfig{Cost: bcrypt.MinCost})
	a, err := NewAdminAccounts([]AdminAccount{
		{"root", hash, []string{"admin"}, nil},
		{"cluster", hash, []string{"cluster_admin"}, nil},
		{"reader", hash, []string{"ro_admin"}, nil},
		{"app", hash, []string{"mobile_sync_gateway"}, []string{"db1"}},
		{"apps", hash, []string{"bucket_admin"}, nil},
		{"both", hash, []string{"ro_admin", "bucket_full_access"}, []string{"db2"}},
		{"none", hash, nil, []string{"db1"}},
	}, p)
	if err != nil {
		t.Fatal(err)
	}
	if a.Len() != 7 {
		t.Errorf("Len %d", a.Len())
	}
	for name, want := range map[string]string{ // db1, db2, server read, server write
		"root": "1111", "cluster": "1111", "reader": "0010", "app": "1000", "apps": "1100", "both": "0110", "none": "0000",
	} {
		admin, err := a.Authenticate(t.Context(), name, "secret", here)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, may := range []bool{
			admin.MayDatabase("db1"), admin.MayDatabase("db2"), admin.MayReadServer(), admin.MayWriteServer(),
		} {
			got += map[bool]string{true: "1", false: "0"}[may]
		}
		if got != want || admin.Name() != name {
			t.Errorf("%s (%s): %s, want %s", name, admin.Name(), got, want)
		}
	}
	for _, name := range []string{"root", "nobody", ""} {
		if _, err := a.Authenticate(t.Context(), name, "wrong", here); tidegate.ErrorCode(err) != tidegate.Unauthorized {
			t.Errorf("%q with a wrong password: %v", name, err)
		}
	}
	for _, bad := range []AdminAccount{
		{"", hash, []string{"admin"}, nil}, {"x", hash, []string{"boss"}, nil}, {"x", NewSecret("secret"), []string{"admin"}, nil},
	} {
		if _, err := NewAdminAccounts([]AdminAccount{bad}, p); tidegate.ErrorCode(err) != tidegate.Invalid || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v", bad.Name, err)
		}
	}
	if _, err := NewAdminAccounts([]AdminAccount{{"x", hash, nil, nil}, {"x", hash, nil, nil}}, p); err == nil {
		t.Error("a name twice was accepted")
	}
}
