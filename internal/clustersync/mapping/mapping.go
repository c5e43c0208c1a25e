// Package mapping writes documents, keys and names of one kind of cluster down as the other kind does: BSON of MongoDB as JSON of
// tidegate and back (shared/spec/cluster-sync.md §2.1 asks for mixed pairs). It is pure: no I/O, no clock.
//
// Every rule is injective and has an inverse, so that nothing is lost on the way there and nothing can be mistaken on the way back; what
// has no counterpart is [clustersync.ErrUnmappable], with its name, never a silent change. The rules are in docs/clustersync-mapping.md.
package mapping

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Converted is a document written down as a kind of cluster does.
type Converted struct {
	// Doc has a nil Body if there is nothing to be stored: the document is deleted (tidegate's tombstones have no counterpart in MongoDB).
	Doc clustersync.Document
	// Dropped counts live conflicting revisions of a tidegate document that could not go along: MongoDB has one body for a document, so
	// the winner goes. Whoever stores the document says so in a warning.
	Dropped int
	// Expires: the tidegate document has an expiry (_exp), which did not go along.
	Expires bool
}

// Convert writes a document down as the other kind does; a document that is of that kind already is returned as it is.
//
// A MongoDB document becomes one revision object without _rev: {"_id", members…, "_attachments"?}, not an array, for whoever stores it has
// to say what it replaces.
func Convert(doc clustersync.Document, to clustersync.Kind) (Converted, error) {
	return convert(doc, to)
}

// DocumentToJSON writes a MongoDB document down as tidegate does. The body begins with its _id and has no _rev.
func DocumentToJSON(doc bson.Raw) (id string, body []byte, err error) { return documentToJSON(doc) }

// DocumentToBSON writes a tidegate document down as MongoDB does. The JSON has an _id, and its attachments with their data; what it has in
// _rev, _revisions, _exp and _deleted does not go along.
func DocumentToBSON(doc []byte) (bson.Raw, error) { return documentToBSON(doc) }

// DocumentID gives the document ID of a MongoDB key {"_id": …}: of keys that MongoDB takes for equal (1, 1.0) it is the same. exact says
// that the key can be told from it alone; otherwise the document has the key in a member of its own.
func DocumentID(key bson.Raw) (id string, exact bool, err error) { return documentID(key) }

// KeyOf gives the MongoDB key {"_id": …} of a document ID. Where the ID is not exact it is a key that MongoDB takes for equal.
func KeyOf(id string) (bson.Raw, error) { return keyOf(id) }

// KeyText gives a text of a key {"_id": …}, of any length, that is the same for keys that MongoDB takes for equal.
func KeyText(key bson.Raw) (string, error) { return keyText(key) }

// Translate writes a key down as the other kind does. Its ID goes along, since it routes.
func Translate(k clustersync.Key, from, to clustersync.Kind) (clustersync.Key, error) {
	return translate(k, from, to)
}

// Namespace writes a name down as the other kind does.
func Namespace(ns clustersync.Namespace, from, to clustersync.Kind) (clustersync.Namespace, error) {
	return namespace(ns, from, to)
}

// Canonical gives bytes that are equal for documents of a mixed pair exactly if each is what the other maps to, apart from what cannot go
// along (other leaves, histories, expiry). nil: there is no such document, or it is deleted.
func Canonical(doc clustersync.Document) ([]byte, error) { return canonical(doc) }

// CanonicalLeaves gives bytes that are equal for two tidegate documents exactly if they have the same live leaves, with the same
// contents and attachments. nil: there is none, or all are deleted (each side purges tombstones by its own clock).
func CanonicalLeaves(doc clustersync.Document) ([]byte, error) { return canonicalLeaves(doc) }

// Comparison is what a verifier needs for a pair of clusters.
func Comparison(source, destination clustersync.Kind) clustersync.Comparison {
	switch {
	case source != destination:
		return clustersync.Comparison{Canonical: Canonical, Translate: Translate}
	case source == clustersync.Tidegate:
		return clustersync.Comparison{Canonical: CanonicalLeaves}
	}
	return clustersync.Comparison{}
}
