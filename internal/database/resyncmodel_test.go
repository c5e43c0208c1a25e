package database_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// The model of resync (hardening.md I13, I6 to I9): whatever mix of edits, resyncs, crashes and aborts there was, what the
// database says of documents and principals, and what feeds deliver, is what a naive computation from scratch says.

// modelFn is one of a family of sync functions that is easy to evaluate twice: in JavaScript, and here. Bodies have three of
// each member, of which the function looks at one.
type modelFn struct{ channels, grants, roles, until, refuses int }

func (f modelFn) source() string {
	return fmt.Sprintf(`function(doc) {
	if (doc.n %% 7 == %d) { throw({forbidden: "no"}); }
	channel(doc.c%d);
	if (doc.g%d) { access(doc.g%d.to, doc.g%d.c); }
	if (doc.r%d) { role(doc.r%d.to, doc.r%d.r); }
	if (doc.e%d) { expiry(doc.e%d); }
}`, f.refuses, f.channels, f.grants, f.grants, f.grants, f.roles, f.roles, f.roles, f.until, f.until)
}

// modelBody is a body as the functions see it.
type modelBody struct {
	N          int         `json:"n"`
	C0, C1, C2 []string    `json:",omitempty"`
	G0, G1, G2 *modelGrant `json:",omitempty"`
	R0, R1, R2 *modelRole  `json:",omitempty"`
	E0, E1, E2 string      `json:",omitempty"`
}

type modelGrant struct {
	To string   `json:"to"`
	C  []string `json:"c"`
}

type modelRole struct {
	To string   `json:"to"`
	R  []string `json:"r"`
}

// routed is what a function makes of a body.
type routed struct {
	channels []string
	access   map[string][]string
	roles    map[string][]string
	until    string
}

func (f modelFn) route(y modelBody) routed {
	if y.N%7 == f.refuses {
		return routed{}
	}
	r := routed{channels: tidegate.NewChannelSet([][]string{y.C0, y.C1, y.C2}[f.channels]...), until: []string{y.E0, y.E1, y.E2}[f.until]}
	if g := []*modelGrant{y.G0, y.G1, y.G2}[f.grants]; g != nil && len(g.C) > 0 {
		r.access = map[string][]string{g.To: tidegate.NewChannelSet(slices.Clone(g.C)...)}
	}
	if g := []*modelRole{y.R0, y.R1, y.R2}[f.roles]; g != nil {
		var names []string
		for _, name := range g.R {
			names = append(names, strings.TrimPrefix(name, "role:"))
		}
		r.roles = map[string][]string{g.To: tidegate.NewChannelSet(names...)}
	}
	return r
}

// The collections and principals of the model.
var (
	modelColls = []store.Collection{0, 3}
	modelUsers = []string{"u0", "u1", "u2"}
	modelRoles = []string{"r0", "r1"}
)

// dyingStore stops taking anything after a number of Updates, as if the process had been killed.
type dyingStore struct {
	store.Store
	mu   sync.Mutex
	left int // Updates; negative: no end
}

var errKilled = errors.New("the process was killed")

func (s *dyingStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	s.mu.Lock()
	if s.left == 0 {
		s.mu.Unlock()
		return errKilled
	}
	s.left--
	s.mu.Unlock()
	return s.Store.Update(ctx, fn)
}

func (s *dyingStore) die(in int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = in
}

// resyncWorld is a database and what is known of it.
type resyncWorld struct {
	t     worldT
	st    store.Store
	blobs blob.Store

	dying *dyingStore
	db    *database.Database
	stop  func()

	fn      modelFn // configured
	uniform bool    // all documents are routed by it
	ids     []string
	clients map[string]*follower // by user and collection
	n       int
}

// worldT is a test, rapid's or the house's.
type worldT interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
	Context() context.Context
}

