package replicate

import (
	"errors"
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// domainHTTP is the domain of errors whose code is an HTTP status (blip.md §12.1).
const domainHTTP = "HTTP"

// wireError is what the peer is told of an error: an HTTP status and words that tell nothing of our inside.
func wireError(err error) (status int, text string) {
	if e, ok := errors.AsType[*tidegate.Error](err); ok && e.Status >= 300 && e.Status < 600 {
		return e.Status, e.Reason // chosen, with its words, by a sync function or by this package
	}
	return tidegate.ErrorCode(err).HTTPStatus(), tidegate.ErrorReason(err)
}

// statusError makes an error with an HTTP status that no code stands for.
func statusError(code tidegate.Code, status int, reason string) *tidegate.Error {
	return &tidegate.Error{Code: code, Reason: reason, Status: status}
}

// What peers are told, with the words that they know (replication.md §§3–8, client-facts.md 9).
var (
	errNoCollection      = tidegate.Errorf(tidegate.Invalid, "Collection property not specified and default collection is not configured for this database")
	errCollectionMissing = tidegate.Errorf(tidegate.Invalid, "Collection property missing: GetCollections was called on this connection")
	errCollectionUnset   = tidegate.Errorf(tidegate.Invalid, "Passing collection requires calling GetCollections first")
	errCollectionIndex   = tidegate.Errorf(tidegate.Invalid, "Collection index is invalid")
	errNoClient          = tidegate.Errorf(tidegate.NotFound, "missing client")
	errNotJSON           = tidegate.Errorf(tidegate.Invalid, "Body is not JSON")
	errNotArray          = tidegate.Errorf(tidegate.Invalid, "Body must be a JSON array")
	errBadRow            = tidegate.Errorf(tidegate.Invalid, "Malformed row in a list of changes")
	errTooManyRows       = tidegate.Errorf(tidegate.Invalid, "Too many rows in one message")
	errUseProposals      = tidegate.Errorf(tidegate.Conflict, "Use 'proposeChanges' instead")
	errSubscribed        = statusError(tidegate.Invalid, http.StatusInternalServerError, "There is already an active subChanges on this collection")
	errUnknownFilter     = tidegate.Errorf(tidegate.Invalid, "Unknown filter; try sync_gateway/bychannel")
	errNoChannels        = tidegate.Errorf(tidegate.Invalid, "Missing 'channels' filter parameter")
	errBadChannel        = tidegate.Errorf(tidegate.Invalid, "Illegal channel name in filter")
	errDocIDsContinuous  = tidegate.Errorf(tidegate.Invalid, "DocIDs filter not supported for continuous subChanges")
	errBadSince          = tidegate.Errorf(tidegate.Invalid, "Invalid sequence in 'since'")
	errNoDigest          = tidegate.Errorf(tidegate.Invalid, "Missing 'digest'")
	errNoDocID           = tidegate.Errorf(tidegate.Invalid, "Missing 'docID'")
	errNotSyncing        = tidegate.Errorf(tidegate.Forbidden, "Attachment's doc not being synced")
	errNoRevID           = tidegate.Errorf(tidegate.Invalid, "Missing docID or revID")
	errBadNoConflicts    = tidegate.Errorf(tidegate.Invalid, "Invalid value for noconflicts")
	errReserved          = tidegate.Errorf(tidegate.NotFound, "Document revision contains a reserved internal property")
	errRemoved           = tidegate.Errorf(tidegate.NotFound, "Document revision is not accessible")
	errPurged            = tidegate.Errorf(tidegate.Invalid, "user defined top-level property '_purged' is not allowed in document body")
	errSyncPrefix        = tidegate.Errorf(tidegate.Invalid, "user defined top-level properties that start with '_sync_' are not allowed in document body")
	errBodyNotObject     = statusError(tidegate.Invalid, http.StatusInternalServerError, "The body of a revision must be a JSON object")
	errDeltasOff         = tidegate.Errorf(tidegate.Invalid, "Deltas are disabled for this peer")
	errGuestReadOnly     = tidegate.Errorf(tidegate.Forbidden, "Anonymous access is read-only")
	errAttachmentProof   = tidegate.Errorf(tidegate.Forbidden, "The proof of possession of an attachment is wrong")
	errHistoryTooLong    = tidegate.Errorf(tidegate.TooLarge, "The revision's history is too long to be sent")
	errTwice             = tidegate.Errorf(tidegate.Invalid, "A collection is named twice")
	errCheckpointsLarge  = tidegate.Errorf(tidegate.TooLarge, "The checkpoints are too large together")
	errAnswerPending     = tidegate.Errorf(tidegate.TooMany, "The last answer to getCollections has not been taken yet")
	errNotModified       = statusError(tidegate.Conflict, http.StatusNotModified, "Not modified")
	errBlockedForNow     = tidegate.Errorf(tidegate.Unavailable, "Database writes are blocked") // 403 would be for good
	errWentAway          = tidegate.Errorf(tidegate.Unavailable, "Sync Gateway database went away - asking client to reconnect")
)

// errDelta is the answer to a delta that cannot be applied: the peer then sends the whole revision.
func errDelta(format string, args ...any) error {
	return statusError(tidegate.Invalid, http.StatusUnprocessableEntity, tidegate.Errorf(tidegate.Invalid, format, args...).Reason)
}

// bodyError gives the error of a body that is no document the status that peers know.
func bodyError(err error) error {
	if errors.Is(err, jsondoc.ErrTooLarge) {
		return err
	}
	if tidegate.ErrorCode(err) == tidegate.Invalid {
		return errBodyNotObject
	}
	return err
}
