package gatewaycluster

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // the digest of attachments
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mapping"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// conflictTries bounds how often a document is written again because somebody else wrote it meanwhile.
const conflictTries = 10

// insertForeign stores MongoDB documents that have no live counterpart.
func (c *Cluster) insertForeign(ctx context.Context, ns clustersync.Namespace, docs []clustersync.Document) (written, error) {
	return c.writeForeign(ctx, ns, docs, func(edit, current) bool { return false })
}

// applyForeign makes documents what MongoDB documents say, and deletes those that have no body.
func (c *Cluster) applyForeign(ctx context.Context, ns clustersync.Namespace, docs []clustersync.Document) (written, error) {
	return c.writeForeign(ctx, ns, docs, func(e edit, now current) bool { return !e.same(now) })
}

// edit is what a document shall become.
type edit struct {
	id      string
	body    []byte // {"_id", members…, "_attachments"?}; nil: it is deleted
	digests map[string]string
}

// current is a document as it is.
type current struct {
	rev     string // "" if there is none
	live    bool
	body    []byte // without underscore members
	digests map[string]string
}

// writeForeign writes documents as edits on top of what is there. overwrite says whether a live document is to be written.
func (c *Cluster) writeForeign(ctx context.Context, ns clustersync.Namespace, docs []clustersync.Document, overwrite func(edit, current) bool) (written, error) {
	out := make(written, len(docs))
	edits := make([]edit, len(docs))
	var todo []int
	for i, d := range docs {
		var err error
		if edits[i], err = editOf(d); err != nil {
			out[i].err = err
			continue
		}
		todo = append(todo, i)
	}
	for try := 0; len(todo) > 0; try++ {
		now, err := c.currents(ctx, ns, edits, todo)
		if err != nil {
			return nil, err
		}
		b := bulk{}
		for n, i := range todo {
			e := edits[i]
			out[i] = outcome{present: now[n].live == (e.body != nil) && (!now[n].live || !overwrite(e, now[n]))}
			if !out[i].present {
				b.add(i, e.item(now[n]))
			}
		}
		if err := c.send(ctx, ns, &b, func(i int, err error) { out[i].err = err }); err != nil {
			return nil, err
		}
		moved := todo[:0]
		for _, i := range todo {
			if isStatus(out[i].err, http.StatusConflict) && try < conflictTries {
				moved = append(moved, i)
			}
		}
		todo = moved
	}
	return out, nil
}

// editOf maps a document.
func editOf(d clustersync.Document) (edit, error) {
	converted, err := mapping.Convert(d, clustersync.Tidegate)
	if err != nil {
		return edit{}, err
	}
	id, err := docIDOf(converted.Doc.Key.Raw)
	if err != nil || converted.Doc.Body == nil {
		return edit{id: id}, err
	}
	e := edit{id: id, body: converted.Doc.Body}
	e.digests, err = digestsOf(e.body)
	return e, err
}

// digestsOf gives the digests of a document's attachments by name, those with data computed.
func digestsOf(doc []byte) (map[string]string, error) {
	raw, ok := jsondoc.Get(doc, "_attachments")
	if !ok {
		return nil, nil
	}
	out := map[string]string{}
	for name, entry := range jsondoc.Members(raw) {
		about := memberText(entry, "content_type") + "\x00" + memberText(entry, "encoding") + "\x00"
		if _, inline := jsondoc.Get(entry, "data"); !inline {
			out[name] = about + memberText(entry, "digest")
			continue
		}
		data, err := base64.StdEncoding.DecodeString(memberText(entry, "data"))
		if err != nil {
			return nil, fmt.Errorf("attachment %q: %w", name, err)
		}
		sum := sha1.Sum(data) //nolint:gosec // as gateways do
		out[name] = about + "sha1-" + base64.StdEncoding.EncodeToString(sum[:])
	}
	return out, nil
}

// same reports whether the document is what it shall be.
func (e edit) same(now current) bool {
	if len(e.digests) != len(now.digests) {
		return false
	}
	for name, d := range e.digests {
		if now.digests[name] != d {
			return false
		}
	}
	return bytes.Equal(e.canonical(), jsondoc.AppendCanonical(nil, now.body, false))
}

func (e edit) canonical() []byte {
	split, err := jsondoc.Split(e.body, jsondoc.Limits{Bytes: len(e.body)}, true)
	if err != nil { // the mapping made it
		return nil
	}
	return jsondoc.AppendCanonical(nil, split.Body, false)
}

// item is the edit on top of what is there. A tombstone is not named: a document goes on from it.
func (e edit) item(now current) []byte {
	if e.body == nil {
		return jsondoc.AppendDoc(nil, []byte("{}"), jsondoc.Member{Name: "_id", Value: rawString(e.id)},
			jsondoc.Member{Name: "_rev", Value: rawString(now.rev)}, jsondoc.Member{Name: "_deleted", Value: []byte("true")})
	}
	if !now.live {
		return e.body
	}
	return jsondoc.AppendDoc(nil, e.body, jsondoc.Member{Name: "_rev", Value: rawString(now.rev)})
}

// currents reads the documents as they are, without attachments' data.
func (c *Cluster) currents(ctx context.Context, ns clustersync.Namespace, edits []edit, which []int) ([]current, error) {
	ids := make([]string, len(which))
	for n, i := range which {
		ids[n] = edits[i].id
	}
	for try := 0; ; try++ {
		out := make([]current, 0, len(ids))
		err := c.rows(ctx, ns, url.Values{"include_docs": {"true"}}, ids, func(r row) error {
			now, err := currentOf(r)
			out = append(out, now)
			return err
		})
		switch {
		case err == nil && len(out) != len(ids):
			return nil, fmt.Errorf("read %s: %d rows for %d keys", ns, len(out), len(ids))
		case err == nil || try >= len(c.client.pauses) || isFinal(err) || ctx.Err() != nil:
			return out, err
		}
	}
}

// currentOf reads a row; a deleted document is none.
func currentOf(r row) (current, error) {
	if r.Doc == nil {
		if r.missing() {
			return current{}, nil
		}
		return current{}, fmt.Errorf("read document %q: %s (%d)", r.Key, r.Error, r.Status)
	}
	split, err := jsondoc.Split(r.Doc, jsondoc.Limits{Bytes: max(len(r.Doc), 1)}, true)
	if err != nil {
		return current{}, fmt.Errorf("read document %q: %w", r.ID, err)
	}
	digests, err := digestsOf(r.Doc)
	return current{rev: split.Rev, live: !split.Deleted, body: split.Body, digests: digests}, err
}
