package rest

import (
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"iter"
	"mime/multipart"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// beginMultipart reads the first part of a multipart/related body, the document.
func (s *Server) beginMultipart(r *request, in *incoming) error {
	// Contents are bounded one by one, and in number: there is no bound on the whole.
	src, err := s.bodyReader(r, int64(s.limits.MultipartParts+1)*(s.limits.RequestBytes))
	if err != nil {
		return err
	}
	parts, err := newPartReader(r.Header.Get("Content-Type"), src, s.limits.MultipartParts+1)
	if err != nil {
		return err
	}
	part, err := parts.next()
	if err == io.EOF {
		return tidegate.Errorf(tidegate.Invalid, "Bad multipart body: no parts")
	}
	if err != nil {
		return err
	}
	if ct := part.Header.Get("Content-Type"); ct != "" && !strings.HasPrefix(strings.ToLower(ct), jsonType) {
		return tidegate.Errorf(tidegate.Invalid, "the first MIME part must be application/json")
	}
	content, err := inflate(partContentReader{part}, part.Header.Get("Content-Encoding"), s.limits.RequestBytes)
	if err != nil {
		return err
	}
	in.parts = parts
	in.body, err = s.readAll(content)
	return err
}

// follower is an attachment whose content comes in a part.
type follower struct {
	name  string
	input database.AttachmentInput
	taken bool
}

// receive reads the remaining parts of a multipart body and puts their contents into the write's
// attachments. For a JSON body there is nothing to read, and nothing may follow.
func (in *incoming) receive(s *Server, r *request, w *database.Write) error {
	var waiting []*follower
	for name, a := range followsInOrder(in.doc, w) {
		waiting = append(waiting, &follower{name: name, input: a})
	}
	if in.parts == nil {
		if len(waiting) > 0 {
			return tidegate.Errorf(tidegate.Invalid, "Too few MIME parts: expected %d attachments, got 0", len(waiting))
		}
		return nil
	}
	got := 0
	for {
		part, err := in.parts.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if got++; got > len(waiting) {
			return tidegate.Errorf(tidegate.Invalid, "Too many MIME parts (expected %d)", len(waiting))
		}
		if err := in.takePart(r, w, waiting, part, got); err != nil {
			return err
		}
	}
	if got < len(waiting) {
		return tidegate.Errorf(tidegate.Invalid, "Too few MIME parts: expected %d attachments, got %d", len(waiting), got)
	}
	return nil
}

// followsInOrder yields the attachments with "follows":true in the order of the document, which is the order
// of parts that nothing else matches.
func followsInOrder(doc *jsondoc.Doc, w *database.Write) iter.Seq2[string, database.AttachmentInput] {
	return func(yield func(string, database.AttachmentInput) bool) {
		for name := range jsondoc.Members(doc.Attachments) {
			if a := w.Attachments[name]; a.Follows && !yield(name, a) {
				return
			}
		}
	}
}

// takePart receives the content of part number n and gives it to the attachment it belongs to.
func (in *incoming) takePart(r *request, w *database.Write, waiting []*follower, part *multipart.Part, n int) error {
	var got database.AttachmentInput
	release, err := r.handle.Receive(r.Context(), &got, partContentReader{part})
	in.done = append(in.done, release)
	if err != nil {
		return err
	}
	f := matchPart(waiting, digestsOf(&got), partFilename(part.Header))
	if f == nil {
		return tidegate.Errorf(tidegate.Invalid, "MIME part #%d doesn't match any attachment", n+1)
	}
	encoding := part.Header.Get("Content-Encoding")
	if encoding != "" && !strings.EqualFold(encoding, "identity") && !strings.EqualFold(encoding, f.input.Encoding) {
		return tidegate.Errorf(tidegate.Invalid, "Attachment %q comes with a Content-Encoding that its entry does not say", f.name)
	}
	f.taken = true
	f.input.Follows, f.input.Data, f.input.Blob = false, got.Data, got.Blob
	w.Attachments[f.name] = f.input
	return nil
}

// matchPart finds the attachment that a part is the content of: by digest, else by file name and else by
// order among those without a digest (gateway-rest.md §12.3). nil: none.
func matchPart(waiting []*follower, digests [2]string, filename string) *follower {
	byDigest := func(f *follower) bool { return f.input.Digest == digests[0] || f.input.Digest == digests[1] }
	byName := func(f *follower) bool { return f.input.Digest == "" && f.name == filename }
	byOrder := func(f *follower) bool { return f.input.Digest == "" }
	for _, matches := range []func(*follower) bool{byDigest, byName, byOrder} {
		for _, f := range waiting {
			if !f.taken && matches(f) {
				return f
			}
		}
	}
	return nil
}

// digestsOf are the digests a client may have named received content by: sha1 and md5.
func digestsOf(in *database.AttachmentInput) [2]string {
	info := in.Blob
	if info == nil {
		info = &blob.Info{SHA1: sha1.Sum(in.Data), MD5: md5.Sum(in.Data)}
	}
	return [2]string{info.Digest(), "md5-" + base64.StdEncoding.EncodeToString(info.MD5[:])}
}

// readAll reads src whole into a pooled buffer; src has its own limit.
func (s *Server) readAll(src io.Reader) (*bodyBuffer, error) {
	b := &bodyBuffer{budget: &s.bodyMemory, pool: &s.buffers, buf: s.buffers.get()}
	if err := b.fill(src, 0); err != nil {
		b.Free()
		return nil, err
	}
	b.bytes = b.buf.Bytes()
	return b, nil
}
