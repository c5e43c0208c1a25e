package database_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// The samples of the seed, with what is no JavaScript in them mended.
const (
	byType = "`" + `
        function(conflict) {
          if  ((conflict.LocalDocument.type == "a-doctype-1") &&
              (conflict.RemoteDocument.type == "a-doctype-1"))
           {
             // Invoke the built in default resolver logic
             return defaultPolicy(conflict);
           }
          else {
            // Otherwise resolve in favor of remote document
              return conflict.RemoteDocument;
            }
        }
        ` + "`"
	byPriority = "`" + `
          function(conflict) {
            // Custom conflict resolution policy based on priority
            if (conflict.LocalDocument.body.priority > conflict.RemoteDocument.body.priority) {
              // Choose a local winner
              // Optionally apply application logic to manipulate
              // the local object before returning it as the winner
              return conflict.LocalDocument;
            } else if (conflict.LocalDocument.body.priority < conflict.RemoteDocument.body.priority) {
                // Choose a remote winner
                // Optionally apply application logic to manipulate
                // the remote object before returning it as the winner
              return conflict.RemoteDocument;
              }; //end if
            // Apply the default policy as a catch all
            return defaultPolicy(conflict);
        }` + "`"
	byMerging = "`" + `
      function(conflict) {
          if (  (conflict.LocalDocument.type != null) &&
                (conflict.RemoteDocument.type != null) &&
                (conflict.LocalDocument.type == "usedefault"))
          {
              console.log("Will use default policy");
              // Resolve using built-in policy
              return defaultPolicy(conflict);
          }
          else
          {
            // Merge local and remote docs
            var remoteDoc = conflict.RemoteDocument;
            console.log("full remoteDoc doc: "+JSON.stringify(remoteDoc));
            var localDoc = conflict.LocalDocument;
            console.log("full localDoc doc: "+JSON.stringify(localDoc));
            var mergedDoc = extend({}, localDoc, remoteDoc);

            console.log("full mergedDoc doc: "+JSON.stringify(mergedDoc));
            // Resolve using this merged doc as the winner
            return mergedDoc;

            function extend(target) {
                var sources = [].slice.call(arguments, 1);
                sources.forEach(function (source) {
                    for (var prop in source) {
                        target[prop] = source[prop];
                    }
                });
                return target;
            } // end function extend()
          } // end if
      }` + "`"
)

// forkBodies makes a document with conflicting bodies. The remote branch is the longer one.
func (p *peers) forkBodies(id, local, remote string) {
	p.t.Helper()
	p.edit(0, id, `{"channels":"a"}`, false)
	p.push(0, 1, id)
	p.tick()
	p.edit(0, id, local, false)
	p.edit(1, id, `{}`, false)
	p.tick()
	p.edit(1, id, remote, false)
}

// TestSeedSamples runs the resolvers of the seed as they are written there.
func TestSeedSamples(t *testing.T) {
	for i, c := range []struct {
		source, local, remote, want string
		outcome                     database.Outcome
	}{
		{byType, `{"type":"a-doctype-1"}`, `{"type":"a-doctype-1","r":1}`, `{"type":"a-doctype-1","r":1}`, database.ResolvedRemote},
		{byType, `{"type":"x"}`, `{"type":"x","r":1}`, `{"type":"x","r":1}`, database.ResolvedRemote},
		{byPriority, `{"priority":2}`, `{"priority":1}`, `{"priority":2}`, database.ResolvedLocal},
		{byPriority, `{"priority":1}`, `{"priority":2}`, `{"priority":2}`, database.ResolvedRemote},
		{byPriority, `{"priority":1,"l":1}`, `{"priority":1}`, `{"priority":1}`, database.ResolvedRemote},
		{byMerging, `{"type":"usedefault","l":1}`, `{"type":"x","r":1}`, `{"type":"x","r":1}`, database.ResolvedRemote},
		{byMerging, `{"type":"y","l":1}`, `{"type":"x","r":1.0}`, `{"type":"x","l":1,"r":1.0}`, database.ResolvedMerge},
		{byMerging, `{"l":1,"big":12345678901234567890}`, `{"r":2}`, `{"l":1,"big":12345678901234567890,"r":2}`, database.ResolvedMerge},
	} {
		for _, vectors := range []bool{false, true} {
			p := openPeers(t, 2, vectors, false)
			p.forkBodies("d", c.local, c.remote)
			written, err := p.pull(0, 1, "d", custom(t, c.source))
			if got := p.shown(0, "d"); err != nil || written.Resolved != c.outcome || got.Body != c.want {
				t.Errorf("%d: got %+v, %v: %s, want %s", i, written, err, got.Body, c.want)
			}
			p.push(0, 1, "d")
			p.equal("d")
			p.check()
		}
	}
}

