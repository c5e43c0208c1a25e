package rest

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/tidegate/tidegate"
)

// errorStatus returns the HTTP status for an error: what a sync function asked for, else that of its code.
func errorStatus(err error) int {
	if e, ok := errors.AsType[*tidegate.Error](err); ok && e.Status >= 400 && e.Status < 600 {
		return e.Status
	}
	return tidegate.ErrorCode(err).HTTPStatus()
}

// statusError makes an error with a status that no code stands for.
func statusError(status int, reason string) error {
	return &tidegate.Error{Code: tidegate.Invalid, Reason: reason, Status: status}
}

// errorName is the "error" member of a top-level error body (gateway-rest.md §4).
func errorName(status int) string {
	switch status {
	case http.StatusNotFound:
		return "not_found"
	case http.StatusConflict:
		return "conflict"
	}
	if name := http.StatusText(status); name != "" {
		return name
	}
	return strconv.Itoa(status)
}

// itemErrorName is the "error" member of an error about one item of several (gateway-rest.md §4).
func itemErrorName(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "bad_request"
	case http.StatusUnauthorized:
		return "unauthorized"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusNotFound:
		return "not_found"
	case http.StatusNotAcceptable:
		return "not_acceptable"
	case http.StatusConflict:
		return "conflict"
	case http.StatusPreconditionFailed:
		return "file_exists"
	case http.StatusUnsupportedMediaType:
		return "bad_content_type"
	}
	return strconv.Itoa(status)
}

// errorReason is the "reason" of an error. What went wrong inside us is for the log only, unless whoever made
// the error chose a status, and so words, for the client.
func errorReason(err error) string {
	if e, ok := errors.AsType[*tidegate.Error](err); ok && e.Status != 0 {
		return e.Reason
	}
	return tidegate.ErrorReason(err)
}

// itemError is what an error about one item says: the members error, reason and status.
type itemError struct {
	Status int
	Name   string
	Reason string
}

// itemErrorOf describes err as an error about one item of the request, hiding what the database's settings
// say must be hidden.
func (r *request) itemErrorOf(err error) itemError {
	err = r.hide(err)
	status := errorStatus(err)
	return itemError{Status: status, Name: itemErrorName(status), Reason: errorReason(err)}
}

// appendMembers appends "error":…,"reason":…,"status":… without braces.
func (e itemError) appendMembers(b []byte) []byte {
	b = tidegate.AppendJSONString(append(b, `"error":`...), e.Name)
	b = tidegate.AppendJSONString(append(b, `,"reason":`...), e.Reason)
	return strconv.AppendInt(append(b, `,"status":`...), int64(e.Status), 10)
}

// hide applies unsupported.force_api_forbidden_errors: on the public listener nobody can tell a document
// that is missing from one that is not theirs (gateway-rest.md §5.1).
func (r *request) hide(err error) error {
	if r.listener != public || r.running == nil || r.route == nil || !r.route.has(hides) || !r.running.Settings().ForceAPIForbidden {
		return err
	}
	switch tidegate.ErrorCode(err) {
	case tidegate.NotFound, tidegate.Forbidden, tidegate.Unauthorized:
		return tidegate.ErrForbidden
	}
	return err
}

// guestWording turns a refusal of the guest into a request to log in, so that clients prompt
// (gateway-rest.md §5.1). What the sync function refused keeps its own words and status, and where all
// refusals are to look alike they do.
func (r *request) guestWording(err error) error {
	if r.listener != public || r.running == nil || !r.isGuest() || r.running.Settings().ForceAPIForbidden {
		return err
	}
	e, ok := errors.AsType[*tidegate.Error](err)
	if !ok || e.Err != nil || !e.Is(tidegate.ErrForbidden) { // a sync function's refusal has a cause
		return err
	}
	return tidegate.Errorf(tidegate.Unauthorized, "login required: %s", e.Reason)
}
