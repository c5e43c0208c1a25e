package access

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
)

type lists = map[string][]string

// sync-function.md §11, vector 10.
func TestGrantKeepsItsSequenceAndGoesToHistory(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	put(t, r, "bob", UserUpdate{})
	d := docs{}
	to(t, r, 10)
	d.write(t, r, 0, "D", lists{"bob": {"x"}}, nil)
	if got := load(t, r, "bob").Channels(0)["x"]; got != 10 {
		t.Fatalf("x since %d, want 10", got)
	}
	to(t, r, 20)
	d.write(t, r, 0, "D", lists{"bob": {"x"}}, nil)
	if got := load(t, r, "bob").Channels(0)["x"]; got != 10 {
		t.Fatalf("after an update that still grants it: x since %d, want 10", got)
	}
	to(t, r, 30)
	d.write(t, r, 0, "D", nil, nil)
	u := load(t, r, "bob")
	if _, ok := u.Channels(0)["x"]; ok {
		t.Fatal("x is still there")
	}
	if got := u.ChannelHistory(0, "x"); !slices.Equal(got, []Span{{10, 30}}) {
		t.Fatalf("history of x: %v, want [10,30)", got)
	}
	for since, want := range map[tidegate.Seq]tidegate.Grants{9: {"x": 30}, 29: {"x": 30}, 30: nil, 31: nil} {
		if got := u.Revoked(0, since); !maps.Equal(got, want) {
			t.Errorf("Revoked(%d) = %v, want %v", since, got, want)
		}
	}
	if got := u.Revoked(1, 9); got != nil {
		t.Errorf("revoked in another collection: %v", got)
	}
}

// sync-function.md §11, vector 11.
func TestSecondGrantOutlivesTheFirst(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	put(t, r, "bob", UserUpdate{})
	d := docs{}
	to(t, r, 10)
	d.write(t, r, 0, "D", lists{"bob": {"x"}}, nil)
	to(t, r, 15)
	d.write(t, r, 0, "E", lists{"bob": {"x"}}, nil)
	if got := load(t, r, "bob").Channels(0)["x"]; got != 10 {
		t.Fatalf("x since %d, want the lowest, 10", got)
	}
	to(t, r, 40)
	d.write(t, r, 0, "D", nil, nil)
	u := load(t, r, "bob")
	if got := u.Channels(0)["x"]; got != 15 {
		t.Fatalf("x since %d, want 15", got)
	}
	if len(u.rec.lost) != 0 || u.Revoked(0, 0) != nil {
		t.Fatalf("history although x was never lost: %v", u.rec.lost)
	}
	// Bob had x since 10 without a break: a revocation must not forget that.
	to(t, r, 50)
	d.write(t, r, 0, "E", nil, nil)
	if got := load(t, r, "bob").ChannelHistory(0, "x"); !slices.Equal(got, []Span{{10, 50}}) {
		t.Fatalf("history of x: %v, want [10,50)", got)
	}
}

// sync-function.md §11, vector 12, and what follows when the user or the role loses it.
func TestChannelOfARole(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	put(t, r, "bob", UserUpdate{})
	to(t, r, 5)
	putRole(t, r, "r", "x")
	to(t, r, 12)
	put(t, r, "bob", UserUpdate{AdminRoles: []string{"r"}})
	u := load(t, r, "bob")
	if got := u.Channels(0)["x"]; got != 12 {
		t.Fatalf("x since %d, want 12", got)
	}
	if got := u.RoleNames(); !slices.Equal(got, []string{"r"}) {
		t.Fatalf("roles %v", got)
	}
	to(t, r, 20)
	putRole(t, r, "r")
	u = load(t, r, "bob")
	if _, ok := u.Channels(0)["x"]; !ok {
		t.Fatal("a role update without admin_channels took x away")
	}
	if _, err := r.PutRole(t.Context(), "r", RoleUpdate{AdminChannels: []string{}}, false); err != nil {
		t.Fatal(err)
	}
	u = load(t, r, "bob")
	if got := u.Revoked(0, 19); !maps.Equal(got, tidegate.Grants{"x": 20}) {
		t.Fatalf("revoked %v, want x at 20", got)
	}
	if got := u.ChannelHistory(0, "x"); !slices.Equal(got, []Span{{12, 20}}) {
		t.Fatalf("history of x: %v, want [12,20): before 12 bob had not the role", got)
	}
	to(t, r, 30)
	putRole(t, r, "r", "x", "y")
	to(t, r, 40)
	put(t, r, "bob", UserUpdate{AdminRoles: []string{}})
	u = load(t, r, "bob")
	if got := u.Revoked(0, 35); !maps.Equal(got, tidegate.Grants{"x": 40, "y": 40}) {
		t.Fatalf("revoked with the role: %v, want x and y at 40", got)
	}
	if got := u.ChannelHistory(0, "x"); !slices.Equal(got, []Span{{12, 20}, {30, 40}}) {
		t.Fatalf("history of x: %v", got)
	}
	to(t, r, 50)
	putRole(t, r, "r", "x", "y", "z")
	u = load(t, r, "bob")
	if got := u.Revoked(0, 0); !maps.Equal(got, tidegate.Grants{"x": 40, "y": 40}) {
		t.Fatalf("revoked %v: a channel that the role got after bob lost the role is none of his business", got)
	}
}

