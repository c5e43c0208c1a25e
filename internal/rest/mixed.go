package rest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
)

// minGzipPart is the shortest JSON part that may be compressed by itself, in bytes (gateway-rest.md §11.3).
const minGzipPart = 300

// writeMixed answers with a multipart/mixed body, whose parts fill writes.
func (s *Server) writeMixed(w http.ResponseWriter, r *request, fill func(*output, *partWriter) error) error {
	o := s.newOutput(w, http.StatusOK)
	defer o.close()
	parts := newPartWriter(o)
	w.Header().Set("Content-Type", parts.contentType("mixed"))
	if err := fill(o, parts); err != nil {
		return err
	}
	parts.end()
	if parts.err != nil {
		return parts.err
	}
	return o.finish()
}

// revPart writes one revision as a part of a multipart/mixed body: JSON, or a nested multipart/related if
// there are attachments to send.
func (d *renderer) revPart(o *output, parts *partWriter, r *request, res database.RevResult) error {
	if res.Doc == nil {
		parts.part(`Content-Type: application/json; error="true"`)
		o.b = append(res.Missing.Append(append(o.b, `{"missing":"`...)), `"}`...)
		return o.spill()
	}
	id, rev := headerLine("X-Doc-ID", res.Doc.ID), headerLine("X-Rev-ID", res.Doc.Rev.String())
	if send := d.contents(res.Doc); len(send) > 0 {
		inner := newPartWriter(o)
		parts.part("Content-Type: "+inner.contentType("related"), id, rev)
		return d.related(o, inner, res.Doc, send)
	}
	d.follow = true
	if acceptsGzip(r.Header.Get("X-Accept-Part-Encoding")) {
		return d.gzipPart(parts, r, res.Doc, id, rev)
	}
	parts.part("Content-Type: application/json", id, rev)
	if err := d.document(o, res.Doc, nil); err != nil {
		return err
	}
	return o.spill()
}

// gzipPart writes a document as a JSON part, compressed if it is worth it.
func (d *renderer) gzipPart(parts *partWriter, r *request, doc *database.Document, header ...string) error {
	s := r.answer.server
	buf := s.buffers.get()
	defer s.buffers.put(buf)
	whole := s.newOutputTo(buf)
	defer whole.close()
	if err := d.document(whole, doc, nil); err != nil {
		return err
	}
	if err := whole.finish(); err != nil {
		return err
	}
	header = append(header, "Content-Type: application/json")
	if buf.Len() < minGzipPart {
		parts.part(header...)
		_, err := parts.Write(buf.Bytes())
		return err
	}
	parts.part(append(header, "Content-Encoding: gzip")...)
	z := s.gzips.get(parts)
	defer s.gzips.put(z)
	if _, err := z.Write(buf.Bytes()); err != nil {
		return fmt.Errorf("compress part: %w", err)
	}
	return z.Close()
}

// attachmentPart writes the content of an attachment as a part.
func (d *renderer) attachmentPart(parts *partWriter, doc *database.Document, name string) error {
	content, a, err := d.handle.OpenAttachment(d.ctx, doc, name)
	if err != nil {
		return err
	}
	defer content.Close()
	header := []string{headerLine("Content-Type", contentTypeOf(a))}
	if a.Encoding != "" {
		header = append(header, headerLine("Content-Encoding", a.Encoding))
	}
	header = append(header, "Content-Length: "+strconv.FormatInt(storedLength(a), 10), disposition(name))
	parts.part(header...)
	if _, err := io.Copy(parts, content); err != nil {
		return fmt.Errorf("send attachment: %w", err)
	}
	return parts.err
}

// contentTypeOf is the type an attachment is sent with.
func contentTypeOf(a tidegate.Attachment) string {
	if a.ContentType == "" {
		return "application/octet-stream"
	}
	return a.ContentType
}

// storedLength is the number of bytes of an attachment as it is stored.
func storedLength(a tidegate.Attachment) int64 {
	if a.Encoding != "" {
		return a.EncodedLength
	}
	return a.Length
}
