package database_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/script"
)

// peers are databases that replicate with each other, by versions or by revisions.
type peers struct {
	t       testing.TB
	vectors bool
	dbs     []*env
}

func openPeers(t testing.TB, n int, vectors, allowConflicts bool) *peers {
	t.Helper()
	p := &peers{t: t, vectors: vectors}
	for i := range n {
		source := tidegate.NewSource([16]byte{byte(i + 1)})
		p.dbs = append(p.dbs, open(t, database.Options{Source: source, AllowConflicts: allowConflicts}))
	}
	return p
}

// transfer makes the write that brings a document as it is in one database to another.
func (p *peers) transfer(from *env, id string) *database.Write {
	p.t.Helper()
	doc := from.get(from.admin, id, from.raw(id).Rev)
	w := &database.Write{ID: id, Body: doc.Body, Deleted: doc.Deleted, NoConflicts: true, Gateway: true, History: doc.History(0)}
	if p.vectors {
		w.Vector, _ = doc.Version()
	}
	for name, a := range doc.Attachments {
		r, _, err := from.admin.OpenAttachment(p.t.Context(), doc, name)
		if err != nil {
			p.t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			p.t.Fatal(err)
		}
		if w.Attachments == nil {
			w.Attachments = map[string]database.AttachmentInput{}
		}
		w.Attachments[name] = database.AttachmentInput{
			ContentType: a.ContentType, Digest: a.Digest, Length: a.Length, EncodedLength: -1, RevPos: a.RevPos, Data: data,
		}
	}
	return w
}

// pull brings a document to a database that resolves conflicts.
func (p *peers) pull(to, from int, id string, r database.Resolver) (database.Written, error) {
	p.t.Helper()
	w := p.transfer(p.dbs[from], id)
	w.Resolver = r
	return p.dbs[to].admin.Put(p.t.Context(), w)
}

// push brings a document to a database that must take it.
func (p *peers) push(from, to int, id string) {
	p.t.Helper()
	if _, err := p.dbs[to].admin.Put(p.t.Context(), p.transfer(p.dbs[from], id)); err != nil {
		p.t.Errorf("%s: pushed back: %v", id, err)
	}
}

// shown is what a reader sees of a document.
type shown struct {
	Rev         tidegate.RevID
	Version     tidegate.Version // zero: the databases replicate by revisions
	Body        string
	Deleted     bool
	Attachments map[string]string
}

func (p *peers) shown(i int, id string) shown {
	p.t.Helper()
	e := p.dbs[i]
	raw := e.raw(id)
	doc := e.get(e.admin, id, raw.Rev)
	s := shown{Rev: raw.Rev, Body: string(doc.Body), Deleted: doc.Deleted, Attachments: map[string]string{}}
	if p.vectors {
		s.Version = raw.Vector.Current
	}
	for name, a := range doc.Attachments {
		s.Attachments[name] = a.Digest
	}
	if live := doc.Conflicts(); len(live) > 0 {
		p.t.Errorf("%s: live branches %v", id, live)
	}
	return s
}

// equal fails the test unless all have the same current revision.
func (p *peers) equal(id string) {
	p.t.Helper()
	p.equalBut(id, false)
}

// equalBut is equal, but with anyRev for the names that revisions have in the tree.
func (p *peers) equalBut(id string, anyRev bool) {
	p.t.Helper()
	want := p.shown(0, id)
	for i := range p.dbs[1:] {
		got := p.shown(i+1, id)
		if anyRev {
			got.Rev = want.Rev
		}
		if !reflect.DeepEqual(got, want) {
			p.t.Errorf("%s: database %d has %+v, the first %+v", id, i+1, got, want)
		}
	}
}

func (p *peers) check() {
	p.t.Helper()
	for _, e := range p.dbs {
		e.check()
	}
}