func newResyncWorld(t worldT, fn modelFn) *resyncWorld {
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	blobs, err := blob.OpenFiles("blobs", blob.Options{FS: vfs.NewMem(), MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	w := &resyncWorld{t: t, st: st, blobs: blobs, fn: fn, uniform: true, clients: map[string]*follower{}}
	for i := range 8 {
		w.ids = append(w.ids, fmt.Sprint("d", i))
	}
	w.open()
	for i, name := range modelRoles {
		w.must(w.db.Access().PutRole(t.Context(), name, access.RoleUpdate{AdminChannels: []string{fmt.Sprint("role", i)}}, false))
	}
	for i, name := range modelUsers {
		u := access.UserUpdate{AdminChannels: []string{fmt.Sprint("own", i)}, AdminRoles: modelRoles[:i%2]}
		w.must(w.db.Access().PutUser(t.Context(), name, u, false))
	}
	w.forgetClients()
	return w
}

func (w *resyncWorld) must(_ bool, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// open opens the database with the configured function, and runs it.
func (w *resyncWorld) open() {
	w.t.Helper()
	w.dying = &dyingStore{Store: w.st, left: -1}
	opts := database.Options{
		Name: "test", Space: space, AllowConflicts: true, CompactInterval: -1, OldRevExpiry: time.Hour,
		Access: access.Config{AllowEmptyPassword: true},
	}
	for _, coll := range modelColls {
		fn, err := compileOnce(w.fn.source(), "", script.Options{})
		if err != nil {
			w.t.Fatal(err)
		}
		o := database.CollectionOptions{ID: coll, Function: fn}
		if coll != 0 {
			o.Scope, o.Name = "s", fmt.Sprint("c", coll)
		}
		opts.Collections = append(opts.Collections, o)
	}
	var err error
	if w.db, err = database.Open(context.Background(), w.dying, w.blobs, opts); err != nil {
		w.t.Fatal(err)
	}
	database.Compiling(w.db, compileOnce)
	database.BatchDocs(w.db, 3)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.db.Run(ctx) })
	w.stop = func() {
		cancel()
		wg.Wait()
		_ = w.db.Close()
	}
}

func (w *resyncWorld) reopen() {
	w.stop()
	w.open()
}

// resync runs a resync to its end, or as far as atBatch lets it. It goes on if it was interrupted before.
func (w *resyncWorld) resync(o database.ResyncOptions, fn modelFn, atBatch func(n int, stop context.CancelCauseFunc)) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if atBatch != nil {
		database.AtBatch(w.db, func(n int) { atBatch(n, cancel) })
		defer database.AtBatch(w.db, nil)
	}
	if fn != w.fn {
		o.Functions = map[store.Collection]string{}
		for _, coll := range modelColls {
			o.Functions[coll] = fn.source()
		}
	}
	_, err := w.db.Resync(ctx, o)
	return err
}

// write makes a revision: an edit of the current one, or a branch. A function that refuses is fine.
func (w *resyncWorld) write(coll store.Collection, id string, y modelBody, deleted, branch bool) {
	w.t.Helper()
	h := w.db.Admin(coll)
	w.n++
	y.N = w.n
	body, err := json.Marshal(y)
	if err != nil {
		w.t.Fatal(err)
	}
	wr := &database.Write{ID: id, Body: bytesLower(body), Deleted: deleted, NewEdits: true}
	if branch {
		first, _ := tidegate.ParseRevID(fmt.Sprintf("1-b%d", w.n))
		wr.NewEdits, wr.History = false, []tidegate.RevID{first}
	} else if raw, err := h.Raw(w.t.Context(), id); err == nil {
		wr.Parent = raw.Rev
	}
	_, err = h.Put(w.t.Context(), wr)
	if err != nil && tidegate.ErrorCode(err) != tidegate.Forbidden && !errors.Is(err, errKilled) {
		w.t.Fatalf("write %s of %d: %v", id, coll, err)
	}
}

