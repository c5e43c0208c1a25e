package changes

import "github.com/tidegate/tidegate"

// Flags say what kind of entry an index row is. The values are part of the stored format.
type Flags uint8

// The flags.
const (
	Deleted        Flags = 1 << iota // the revision is a tombstone
	Removed                          // the row is the removal of the document from its channel
	Conflicted                       // the document has more than one live leaf
	PrincipalEvent                   // not a document: a principal changed at this sequence
)

// Leaf is a leaf of a revision tree other than the current revision.
type Leaf struct {
	Rev     tidegate.RevID
	Deleted bool
}

// Entry is one row of the index: a document at the sequence at which it came into, changed in or left a
// channel. Entries are shared between readers and never changed once made.
type Entry struct {
	Seq    tidegate.Seq
	DocID  string
	Rev    tidegate.RevID // the current revision, or the one that took the document out of the channel
	Flags  Flags
	Others []Leaf // the other leaves, in winner order; on removals only as DocState.removal says
	Sole   bool   // a member row: the document is in no other channel

	// The rest is there only in rows of the channel "*" (Routed). It is what a follower needs to know which
	// readers an update concerns without reading any other row.

	Routed      bool
	Channels    tidegate.ChannelSet // of the current revision
	RemovedFrom tidegate.ChannelSet // that the document left by this very write
	Left        []Departure         // earlier removals, not older than LeftWindow sequences, newest first
}

// Departure is a removal of a document from channels by an earlier write, which is still in the index.
type Departure struct {
	Seq      tidegate.Seq
	Rev      tidegate.RevID
	Deleted  bool
	Channels tidegate.ChannelSet
}

// LeftWindow is how many sequences back an Entry lists departures. A follower that is no more than this
// many sequences behind learns of every removal from the rows of the channel "*" alone.
const LeftWindow = 8192