// attach writes a document with attachments.
func (p *peers) attach(i int, id, body string, attachments map[string]string) {
	p.t.Helper()
	w := &database.Write{ID: id, Body: []byte(body), NewEdits: true, Attachments: map[string]database.AttachmentInput{}}
	if raw, err := p.dbs[i].admin.Raw(p.t.Context(), id); err == nil {
		w.Parent = raw.Rev
	}
	for name, data := range attachments {
		in := database.AttachmentInput{ContentType: "x/" + name, Length: -1, EncodedLength: -1, Data: []byte(data)}
		if data == "" {
			in = database.AttachmentInput{Stub: true, Length: -1, EncodedLength: -1}
		}
		w.Attachments[name] = in
	}
	p.dbs[i].mustPut(w)
}

// TestResolvedAttachments: the winner's attachments come with it, in the store and in files, and those that came after the
// common ancestor are new on the remote branch.
func TestResolvedAttachments(t *testing.T) {
	big := string(bytes.Repeat([]byte("big"), 20<<10))
	for _, c := range []struct {
		name, source string
		want         map[string]uint64 // name to revpos; 0: not looked at
		fails        bool
	}{
		{"local", keepsLocal, map[string]uint64{"base": 1, "l": 4, "big": 4}, false},
		{"remote", keepsRemote, map[string]uint64{"base": 1, "r": 3}, false},
		{"edited local", editsLocal, map[string]uint64{"base": 1, "l": 4, "big": 4}, false},
		{"both", `function (c) { var d = {_attachments: {}}; _.extend(d._attachments, c.LocalDocument._attachments, c.RemoteDocument._attachments); return d; }`,
			map[string]uint64{"base": 1, "l": 4, "big": 4, "r": 3}, false},
		{"renamed", `function (c) { return {_attachments: {x: c.LocalDocument._attachments.l}}; }`, map[string]uint64{"x": 4}, false},
		{"stub by name", `function (c) { return {_attachments: {l: {stub: true}}}; }`, map[string]uint64{"l": 4}, false},
		{"inline", `function (c) { return {_attachments: {r: {data: "aGVsbG8=", content_type: "x/new"}}}; }`, map[string]uint64{"r": 4}, false},
		{"none", `function (c) { delete c.LocalDocument._attachments; return c.LocalDocument; }`, map[string]uint64{}, false},
		{"unknown", `function (c) { return {_attachments: {l: {stub: true, digest: "sha1-x"}}}; }`, nil, true},
		{"nameless", `function (c) { return {_attachments: {"": {data: "aGVsbG8="}}}; }`, nil, true},
		{"wrong digest", `function (c) { return {_attachments: {l: {data: "aGVsbG8=", digest: "sha1-x"}}}; }`, nil, true},
	} {
		for _, vectors := range []bool{false, true} {
			p := openPeers(t, 2, vectors, false)
			p.attach(0, "d", `{"n":0}`, map[string]string{"base": "base"})
			p.push(0, 1, "d")
			p.tick()
			p.attach(0, "d", `{"n":1}`, map[string]string{"base": "", "l": "local", "big": big})
			p.attach(1, "d", `{"n":2}`, map[string]string{"base": ""})
			p.attach(1, "d", `{"n":3}`, map[string]string{"base": "", "r": "remote"})
			_, err := p.pull(0, 1, "d", custom(t, c.source))
			if c.fails != errors.Is(err, database.ErrResolver) || !c.fails && err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			if c.fails {
				p.check()
				continue
			}
			doc := p.dbs[0].get(p.dbs[0].admin, "d", tidegate.RevID{})
			got := map[string]uint64{}
			for name, a := range doc.Attachments {
				got[name] = a.RevPos
			}
			if same := maps.Equal(got, c.want); !same && !vectors || len(got) != len(c.want) {
				t.Errorf("%s, vectors %v: attachments %v, want %v", c.name, vectors, got, c.want)
			}
			p.push(0, 1, "d")
			p.equal("d")
			p.check()
			for _, e := range p.dbs { // and when the old revisions are gone
				e.clock.add(time.Hour)
				if err := e.db.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				if bodies := e.raw("d").Bodies; len(bodies) > 2 {
					t.Errorf("%s: bodies of %v stay", c.name, slices.Collect(maps.Keys(bodies)))
				}
			}
			p.check()
			p.transfer(p.dbs[0], "d")
		}
	}
}

