package access

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// watch turns calls into values of a channel, of which one at most waits.
func watch(r *Registry, name string) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	return c, r.Watch(name, func() {
		select {
		case c <- struct{}{}:
		default:
		}
	})
}

func signalled(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestWatch(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	d := docs{}
	putRole(t, r, "r")
	putRole(t, r, "other")
	put(t, r, "bob", UserUpdate{AdminRoles: []string{"r", "later"}})
	put(t, r, "amy", UserUpdate{})
	changed, stop := watch(r, "bob")
	load(t, r, "bob")
	signalled(changed)
	for _, tt := range []struct {
		name string
		do   func()
		want bool
	}{
		{"nothing", func() {}, false},
		{"the user's channels", func() { put(t, r, "bob", UserUpdate{AdminChannels: []string{"x"}}) }, true},
		{"another user's", func() { put(t, r, "amy", UserUpdate{AdminChannels: []string{"x"}}) }, false},
		{"its role's", func() { putRole(t, r, "r", "y") }, true},
		{"another role's", func() { putRole(t, r, "other", "y") }, false},
		{"a role that is made", func() { putRole(t, r, "later") }, true},
		{"a document's grant to it", func() { d.write(t, r, 0, "D", lists{"bob": {"z"}}, nil) }, true},
		{"a document's grant to its role", func() { d.write(t, r, 0, "D", lists{"bob": {"z"}, "role:r": {"z"}}, nil) }, true},
		{"the same grant again", func() { d.write(t, r, 0, "D", lists{"bob": {"z"}, "role:r": {"z"}}, nil) }, false},
		{"a role from a document", func() { d.write(t, r, 0, "E", nil, lists{"bob": {"other"}}) }, true},
		{"that role's channels", func() { putRole(t, r, "other", "w") }, true},
		{"the end of that role", func() {
			if err := r.DeleteRole(t.Context(), "other", false); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"disabling", func() { put(t, r, "bob", UserUpdate{Disabled: ptr(true)}) }, true},
		{"enabling", func() { put(t, r, "bob", UserUpdate{Disabled: ptr(false)}) }, true},
		{"deleting", func() {
			if err := r.DeleteUser(t.Context(), "bob"); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"making it again", func() { put(t, r, "bob", UserUpdate{}) }, true},
	} {
		tt.do()
		if got := signalled(changed); got != tt.want {
			t.Errorf("%s: signalled %v, want %v", tt.name, got, tt.want)
		}
		_, _ = r.User(t.Context(), "bob")
		signalled(changed) // a spurious one is allowed
	}
	stop()
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"x"}})
	if signalled(changed) {
		t.Error("signalled after stop")
	}
	if w := r.watched; len(w.byName)+len(w.byRole)+len(w.unknown) != 0 {
		t.Errorf("watches are left: %v", w)
	}
}

func TestWatchersShareNothing(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	put(t, r, "bob", UserUpdate{})
	a, stopA := watch(r, "bob")
	b, stopB := watch(r, "bob")
	guest, stopGuest := watch(r, "GUEST")
	defer stopGuest()
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"x"}})
	if !signalled(a) || !signalled(b) || signalled(guest) {
		t.Error("not both of bob's watchers alone were woken")
	}
	stopA()
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"y"}})
	if signalled(a) || !signalled(b) {
		t.Error("stopping one watcher stopped the other")
	}
	stopB()
	_, stopC := watch(r, "bob")
	if len(r.watched.byName) != 2 {
		t.Error("a new watcher is not there")
	}
	stopB() // once more by mistake: not this one's
	if len(r.watched.byName) != 2 {
		t.Error("an old stop took a new watcher away")
	}
	stopC()
}

// Who watches before the user's roles are known is woken by any role.
func TestWatchBeforeLoading(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	putRole(t, r, "r")
	put(t, r, "bob", UserUpdate{AdminRoles: []string{"r"}})
	changed, stop := watch(r, "bob")
	defer stop()
	putRole(t, r, "r", "x")
	if !signalled(changed) {
		t.Error("not woken")
	}
}

