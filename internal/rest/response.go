package rest

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// minGzipJSON is the shortest JSON body that is compressed, in bytes (gateway-rest.md §3).
const minGzipJSON = 1000

// A response is the http.ResponseWriter that handlers get. It knows whether anything was sent, counts bytes
// and compresses the body where gateway-rest.md §3 says so.
type response struct {
	http.ResponseWriter
	server *Server

	// mayGzip: the client takes gzip and the method and settings allow it.
	mayGzip bool
	gz      *gzip.Writer

	status   int   // 0 until the header is written
	written  int64 // bytes of body before compression
	hijacked bool
	deadline time.Time // of writing, as it is set on the connection; zero: none is
}

// newResponse prepares the answer to a request.
func (s *Server) newResponse(w http.ResponseWriter, r *http.Request) *response {
	may := s.settings.CompressResponses && acceptsGzip(r.Header.Get("Accept-Encoding"))
	switch r.Method {
	case http.MethodHead, http.MethodPut, http.MethodDelete:
		may = false
	}
	return &response{ResponseWriter: w, server: s, mayGzip: may}
}

// noGzip keeps the body uncompressed whatever the client takes.
func (w *response) noGzip() { w.mayGzip = false }

// started reports whether the header was written: then an error can only break the connection.
func (w *response) started() bool { return w.status != 0 || w.hijacked }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	if w.mayGzip && w.worthGzip(status) {
		h := w.Header()
		h.Del("Content-Length")
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		w.gz = w.server.gzips.get(w.ResponseWriter)
	}
	w.ResponseWriter.WriteHeader(status)
}

// worthGzip reports whether a body with this status and the headers set is to be compressed.
func (w *response) worthGzip(status int) bool {
	h := w.Header()
	if status < 200 || status >= 300 || status == http.StatusNoContent || status == http.StatusPartialContent ||
		h.Get("Content-Encoding") != "" {
		return false
	}
	ct := h.Get("Content-Type")
	if strings.HasPrefix(ct, "application/json") {
		n, err := strconv.Atoi(h.Get("Content-Length"))
		return err != nil || n >= minGzipJSON
	}
	return strings.HasPrefix(ct, "text/") || strings.HasPrefix(ct, "multipart/mixed")
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.written += int64(len(b))
	if w.written >= outputChunk {
		w.extendDeadline()
	}
	if w.gz != nil {
		return w.gz.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

// extendDeadline gives the client time to read what comes next. Short answers do without: they fit into the
// buffers between here and the client.
func (w *response) extendDeadline() {
	d := w.server.limits.WriteTimeout
	now := time.Now()
	if w.deadline.Sub(now) >= d {
		return
	}
	w.deadline = now.Add(d + d/4) // moving it costs as much as a small write: not every time
	// Not every connection has deadlines (a test's recorder has not); then there is nothing to bound.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(w.deadline)
}

// clearDeadline makes the connection ready for its next request.
func (w *response) clearDeadline() {
	if !w.deadline.IsZero() && !w.hijacked {
		w.deadline = time.Time{}
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Time{})
	}
}

// FlushError sends what was written so far; http.ResponseController finds it.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.extendDeadline()
	if w.gz != nil {
		if err := w.gz.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// finish ends the body.
func (w *response) finish() error {
	defer w.clearDeadline()
	if w.gz == nil {
		return nil
	}
	err := w.gz.Close()
	w.server.gzips.put(w.gz)
	w.gz = nil
	return err
}

// acceptsGzip reports whether an Accept-Encoding header allows gzip.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(part, ";")
		coding = strings.TrimSpace(coding)
		if strings.EqualFold(coding, "gzip") || coding == "*" {
			return !refused(params)
		}
	}
	return false
}

// refused reports whether parameters say q=0.
func refused(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		if q, ok := strings.CutPrefix(strings.TrimSpace(p), "q="); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
			return err == nil && v == 0
		}
	}
	return false
}
