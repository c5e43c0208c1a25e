package mapping

import (
	"bytes"
	"fmt"
	"sort"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

func containsNUL(s string) bool { return strings.IndexByte(s, 0) >= 0 }

func convert(doc clustersync.Document, to clustersync.Kind) (Converted, error) {
	if doc.Format == to {
		return Converted{Doc: doc}, nil
	}
	key, err := translate(doc.Key, doc.Format, to)
	if err != nil {
		return Converted{}, err
	}
	out := Converted{Doc: clustersync.Document{Key: key, Format: to}}
	if doc.Body == nil {
		return out, nil
	}
	if to == clustersync.Tidegate {
		_, out.Doc.Body, err = documentToJSON(doc.Body)
		return out, err
	}
	l, err := leavesOf(doc.Body)
	if err != nil || l.winner == nil {
		return out, err
	}
	out.Dropped = len(l.live) - 1
	_, out.Expires = jsondoc.Get(l.winner, "_exp")
	raw, err := documentToBSON(l.winner)
	if err != nil {
		return Converted{}, err
	}
	out.Doc.Body, out.Doc.Key.Raw = raw, keyWith(raw.Lookup("_id"))
	return out, nil
}

// leaves are the revisions of a tidegate document that count.
type leaves struct {
	winner []byte            // nil: all are deleted
	live   map[string][]byte // by revision
}

// leavesOf reads the array of a document's leaf revisions.
func leavesOf(body []byte) (leaves, error) {
	l := leaves{live: map[string][]byte{}}
	if err := jsondoc.Check(body, jsondoc.Limits{Bytes: len(body), Depth: maxDepth + 1}); err != nil || body[0] != '[' {
		return l, unmappable("", "no array of revisions")
	}
	var best tidegate.RevID
	for leaf := range jsondoc.Elements(body) {
		text, _ := textMember(leaf, "_rev")
		rev, err := tidegate.ParseRevID(text)
		if err != nil {
			return l, unmappable("_rev", "no revision")
		}
		if deleted, _ := jsondoc.Get(leaf, "_deleted"); string(deleted) == "true" {
			continue
		}
		l.live[text] = leaf
		if l.winner == nil || rev.Compare(best) > 0 {
			l.winner, best = leaf, rev
		}
	}
	return l, nil
}

func canonical(doc clustersync.Document) ([]byte, error) {
	if doc.Body == nil {
		return nil, nil
	}
	if doc.Format != clustersync.MongoDB {
		c, err := convert(doc, clustersync.MongoDB)
		return c.Doc.Body, err
	}
	// There and back, so that what has no counterpart is an error and what does not count is the same.
	_, body, err := documentToJSON(doc.Body)
	if err != nil {
		return nil, err
	}
	raw, err := documentToBSON(body)
	return raw, err
}

func canonicalLeaves(doc clustersync.Document) ([]byte, error) {
	if doc.Body == nil {
		return nil, nil
	}
	l, err := leavesOf(doc.Body)
	if err != nil || len(l.live) == 0 {
		return nil, err
	}
	revs := make([]string, 0, len(l.live))
	for rev := range l.live {
		revs = append(revs, rev)
	}
	sort.Strings(revs)
	var out []byte
	for _, rev := range revs {
		out = append(append(out, rev...), '\n')
		out = appendLeaf(out, l.live[rev])
		out = append(out, '\n')
	}
	return out, nil
}

// appendLeaf appends what counts of a revision: its members, its attachments by their digests, and when it expires.
func appendLeaf(out, leaf []byte) []byte {
	split, err := jsondoc.Split(leaf, jsondoc.Limits{Bytes: len(leaf), Depth: maxDepth + 1}, true)
	if err != nil { // it was checked
		return append(out, leaf...)
	}
	out = jsondoc.AppendCanonical(out, split.Body, false)
	var attached []string
	if split.Attachments != nil && split.Attachments[0] == '{' {
		for name, entry := range jsondoc.Members(split.Attachments) {
			digest, _ := jsondoc.Get(entry, "digest")
			kind, _ := jsondoc.Get(entry, "content_type")
			attached = append(attached, fmt.Sprintf("%q %s %s", name, digest, kind))
		}
	}
	sort.Strings(attached)
	for _, a := range attached {
		out = append(append(out, '\n'), a...)
	}
	return append(append(out, '\n'), bytes.TrimSpace(split.Exp)...)
}