// bytesLower makes the members' names those of the functions.
func bytesLower(b []byte) []byte {
	s := string(b)
	for _, name := range []string{"C", "G", "R", "E"} {
		for i := range 3 {
			s = strings.ReplaceAll(s, fmt.Sprintf("%q:", fmt.Sprint(name, i)), fmt.Sprintf("%q:", fmt.Sprint(strings.ToLower(name), i)))
		}
	}
	return []byte(s)
}

// purge purges a document. The feed does not tell of it, so clients are told here.
func (w *resyncWorld) purge(coll store.Collection, id string) {
	w.t.Helper()
	for _, c := range w.clients {
		if c.coll == coll {
			delete(c.holds, id)
		}
	}
	if _, err := w.db.Admin(coll).Purge(w.t.Context(), []string{id}); err != nil && !errors.Is(err, errKilled) {
		w.t.Fatal(err)
	}
}

// follower is a client that has followed since it was made, with revocations.
type follower struct {
	user  string
	coll  store.Collection
	since tidegate.Since
	holds map[string]bool
}

// forgetClients starts all clients anew.
func (w *resyncWorld) forgetClients() {
	for _, user := range modelUsers {
		for _, coll := range modelColls {
			w.clients[fmt.Sprint(user, coll)] = &follower{user: user, coll: coll, holds: map[string]bool{}}
		}
	}
}

// pull brings a client up to date; pages of max entries, at most so many.
func (w *resyncWorld) pull(c *follower, max, pages int) {
	w.t.Helper()
	user, err := w.db.Access().User(w.t.Context(), c.user)
	if err != nil {
		w.t.Fatal(err)
	}
	h := w.db.As(user, c.coll)
	f, err := h.Changes(w.t.Context(), database.ChangesOptions{Request: changes.Request{Since: c.since, OneShot: true, Revocations: true}})
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	for ; pages != 0 && !f.Done(); pages-- {
		entries, err := f.Next(w.t.Context(), max)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.ID, "_user/") {
				continue
			}
			fresh, err := h.Fresh(w.t.Context())
			if err != nil {
				w.t.Fatal(err)
			}
			if entry.Left || entry.Deleted || entry.Revoked {
				delete(c.holds, entry.ID)
				continue
			}
			if _, err := fresh.Get(w.t.Context(), entry.ID, database.GetOptions{}); err == nil {
				c.holds[entry.ID] = true
			}
		}
		c.since = f.Since()
	}
}

// naive is what a computation from scratch says.
type naive struct {
	channels map[string]map[store.Collection]map[string]bool // of users
	visible  map[string]map[store.Collection][]string        // documents, by user
}