func TestChannelLeftTheRoleBeforeTheUserDid(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	putRole(t, r, "r", "x", "y")
	put(t, r, "bob", UserUpdate{AdminRoles: []string{"r"}})
	load(t, r, "bob")
	to(t, r, 10)
	putRole(t, r, "r", "y")
	load(t, r, "bob")
	to(t, r, 20)
	put(t, r, "bob", UserUpdate{AdminRoles: []string{}})
	if got := load(t, r, "bob").Revoked(0, 5); !maps.Equal(got, tidegate.Grants{"x": 10, "y": 20}) {
		t.Fatalf("revoked %v, want x at 10 and y at 20", got)
	}
	if got := load(t, r, "bob").Revoked(0, 15); !maps.Equal(got, tidegate.Grants{"y": 20}) {
		t.Fatalf("revoked since 15: %v, want y at 20", got)
	}
}

func TestRoleThatIsMadeLater(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	d := docs{}
	put(t, r, "bob", UserUpdate{AdminRoles: []string{"r"}})
	to(t, r, 5)
	d.write(t, r, 0, "D", lists{"role:r": {"x"}}, nil)
	u := load(t, r, "bob")
	if _, ok := u.Channels(0)["x"]; ok || len(u.RoleNames()) != 0 {
		t.Fatal("a role that does not exist has channels")
	}
	to(t, r, 20)
	putRole(t, r, "r", "y")
	u = load(t, r, "bob")
	if want := (tidegate.Grants{"!": 1, "x": 20, "y": 20}); !maps.Equal(u.Channels(0), want) {
		t.Fatalf("channels %v, want %v: a reader at 10 needs the backfill of both", u.Channels(0), want)
	}
}

func TestDeletedRole(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	d := docs{}
	putRole(t, r, "r", "x")
	d.write(t, r, 0, "D", lists{"role:r": {"y"}}, nil)
	put(t, r, "bob", UserUpdate{AdminRoles: []string{"r"}})
	load(t, r, "bob")
	to(t, r, 10)
	if err := r.DeleteRole(t.Context(), "r", false); err != nil {
		t.Fatal(err)
	}
	u := load(t, r, "bob")
	if got := u.Revoked(0, 9); !maps.Equal(got, tidegate.Grants{"x": 10, "y": 10}) {
		t.Fatalf("revoked %v", got)
	}
	if err := r.DeleteRole(t.Context(), "r", false); !errors.Is(err, tidegate.ErrMissing) {
		t.Fatalf("deleting it again: %v", err)
	}
	if _, err := r.RoleRecord(t.Context(), "r"); !errors.Is(err, tidegate.ErrMissing) {
		t.Fatalf("reading it: %v", err)
	}
	for deleted, want := range map[bool][]string{false: {}, true: {"r"}} {
		if got, err := r.Roles(t.Context(), deleted); err != nil || !slices.Equal(got, want) {
			t.Errorf("Roles(%v) = %v, %v", deleted, got, err)
		}
	}
	to(t, r, 20)
	putRole(t, r, "r", "z")
	u = load(t, r, "bob")
	if want := (tidegate.Grants{"!": 1, "y": 20, "z": 20}); !maps.Equal(u.Channels(0), want) {
		t.Fatalf("after it was made again: %v, want %v", u.Channels(0), want)
	}
	if got := u.Revoked(0, 9); !maps.Equal(got, tidegate.Grants{"x": 10}) {
		t.Fatalf("revoked %v", got)
	}
	if err := r.DeleteRole(t.Context(), "r", true); err != nil {
		t.Fatal(err)
	}
	if got := load(t, r, "bob").Channels(0); !maps.Equal(got, tidegate.Grants{"!": 1}) {
		t.Fatalf("after the purge: %v", got)
	}
	if got, _ := r.Roles(t.Context(), true); len(got) != 0 {
		t.Fatalf("purged role is listed: %v", got)
	}
}

func TestGrantsByDocumentsToRolesAndCollections(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	d := docs{}
	putRole(t, r, "r")
	put(t, r, "bob", UserUpdate{
		CollectionAccess: map[string]map[string]CollectionUpdate{"s": {"c": {AdminChannels: []string{"own"}}}},
	})
	s1 := d.write(t, r, 1, "D", lists{"bob": {"x"}, "role:r": {"rx"}}, nil)
	s2 := d.write(t, r, 0, "D", nil, lists{"bob": {"r"}})
	u := load(t, r, "bob")
	if want := (tidegate.Grants{"!": 1, "x": s1, "own": 2, "rx": s2}); !maps.Equal(u.Channels(1), want) {
		t.Errorf("collection 1: %v, want %v", u.Channels(1), want)
	}
	if want := (tidegate.Grants{"!": 1}); !maps.Equal(u.Channels(0), want) || !maps.Equal(u.Channels(9), want) {
		t.Errorf("collection 0: %v, 9: %v, want %v", u.Channels(0), u.Channels(9), want)
	}
	d.write(t, r, 0, "D", nil, nil)
	u = load(t, r, "bob")
	if _, ok := u.Channels(1)["rx"]; ok || len(u.RoleNames()) != 0 {
		t.Error("the role stayed after the document that gave it")
	}
	if got := u.Revoked(1, s2); !maps.Equal(got, tidegate.Grants{"rx": s2 + 1}) {
		t.Errorf("revoked %v", got)
	}
}

