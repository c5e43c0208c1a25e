package changes

import (
	"context"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// Viewer is who reads: an immutable view of one principal. A nil Viewer is an administrator, who sees
// everything and gets no pseudo-entry. What a Viewer returns is shared and must not be changed.
type Viewer interface {
	// PrincipalName is the user's name, "" for the guest.
	PrincipalName() string
	// Sequence is that of the principal's own last change, for the pseudo-entry _user/NAME; 0: none.
	Sequence() tidegate.Seq
	// Channels are the effective channels in the collection: own, of roles, and "!". A channel that was
	// lost and given again counts from the new grant.
	Channels(coll store.Collection) tidegate.Grants
	// Revoked maps channels that the viewer has no more to the sequence of their latest loss, where that
	// is after since (sync-function.md §6).
	Revoked(coll store.Collection, since tidegate.Seq) tidegate.Grants
	// Periods tells when the viewer had the channel, oldest first, the present period (End 0) included.
	Periods(coll store.Collection, channel string) []Period
}

// Period is a half-open range of sequences, [Start, End). End 0: it goes on.
type Period struct{ Start, End tidegate.Seq }

// Viewers gives views of principals.
type Viewers interface {
	// View returns the newest view of a principal. It holds at least every change of access at a sequence
	// that was visible in the store before the call. An error (NotFound, Unauthorized) ends the feed.
	View(ctx context.Context, name string) (Viewer, error)
	// Watch calls changed after each change of the principal, with no lock held that stop needs, and maybe
	// from several goroutines at once. It does not block. stop ends the watch; a call that had begun by
	// then may end after it.
	Watch(name string, changed func()) (stop func())
}

// History tells when a document was in which channel.
type History interface {
	// ChannelPeriods returns the channels of the document's current revision, and for each channel it is or
	// was in the periods of membership, oldest first. A missing document has neither.
	ChannelPeriods(r store.Reader, coll store.Collection, docID string) (current tidegate.ChannelSet, past map[string][]Period, err error)
}

// States is an optional interface of a History: with it a feed over few documents looks them up instead
// of scanning the index.
type States interface {
	// DocState returns what was last given to WriteIndex for the document, nil if it does not exist.
	DocState(r store.Reader, coll store.Collection, docID string) (*DocState, error)
}
