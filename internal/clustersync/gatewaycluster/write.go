package gatewaycluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// Limits of writing.
const (
	requestBytes = 8 << 20 // of documents in one request; a longer document goes alone
	requestDocs  = 1000
)

// Insert stores documents with all their revisions. What the collection has already is left as it is and counted as present; a document
// that has other revisions here gets those that it lacks.
func (c *Cluster) Insert(ctx context.Context, ns clustersync.Namespace, docs []clustersync.Document, _ clustersync.WriteOptions) (clustersync.InsertResult, error) {
	var res clustersync.InsertResult
	theirs, foreign := split(docs)
	for _, w := range []struct {
		docs  []clustersync.Document
		write func(context.Context, clustersync.Namespace, []clustersync.Document) (written, error)
	}{{theirs, c.writeLeaves}, {foreign, c.insertForeign}} {
		for some := range portions(w.docs) {
			got, err := w.write(ctx, ns, some)
			if err != nil {
				return res, err
			}
			for i, out := range got {
				if out.err != nil {
					return res, refused(ns, some[i], out.err)
				}
				if out.present {
					res.Present++
				} else {
					res.Inserted++
				}
				res.Bytes += int64(len(some[i].Body))
			}
		}
	}
	return res, nil
}

// refused names the document that could not be written.
func refused(ns clustersync.Namespace, doc clustersync.Document, err error) error {
	return fmt.Errorf("write document %q to %s: %w", nameOf(doc.Key), ns, err)
}

// nameOf is a key for people.
func nameOf(k clustersync.Key) string {
	if id, err := docIDOf(k.Raw); err == nil {
		return id
	}
	return k.Raw.String()
}

// outcome is what became of a document, and written of a batch of them, in order.
type outcome struct {
	present bool // nothing had to be written
	err     error
}

type written []outcome

// split tells documents of tidegate from those of MongoDB.
func split(docs []clustersync.Document) (theirs, foreign []clustersync.Document) {
	for _, d := range docs {
		if d.Format == clustersync.MongoDB {
			foreign = append(foreign, d)
		} else {
			theirs = append(theirs, d)
		}
	}
	return theirs, foreign
}

// portions cuts documents into what one request holds.
func portions(docs []clustersync.Document) func(yield func([]clustersync.Document) bool) {
	return func(yield func([]clustersync.Document) bool) {
		start, bytes := 0, 0
		for i, d := range docs {
			if i > start && (bytes+len(d.Body) > requestBytes || i-start >= requestDocs) {
				if !yield(docs[start:i]) {
					return
				}
				start, bytes = i, 0
			}
			bytes += len(d.Body)
		}
		if start < len(docs) {
			yield(docs[start:])
		}
	}
}

// writeLeaves stores the revisions of documents that are not there yet. It asks which these are first, so that attachments are not sent in vain.
func (c *Cluster) writeLeaves(ctx context.Context, ns clustersync.Namespace, docs []clustersync.Document) (written, error) {
	out := make(written, len(docs))
	asked := make(map[string][]string, len(docs))
	ids := make([]string, len(docs))
	for i, d := range docs {
		id, err := docIDOf(d.Key.Raw)
		if err == nil && len(d.Body) > MaxDocument {
			err = fmt.Errorf("it is longer than %d bytes: %w", MaxDocument, clustersync.ErrTooLarge)
		}
		if err != nil {
			out[i].err = err
			continue
		}
		ids[i], asked[id] = id, revsOf(d.Body)
	}
	var lack map[string]struct{ Missing []string }
	if err := c.client.post(ctx, keyspace(ns)+"_revs_diff", nil, asked, &lack); err != nil {
		return nil, fmt.Errorf("ask which revisions %s lacks: %w", ns, err)
	}
	b := bulk{keep: true}
	for i, d := range docs {
		if out[i].err != nil {
			continue
		}
		missing := lack[ids[i]].Missing
		out[i].present = len(missing) == 0
		for leaf := range jsondoc.Elements(d.Body) {
			if slices.Contains(missing, memberText(leaf, "_rev")) {
				b.add(i, leaf)
			}
		}
	}
	return out, c.send(ctx, ns, &b, func(i int, err error) { out[i].err = err })
}

// revsOf are the revisions of a document.
func revsOf(body []byte) []string {
	revs := []string{}
	for leaf := range jsondoc.Elements(body) {
		revs = append(revs, memberText(leaf, "_rev"))
	}
	return revs
}

func memberText(obj []byte, name string) string {
	raw, _ := jsondoc.Get(obj, name)
	s, _ := jsondoc.Unquote(raw)
	return s
}

// bulk is a _bulk_docs request. Several of its items may be of one document.
type bulk struct {
	items [][]byte
	of    []int // the document that an item is of
	keep  bool  // revisions with their histories, as they are; otherwise edits
}

func (b *bulk) add(doc int, item []byte) { b.items, b.of = append(b.items, item), append(b.of, doc) }

