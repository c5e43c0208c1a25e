package script

import (
	"context"
	"errors"
	"net/http"

	"github.com/tidegate/tidegate"
)

// The reasons of failures (sync-function.md §4); clients match on them.
const (
	reasonWrongUser      = "sg wrong user"
	reasonMissingRole    = "sg missing role"
	reasonMissingAccess  = "sg missing channel access"
	reasonAdminRequired  = "sg admin required"
	reasonException      = "Exception in JS sync function"
	reasonTimeout        = "JS sync function timed out"
	reasonInvalidGrant   = "Error in JS sync function"
	maxRejectionMessage  = 4096 // bytes of a script's message that reach the client
	statusRejectedBeyond = 999  // a status above this is no HTTP status and becomes 500
)

// failure is the cause inside every error of a run: which kind, and what happened, for the log.
type failure struct {
	kind   Failure
	detail string
}

func (f *failure) Error() string { return f.detail }

// Classify says why Sync returned err. It answers FailureNone for nil and FailureException for errors that
// are not of this package.
func Classify(err error) Failure {
	if err == nil {
		return FailureNone
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f.kind
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return FailureCanceled
	}
	return FailureException
}

// failed makes the error of a run that ended with one of the documented reasons and status 500.
func failed(kind Failure, reason, detail string) error {
	return &tidegate.Error{
		Code:   tidegate.Internal,
		Reason: reason,
		Status: http.StatusInternalServerError,
		Err:    &failure{kind, detail},
	}
}

func exception(detail string) error { return failed(FailureException, reasonException, detail) }

func timedOut() error {
	return failed(FailureTimeout, reasonTimeout, "stopped at the time limit")
}

// thrownRejection is what throw({forbidden: message}) and throw({unauthorized: message}) make.
func thrownRejection(status int, message string) error {
	return newRejection(status, 0, message)
}

// calledRejection is what reject(status, message) makes.
func calledRejection(status int, message string) error {
	if status > statusRejectedBeyond {
		status = http.StatusInternalServerError
	}
	return newRejection(status, status, message)
}

func newRejection(status, asked int, message string) error {
	kind := FailureRejected
	switch message {
	case reasonWrongUser, reasonMissingRole, reasonMissingAccess, reasonAdminRequired:
		kind = FailureAccess
	}
	return &tidegate.Error{
		Code:   codeOfStatus(status),
		Reason: cut(message, maxRejectionMessage),
		Status: asked,
		Err:    &failure{kind, "rejected by the sync function"},
	}
}

// codeOfStatus gives the code whose wire form is nearest to a status that a script chose.
func codeOfStatus(status int) tidegate.Code {
	switch status {
	case http.StatusUnauthorized:
		return tidegate.Unauthorized
	case http.StatusForbidden:
		return tidegate.Forbidden
	case http.StatusNotFound:
		return tidegate.NotFound
	case http.StatusMethodNotAllowed:
		return tidegate.NotAllowed
	case http.StatusConflict:
		return tidegate.Conflict
	case http.StatusGone:
		return tidegate.Gone
	case http.StatusPreconditionFailed:
		return tidegate.Exists
	case http.StatusRequestEntityTooLarge:
		return tidegate.TooLarge
	case http.StatusUnsupportedMediaType:
		return tidegate.BadType
	case http.StatusTooManyRequests:
		return tidegate.TooMany
	case http.StatusServiceUnavailable:
		return tidegate.Unavailable
	}
	if status < http.StatusInternalServerError {
		return tidegate.Invalid
	}
	return tidegate.Internal
}

// cut shortens s to at most max bytes without splitting a character.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && s[max]&0xC0 == 0x80 {
		max--
	}
	return s[:max]
}
