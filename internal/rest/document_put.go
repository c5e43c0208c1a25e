package rest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

var (
	errRevsDiffer  = tidegate.Errorf(tidegate.Invalid, "Revision IDs provided do not match")
	errIDsDiffer   = tidegate.Errorf(tidegate.Invalid, "The document ID provided in the body does not match the document ID in the path")
	errNoPrevious  = tidegate.Errorf(tidegate.NotFound, "No previous revision to replace")
	errDocTooLarge = jsondoc.ErrTooLarge
)

// handlePutDocument answers PUT {ks}/{docid} (gateway-rest.md §11.4).
func (s *Server) handlePutDocument(w http.ResponseWriter, r *request) error {
	id, err := r.docID()
	if err != nil {
		return err
	}
	in, err := s.readDocument(r)
	if err != nil {
		return err
	}
	defer in.free()
	if in.doc.HasID && in.doc.ID != id {
		return errIDsDiffer
	}
	in.doc.ID, in.doc.HasID = id, true
	if err := giveRev(in.doc, r); err != nil {
		return err
	}
	return s.putAndReply(w, r, in, http.StatusCreated)
}

// giveRev adds the revision named outside of the body to it.
func giveRev(doc *jsondoc.Doc, r *request) error {
	rev, err := r.q.rev(r.Header)
	if err != nil || rev.IsZero() {
		return err
	}
	text := rev.String()
	if doc.HasRev && doc.Rev != "" && doc.Rev != text {
		return errRevsDiffer
	}
	doc.Rev, doc.HasRev = text, true
	return nil
}

// handlePostDocument answers POST {ks}/ (gateway-rest.md §11.4).
func (s *Server) handlePostDocument(w http.ResponseWriter, r *request) error {
	in, err := s.readDocument(r)
	if err != nil {
		return err
	}
	defer in.free()
	if in.doc.HasRev {
		return errNoPrevious
	}
	if !in.doc.HasID {
		in.doc.ID, in.doc.HasID = newDocID(), true
	}
	if err := tidegate.ValidDocID(in.doc.ID); err != nil {
		return err
	}
	w.Header().Set("Location", url.PathEscape(in.doc.ID))
	return s.putAndReply(w, r, in, http.StatusOK)
}

// newDocID makes an ID for a document that came without one.
func newDocID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, says crypto/rand
	return hex.EncodeToString(b[:])
}

// putAndReply writes the document and answers with its new revision.
func (s *Server) putAndReply(w http.ResponseWriter, r *request, in *incoming, status int) error {
	newEdits := r.q.boolean("new_edits", true)
	if !newEdits {
		if err := r.gate(); err != nil {
			return err
		}
	}
	write, err := database.WriteFromDoc(in.doc, newEdits)
	if err != nil {
		return err
	}
	if err := in.receive(s, r, write); err != nil {
		return err
	}
	written, err := r.handle.Put(r.Context(), write)
	if err != nil && !newEdits {
		err = pushError(err)
	}
	if err != nil {
		return err
	}
	return s.replyWritten(w, status, written.ID, written.Rev)
}

// replyWritten answers {"id","ok","rev"} with the revision as entity tag.
func (s *Server) replyWritten(w http.ResponseWriter, status int, id string, rev tidegate.RevID) error {
	setRevETag(w, rev)
	var room [tidegate.MaxRevIDLen]byte
	buf := s.buffers.get()
	defer s.buffers.put(buf)
	return s.writeJSON(w, status, appendWritten(buf.AvailableBuffer(), id, rev.Append(room[:0])))
}

// appendWritten appends {"id":…,"ok":true,"rev":…}. rev needs no escapes.
func appendWritten[T string | []byte](b []byte, id string, rev T) []byte {
	b = tidegate.AppendJSONString(append(b, `{"id":`...), id)
	b = append(append(b, `,"ok":true,"rev":"`...), rev...)
	return append(b, `"}`...)
}

// handleDeleteDocument answers DELETE {ks}/{docid} (gateway-rest.md §11.5).
func (s *Server) handleDeleteDocument(w http.ResponseWriter, r *request) error {
	id, err := r.docID()
	if err != nil {
		return err
	}
	rev, err := r.q.rev(r.Header)
	if err != nil {
		return err
	}
	written, err := r.handle.Put(r.Context(), &database.Write{ID: id, Deleted: true, NewEdits: true, Parent: rev})
	if err != nil {
		return err
	}
	return s.replyWritten(w, http.StatusOK, written.ID, written.Rev)
}

// incoming is a document from a request body: JSON, or the first part of a multipart/related body whose
// other parts are still to be read.
type incoming struct {
	doc   *jsondoc.Doc
	body  *bodyBuffer
	parts *partReader // nil: the body was JSON
	done  []func()    // release what was uploaded
}

// free gives back the memory and the uploads. The document must not be used any more.
func (in *incoming) free() {
	for _, release := range in.done {
		release()
	}
	in.body.Free()
}

// readDocument reads a document from the body of a request.
func (s *Server) readDocument(r *request) (*incoming, error) {
	ct := r.Header.Get("Content-Type")
	in := new(incoming)
	var err error
	switch media := strings.ToLower(ct); {
	case ct == "" || strings.HasPrefix(media, "application/json"):
		in.body, err = s.readBody(r, s.limits.RequestBytes)
	case strings.HasPrefix(media, "multipart/related"):
		err = s.beginMultipart(r, in)
	default:
		err = tidegate.Errorf(tidegate.BadType, "Invalid content type %s", ct)
	}
	if errors.Is(err, errBodyTooLarge) {
		err = errDocTooLarge
	}
	if err != nil {
		return nil, err
	}
	if in.doc, err = s.splitDocument(in.body.bytes); err != nil {
		in.body.Free()
		return nil, err
	}
	return in, nil
}

// splitDocument parses a document from a request. Attachments inside of it count for the body's limit, not
// for the document's.
func (s *Server) splitDocument(raw []byte) (*jsondoc.Doc, error) {
	if len(raw) == 0 {
		return nil, errEmptyDocument
	}
	doc, err := jsondoc.Split(raw, s.jsonLimits(), false)
	if err != nil {
		return nil, err
	}
	if int64(len(doc.Body)) > s.limits.DocumentBytes {
		return nil, errDocTooLarge
	}
	return doc, nil
}