func TestGrantsWaitForTheUser(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	d := docs{}
	seq := d.write(t, r, 0, "D", lists{"bob": {"x"}}, lists{"bob": {"r"}})
	putRole(t, r, "r", "y")
	if _, err := r.User(t.Context(), "bob"); !errors.Is(err, tidegate.ErrMissing) {
		t.Fatalf("User: %v, want missing", err)
	}
	put(t, r, "bob", UserUpdate{})
	if want := (tidegate.Grants{"!": 1, "x": seq, "y": seq + 1}); !maps.Equal(load(t, r, "bob").Channels(0), want) {
		t.Fatalf("channels %v, want %v", load(t, r, "bob").Channels(0), want)
	}
}

// sync-function.md §6: the lowest pending sequence counts when nobody looked in between.
func TestLossesBeforeALookAreDatedByTheFirstChange(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	d := docs{}
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"x", "y"}})
	load(t, r, "bob")
	to(t, r, 20)
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"y"}})
	d.write(t, r, 0, "D", lists{"bob": {"z"}}, nil)
	put(t, r, "bob", UserUpdate{AdminChannels: []string{}})
	if got := text(load(t, r, "bob").Revoked(0, 10)); got != "x20 y20" {
		t.Fatalf("revoked %s, want x and y at 20", got)
	}
}

func TestPurgeOfADocumentTakesASequenceIfItGranted(t *testing.T) {
	r := open(t, openStore(t), noPasswords)
	d := docs{}
	put(t, r, "bob", UserUpdate{})
	seq := d.write(t, r, 0, "D", lists{"bob": {"x"}}, nil)
	load(t, r, "bob")
	d.purge(t, r, 0, "D")
	if got := load(t, r, "bob").Revoked(0, seq); !maps.Equal(got, tidegate.Grants{"x": seq + 1}) {
		t.Fatalf("revoked %v, want x at %d", got, seq+1)
	}
	d.purge(t, r, 0, "D")
	if last := bump(t, r, 1); last != seq+2 {
		t.Fatalf("a purge that changes no grant took a sequence: next is %d", last)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	c := newClock()
	r := open(t, openStore(t), noPasswords, c.config, func(cfg *Config) { cfg.HistoryWindow = time.Hour })
	d := docs{}
	put(t, r, "bob", UserUpdate{})
	var first, last tidegate.Seq
	for i := range maxSpans + 5 {
		seq := d.write(t, r, 0, "D", lists{"bob": {"x"}}, nil)
		load(t, r, "bob")
		if i == 0 {
			first = seq
		}
		last = d.write(t, r, 0, "D", nil, nil)
		load(t, r, "bob")
	}
	u := load(t, r, "bob")
	spans := u.ChannelHistory(0, "x")
	if len(spans) != maxSpans || spans[0].Start != first || spans[maxSpans-1].End != last {
		t.Fatalf("history: %v, want %d periods from %d to %d", spans, maxSpans, first, last)
	}
	c.pass(59 * time.Minute)
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"y"}})
	if len(load(t, r, "bob").ChannelHistory(0, "x")) == 0 {
		t.Fatal("history was dropped within its window")
	}
	c.pass(2 * time.Minute)
	put(t, r, "bob", UserUpdate{AdminChannels: []string{"z"}})
	u = load(t, r, "bob")
	if got := u.ChannelHistory(0, "x"); len(got) != 0 {
		t.Fatalf("history outlived its window: %v", got)
	}
	if got := u.Revoked(0, 1); !slices.Equal(names(got), []string{"y"}) {
		t.Fatalf("revoked %v, want y", got)
	}
}

func TestHistoryOfManyChannelsKeepsOnePeriodEach(t *testing.T) {
	h := history{}
	now := time.Now()
	for i := range historyBudget / 2 {
		name := string(rune('a'+i%26)) + time.Duration(i).String()
		h[name] = loss{updated: now, spans: []Span{{1, 2}, {3, 4}, {5, 6}}}
	}
	for name, l := range h.trim(now) {
		if len(l.spans) != 2 || l.spans[0] != (Span{1, 4}) {
			t.Fatalf("%s: %v, want two periods, the oldest two as one", name, l.spans)
		}
	}
	h.forgetFirst(len(h) - 7)
	if len(h) != 7 {
		t.Fatalf("%d names left, want 7", len(h))
	}
}
