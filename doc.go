// Package tidegate is the vocabulary of the server: documents, revisions and their trees, version vectors,
// sequences, channels, principals, changes and errors.
//
// It holds pure types and rules, imports nothing but the standard library and does no I/O, so that every
// other package can share its nouns. Start with [RevTree] (what a document's history is), [Since] (where a
// reader of a changes feed stands) and [Error] (how anything fails).
package tidegate