// TestResolvedSync: the sync function judges what comes out, as the pulling principal, with the local document as the old
// one. What it refuses is not stored.
func TestResolvedSync(t *testing.T) {
	p := openPeers(t, 2, false, false)
	p.forkBodies("d", `{"channels":"local","expires":100000}`, `{"channels":"remote","keepChannels":true}`)
	before := p.dbs[0].raw("d")
	if before.Expiry.IsZero() {
		t.Fatal("the document does not expire")
	}
	refuse := func(h *database.Handle, source, reason string) {
		t.Helper()
		w := p.transfer(p.dbs[1], "d")
		w.Resolver = custom(t, source)
		_, err := h.Put(t.Context(), w)
		wantErr(t, err, tidegate.Forbidden, reason)
		if after := p.dbs[0].raw("d"); after.Seq != before.Seq || len(after.Bodies) != len(before.Bodies) {
			t.Errorf("%+v was stored", after)
		}
	}
	refuse(p.dbs[0].admin, `function (c) { return {forbid: "no"}; }`, "no")
	bob := p.dbs[0].user("bob", "remote")
	refuse(bob, `function (c) { return {needs: "secret"}; }`, "sg missing channel access")
	w := p.transfer(p.dbs[1], "d")
	w.Resolver = custom(t, `function (c) { c.LocalDocument.seen = c.LocalDocument._exp; c.RemoteDocument.needs = "remote"; return c.RemoteDocument; }`)
	if results := bob.PutAll(t.Context(), []*database.Write{w}); results[0].Err != nil || results[0].Resolved != database.ResolvedMerge {
		t.Fatalf("got %+v", results)
	}
	doc := p.dbs[0].get(p.dbs[0].admin, "d", tidegate.RevID{})
	if fmt.Sprint(doc.Channels) != "[local remote]" || !doc.Expiry.IsZero() {
		t.Errorf("channels %v, expiry %v", doc.Channels, doc.Expiry)
	}
	p.check()
}

// TestLocalWinnerExpires: what stays keeps its time to go, which the resolver sees.
func TestLocalWinnerExpires(t *testing.T) {
	p := openPeers(t, 2, false, false)
	p.fork("d", 1, 1, false, false)
	raw := p.dbs[0].raw("d")
	p.dbs[0].mustPut(p.dbs[0].write(fmt.Sprintf(`{"_id":"d","_rev":%q,"_exp":"2026-11-21T13:00:00Z"}`, raw.Rev), true))
	source := `function (c) { return c.LocalDocument._exp === 1795266000 ? c.LocalDocument : 0; }`
	if _, err := p.pull(0, 1, "d", custom(t, source)); err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC); !p.dbs[0].raw("d").Expiry.Equal(want) {
		t.Errorf("expires %v", p.dbs[0].raw("d").Expiry)
	}
	p.check()
}

// TestResolvedAgain: when the document moves while the resolver thinks, it is asked again.
func TestResolvedAgain(t *testing.T) {
	for _, batch := range []bool{false, true} {
		p := openPeers(t, 2, false, false)
		p.fork("d", 1, 2, false, false)
		asked := 0
		w := p.transfer(p.dbs[1], "d")
		w.Resolver = resolverFunc(func(c *database.Conflict) (database.Resolution, error) {
			if asked++; asked == 1 {
				p.edit(0, "d", `{"moved":true}`, false)
			}
			return database.Resolution{Outcome: database.ResolvedMerge, Body: c.Local.Body}, nil
		})
		var err error
		if batch {
			err = p.dbs[0].admin.PutAll(t.Context(), []*database.Write{w})[0].Err
		} else {
			_, err = p.dbs[0].admin.Put(t.Context(), w)
		}
		if got := p.shown(0, "d"); err != nil || asked != 2 || got.Body != `{"moved":true}` {
			t.Errorf("asked %d times, %v: %+v", asked, err, got)
		}
		p.check()
	}
}

