package mongocluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Codes of server errors (spec §22).
const (
	codeInternal          = 1
	codeBadValue          = 2
	codeUnauthorized      = 13
	codeAuthFailed        = 18
	codeNamespaceNotFound = 26
	codeIndexNotFound     = 27
	codeCursorNotFound    = 43
	codeNamespaceExists   = 48
	codeDollarField       = 52
	codeDottedField       = 57
	codeCommandNotFound   = 59
	codeInvalidOptions    = 72
	codeIndexOptions      = 85
	codeIndexKeySpecs     = 86
	codeConflicting       = 117
	codeQueryPlanKilled   = 175
	codeStaleClusterTime  = 209
	codeDropPending       = 215
	codeNotUnique         = 359
	codeWritesBlocked     = 371
	codeUUIDMismatch      = 361
	codeTooLarge          = 10334
	codeDuplicateKey      = 11000
	codeTooLargeUpdate    = 17419
	codeUnknownField      = 40415
)

var (
	passing     = []int{6, 7, 89, 91, 112, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436, 64, codeConflicting, codeDropPending, 50, 290}
	historyLost = []int{286, 136, 280, 260}
	unsupported = []int{9, 40, codeCommandNotFound, 72, 115, 238, 40324, 40573, codeUnknownField, 40602}
	tooLarge    = []int{codeTooLarge, codeTooLargeUpdate, 17280, 22}
)

// failed puts the verb before an error and one of the errors of the contract into it. Labels count before codes (spec §22).
func (c *Cluster) failed(verb string, err error) error {
	if err == nil {
		return nil
	}
	text, _, _ := strings.Cut(c.uri.redact(err.Error()), " dup key:") // what follows are values of users
	return &failure{verb: verb, kind: kindOf(err), err: err, text: text}
}

// failure is an error of a call. Its text holds no secret of the URI, and no value of a unique index.
type failure struct {
	verb      string
	kind, err error
	text      string
}

func (f *failure) Error() string {
	if f.kind == nil || strings.Contains(f.text, f.kind.Error()) {
		return f.verb + ": " + f.text
	}
	return f.verb + ": " + f.kind.Error() + ": " + f.text
}

func (f *failure) Unwrap() []error {
	if f.kind == nil {
		return []error{f.err}
	}
	return []error{f.kind, f.err}
}

// kindOf is the error of the contract that an error of the driver is, or nil.
func kindOf(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	var server mongo.ServerError
	if errors.As(err, &server) {
		switch {
		case hasAnyCode(server, []int{codeUnauthorized, codeAuthFailed, 8000}):
			return clustersync.ErrUnauthorized
		case hasAnyCode(server, historyLost):
			return clustersync.ErrHistoryLost
		case server.HasErrorLabel("NetworkError"), server.HasErrorLabel("RetryableWriteError"), server.HasErrorLabel("TransientTransactionError"),
			server.HasErrorLabel("ResumableChangeStreamError"), server.HasErrorLabel("RetryableReadError"), server.HasErrorLabel("SystemOverloadedError"):
			return clustersync.ErrUnreachable
		case hasAnyCode(server, passing):
			return clustersync.ErrUnreachable
		case hasAnyCode(server, tooLarge):
			return clustersync.ErrTooLarge
		case hasAnyCode(server, []int{codeNamespaceExists}):
			return clustersync.ErrExists
		case hasAnyCode(server, []int{codeNamespaceNotFound, codeIndexNotFound}):
			return clustersync.ErrNotFound
		case hasAnyCode(server, unsupported):
			return clustersync.ErrUnsupported
		}
		return nil
	}
	switch {
	case strings.Contains(err.Error(), "auth error"):
		return clustersync.ErrUnauthorized // a handshake that failed for its credentials comes as an error of the connection
	case strings.Contains(err.Error(), "wire version"):
		return clustersync.ErrUnsupported // the driver does not speak with servers that old
	case mongo.IsNetworkError(err), mongo.IsTimeout(err), errors.Is(err, mongo.ErrClientDisconnected), strings.Contains(err.Error(), "server selection error"),
		strings.Contains(err.Error(), "connection"):
		return clustersync.ErrUnreachable
	}
	return nil
}

func hasAnyCode(err mongo.ServerError, codes []int) bool {
	return slices.ContainsFunc(codes, err.HasErrorCode)
}

// hasCode reports whether a server answered with one of these codes.
func hasCode(err error, codes ...int) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && hasAnyCode(server, codes)
}

// isUnsupported reports whether an answer means that the server has no such command, stage or option (spec §23.1).
func isUnsupported(err error) bool {
	return hasCode(err, unsupported...) || errors.Is(err, clustersync.ErrUnsupported)
}

// unsupportedErr says what a cluster lacks.
func unsupportedErr(verb, why string) error {
	return fmt.Errorf("%s: %w: %s", verb, clustersync.ErrUnsupported, why)
}
