package clustersync

import (
	"errors"
	"fmt"
)

// ErrorName is the member `error` of an answer of the API (spec §3.1).
type ErrorName string

// The names.
const (
	APIError                  ErrorName = "APIError"
	InvalidRequest            ErrorName = "InvalidRequest" // the body does not parse or has wrong types: HTTP status 400
	InvalidOption             ErrorName = "InvalidOption"
	InvalidStateTransition    ErrorName = "InvalidStateTransition"
	CannotCommit              ErrorName = "CannotCommit"
	UnsupportedServer         ErrorName = "UnsupportedServer"
	ClusterUnreachable        ErrorName = "ClusterUnreachable"
	Unauthorized              ErrorName = "Unauthorized"
	DestinationNotEmpty       ErrorName = "DestinationNotEmpty"
	NamespaceConflict         ErrorName = "NamespaceConflict"
	MetadataConflict          ErrorName = "MetadataConflict"
	InsufficientDiskSpace     ErrorName = "InsufficientDestinationDiskSpace"
	InsufficientMemory        ErrorName = "InsufficientMemory"
	WriteBlockFailed          ErrorName = "WriteBlockFailed"
	ReversePreconditionFailed ErrorName = "ReversePreconditionFailed"
	OplogRollover             ErrorName = "OplogRollover"
	UnsupportedEvent          ErrorName = "UnsupportedEvent"
	VerificationFailed        ErrorName = "VerificationFailed"
	MigrationFailed           ErrorName = "MigrationFailed"
	InternalError             ErrorName = "InternalError" // a bug: HTTP status 500
)

// Error is a failure with the name that the API gives it. Its text is shown to whoever asks, so it holds no credentials and no contents
// of documents.
type Error struct {
	Name ErrorName
	Text string
	Err  error // the cause; may be nil
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an [*Error] of that name; %w keeps the cause.
func Errorf(name ErrorName, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Name: name, Text: err.Error(), Err: errors.Unwrap(err)}
}

// NameOf returns the name of an error: the one it was given, or else that of what is known to be under it. What has none ends a job:
// MigrationFailed.
func NameOf(err error) ErrorName {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Name
	}
	for _, known := range []struct {
		err  error
		name ErrorName
	}{
		{ErrUnreachable, ClusterUnreachable},
		{ErrUnauthorized, Unauthorized},
		{ErrHistoryLost, OplogRollover},
		{ErrMismatch, VerificationFailed},
		{ErrFenced, MetadataConflict},
		{ErrLeaseHeld, MetadataConflict},
		{ErrExists, NamespaceConflict},
	} {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	return MigrationFailed
}
