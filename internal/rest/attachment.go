package rest

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// attachmentName returns the {attachment} of the path: everything behind the document's ID, where "/" and
// "%2F" are the same.
func (r *request) attachmentName() (string, error) {
	name, err := r.pathVar("attachment")
	if err == nil && name == "" {
		err = errUnknownURL
	}
	return name, err
}

// handleGetAttachment answers GET and HEAD {ks}/{docid}/{attachment} (gateway-rest.md §12.2).
func (s *Server) handleGetAttachment(w http.ResponseWriter, r *request) error {
	doc, name, err := s.attachmentDocument(r)
	if err != nil {
		return err
	}
	content, a, err := r.handle.OpenAttachment(r.Context(), doc, name)
	if err != nil {
		return err
	}
	defer content.Close()
	if r.q.boolean("meta", false) {
		return s.writeAttachmentMeta(w, a)
	}
	h := w.Header()
	setETag(w, a.Digest)
	s.protectBrowser(h, r, a)
	switch {
	case a.Encoding == "":
		h.Set("Content-Type", contentTypeOf(a))
	case r.q.boolean("content_encoding", true):
		h.Set("Content-Type", contentTypeOf(a))
		h.Set("Content-Encoding", a.Encoding)
	default:
		h.Set("Content-Type", "application/gzip")
		h.Set("X-Content-Encoding", a.Encoding)
	}
	r.answer.noGzip()
	return serveContent(w, r, content, storedLength(a))
}

// attachmentDocument finds the document and the name that an attachment's URL speaks of.
func (s *Server) attachmentDocument(r *request) (*database.Document, string, error) {
	id, err := r.docID()
	if err != nil {
		return nil, "", err
	}
	name, err := r.attachmentName()
	if err != nil {
		return nil, "", err
	}
	rev, err := s.wantedRev(r)
	if err != nil {
		return nil, "", err
	}
	doc, err := r.handle.Get(r.Context(), id, database.GetOptions{Rev: rev})
	if err != nil {
		return nil, "", err
	}
	if doc.Removed {
		return nil, "", tidegate.ErrForbidden
	}
	return doc, name, nil
}

// writeAttachmentMeta answers meta=true: the metadata, with the attachment's storage key.
func (s *Server) writeAttachmentMeta(w http.ResponseWriter, a tidegate.Attachment) error {
	b := a.AppendStubJSON(nil)
	b = append(b[:len(b)-1], `,"key":"`...)
	b = append(b, a.Digest...) // the key in the blob store is no business of clients
	return s.writeJSON(w, http.StatusOK, append(b, `"}`...))
}

// protectBrowser keeps a browser from running what an attachment holds (gateway-rest.md §12.2,
// hardening.md).
func (s *Server) protectBrowser(h http.Header, r *request, a tidegate.Attachment) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox")
	if r.listener == admin || (runsInBrowser(a.ContentType) && !r.running.Settings().ServeInsecureTypes) {
		h.Set("Content-Disposition", "attachment")
	}
}

// runsInBrowser reports whether content of this type, shown by a browser, could run scripts in our origin.
func runsInBrowser(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return true // no type, or one that browsers may guess at
	}
	switch media {
	case "text/html", "application/xhtml+xml", "image/svg+xml":
		return true
	}
	return false
}

// disposition is the Content-Disposition line of an attachment's MIME part.
func disposition(name string) string {
	return headerLine("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
}

var errNeedsRev = tidegate.Errorf(tidegate.Conflict, "Cannot modify attachments without a specific rev ID")

// handlePutAttachment answers PUT {ks}/{docid}/{attachment} (gateway-rest.md §12.2).
func (s *Server) handlePutAttachment(w http.ResponseWriter, r *request) error {
	id, err := r.docID()
	if err != nil {
		return err
	}
	name, err := r.attachmentName()
	if err != nil {
		return err
	}
	rev, err := r.q.rev(r.Header)
	if err != nil {
		return err
	}
	write, err := s.attachmentWrite(r, id, rev, errNeedsRev)
	if err != nil {
		return err
	}
	in := database.AttachmentInput{ContentType: r.Header.Get("Content-Type"), Length: -1, EncodedLength: -1}
	if in.ContentType == "" {
		in.ContentType = "application/octet-stream"
	}
	if enc := strings.ToLower(r.Header.Get("Content-Encoding")); enc != "" && enc != "identity" {
		if enc != "gzip" {
			return errBadEncoding
		}
		in.Encoding = enc
	}
	limit := r.running.Settings().MaxAttachmentBytes
	if r.ContentLength > limit {
		return tidegate.Errorf(tidegate.TooLarge, "Attachment too large")
	}
	release, err := r.handle.Receive(r.Context(), &in, bodyErrors{r.Body})
	defer release()
	if err != nil {
		return err
	}
	if write.Attachments == nil {
		write.Attachments = make(map[string]database.AttachmentInput, 1)
	}
	write.Attachments[name] = in
	written, err := r.handle.Put(r.Context(), write)
	if err != nil {
		return err
	}
	return s.replyWritten(w, http.StatusCreated, written.ID, written.Rev)
}

// bodyErrors reads a body and tells the failure to read as a client's.
type bodyErrors struct{ r io.Reader }

func (b bodyErrors) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	return n, bodyError(err)
}