// request is its body.
func (b *bulk) request(from, to int) []byte {
	var out bytes.Buffer
	out.WriteString(`{"docs":[`)
	for i := from; i < to; i++ {
		if i > from {
			out.WriteByte(',')
		}
		out.Write(b.items[i])
	}
	if b.keep {
		out.WriteString(`],"new_edits":false,"keep_branches":true}`)
	} else {
		out.WriteString(`],"new_edits":true}`)
	}
	return out.Bytes()
}

// bulkRow is the answer for one item.
type bulkRow struct {
	ID     string `json:"id"`
	Rev    string `json:"rev"`
	Error  string `json:"error"`
	Reason string `json:"reason"`
	Status int    `json:"status"`
}

// send makes the request and calls failed for each document with an item that was refused. A request that the gateway takes for too long is
// made in halves.
func (c *Cluster) send(ctx context.Context, ns clustersync.Namespace, b *bulk, failed func(doc int, err error)) error {
	return c.sendPart(ctx, ns, b, 0, len(b.items), failed)
}

func (c *Cluster) sendPart(ctx context.Context, ns clustersync.Namespace, b *bulk, from, to int, failed func(doc int, err error)) error {
	if from == to {
		return nil
	}
	var rows []bulkRow
	_, err := c.client.do(ctx, call{method: http.MethodPost, path: keyspace(ns) + "_bulk_docs", body: b.request(from, to)}, &rows)
	switch {
	case isStatus(err, http.StatusRequestEntityTooLarge) && to-from > 1:
		middle := (from + to) / 2
		if err := c.sendPart(ctx, ns, b, from, middle, failed); err != nil {
			return err
		}
		return c.sendPart(ctx, ns, b, middle, to, failed)
	case isStatus(err, http.StatusRequestEntityTooLarge):
		failed(b.of[from], err)
		return nil
	case err != nil:
		return fmt.Errorf("write to %s: %w", ns, err)
	case len(rows) != to-from:
		return fmt.Errorf("write to %s: %d answers to %d documents", ns, len(rows), to-from)
	}
	for i, r := range rows {
		if r.Error != "" {
			failed(b.of[from+i], &apiError{r.Status, cut(r.Reason, maxReason)})
		}
	}
	return nil
}

// Apply makes documents what the intents say. One that its tidegate source does not have at all was purged there, and is purged; one that
// its MongoDB source does not have was deleted, and gets a tombstone, from which devices learn of it.
func (c *Cluster) Apply(ctx context.Context, ns clustersync.Namespace, intents []clustersync.Intent, _ clustersync.WriteOptions) ([]clustersync.Failure, error) {
	var failed []clustersync.Failure
	groups := map[kindOfWork][]int{}
	for i, in := range intents {
		k := workOf(in.Doc)
		groups[k] = append(groups[k], i)
	}
	for _, k := range []kindOfWork{purge, leaves, foreign} {
		docs := make([]clustersync.Document, len(groups[k]))
		for n, i := range groups[k] {
			docs[n] = intents[i].Doc
		}
		done := 0
		for some := range portions(docs) {
			got, err := c.work(ctx, k, ns, some)
			if err != nil {
				return failed, err
			}
			for n, out := range got {
				if out.err != nil {
					failed = append(failed, clustersync.Failure{Index: groups[k][done+n], Err: refused(ns, some[n], out.err)})
				}
			}
			done += len(some)
		}
	}
	return failed, nil
}

// kindOfWork is how an intent is carried out.
type kindOfWork int

const (
	purge kindOfWork = iota
	leaves
	foreign
)

func workOf(d clustersync.Document) kindOfWork {
	switch {
	case d.Format == clustersync.MongoDB:
		return foreign
	case d.Body == nil:
		return purge
	}
	return leaves
}

func (c *Cluster) work(ctx context.Context, k kindOfWork, ns clustersync.Namespace, docs []clustersync.Document) (written, error) {
	switch k {
	case purge:
		return c.purge(ctx, ns, docs)
	case foreign:
		return c.applyForeign(ctx, ns, docs)
	}
	return c.writeLeaves(ctx, ns, docs)
}

// purge removes documents without a trace.
func (c *Cluster) purge(ctx context.Context, ns clustersync.Namespace, docs []clustersync.Document) (written, error) {
	ids := make([]string, len(docs))
	for i, d := range docs {
		var err error
		if ids[i], err = docIDOf(d.Key.Raw); err != nil {
			return nil, err
		}
	}
	return make(written, len(docs)), c.purgeIDs(ctx, ns, ids)
}

func (c *Cluster) purgeIDs(ctx context.Context, ns clustersync.Namespace, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	all := make(map[string][]string, len(ids))
	for _, id := range ids {
		all[id] = []string{"*"}
	}
	if err := c.client.post(ctx, keyspace(ns)+"_purge", nil, all, nil); err != nil {
		return fmt.Errorf("purge documents of %s: %w", ns, err)
	}
	return nil
}

// ApplyDelta is not to be had: a document that cannot be fetched is one that is gone.
func (c *Cluster) ApplyDelta(context.Context, clustersync.Namespace, clustersync.Key, bson.Raw) error {
	return fmt.Errorf("apply a delta to a tidegate document: %w", clustersync.ErrUnsupported)
}

// rawString is s as JSON.
func rawString(s string) json.RawMessage { return jsondoc.AppendString(nil, s) }
