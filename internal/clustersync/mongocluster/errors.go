package mongocluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/auth"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

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
	codeAtlas             = 8000 // a login that Atlas refuses
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
	if errors.Is(err, context.Canceled) && !inHandshake(err) {
		return nil
	}
	if server, ok := errors.AsType[mongo.ServerError](err); ok {
		return kindOfAnswer(err, server)
	}
	switch {
	case wasCleared(err), mongo.IsNetworkError(err), mongo.IsTimeout(err), errors.Is(err, mongo.ErrClientDisconnected), errors.Is(err, context.Canceled):
		return clustersync.ErrUnreachable // before what its text may quote of another call's failure
	case inLogin(err):
		return clustersync.ErrUnauthorized // what the server said in the login is not what who knows the password says
	case strings.Contains(err.Error(), "wire version"):
		return clustersync.ErrUnsupported // the driver does not speak with servers that old
	case strings.Contains(err.Error(), "server selection error"), strings.Contains(err.Error(), "connection"):
		return clustersync.ErrUnreachable
	}
	return nil
}

// kindOfAnswer is kindOf for what a server answered, and for what the driver gives the same form.
func kindOfAnswer(err error, server mongo.ServerError) error {
	switch {
	case hasAnyCode(server, []int{codeUnauthorized, codeAuthFailed, codeAtlas}):
		return clustersync.ErrUnauthorized
	case hasAnyCode(server, historyLost):
		return clustersync.ErrHistoryLost
	case server.HasErrorLabel("NetworkError"), server.HasErrorLabel("RetryableWriteError"), server.HasErrorLabel("TransientTransactionError"),
		server.HasErrorLabel("ResumableChangeStreamError"), server.HasErrorLabel("RetryableReadError"), server.HasErrorLabel("SystemOverloadedError"):
		return clustersync.ErrUnreachable
	case hasAnyCode(server, passing):
		return clustersync.ErrUnreachable
	case inLogin(err):
		return clustersync.ErrUnauthorized
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

// wasCleared reports whether a call had no connection because those of others broke. Why they did is in the text only, which may speak of
// a login: it does when a connection broke in the middle of one, and also when one was refused. A call that is made again finds out which.
func wasCleared(err error) bool {
	var cleared driver.RetryablePoolError
	return errors.As(err, &cleared)
}

// inHandshake reports whether a call failed while its connection was made. The context of a call ends its waiting for a connection, never the
// making of one, so what is canceled there is not the call: a connection that breaks in its handshake is closed, and that cancels what is
// still looked at to tell why it broke.
func inHandshake(err error) bool {
	c, ok := errors.AsType[topology.ConnectionError](err)
	return ok && strings.Contains(c.Error(), "during connection handshake")
}

// inLogin reports whether a call failed while its connection logged in. That alone does not say that the login was refused.
func inLogin(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if e, ok := err.(*auth.Error); ok && e.Message() == "auth error" { // the other is "handshake failure", before the login
			return true
		}
	}
	return false
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