func TestDisabledAndDeletedUsersAreNobody(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	put(t, r, "bob", UserUpdate{Disabled: ptr(true)})
	if _, err := r.User(t.Context(), "bob"); tidegate.ErrorCode(err) != tidegate.Unauthorized {
		t.Errorf("disabled: %v", err)
	}
	if err := r.DeleteUser(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.User(t.Context(), "bob"); !errors.Is(err, tidegate.ErrMissing) {
		t.Errorf("deleted: %v", err)
	}
	for _, name := range []string{"", "GUEST"} {
		if _, err := r.User(t.Context(), name); tidegate.ErrorCode(err) != tidegate.Unauthorized {
			t.Errorf("guest %q by default: %v", name, err)
		}
	}
	if u, err := r.Guest(t.Context()); err != nil || !u.IsGuest() || !u.Disabled() {
		t.Errorf("Guest: %v, %v", u, err)
	}
}

// Whoever waits as Watch says it should never misses a change, however it meets the loads of others.
func TestNoWakeUpIsLost(t *testing.T) {
	const changes = 150
	r := open(t, openStore(t), noPasswords, func(c *Config) { c.UserCacheSize = 30 })
	putRole(t, r, "r")
	put(t, r, "bob", UserUpdate{AdminRoles: []string{"r"}})
	put(t, r, "amy", UserUpdate{AdminRoles: []string{"r"}})
	ctx, done := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, name := range []string{"bob", "amy", "bob"} {
		changed, stop := watch(r, name)
		wg.Go(func() {
			defer stop()
			for last := ""; last != fmt.Sprint("c", changes); {
				u, err := r.User(t.Context(), name)
				if err != nil {
					t.Error(err)
					return
				}
				if list := names(u.Channels(0)); len(list) > 1 { // the role may have none yet
					last = list[1]
				}
				if last == fmt.Sprint("c", changes) {
					return
				}
				select {
				case <-changed:
				case <-ctx.Done(): // all changes are made: a signal must be there
					if !signalled(changed) {
						t.Errorf("%s: a wake-up was lost after %s", name, last)
						return
					}
				}
			}
		})
	}
	wg.Go(func() { // loads and forgets all the time
		for ctx.Err() == nil {
			_, _ = r.user(ctx, "bob")
			r.mu.Lock()
			r.users.clear()
			r.mu.Unlock()
		}
	})
	for i := range changes {
		channel := fmt.Sprint("c", i+1)
		if i%2 == 0 {
			channel = "c" + fmt.Sprint(i+1)
		}
		if _, err := r.PutRole(t.Context(), "r", RoleUpdate{AdminChannels: []string{channel}}, false); err != nil {
			t.Fatal(err)
		}
	}
	done()
	wg.Wait()
}

// A change is seen by whoever asks after it was made, also by those who do not look into the store.
func TestChangesAreSeenAtOnce(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	putRole(t, r, "r")
	put(t, r, "bob", UserUpdate{AdminRoles: []string{"r"}})
	ctx, done := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := r.user(t.Context(), "bob"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	d := docs{}
	for i := range 60 {
		own, inherited, granted := fmt.Sprint("own", i), fmt.Sprint("role", i), fmt.Sprint("doc", i)
		put(t, r, "bob", UserUpdate{AdminChannels: []string{own}})
		putRole(t, r, "r", inherited)
		d.write(t, r, 0, "D", lists{"role:r": {granted}}, nil)
		u, err := r.user(t.Context(), "bob")
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"!", granted, own, inherited}
		slices.Sort(want)
		if got := names(u.Channels(0)); !slices.Equal(got, want) {
			t.Fatalf("channels %v, want %v", got, want)
		}
	}
	done()
	wg.Wait()
}

// Another process changes the store: User sees it without having been told.
func TestChangesOfAnotherProcess(t *testing.T) {
	st := openStore(t)
	r, other := open(t, st, noPasswords), open(t, st, noPasswords)
	putRole(t, r, "r", "x")
	put(t, r, "bob", UserUpdate{AdminRoles: []string{"r"}})
	changed, stop := watch(r, "bob")
	defer stop()
	load(t, r, "bob")
	signalled(changed)
	putRole(t, other, "r", "y")
	if got := names(load(t, r, "bob").Channels(0)); !slices.Equal(got, []string{"!", "y"}) {
		t.Fatalf("channels %v", got)
	}
	if !signalled(changed) {
		t.Error("nobody was woken")
	}
	docs{}.write(t, other, 0, "D", lists{"bob": {"z"}}, nil)
	if got := names(load(t, r, "bob").Channels(0)); !slices.Equal(got, []string{"!", "y", "z"}) {
		t.Fatalf("channels %v", got)
	}
	bump(t, other, keptEvents)
	put(t, other, "bob", UserUpdate{AdminChannels: []string{"far"}})
	if got := names(load(t, r, "bob").Channels(0)); !slices.Equal(got, []string{"!", "far", "y", "z"}) {
		t.Fatalf("channels %v", got)
	}
}

// A full disk must not keep readers out; what could not be stored is computed again later.
func TestRebuildWithoutWriting(t *testing.T) {
	st := &fullStore{Store: openStore(t)}
	r := open(t, st, noPasswords)
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"x"}})
	load(t, r, "bob")
	to(t, r, 10)
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"y"}})
	st.full = true
	for range 2 {
		u := load(t, r, "bob")
		if got := names(u.Channels(0)); !slices.Equal(got, []string{"!", "y"}) || u.Revoked(0, 9)["x"] != 10 {
			t.Fatalf("channels %v, revoked %v", got, u.Revoked(0, 9))
		}
	}
	if countRows(t, r, store.KindInvalid) != 1 {
		t.Fatal("the mark is gone")
	}
	st.full = false
	if u := load(t, r, "bob"); u.Revoked(0, 9)["x"] != 10 {
		t.Fatalf("revoked %v", u.Revoked(0, 9))
	}
	if countRows(t, r, store.KindInvalid) != 0 {
		t.Fatal("the mark is still there")
	}
}

