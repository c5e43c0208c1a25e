package upgrade

import (
	"fmt"
	"net/http"
	"strings"
)

// The databases of a fixture.
const (
	notes       = "notes"       // with branches, grants, attachments
	collections = "collections" // documents in collections of their own; not in the first version
)

const (
	syncFunction = `function (doc, oldDoc) { channel(doc.channels); if (doc.grant) { access(doc.grant, doc.channels); } if (doc.staff) { role(doc.staff, "role:staff"); } }`
	password     = "correct horse battery"
)

// write fills the databases of a gateway. session is that of alice.
func write(g *gateway) (session string) {
	g.t.Helper()
	g.must(http.MethodPut, "/"+notes+"/", map[string]any{"sync": syncFunction, "allow_conflicts": true, "revs_limit": 60}, nil)
	for i := range 40 {
		writeDocument(g, i)
	}
	writeBranches(g)
	g.must(http.MethodPut, "/notes/_local/checkpoint", map[string]any{"at": 17}, nil)
	g.must(http.MethodPut, "/notes/_role/staff", map[string]any{"admin_channels": []string{"c2"}}, nil)
	g.must(http.MethodPut, "/notes/_user/alice", map[string]any{"password": password, "admin_channels": []string{"c0", "c1"}, "email": "alice@example.com"}, nil)
	g.must(http.MethodPut, "/notes/_user/bob", map[string]any{"password": password, "disabled": true}, nil)
	g.must(http.MethodPut, "/notes/_user/carol", map[string]any{"password": password, "admin_roles": []string{"staff"}}, nil)
	g.must(http.MethodPut, "/notes/grants-bob", map[string]any{"channels": []string{"c3"}, "grant": "bob"}, nil)
	g.must(http.MethodPut, "/notes/hires-alice", map[string]any{"channels": []string{"c4"}, "staff": "alice"}, nil)
	var made struct {
		Session string `json:"session_id"`
	}
	g.must(http.MethodPost, "/notes/_session", map[string]any{"name": "alice", "ttl": 10 * 365 * 24 * 3600}, &made)
	writeLater(g)
	return made.Session
}

// writeDocument makes one document with some revisions, every fifth with attachments, every seventh deleted in the end.
func writeDocument(g *gateway, i int) {
	g.t.Helper()
	path := fmt.Sprintf("/notes/doc-%d", i)
	var ans struct{ Rev string }
	for n := range 1 + i%4 {
		doc := map[string]any{"n": n, "text": strings.Repeat(fmt.Sprintf("note %d ", i), 1+i), "big": 1e300, "channels": []string{fmt.Sprintf("c%d", i%5)}}
		if ans.Rev != "" {
			doc["_rev"] = ans.Rev
		}
		if i%5 == 0 {
			doc["_attachments"] = map[string]any{
				"small.txt": map[string]any{"content_type": "text/plain", "data": []byte(fmt.Sprint("small ", i, n))},
				"large.bin": map[string]any{"content_type": "application/octet-stream", "data": []byte(strings.Repeat(fmt.Sprint("large ", i), 8000))},
			}
		}
		g.must(http.MethodPut, path, doc, &ans)
	}
	if i%7 == 0 {
		g.must(http.MethodDelete, path+"?rev="+ans.Rev, nil, nil)
	}
}

// writeBranches makes documents in conflict, one of them with a deleted branch.
func writeBranches(g *gateway) {
	g.t.Helper()
	revision := func(id, digest string, generation int, deleted bool, ids ...string) map[string]any {
		return map[string]any{"_id": id, "_rev": fmt.Sprintf("%d-%s", generation, digest), "_deleted": deleted, "channels": []string{"c1"}, "by": digest,
			"_revisions": map[string]any{"start": generation, "ids": append([]string{digest}, ids...)}}
	}
	g.must(http.MethodPost, "/notes/_bulk_docs", map[string]any{"new_edits": false, "docs": []any{
		revision("branches", "aaa", 3, false, "root2", "root1"), revision("branches", "bbb", 3, false, "root2", "root1"), revision("branches", "ccc", 2, false, "root1"),
		revision("half", "aaa", 2, true, "root"), revision("half", "bbb", 2, false, "root"),
	}}, nil)
}