// attachmentWrite makes a Write that leaves the revision rev of a document as it is, for its attachments to
// be changed. Without a rev the document must not be there, or needsRev is the error; then the Write makes it.
func (s *Server) attachmentWrite(r *request, id string, rev tidegate.RevID, needsRev error) (*database.Write, error) {
	doc, err := r.handle.Get(r.Context(), id, database.GetOptions{Rev: rev})
	missing := tidegate.ErrorCode(err) == tidegate.NotFound
	switch {
	case err == nil && rev.IsZero():
		return nil, needsRev
	case err == nil && doc.Removed:
		return nil, tidegate.ErrForbidden
	case err == nil:
		return &database.Write{ID: id, Body: doc.Body, NewEdits: true, Parent: rev, Attachments: stubsOf(doc)}, nil
	case missing && !rev.IsZero():
		return nil, tidegate.ErrRevisionConflict
	case missing:
		return &database.Write{ID: id, NewEdits: true}, nil
	}
	return nil, err
}

// stubsOf are a document's attachments as input that keeps them.
func stubsOf(doc *database.Document) map[string]database.AttachmentInput {
	stubs := make(map[string]database.AttachmentInput, len(doc.Attachments)+1)
	for name, a := range doc.Attachments {
		stubs[name] = database.AttachmentInput{
			ContentType: a.ContentType, Encoding: a.Encoding, Digest: a.Digest,
			Length: a.Length, EncodedLength: a.EncodedLength, RevPos: a.RevPos, Stub: true,
		}
	}
	return stubs
}

var (
	errNoSuchDocument = tidegate.Errorf(tidegate.NotFound, "Document specified is not found")
	errIncorrectRev   = tidegate.Errorf(tidegate.Conflict, "Incorrect revision ID specified")
)

// handleDeleteAttachment answers DELETE {ks}/{docid}/{attachment} (gateway-rest.md §12.2).
func (s *Server) handleDeleteAttachment(w http.ResponseWriter, r *request) error {
	id, err := r.docID()
	if err != nil {
		return err
	}
	name, err := r.attachmentName()
	if err != nil {
		return err
	}
	rev, err := r.q.rev(r.Header)
	if err != nil {
		return err
	}
	doc, err := r.handle.Get(r.Context(), id, database.GetOptions{})
	switch {
	case tidegate.ErrorCode(err) == tidegate.NotFound:
		return errNoSuchDocument
	case err != nil:
		return err
	case doc.Rev != rev && !slices.Contains(doc.Conflicts(), rev):
		return errIncorrectRev
	case doc.Rev != rev: // the leaf of another branch
		if doc, err = r.handle.Get(r.Context(), id, database.GetOptions{Rev: rev}); err != nil {
			return err
		}
		if doc.Removed {
			return tidegate.ErrForbidden
		}
	}
	stubs := stubsOf(doc)
	if _, ok := stubs[name]; !ok {
		return tidegate.Errorf(tidegate.NotFound, "Attachment %s is not found", name)
	}
	delete(stubs, name)
	write := &database.Write{ID: id, Body: doc.Body, NewEdits: true, Parent: rev, Attachments: stubs}
	written, err := r.handle.Put(r.Context(), write)
	if errors.Is(err, tidegate.ErrRevisionConflict) {
		err = errIncorrectRev
	}
	if err != nil {
		return err
	}
	return s.replyWritten(w, http.StatusOK, written.ID, written.Rev)
}

// serveContent sends content of the given length, or the part of it that a Range header asks for.
func serveContent(w http.ResponseWriter, r *request, content io.ReadSeeker, length int64) error {
	h := w.Header()
	h.Set("Accept-Ranges", "bytes")
	status, start, n := http.StatusOK, int64(0), length
	if spec := r.Header.Get("Range"); spec != "" && rangeHolds(r.Header.Get("If-Range"), h.Get("ETag")) {
		from, count, kind := parseRange(spec, length)
		switch kind {
		case rangeUnsatisfiable:
			h.Set("Content-Range", "bytes */"+strconv.FormatInt(length, 10))
			return statusError(http.StatusRequestedRangeNotSatisfiable, "the range is beyond the end")
		case rangeOne:
			status, start, n = http.StatusPartialContent, from, count
			h.Set("Content-Range", "bytes "+strconv.FormatInt(start, 10)+"-"+
				strconv.FormatInt(start+n-1, 10)+"/"+strconv.FormatInt(length, 10))
		}
	}
	if start > 0 {
		if _, err := content.Seek(start, io.SeekStart); err != nil {
			return err
		}
	}
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := io.CopyN(w, content, n)
	return err
}

// rangeHolds reports whether a Range applies: there is no If-Range, or it names what we have.
func rangeHolds(ifRange, etag string) bool { return ifRange == "" || ifRange == etag }

// rangeKind is what a Range header comes to.
type rangeKind uint8

const (
	rangeAll           rangeKind = iota // to be ignored: not in bytes, malformed, or several ranges
	rangeOne                            // one range
	rangeUnsatisfiable                  // none of it is there
)

// parseRange reads a Range header for content of the given length (RFC 9110 §14). Several ranges are
// answered with the whole, as the RFC allows.
func parseRange(spec string, length int64) (start, n int64, kind rangeKind) {
	spec, ok := strings.CutPrefix(spec, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return 0, 0, rangeAll
	}
	first, last, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return 0, 0, rangeAll
	}
	if first == "" { // the last so many bytes
		count, err := strconv.ParseUint(last, 10, 63)
		if err != nil {
			return 0, 0, rangeAll
		}
		if count == 0 || length == 0 {
			return 0, 0, rangeUnsatisfiable
		}
		n = min(int64(count), length)
		return length - n, n, rangeOne
	}
	from, err := strconv.ParseUint(first, 10, 63)
	if err != nil {
		return 0, 0, rangeAll
	}
	to := uint64(length) - 1
	if last != "" {
		if to, err = strconv.ParseUint(last, 10, 63); err != nil || to < from {
			return 0, 0, rangeAll
		}
	}
	if from >= uint64(length) {
		return 0, 0, rangeUnsatisfiable
	}
	end := min(int64(to), length-1)
	return int64(from), end - int64(from) + 1, rangeOne
}
