package rest

import (
	"errors"
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// handleGetDocument answers GET and HEAD {ks}/{docid} (gateway-rest.md §11.3).
func (s *Server) handleGetDocument(w http.ResponseWriter, r *request) error {
	id, err := r.docID()
	if err != nil {
		return err
	}
	opts, err := r.docOptions()
	if err != nil {
		return err
	}
	if r.q.has("open_revs") {
		if err := r.gate(); err != nil {
			return err
		}
		return s.openRevs(w, r, id, opts)
	}
	rev, err := s.wantedRev(r)
	if err != nil {
		return err
	}
	doc, err := r.handle.Get(r.Context(), id, database.GetOptions{Rev: rev, Latest: r.q.boolean("latest", false)})
	if err != nil {
		return err
	}
	d := &renderer{ctx: r.Context(), handle: r.handle, opts: opts}
	accept := accepts(r.Header)
	send := d.contents(doc)
	onlyMultipart := accept.multipart && !accept.takesJSON()
	setRevETag(w, doc.Rev)
	if onlyMultipart || (len(send) > 0 && (accept.any || accept.multipart)) {
		return s.writeRelated(w, d, doc, send)
	}
	if err := accept.checkJSON(); err != nil {
		return err
	}
	s.setJSON(w)
	o := s.newOutput(w, http.StatusOK)
	defer o.close()
	if err := d.document(o, doc, send); err != nil {
		return err
	}
	return o.finish()
}

// wantedRev reads the rev parameter of a GET.
func (s *Server) wantedRev(r *request) (tidegate.RevID, error) {
	text := r.q.text("rev")
	if text == "" {
		return tidegate.RevID{}, nil
	}
	return tidegate.ParseRevID(text)
}

// writeRelated answers with a multipart/related body: the document, then its attachments.
func (s *Server) writeRelated(w http.ResponseWriter, d *renderer, doc *database.Document, send []string) error {
	o := s.newOutput(w, http.StatusOK)
	defer o.close()
	parts := newPartWriter(o)
	w.Header().Set("Content-Type", parts.contentType("related"))
	if err := d.related(o, parts, doc, send); err != nil {
		return err
	}
	return o.finish()
}

// related writes the parts of a document with attachments.
func (d *renderer) related(o *output, parts *partWriter, doc *database.Document, send []string) error {
	d.follow = true
	parts.part("Content-Type: application/json")
	if err := d.document(o, doc, send); err != nil {
		return err
	}
	for _, name := range send {
		if err := d.attachmentPart(parts, doc, name); err != nil {
			return err
		}
	}
	parts.end()
	return parts.err
}

// errBadOpenRevs is answered to an open_revs that is neither "all" nor a list of revisions.
var errBadOpenRevs = tidegate.Errorf(tidegate.Invalid, "bad open_revs")

// openRevs answers a GET with open_revs.
func (s *Server) openRevs(w http.ResponseWriter, r *request, id string, opts docOptions) error {
	all, revs, err := parseOpenRevs(r.q.text("open_revs"))
	if err != nil {
		return err
	}
	accept := accepts(r.Header)
	results, err := s.openRevResults(r, id, all, revs)
	if err != nil {
		return err
	}
	opts.attachments = true // always sent with open_revs
	d := &renderer{ctx: r.Context(), handle: r.handle, opts: opts}
	if accept.any || accept.multipart {
		return s.writeMixed(w, r, func(o *output, parts *partWriter) error {
			for _, res := range results {
				if err := d.revPart(o, parts, r, res); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := accept.checkJSON(); err != nil {
		return err
	}
	s.setJSON(w)
	o := s.newOutput(w, http.StatusOK)
	defer o.close()
	if err := d.openRevsJSON(o, results); err != nil {
		return err
	}
	return o.finish()
}

// openRevResults looks the revisions up. Of a document that is absent a list has every entry missing; "all"
// is 404.
func (s *Server) openRevResults(r *request, id string, all bool, revs []tidegate.RevID) ([]database.RevResult, error) {
	if !all && len(revs) == 0 {
		return nil, nil
	}
	results, err := r.handle.OpenRevs(r.Context(), id, revs, r.q.boolean("latest", false))
	if !all && errors.Is(err, tidegate.ErrMissing) {
		results = make([]database.RevResult, len(revs))
		for i, rev := range revs {
			results[i].Missing = rev
		}
		return results, nil
	}
	return results, err
}

// parseOpenRevs reads the value of open_revs.
func parseOpenRevs(text string) (all bool, revs []tidegate.RevID, err error) {
	if unquoteParam(text) == "all" {
		return true, nil, nil
	}
	list, ok := parseStrings(text)
	if !ok {
		return false, nil, errBadOpenRevs
	}
	if revs, err = parseRevs(list); err != nil {
		return false, nil, errBadOpenRevs
	}
	return false, revs, nil
}

// openRevsJSON writes [{"ok":{…}},{"missing":"…"}].
func (d *renderer) openRevsJSON(o *output, results []database.RevResult) error {
	o.b = append(o.b, '[')
	for i, res := range results {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		if res.Doc == nil {
			o.b = append(res.Missing.Append(append(o.b, `{"missing":"`...)), `"}`...)
			continue
		}
		o.b = append(o.b, `{"ok":`...)
		if err := d.document(o, res.Doc, d.contents(res.Doc)); err != nil {
			return err
		}
		o.b = append(o.b, '}')
		if err := o.spill(); err != nil {
			return err
		}
	}
	o.b = append(o.b, ']')
	return nil
}