// edit writes a document's next revision by interactive means.
func (p *peers) edit(i int, id, body string, deleted bool) {
	p.t.Helper()
	e := p.dbs[i]
	w := &database.Write{ID: id, Body: []byte(body), Deleted: deleted, NewEdits: true}
	if raw, err := e.admin.Raw(p.t.Context(), id); err == nil {
		w.Parent = raw.Rev
	}
	e.mustPut(w)
}

// fork makes a document that both have, with conflicting edits: local ones in the first database and remote ones in the
// second; the last of each may be a deletion.
func (p *peers) fork(id string, local, remote int, localDeleted, remoteDeleted bool) {
	p.t.Helper()
	p.edit(0, id, `{"base":1,"channels":"a"}`, false)
	p.push(0, 1, id)
	for i, side := range []struct {
		name    string
		n       int
		deleted bool
	}{{"local", local, localDeleted}, {"remote", remote, remoteDeleted}} {
		for n := 1; n <= side.n; n++ {
			p.dbs[i].clock.add(time.Second)
			p.edit(i, id, fmt.Sprintf(`{"channels":"a","by":%q,%q:%d.0}`, side.name, side.name, n), side.deleted && n == side.n)
		}
	}
}

// custom compiles a resolver. It is compiled once for each source, since runtimes take long to make.
func custom(t testing.TB, source string) database.Resolver {
	t.Helper()
	customs.Lock()
	defer customs.Unlock()
	if customs.bySource[source] == nil {
		f, err := script.CompileResolver(source, script.Options{Limits: script.Limits{Time: 200 * time.Millisecond}})
		if err != nil {
			t.Fatal(err)
		}
		customs.bySource[source] = database.ScriptResolver(f, jsondoc.Limits{})
	}
	return customs.bySource[source]
}

var customs = struct {
	sync.Mutex
	bySource map[string]database.Resolver
}{bySource: map[string]database.Resolver{}}

const (
	keepsLocal  = `function (c) { return c.LocalDocument; }`
	keepsRemote = `function (c) { return c.RemoteDocument; }`
	editsLocal  = `function (c) { c.LocalDocument.edited = true; return c.LocalDocument; }`
	mergesBoth  = `function (c) { return _.extend({}, c.LocalDocument, c.RemoteDocument); }`
	deletes     = `function (c) { return null; }`
)

// byName is one way of resolving, and what it comes to.
var resolvers = []struct {
	name   string
	policy database.Policy
	source string // if not a policy
	want   string // local, remote, default, edited, merged, deleted or error
}{
	{"default", database.DefaultPolicy, "", "default"},
	{"localWins", database.LocalWins, "", "local"},
	{"remoteWins", database.RemoteWins, "", "remote"},
	{"local", 0, keepsLocal, "local"},
	{"remote", 0, keepsRemote, "remote"},
	{"defaultPolicy", 0, `function (c) { return defaultPolicy(c); }`, "default"},
	{"edited", 0, editsLocal, "edited"},
	{"merged", 0, mergesBoth, "merged"},
	{"null", 0, deletes, "deleted"},
	{"throws", 0, `function (c) { throw "no"; }`, "error"},
	{"number", 0, `function (c) { return 5; }`, "error"},
	{"sync member", 0, `function (c) { return {_sync_x: 1}; }`, "error"},
	{"wrong type", 0, `function (c) { return {_deleted: "x"}; }`, "error"},
	{"unknown attachment", 0, `function (c) { return {_attachments: {a: {stub: true, digest: "sha1-x"}}}; }`, "error"},
}