// verify compares everything with a computation from scratch. It returns what differs.
func (w *resyncWorld) verify() (problems []string) {
	w.t.Helper()
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	report, err := w.db.Check(w.t.Context(), database.CheckOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range report.Problems {
		problem("check: %s: %s", p.Kind, p.What)
	}
	if !w.uniform {
		return problems
	}
	n := w.scratch(problem)
	for _, user := range modelUsers {
		u, err := w.db.Access().User(w.t.Context(), user)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, coll := range modelColls {
			got, want := slices.Sorted(maps.Keys(u.Channels(coll))), slices.Sorted(maps.Keys(n.channels[user][coll]))
			if !slices.Equal(got, want) {
				problem("%s in %d has channels %q, from scratch %q", user, coll, got, want)
			}
			anew := &follower{user: user, coll: coll, holds: map[string]bool{}}
			w.pull(anew, 0, -1)
			follows := w.clients[fmt.Sprint(user, coll)]
			w.pull(follows, 0, -1)
			for what, c := range map[string]*follower{"from 0": anew, "that followed": follows} {
				if got := slices.Sorted(maps.Keys(c.holds)); !slices.Equal(got, n.visible[user][coll]) {
					problem("a client of %s in %d %s holds %q, from scratch %q", user, coll, what, got, n.visible[user][coll])
				}
			}
		}
	}
	return problems
}

// scratch computes what all documents and principals must be.
func (w *resyncWorld) scratch(problem func(string, ...any)) naive {
	w.t.Helper()
	roles := map[string]map[string]bool{} // of users
	own := map[string]map[store.Collection]map[string]bool{}
	add := func(principal string, coll store.Collection, channels ...string) {
		if own[principal] == nil {
			own[principal] = map[store.Collection]map[string]bool{}
		}
		if own[principal][coll] == nil {
			own[principal][coll] = map[string]bool{}
		}
		for _, c := range channels {
			own[principal][coll][c] = true
		}
	}
	for i, role := range modelRoles {
		add("role:"+role, 0, fmt.Sprint("role", i))
	}
	for i, user := range modelUsers {
		add(user, 0, fmt.Sprint("own", i))
		roles[user] = map[string]bool{}
		for _, role := range modelRoles[:i%2] {
			roles[user][role] = true
		}
	}
	current := map[store.Collection]map[string][]string{}
	for _, coll := range modelColls {
		current[coll] = map[string][]string{}
		for _, id := range w.ids {
			r, live := w.scratchDoc(coll, id, problem)
			if live {
				current[coll][id] = r.channels
			}
			for principal, channels := range r.access {
				add(principal, coll, channels...)
			}
			for user, names := range r.roles {
				for _, name := range names {
					if roles[user] != nil {
						roles[user][name] = true
					}
				}
			}
		}
	}
	n := naive{map[string]map[store.Collection]map[string]bool{}, map[string]map[store.Collection][]string{}}
	for _, user := range modelUsers {
		n.channels[user], n.visible[user] = map[store.Collection]map[string]bool{}, map[store.Collection][]string{}
		for _, coll := range modelColls {
			all := map[string]bool{"!": true}
			maps.Copy(all, own[user][coll])
			for role := range roles[user] {
				if slices.Contains(modelRoles, role) {
					maps.Copy(all, own["role:"+role][coll])
				}
			}
			n.channels[user][coll] = all
			for _, id := range slices.Sorted(maps.Keys(current[coll])) {
				if slices.ContainsFunc(current[coll][id], func(c string) bool { return all[c] }) {
					n.visible[user][coll] = append(n.visible[user][coll], id)
				}
			}
		}
	}
	return n
}

// scratchDoc computes what a document must be, from its bodies alone, and compares.
func (w *resyncWorld) scratchDoc(coll store.Collection, id string, problem func(string, ...any)) (r routed, live bool) {
	raw, err := w.db.Admin(coll).Raw(w.t.Context(), id)
	if err != nil {
		return r, false
	}
	for i, leaf := range raw.Tree.Leaves() {
		var y modelBody
		if err := json.Unmarshal(raw.Bodies[leaf.ID].Body, &y); err != nil {
			problem("%s in %d: %v", id, coll, err)
		}
		out := w.fn.route(y)
		if !slices.Equal(leaf.Channels, out.channels) {
			problem("%s in %d: leaf %s is in %q, from scratch %q", id, coll, leaf.ID, leaf.Channels, out.channels)
		}
		if winner, _ := raw.Tree.Winner(); winner == i {
			r, live = out, !leaf.Deleted()
		}
	}
	for what, pair := range map[string][2]any{
		"access": {names(raw.Access), fmt.Sprint(r.access)}, "roles": {names(raw.Roles), fmt.Sprint(r.roles)},
	} {
		if pair[0] != pair[1] {
			problem("%s in %d: %s %v, from scratch %v", id, coll, what, pair[0], pair[1])
		}
	}
	if r.until != "" && raw.Expiry.UTC().Format(time.RFC3339) != r.until {
		problem("%s in %d: expires %v, from scratch %v", id, coll, raw.Expiry, r.until)
	}
	return r, live
}

func names(grants map[string]tidegate.Grants) string {
	out := map[string][]string{}
	for principal, g := range grants {
		out[principal] = slices.Sorted(maps.Keys(g))
	}
	return fmt.Sprint(out)
}