type fullStore struct {
	store.Store
	full bool
}

func (s *fullStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	if s.full {
		return store.ErrDiskFull
	}
	return s.Store.Update(ctx, fn)
}

// Grants that documents make while their principals are loaded must all be there in the end.
func TestGrantsWhileLoading(t *testing.T) {
	const writers, writes = 4, 40
	r := open(t, openStore(t), noPasswords, func(c *Config) { c.UserCacheSize = 1 })
	put(t, r, "bob", UserUpdate{AdminRoles: []string{"r"}})
	putRole(t, r, "r")
	ctx, done := context.WithCancel(t.Context())
	var wg, loads sync.WaitGroup
	for range 3 {
		loads.Go(func() {
			for ctx.Err() == nil {
				load(t, r, "bob")
			}
		})
	}
	for w := range writers {
		wg.Go(func() {
			d := docs{}
			for i := range writes {
				who := []string{"bob", "role:r"}[i%2]
				d.write(t, r, 0, fmt.Sprint(w, "-", i), lists{who: {fmt.Sprint(w, "-", i)}}, nil)
			}
		})
		wg.Go(func() {
			for i := range writes / 4 {
				put(t, r, "bob", UserUpdate{CollectionAccess: map[string]map[string]CollectionUpdate{
					"s": {"c": {AdminChannels: []string{fmt.Sprint(w, "-", i)}}},
				}})
			}
		})
	}
	wg.Wait()
	done()
	loads.Wait()
	for i, reg := range []*Registry{r, open(t, r.cfg.Store, noPasswords)} {
		if got := len(load(t, reg, "bob").Channels(0)); got != 1+writers*writes {
			t.Errorf("registry %d: %d channels, want %d", i, got, 1+writers*writes)
		}
		if got := len(load(t, reg, "bob").Channels(1)); got != 2 {
			t.Errorf("registry %d: %d channels in the other collection, want 2", i, got)
		}
	}
}

// Whoever is told may ask the registry and stop watching at once: no lock is held.
func TestWatcherMayStopFromItsCall(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	putRole(t, r, "r")
	put(t, r, "bob", UserUpdate{AdminRoles: []string{"r"}})
	for name, change := range map[string]func(){
		"the user": func() { put(t, r, "bob", UserUpdate{AdminChannels: []string{"x"}}) },
		"a role":   func() { putRole(t, r, "r", "y") },
		"all":      func() { r.forgetAll(0) },
	} {
		told := 0
		var stop func()
		stop = r.Watch("bob", func() {
			told++
			stop()
		})
		change()
		change()
		if told != 1 {
			t.Errorf("%s: told %d times", name, told)
		}
	}
}
