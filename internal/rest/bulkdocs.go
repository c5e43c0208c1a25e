package rest

import (
	"errors"
	"net/http"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

var (
	errMissingDocs = tidegate.Errorf(tidegate.Invalid, "missing 'docs' property")
	errNotJSON     = jsondoc.ErrNotObject
)

// handleBulkDocs answers POST {ks}/_bulk_docs (gateway-rest.md §13.1).
func (s *Server) handleBulkDocs(w http.ResponseWriter, r *request) error {
	if err := checkJSONType(r.Header); err != nil {
		return err
	}
	body, err := s.readBody(r, s.limits.RequestBytes)
	if err != nil {
		return err
	}
	defer body.Free()
	b := bulk{s: s, r: r, newEdits: true}
	if err := b.parse(body.bytes); err != nil {
		return err
	}
	if !b.newEdits {
		if err := r.gate(); err != nil {
			return err
		}
	}
	if len(b.writes) > 0 {
		// A client that replicates must not take the block for the refusal of each document.
		if err := r.handle.MayWrite(r.Context()); err != nil {
			return err
		}
	}
	b.write()
	for i := range b.results {
		if errors.Is(b.results[i].Err, database.ErrNotAdmitted) {
			return database.ErrNotAdmitted // of a row alone a client that replicates would give the document up
		}
	}
	return b.reply(w)
}

// bulk is a _bulk_docs request under way.
type bulk struct {
	s        *Server
	r        *request
	newEdits bool
	// keepBranches, of an administrator: branches are stored as they are, whatever allow_conflicts says.
	keepBranches bool

	items   []bulkItem // in the order of the request
	writes  []*database.Write
	results []database.PutResult // for writes
	locals  int
}

// bulkItem is one element of docs.
type bulkItem struct {
	id    string
	doc   *jsondoc.Doc
	write int // index in bulk.writes; -1 for a local document or if err is set
	local bool
	rev   string // of a local document that was written
	err   error
}

// parse reads the request. Nothing is written unless the whole of it is well-formed JSON.
func (b *bulk) parse(raw []byte) error {
	if len(raw) == 0 {
		return errEmptyDocument
	}
	raw, docs, err := cutArray(raw, "docs", b.s.jsonLimits())
	if err != nil {
		return err
	}
	if v, ok := jsondoc.Get(raw, "new_edits"); ok {
		b.newEdits = string(v) != "false"
	}
	if v, ok := jsondoc.Get(raw, "keep_branches"); ok {
		b.keepBranches = string(v) == "true" && b.r.admin
	}
	if docs == nil {
		return errMissingDocs
	}
	b.items = make([]bulkItem, 0, 16)
	for elem, err := range elements(docs) {
		if err != nil {
			return err
		}
		if len(b.items) >= b.s.limits.BulkDocs {
			return tidegate.Errorf(tidegate.TooLarge, "Too many documents (at most %d)", b.s.limits.BulkDocs)
		}
		item := bulkItem{write: -1}
		if item.doc, item.err = b.s.splitDocument(elem); item.err != nil && !rowFault(item.err) {
			return item.err
		}
		b.items = append(b.items, item)
	}
	for i := range b.items {
		b.prepare(&b.items[i])
	}
	return nil
}

// rowFault tells faults of one document, which get an error row, from faults of the request's form.
func rowFault(err error) bool {
	if err == errNotJSON {
		return false
	}
	return !strings.HasPrefix(tidegate.ErrorReason(err), "Bad JSON")
}

// prepare makes the write of an item.
func (b *bulk) prepare(item *bulkItem) {
	if item.err != nil {
		return
	}
	doc := item.doc
	if !doc.HasID {
		doc.ID, doc.HasID = newDocID(), true
	}
	item.id = doc.ID
	if id, ok := strings.CutPrefix(doc.ID, localPrefix); ok {
		item.local, item.id, item.err = true, id, checkLocalID(id)
		b.locals++
		return
	}
	if item.err = tidegate.ValidDocID(doc.ID); item.err != nil {
		return
	}
	write, err := database.WriteFromDoc(doc, b.newEdits)
	if err != nil {
		item.err = err
		return
	}
	if !b.newEdits {
		write.BulkPush, write.KeepBranches = true, b.keepBranches
		if write.History == nil {
			rev, err := tidegate.ParseRevID(doc.Rev)
			if err != nil {
				item.err = err
				return
			}
			write.History = []tidegate.RevID{rev}
		}
	}
	item.write = len(b.writes)
	b.writes = append(b.writes, write)
}

// write writes the documents, then the local ones.
func (b *bulk) write() {
	if len(b.writes) > 0 {
		b.results = b.r.handle.PutAll(b.r.Context(), b.writes)
	}
	if b.locals == 0 {
		return
	}
	for i := range b.items {
		if item := &b.items[i]; item.local && item.err == nil {
			item.rev, item.err = putLocal(b.r, item.id, item.doc)
		}
	}
}

// reply answers one row for each document, those of local documents last.
func (b *bulk) reply(w http.ResponseWriter) error {
	b.s.setJSON(w)
	o := b.s.newOutput(w, http.StatusCreated)
	defer o.close()
	o.b = append(o.b, '[')
	sep := ""
	for _, local := range []bool{false, true} {
		for i := range b.items {
			if b.items[i].local != local {
				continue
			}
			o.b = b.row(append(o.b, sep...), &b.items[i])
			sep = ","
			if err := o.spill(); err != nil {
				return err
			}
		}
	}
	o.b = append(o.b, ']')
	return o.finish()
}

// row appends the answer for one document.
func (b *bulk) row(dst []byte, item *bulkItem) []byte {
	id, rev, err := item.id, item.rev, item.err
	switch {
	case item.local:
		id = localPrefix + id
	case item.write >= 0:
		res := &b.results[item.write]
		rev, err = res.Rev.String(), res.Err
		if !b.newEdits {
			err = pushError(err)
		}
	}
	dst = tidegate.AppendJSONString(append(dst, `{"id":`...), id)
	if err == nil {
		return append(append(append(dst, `,"rev":"`...), rev...), `"}`...)
	}
	dst = b.r.itemErrorOf(err).appendMembers(append(dst, ','))
	if item.doc != nil && item.doc.Rev != "" {
		dst = tidegate.AppendJSONString(append(dst, `,"rev":`...), item.doc.Rev)
	}
	return append(dst, '}')
}
