// Package changes is the changes feed: the window through which every reader sees a database, in sequence
// order, from any position, filtered by channel and live. DESIGN.md in this folder says how and why.
//
// Writers call [WriteIndex] inside the transaction that moves a document. Readers ask a [Hub] for a [Feed] and
// loop over [Feed.Next] and [Feed.Wait]. The package knows neither documents nor principals: it asks a [Viewer]
// which channels may be read and a [History] when a document was in a channel.
package changes