// writeLater makes what only later versions know; a version that does not refuses it.
func writeLater(g *gateway) {
	g.t.Helper()
	status := g.call(http.MethodPut, "/"+collections+"/", map[string]any{
		"scopes": map[string]any{"shop": map[string]any{"collections": map[string]any{"orders": map[string]any{"sync": "function (doc) { channel(doc.channels); }"}}}}}, nil)
	if status < 300 {
		for i := range 10 {
			g.must(http.MethodPut, fmt.Sprintf("/collections.shop.orders/order-%d", i), map[string]any{"n": i, "channels": []string{"o"}}, nil)
		}
	}
	g.call(http.MethodPost, "/notes/_replication/", map[string]any{
		"replication_id": "away", "remote": "http://127.0.0.1:1/notes", "remote_username": "away", "remote_password": "not a secret", "direction": "pushAndPull",
		"continuous": true, "initial_state": "stopped"}, nil)
}

// found is what a version finds in a fixture: for each keyspace its documents, and things of databases by their path.
type found struct {
	Keyspaces map[string]map[string][]leaf `json:"keyspaces"`
	Sequences map[string]map[string]uint64 `json:"sequences"` // keyspace → document → sequence
	Last      map[string]uint64            `json:"last"`      // keyspace → last sequence of its feed
	Things    map[string]map[string]any    `json:"things"`    // path → answer
	Session   string                       `json:"session"`
}

// leaf is one end of a document's revision tree.
type leaf struct {
	Rev         string            `json:"rev"`
	Deleted     bool              `json:"deleted,omitempty"`
	History     []string          `json:"history"`
	Body        map[string]any    `json:"body"`
	Attachments map[string]string `json:"attachments,omitempty"` // name → content
}

// things are looked at if they are there.
var things = []string{"/notes/_user/alice", "/notes/_user/bob", "/notes/_user/carol", "/notes/_role/staff", "/notes/_local/checkpoint", "/notes/_replication/away"}

// look reads everything.
func look(g *gateway) *found {
	g.t.Helper()
	f := &found{Keyspaces: map[string]map[string][]leaf{}, Sequences: map[string]map[string]uint64{}, Last: map[string]uint64{}, Things: map[string]map[string]any{}}
	for _, keyspace := range []string{notes, "collections.shop.orders"} {
		if g.call(http.MethodGet, "/"+keyspace+"/_changes?limit=1", nil, nil) == http.StatusOK {
			lookAt(g, f, keyspace)
		}
	}
	for _, path := range things {
		var thing map[string]any
		if g.call(http.MethodGet, path, nil, &thing) == http.StatusOK {
			f.Things[path] = thing
		}
	}
	return f
}

func lookAt(g *gateway, f *found, keyspace string) {
	g.t.Helper()
	var feed struct {
		Results []struct {
			Seq uint64
			ID  string
		}
		Last any `json:"last_seq"`
	}
	g.must(http.MethodGet, "/"+keyspace+"/_changes", nil, &feed)
	f.Keyspaces[keyspace], f.Sequences[keyspace] = map[string][]leaf{}, map[string]uint64{}
	for _, e := range feed.Results {
		if e.Seq <= f.Last[keyspace] {
			g.t.Errorf("%s: sequence %d after %d", keyspace, e.Seq, f.Last[keyspace])
		}
		f.Last[keyspace] = e.Seq
		if strings.HasPrefix(e.ID, "_") {
			continue
		}
		f.Sequences[keyspace][e.ID] = e.Seq
		f.Keyspaces[keyspace][e.ID] = leaves(g, keyspace, e.ID)
	}
}

// leaves reads all ends of a document's revision tree.
func leaves(g *gateway, keyspace, id string) (all []leaf) {
	g.t.Helper()
	var revs []struct {
		OK map[string]any `json:"ok"`
	}
	g.must(http.MethodGet, "/"+keyspace+"/"+id+"?open_revs=all&revs=true", nil, &revs)
	for _, r := range revs {
		l := leaf{Body: map[string]any{}}
		l.Rev, _ = r.OK["_rev"].(string)
		l.Deleted, _ = r.OK["_deleted"].(bool)
		if tree, ok := r.OK["_revisions"].(map[string]any); ok {
			for _, digest := range tree["ids"].([]any) {
				l.History = append(l.History, digest.(string))
			}
		}
		if atts, ok := r.OK["_attachments"].(map[string]any); ok {
			l.Attachments = map[string]string{}
			for name := range atts {
				var content []byte
				g.must(http.MethodGet, "/"+keyspace+"/"+id+"/"+name+"?rev="+l.Rev, nil, &content)
				l.Attachments[name] = string(content)
			}
		}
		for name, v := range r.OK {
			if !strings.HasPrefix(name, "_") {
				l.Body[name] = v
			}
		}
		all = append(all, l)
	}
	return all
}
