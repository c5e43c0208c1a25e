package tidegate

import (
	"context"
	"errors"
	"fmt"
)

// A Code says what kind of failure an error is. There are few of them on purpose: callers branch on the
// code, and each edge (HTTP, BLIP) holds one table from code to what it sends.
type Code uint8

// The codes. Anything that is not an *Error and not a context error counts as Internal.
const (
	Internal     Code = iota // a fault of ours; details are for the log
	Invalid                  // the input is malformed or breaks a rule
	Unauthorized             // nobody is logged in, or the credentials are wrong
	Forbidden                // the principal may not do this
	NotFound                 // no such document, revision, principal, database …
	Conflict                 // the document or record moved
	Exists                   // it is there already and may be created only once
	Gone                     // it was here and has been given up for good
	TooLarge                 // over a size limit
	TooMany                  // over a rate or count limit
	Unavailable              // cannot be served now; trying again may work
	Canceled                 // the caller gave up
	Corrupt                  // stored bytes do not make sense
	BadType                  // a content type or encoding we do not take
	NotAllowed               // the method is not for this resource
)

var codeNames = [...]string{
	"internal", "invalid", "unauthorized", "forbidden", "not found", "conflict", "exists", "gone",
	"too large", "too many", "unavailable", "canceled", "corrupt", "bad type", "not allowed",
}

// String returns the code's name in lower case, for logs.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code(%d)", uint8(c))
}

// Error is the one error type that crosses package borders.
//
// Reason is written for the client and is often an exact string that scripts match on; it must not carry
// secrets. Err, if any, is the cause; it is for the log only.
type Error struct {
	Code   Code
	Reason string
	Err    error
	// Status is an HTTP status that a sync function asked for with reject(status, msg); 0 otherwise.
	Status int
}

// Error returns the reason followed by the cause.
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Reason
	case e.Reason == "":
		return e.Err.Error()
	default:
		return e.Reason + ": " + e.Err.Error()
	}
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is an *Error of the same code and reason, so that sentinel errors declared
// with Errorf can be compared with errors.Is.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Reason == e.Reason
}

// Errorf makes an *Error whose reason is the formatted text. A %w verb keeps its operand as the cause as
// well as in the text.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Reason: err.Error(), Err: errors.Unwrap(err)}
}

// ErrorCode returns the code of the outermost *Error in err's chain, Canceled for context errors, and
// Internal for anything else. A nil err is a caller's mistake and answers Internal.
func ErrorCode(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Canceled
	}
	return Internal
}

// HTTPStatus is the status that stands for the code in REST answers and in BLIP errors of the domain HTTP. That of
// a code without one is 500.
func (c Code) HTTPStatus() int {
	if int(c) < len(statusOfCode) {
		return statusOfCode[c]
	}
	return statusOfCode[Internal]
}

// statusOfCode is the one table from error codes to HTTP statuses (gateway-rest.md §4, blip.md §12.1). They are numbers since the
// vocabulary does not import net/http.
var statusOfCode = [...]int{
	Internal:     500,
	Invalid:      400,
	Unauthorized: 401,
	Forbidden:    403,
	NotFound:     404,
	Conflict:     409,
	Exists:       412,
	Gone:         404,
	TooLarge:     413,
	TooMany:      429,
	Unavailable:  503,
	Canceled:     503,
	Corrupt:      500,
	BadType:      415,
	NotAllowed:   405,
}

// ErrorReason returns the text a client may see: the reason of the outermost *Error, or a fixed text that
// tells nothing about our inside.
func ErrorReason(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Code != Internal {
		return e.Reason
	}
	if ErrorCode(err) == Canceled {
		return "the request was canceled"
	}
	return "Internal error"
}

// Errors that many callers branch on. The reasons are those of the wire (gateway-rest.md §11).
var (
	ErrMissing          = Errorf(NotFound, "missing")
	ErrDeleted          = Errorf(NotFound, "deleted")
	ErrForbidden        = Errorf(Forbidden, "forbidden")
	ErrDocumentExists   = Errorf(Conflict, "Document exists")
	ErrRevisionConflict = Errorf(Conflict, "Document revision conflict")
	ErrInvalidDocID     = Errorf(Invalid, "Invalid doc ID")
	ErrInvalidRevID     = Errorf(Invalid, "Invalid revision ID")
	ErrInvalidSequence  = Errorf(Invalid, "Invalid sequence")
)
