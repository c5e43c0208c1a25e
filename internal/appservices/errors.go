package appservices

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// The codes of errors (device-sync.md §3.3), beside those of package devicesync.
const (
	codeBadRequest         = "BadRequest"
	codeInvalidSession     = "InvalidSession"
	codeAuthError          = "AuthError"
	codeMissingAuth        = "MissingAuthReq"
	codeUnauthorized       = "Unauthorized"
	codeGroupNotFound      = "GroupNotFound"
	codeAppNotFound        = "AppNotFound"
	codeServiceNotFound    = "ServiceNotFound"
	codeSchemaNotFound     = "SchemaNotFound"
	codeDraftNotFound      = "DraftNotFound"
	codeDeploymentNotFound = "DeploymentNotFound"
	codeDraftExists        = "DraftAlreadyExists"
	codeDraftConflict      = "DraftConflict"
	codeServiceExists      = "ServiceAlreadyExists"
	codeSchemaInvalid      = "SchemaValidationFailedWrite"
	codeUserNotFound       = "UserNotFound"
)

// apiError is an answer that is an error: a status, a code that programs match on, and a sentence.
type apiError struct {
	status int
	code   string
	text   string
}

// Error is the sentence.
func (e *apiError) Error() string { return e.text }

func fail(status int, code, format string, args ...any) error {
	return &apiError{status, code, fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return fail(http.StatusBadRequest, devicesync.CodeInvalidParameter, format, args...)
}

func missing(name string) error {
	return fail(http.StatusBadRequest, devicesync.CodeMissingParameter, "missing parameter: %s", name)
}

// Answers that several handlers give.
var (
	errNoSession    = fail(http.StatusUnauthorized, codeInvalidSession, "invalid session")
	errTokenType    = fail(http.StatusUnauthorized, codeInvalidSession, "invalid session: incorrect token type, expected a refresh token")
	errAccessType   = fail(http.StatusUnauthorized, codeInvalidSession, "invalid session: incorrect token type, expected an access token")
	errNoToken      = fail(http.StatusUnauthorized, codeMissingAuth, "must provide a refresh token as bearer token")
	errLogin        = fail(http.StatusUnauthorized, codeAuthError, "invalid username or API key")
	errReadOnlyRole = fail(http.StatusForbidden, codeUnauthorized, "the role GROUP_READ_ONLY allows reading only")
	errTooLarge     = fail(http.StatusRequestEntityTooLarge, codeBadRequest, "the request body is larger than %d bytes", MaxBodyBytes)
	errNotObject    = fail(http.StatusBadRequest, devicesync.CodeMalformedJSON, "malformed JSON: expected an object")
)

// asAPIError describes any error as an answer.
func asAPIError(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	status := tidegate.ErrorCode(err).HTTPStatus()
	code := devicesync.AppCode(err)
	if _, refused := errors.AsType[*devicesync.Refusal](err); !refused {
		switch tidegate.ErrorCode(err) {
		case tidegate.NotFound:
			code = codeBadRequest
		case tidegate.Forbidden:
			code = codeUnauthorized
		case tidegate.TooMany:
			code = codeBadRequest
		}
	}
	return &apiError{status, code, tidegate.ErrorReason(err)}
}