// TestNoConflict: a resolver is not asked where there is nothing to resolve.
func TestNoConflict(t *testing.T) {
	for _, vectors := range []bool{false, true} {
		p := openPeers(t, 2, vectors, true)
		never := resolverFunc(func(c *database.Conflict) (database.Resolution, error) {
			return database.Resolution{}, fmt.Errorf("asked about %+v", c)
		})
		pull := func(what string) {
			t.Helper()
			if w, err := p.pull(1, 0, "d", never); err != nil || w.Resolved != database.Unresolved {
				t.Errorf("%s: %+v, %v", what, w, err)
			}
		}
		p.edit(0, "d", `{"n":1}`, false)
		pull("new")
		p.edit(0, "d", `{"n":2}`, false)
		p.edit(0, "d", `{"n":3}`, false)
		pull("descends")
		pull("known")
		w := p.transfer(p.dbs[0], "d")
		p.edit(1, "d", `{"n":4}`, false)
		w.Resolver = never
		if w, err := p.dbs[1].admin.Put(t.Context(), w); err != nil || !w.Existed {
			t.Errorf("an ancestor: %+v, %v", w, err)
		}
		p.push(1, 0, "d")
		p.edit(0, "d", `{}`, true)
		pull("deleted")
		p.edit(0, "d", `{"n":5}`, false)
		pull("created again")
		if !vectors { // a tombstone on another live branch
			for _, e := range p.dbs {
				if _, err := e.push(`{"_id":"d","_revisions":{"start":3,"ids":["ff"]}}`); err != nil {
					t.Fatal(err)
				}
			}
			w := p.dbs[1].write(`{"_id":"d","_deleted":true,"_revisions":{"start":4,"ids":["ee","ff"]}}`, false)
			w.Resolver = never
			if w, err := p.dbs[1].admin.Put(t.Context(), w); err != nil || w.Resolved != database.Unresolved {
				t.Errorf("closes another branch: %+v, %v", w, err)
			}
		}
		p.check()
	}
}

// TestAllBranchesClose: where conflicts were allowed before, none is left.
func TestAllBranchesClose(t *testing.T) {
	p := openPeers(t, 2, false, true)
	p.fork("d", 1, 3, false, false)
	for _, ids := range []string{`"a9","a8"`, `"b9","b8"`} {
		if _, err := p.dbs[0].push(`{"_id":"d","_revisions":{"start":9,"ids":[` + ids + `]}}`); err != nil {
			t.Fatal(err)
		}
	}
	if w, err := p.pull(0, 1, "d", database.RemoteWins); err != nil || w.Rev != p.dbs[1].raw("d").Rev {
		t.Errorf("%+v, %v", w, err)
	}
	p.equal("d")
	// Its deletion is current then, though the others were longer.
	p.edit(0, "d", `{}`, true)
	p.push(0, 1, "d")
	p.equal("d")
	p.check()
}

// TestLegacyConflict: a local document from before there were vectors is in conflict with a version.
func TestLegacyConflict(t *testing.T) {
	for i, r := range []database.Policy{database.DefaultPolicy, database.LocalWins, database.RemoteWins, database.DefaultPolicy} {
		p := openPeers(t, 2, true, false)
		p.edit(0, "d", `{"by":"local"}`, false)
		if i == 3 {
			p.edit(0, "d", `{"by":"local"}`, true)
		}
		p.edit(1, "d", `{"by":"remote"}`, false)
		if err := p.dbs[0].admin.WithoutVectors(t.Context(), "d"); err != nil {
			t.Fatal(err)
		}
		if w, err := p.pull(0, 1, "d", r); err != nil || w.Resolved == database.Unresolved {
			t.Errorf("%d: %+v, %v", i, w, err)
		}
		if v := p.dbs[0].vector("d"); v.Current.Source == tidegate.LegacySource || v.TimeOf(tidegate.LegacySource) == 0 {
			t.Errorf("%d: vector %s", i, v)
		}
		p.push(0, 1, "d")
		p.equal("d")
		p.check()
	}
}