// TestResolutions goes through live and deleted sides, lower, equal and higher generations, and every way to resolve; and
// brings what comes out back to the other side, which takes it.
func TestResolutions(t *testing.T) {
	for _, vectors := range []bool{false, true} {
		for _, allow := range []bool{false, true} {
			p := openPeers(t, 2, vectors, allow)
			for k, r := range resolvers {
				if allow && k%3 > 0 {
					continue // it hardly matters
				}
				for i, n := range [][2]int{{1, 2}, {2, 2}, {3, 1}, {9, 1}, {40, 1}} {
					for deleted := range 4 {
						if n[0] > 3 && deleted&1 == 0 || i > 0 && r.want == "error" {
							continue
						}
						id := fmt.Sprintf("%s-%d-%d", strings.ReplaceAll(r.name, " ", ""), i, deleted)
						p.fork(id, n[0], n[1], deleted&1 != 0, deleted&2 != 0)
						resolver := database.Resolver(r.policy)
						if r.source != "" {
							resolver = custom(t, r.source)
						}
						p.resolve(id, resolver, r.want)
					}
				}
			}
			p.check()
		}
	}
}

// resolve pulls the document and checks what becomes of it.
func (p *peers) resolve(id string, r database.Resolver, want string) {
	t := p.t
	t.Helper()
	local, remote := p.shown(0, id), p.shown(1, id)
	before := p.dbs[0].raw(id)
	if want == "default" {
		want = p.defaultWinner(local, remote)
	}
	written, err := p.pull(0, 1, id, r)
	after := p.dbs[0].raw(id)
	if want == "error" {
		if !errors.Is(err, database.ErrResolver) || !reflect.DeepEqual(after, before) {
			t.Errorf("%s: got %+v, %v; %+v before, %+v after", id, written, err, before, after)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", id, err)
		return
	}
	got := p.shown(0, id)
	wantBody, wantDeleted, outcome := local.Body, local.Deleted, database.ResolvedLocal
	switch want {
	case "remote":
		wantBody, wantDeleted, outcome = remote.Body, remote.Deleted, database.ResolvedRemote
	case "edited":
		wantBody, outcome = strings.TrimSuffix(local.Body, "}")+`,"edited":true}`, database.ResolvedMerge
	case "merged":
		wantDeleted, outcome = remote.Deleted, database.ResolvedMerge
		wantBody = mergedBody(t, local.Body, remote.Body)
	case "deleted":
		wantBody, wantDeleted, outcome = `{}`, true, database.ResolvedMerge
	}
	if written.Resolved != outcome || got.Deleted != wantDeleted || written.Seq != after.Seq || written.Version != after.Vector.Current {
		t.Errorf("%s: written %+v, shown %+v, want %d", id, written, got, outcome)
	}
	if after.Rev != written.Rev || !sameJSON(t, got.Body, wantBody) {
		t.Errorf("%s: current %s with %s, written %s, want %s", id, after.Rev, got.Body, written.Rev, wantBody)
	}
	p.checkTree(id, before, written, outcome)
	p.push(0, 1, id)
	p.equal(id)
	if again, err := p.pull(0, 1, id, r); err != nil || !again.Existed {
		t.Errorf("%s: pulled again: %+v, %v", id, again, err)
	}
}

// defaultWinner is the side that the default policy keeps.
func (p *peers) defaultWinner(local, remote shown) string {
	wins := local.Rev.Compare(remote.Rev) > 0
	if p.vectors {
		wins = local.Version.Compare(remote.Version) > 0
	}
	if local.Deleted != remote.Deleted {
		wins = local.Deleted
	}
	if wins {
		return "local"
	}
	return "remote"
}

// checkTree checks the tree and the vector after a conflict.
func (p *peers) checkTree(id string, before *database.RawDocument, written database.Written, outcome database.Outcome) {
	t := p.t
	t.Helper()
	after, remote := p.dbs[0].raw(id), p.dbs[1].raw(id)
	at, ok := after.Tree.Find(written.Rev)
	if !ok {
		t.Fatalf("%s: %s is not in the tree", id, written.Rev)
	}
	if p.vectors {
		v := after.Vector
		if !v.Dominates(before.Vector) || !v.Dominates(remote.Vector) {
			t.Errorf("%s: vector %s of %s and %s", id, v, before.Vector, remote.Vector)
		}
		merges := fmt.Sprint(v.Merge) == fmt.Sprint([]tidegate.Version{before.Vector.Current, remote.Vector.Current})
		if merges != (outcome == database.ResolvedMerge) || (v.Current == remote.Vector.Current) != (outcome == database.ResolvedRemote) {
			t.Errorf("%s: outcome %d: vector %s of %s and %s", id, outcome, v, before.Vector, remote.Vector)
		}
		// The local version stays where everybody would keep it.
		same := outcome == database.ResolvedLocal && (before.Deleted && !remote.Deleted ||
			before.Deleted == remote.Deleted && before.Vector.Current.Compare(remote.Vector.Current) > 0)
		if (v.Current == before.Vector.Current) != same {
			t.Errorf("%s: outcome %d: %s was kept: %v", id, outcome, before.Vector.Current, !same)
		}
		return
	}
	pulled, ok := after.Tree.Find(remote.Rev)
	if !ok || !after.Tree.IsAncestor(pulled, at) || pulled == at && outcome != database.ResolvedRemote ||
		pulled != at && outcome == database.ResolvedRemote && (!before.Deleted || before.Rev.Compare(remote.Rev) < 0) {
		t.Errorf("%s: %s does not go on from %s", id, written.Rev, remote.Rev)
	}
	if body, ok := after.Bodies[remote.Rev]; !ok || string(body.Body) != string(remote.Bodies[remote.Rev].Body) {
		t.Errorf("%s: the body of the pulled revision is %s", id, body.Body)
	}
	tombstone := tidegate.NewRevID(before.Rev, []byte(`{"_deleted":true}`))
	if i, ok := after.Tree.Find(tombstone); ok == before.Deleted || ok && (!after.Tree.IsLeaf(i) || !after.Tree.At(i).Deleted()) {
		t.Errorf("%s: tombstone %s of %s: %v", id, tombstone, before.Rev, ok)
	}
	if i, ok := after.Tree.Find(before.Rev); !ok || before.Deleted != after.Tree.IsLeaf(i) {
		t.Errorf("%s: what was current is no longer where it was", id)
	}
	if !(after.Deleted && before.Deleted) && outcome != database.ResolvedRemote && after.Rev.Generation != remote.Rev.Generation+1 {
		t.Errorf("%s: %s follows %s", id, after.Rev, remote.Rev)
	}
}

func mergedBody(t testing.TB, local, remote string) string {
	t.Helper()
	merged := map[string]any{}
	for _, body := range []string{local, remote} {
		if err := json.Unmarshal([]byte(body), &merged); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.Marshal(merged)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func sameJSON(t testing.TB, a, b string) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal([]byte(a), &x), json.Unmarshal([]byte(b), &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

// TestResolverTimesOut: a function that does not end is stopped, and the document stays.
func TestResolverTimesOut(t *testing.T) {
	p := openPeers(t, 2, false, false)
	p.fork("d", 1, 1, false, false)
	p.resolve("d", custom(t, `function (c) { for (;;); }`), "error")
	ctx, cancel := context.WithCancel(t.Context())
	w := p.transfer(p.dbs[1], "d")
	w.Resolver = resolverFunc(func(*database.Conflict) (database.Resolution, error) {
		cancel()
		return database.Resolution{}, ctx.Err()
	})
	if _, err := p.dbs[0].admin.Put(ctx, w); !errors.Is(err, context.Canceled) || errors.Is(err, database.ErrResolver) {
		t.Errorf("canceled: %v", err)
	}
	w.Resolver = resolverFunc(func(*database.Conflict) (database.Resolution, error) { return database.Resolution{}, nil })
	if _, err := p.dbs[0].admin.Put(t.Context(), w); !errors.Is(err, database.ErrResolver) {
		t.Errorf("nothing decided: %v", err)
	}
	p.check()
}

type resolverFunc func(*database.Conflict) (database.Resolution, error)

func (f resolverFunc) Resolve(_ context.Context, c *database.Conflict) (database.Resolution, error) {
	return f(c)
}
