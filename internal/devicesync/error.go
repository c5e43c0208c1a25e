package devicesync

import (
	"errors"

	"github.com/tidegate/tidegate"
)

// The codes of refusals as the App Services Admin API names them (device-sync.md §3.3).
const (
	CodeInvalidParameter   = "InvalidParameter"
	CodeMissingParameter   = "MissingParameter"
	CodeMalformedJSON      = "MalformedJson"
	CodeDestructive        = "DestructiveChangeNotAllowed"
	CodeHistoryLost        = "ChangeStreamHistoryLost"
	CodeSyncTerminating    = "SyncTerminating"
	CodeModeSwitch         = "SyncModeSwitchRequiresTermination"
	CodeInternal           = "InternalServerError"
	CodeServiceUnavailable = "MaintenanceInProgress"
)

// Refusal is an error of this package that has a code of the Admin API. Its cause is the *tidegate.Error with code and reason.
type Refusal struct {
	App string // one of the codes above
	Err *tidegate.Error
}

// Error is the reason.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the *tidegate.Error, so that every edge answers the right status.
func (r *Refusal) Unwrap() error { return r.Err }

func refuse(code tidegate.Code, app, format string, args ...any) error {
	return &Refusal{app, tidegate.Errorf(code, format, args...)}
}

// AppCode returns the Admin API's code for an error: that of a Refusal, else one that fits its tidegate code.
func AppCode(err error) string {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.App
	}
	switch tidegate.ErrorCode(err) {
	case tidegate.Invalid, tidegate.TooLarge, tidegate.Conflict:
		return CodeInvalidParameter
	case tidegate.Unavailable, tidegate.Canceled:
		return CodeServiceUnavailable
	default:
		return CodeInternal
	}
}
