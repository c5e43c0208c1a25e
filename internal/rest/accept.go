package rest

import (
	"net/http"
	"strings"
)

var (
	errOnlyJSON  = statusError(http.StatusNotAcceptable, "only application/json available")
	errMultipart = statusError(http.StatusNotAcceptable, "Response is multipart")
)

// accepted is what the Accept header of a request allows.
type accepted struct {
	any       bool // absent, empty or */*
	json      bool // application/json or application/*, by name
	multipart bool // something with multipart/
}

// accepts reads the Accept header. Types refused with q=0 do not count.
func accepts(h http.Header) accepted {
	values := h.Values("Accept")
	if len(values) == 0 {
		return accepted{any: true}
	}
	var a accepted
	empty := true
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			name, params, _ := strings.Cut(part, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			if name == "" {
				continue
			}
			empty = false
			if refused(params) {
				continue
			}
			switch {
			case name == "*/*":
				a.any = true
			case name == "application/json", name == "application/*":
				a.json = true
			case strings.HasPrefix(name, "multipart/"):
				a.multipart = true
			}
		}
	}
	a.any = a.any || empty
	return a
}

// takesJSON reports whether a JSON answer is acceptable.
func (a accepted) takesJSON() bool { return a.any || a.json }

// checkJSON refuses a request whose client does not take JSON.
func (a accepted) checkJSON() error {
	if a.takesJSON() {
		return nil
	}
	return errOnlyJSON
}
