package rest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"

	"github.com/tidegate/tidegate"
)

// A partWriter writes a multipart body (RFC 2046 §5.1) straight to the client. Multiparts may be nested: the
// inner one is written between its own begin and end.
type partWriter struct {
	w        io.Writer
	boundary string
	begun    bool
	err      error // the first failed write; later calls do nothing
}

// newPartWriter makes a writer with a boundary of its own, 128 random bits, that no content holds.
func newPartWriter(w io.Writer) *partWriter {
	return &partWriter{w: w, boundary: rand.Text()}
}

// contentType is the value of Content-Type for the body: subtype is "mixed" or "related".
func (p *partWriter) contentType(subtype string) string {
	return "multipart/" + subtype + `; boundary="` + p.boundary + `"`
}

// part begins a part with the given header lines: "Name: value" each.
func (p *partWriter) part(header ...string) {
	if p.begun {
		p.text("\r\n")
	}
	p.begun = true
	p.text("--" + p.boundary + "\r\n")
	for _, line := range header {
		p.text(line + "\r\n")
	}
	p.text("\r\n")
}

// end writes the last boundary.
func (p *partWriter) end() {
	if p.begun {
		p.text("\r\n")
	}
	p.text("--" + p.boundary + "--")
}

func (p *partWriter) text(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
	}
}

// Write writes content of the current part.
func (p *partWriter) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.w.Write(b)
	p.err = err
	return n, err
}

// headerLine makes a header line of a value from a document: line breaks and other control characters, which
// would let it write headers of its own, are left out.
func headerLine(name, value string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, value)
	return name + ": " + clean
}

// partReader reads a multipart/related body part by part (gateway-rest.md §12.3). Content is never held here.
type partReader struct {
	mr    *multipart.Reader
	parts int
	max   int
}

// newPartReader makes a reader for a body with the given Content-Type. Invalid: no boundary.
func newPartReader(contentType string, body io.Reader, maxParts int) (*partReader, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" {
		return nil, tidegate.Errorf(tidegate.Invalid, "Bad multipart content type: no boundary")
	}
	return &partReader{mr: multipart.NewReader(body, params["boundary"]), max: maxParts}, nil
}

// next returns the next part, or io.EOF after the last one. The part before is skipped to its end.
func (p *partReader) next() (*multipart.Part, error) {
	part, err := p.mr.NextRawPart()
	if err == io.EOF {
		return nil, io.EOF
	}
	if err != nil {
		return nil, multipartError(err)
	}
	if p.parts++; p.parts > p.max {
		return nil, tidegate.Errorf(tidegate.TooLarge, "Too many MIME parts (at most %d)", p.max)
	}
	switch strings.ToLower(part.Header.Get("Content-Transfer-Encoding")) {
	case "", "binary", "8bit", "7bit":
		return part, nil
	}
	return nil, tidegate.Errorf(tidegate.Invalid, "Unsupported Content-Transfer-Encoding")
}

// multipartError tells faults of the body's form from those of reading it.
func multipartError(err error) error {
	if e, ok := errors.AsType[*tidegate.Error](err); ok {
		return e
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errBodyTooLarge
	}
	return &tidegate.Error{Code: tidegate.Invalid, Reason: "Bad multipart body", Err: fmt.Errorf("read part: %w", err)}
}

// partContentReader is the content of a part, with the errors of package multipart told as a client's.
type partContentReader struct{ part *multipart.Part }

func (r partContentReader) Read(b []byte) (int, error) {
	n, err := r.part.Read(b)
	if err != nil && err != io.EOF {
		err = multipartError(err)
	}
	return n, err
}

// partFilename is the filename of a part's Content-Disposition; "" if it has none.
func partFilename(h textproto.MIMEHeader) string {
	_, params, err := mime.ParseMediaType(h.Get("Content-Disposition"))
	if err != nil {
		return ""
	}
	return params["filename"]
}
