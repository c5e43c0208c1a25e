package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/tidegate/tidegate"
)

const jsonType = "application/json"

// setJSON sets the Content-Type of JSON. The value is shared between answers, which nobody changes.
func (s *Server) setJSON(w http.ResponseWriter) { w.Header()["Content-Type"] = s.jsonHeader }

// writeJSON answers with a body that is JSON already. The body may be reused once writeJSON returned.
func (s *Server) writeJSON(w http.ResponseWriter, status int, body []byte) error {
	s.setJSON(w)
	if s.settings.Pretty && len(body) > 0 {
		pretty := s.buffers.get()
		defer s.buffers.put(pretty)
		if json.Indent(pretty, body, "", "  ") == nil {
			body = pretty.Bytes()
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		return fmt.Errorf("write response: %w", err)
	}
	return nil
}

// reply answers with v as JSON. For documents, and wherever many are answered, bytes and writeJSON are used
// instead.
func (s *Server) reply(w http.ResponseWriter, status int, v any) error {
	buf := s.buffers.get()
	defer s.buffers.put(buf)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode response: %w", err)
	}
	return s.writeJSON(w, status, bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}))
}

// replyEmpty answers with a status and no body, as creations and updates of users, roles and configs do
// (gateway-rest.md §3).
func replyEmpty(w http.ResponseWriter, status int) error {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
	return nil
}

// replyText answers with plain text or another type of text.
func replyText(w http.ResponseWriter, status int, contentType, text string) error {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if _, err := w.Write([]byte(text)); err != nil {
		return fmt.Errorf("write response: %w", err)
	}
	return nil
}

// setETag sets the entity tag to a digest, say.
func setETag(w http.ResponseWriter, tag string) { w.Header().Set("Etag", `"`+tag+`"`) }

// setRevETag sets the entity tag to a revision.
func setRevETag(w http.ResponseWriter, rev tidegate.RevID) {
	var room [tidegate.MaxRevIDLen + 2]byte
	w.Header().Set("Etag", string(append(rev.Append(append(room[:0], '"')), '"')))
}

// writeError answers with an error, or breaks the connection if an answer is under way: a client must not
// take half of it for the whole.
func (s *Server) writeError(w *response, r *request, err error) {
	if r.syncDetailOf(err) == nil { // what device sync says is no secret
		err = r.guestWording(r.hide(err))
	}
	status := errorStatus(err)
	s.logFailure(r, status, err)
	if w.hijacked {
		return // whoever hijacked has the connection
	}
	if w.started() {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	for _, name := range []string{"ETag", "Content-Encoding", "Content-Disposition", "Accept-Ranges", "Cache-Control", "Location"} {
		h.Del(name)
	}
	switch status {
	case http.StatusUnauthorized:
		if r.listener == public {
			s.setChallenge(h, r)
		}
	}
	setRetryAfter(h, status, err)
	buf := s.buffers.get()
	defer s.buffers.put(buf)
	b := s.appendError(buf.AvailableBuffer(), r, status, err)
	// A client that is gone cannot be told anything: the error of this write has nowhere to go.
	_ = s.writeJSON(w, status, b)
}

// appendError appends the body of an error.
func (s *Server) appendError(b []byte, r *request, status int, err error) []byte {
	b = tidegate.AppendJSONString(append(b, `{"error":`...), errorName(status))
	b = tidegate.AppendJSONString(append(b, `,"reason":`...), errorReason(err))
	return append(appendSyncDetail(b, r.syncDetailOf(err)), '}')
}
