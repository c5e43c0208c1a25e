package gatewaycluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// MaxDocument is the longest document that is copied: all its leaf revisions as JSON, attachments in base64 included. What is longer is an
// error that names it.
const MaxDocument = 48 << 20

// row is one line of _all_docs. Doc is valid only during the call that gives it.
type row struct {
	Key, ID string
	Error   string
	Status  int
	Doc     []byte
}

// readRow reads a row.
func readRow(raw []byte) (r row) {
	for name, value := range jsondoc.Members(raw) {
		switch name {
		case "key":
			r.Key, _ = jsondoc.Unquote(value)
		case "id":
			r.ID, _ = jsondoc.Unquote(value)
		case "error":
			r.Error, _ = jsondoc.Unquote(value)
		case "status":
			r.Status, _ = strconv.Atoi(string(value))
		case "doc":
			if string(value) != "null" {
				r.Doc = value
			}
		}
	}
	return r
}

// missing reports whether the row says that there is no such document.
func (r row) missing() bool { return r.Status == http.StatusNotFound || r.Error == "not_found" }

// attached is how long the attachments of a document are by its stubs.
func (r row) attached() (n int64) {
	var doc struct {
		Attachments map[string]struct{ Length int64 } `json:"_attachments"`
	}
	if json.Unmarshal(r.Doc, &doc) != nil {
		return 0
	}
	for _, a := range doc.Attachments {
		n += a.Length
	}
	return n
}

// documentQuery asks for documents as they are copied.
func documentQuery() url.Values {
	return url.Values{
		"include_docs": {"true"}, "revs": {"true"}, "attachments": {"true"}, "conflicts": {"true"}, "deleted_conflicts": {"true"}, "deleted": {"true"}, "show_exp": {"true"},
	}
}

// rows calls fn with each row as it comes: no more than one is held. keys, if not nil, are the documents that are asked for. An error of
// fn ends it and is returned.
func (c *Cluster) rows(ctx context.Context, ns clustersync.Namespace, query url.Values, keys []string, fn func(row) error) error {
	r := call{method: http.MethodGet, path: keyspace(ns) + "_all_docs", query: query}
	if keys != nil {
		body, err := json.Marshal(map[string][]string{"keys": keys})
		if err != nil {
			return fmt.Errorf("encode keys: %w", err)
		}
		r.method, r.body = http.MethodPost, body
	}
	answer, _, err := c.client.open(ctx, r)
	if err != nil {
		return fmt.Errorf("read %s: %w", ns, err)
	}
	defer answer.Close()
	if err := eachRow(answer, MaxDocument, fn); err != nil {
		var broken *brokenAnswer
		if errors.As(err, &broken) {
			return fmt.Errorf("read %s: %w", ns, unreachable(ctx, r.path, broken.err))
		}
		return err
	}
	return nil
}

// brokenAnswer is an answer that ended early or is not what it should be.
type brokenAnswer struct{ err error }

func (e *brokenAnswer) Error() string { return e.err.Error() }

// capped gives an error instead of more than left bytes.
type capped struct {
	r    io.Reader
	left int
	last string // the row before the one being read
}

func (l *capped) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("the document after %q is too long to be copied (%d bytes are the most): %w", l.last, MaxDocument, clustersync.ErrTooLarge)
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// eachRow reads {"rows":[…], …}, with documents of at most most bytes.
func eachRow(answer io.Reader, most int, fn func(row) error) error {
	const readAhead = 1 << 20 // the decoder reads beyond a row
	limit := &capped{r: answer, left: most + readAhead}
	// A gateway has checked what it stored.
	d := jsontext.NewDecoder(limit, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	broken := func(err error) error {
		if errors.Is(err, clustersync.ErrTooLarge) {
			return err
		}
		return &brokenAnswer{fmt.Errorf("decode rows: %w", err)}
	}
	for _, want := range []string{"{", "rows", "["} {
		got, err := d.ReadToken()
		if err != nil {
			return broken(err)
		}
		if got.String() != want {
			return broken(fmt.Errorf("%s in place of %s", cut(got.String(), 20), want))
		}
	}
	for d.PeekKind() == '{' {
		raw, err := d.ReadValue()
		if err != nil {
			return broken(err)
		}
		r := readRow(raw)
		if err := fn(r); err != nil {
			return err
		}
		limit.left, limit.last = most+readAhead, r.Key
	}
	if kind := d.PeekKind(); kind != ']' && kind != jsontext.KindInvalid {
		return broken(errors.New("a row that is no object"))
	}
	// The end must be there: a broken connection must not look like the end of a collection.
	for {
		if _, err := d.ReadToken(); err == io.EOF {
			return nil
		} else if err != nil {
			return broken(err)
		}
	}
}

// leaves gives all leaf revisions of a document as an array; nil if it is gone by now.
func (c *Cluster) leaves(ctx context.Context, ns clustersync.Namespace, r row) ([]byte, error) {
	if !bytes.Contains(r.Doc, []byte(`onflicts":[`)) {
		return wrap(r.Doc), nil
	}
	var other struct {
		Live json.RawMessage `json:"_conflicts"`
		Dead json.RawMessage `json:"_deleted_conflicts"`
	}
	if err := json.Unmarshal(r.Doc, &other); err != nil {
		return nil, fmt.Errorf("decode document %q: %w", r.ID, err)
	}
	if other.Live == nil && other.Dead == nil {
		return wrap(r.Doc), nil
	}
	path := keyspace(ns) + url.PathEscape(r.ID)
	var revs []struct {
		OK json.RawMessage `json:"ok"`
	}
	err := c.client.get(ctx, path, url.Values{"open_revs": {"all"}, "revs": {"true"}, "attachments": {"true"}, "show_exp": {"true"}}, &revs)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read all revisions of document %q of %s: %w", r.ID, ns, err)
	}
	out := []byte{'['}
	for _, rev := range revs {
		if rev.OK == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, rev.OK...)
	}
	if len(out) == 1 {
		return nil, nil
	}
	if len(out) > MaxDocument {
		return nil, fmt.Errorf("document %q of %s is longer than %d bytes: %w", r.ID, ns, MaxDocument, clustersync.ErrTooLarge)
	}
	return append(out, ']'), nil
}

// wrap makes an array of one revision.
func wrap(doc []byte) []byte {
	out := make([]byte, 0, len(doc)+2)
	return append(append(append(out, '['), doc...), ']')
}
