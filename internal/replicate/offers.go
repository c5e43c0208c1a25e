package replicate

import (
	"sync"

	"github.com/tidegate/tidegate/internal/database"
)

// offers are the attachments that a peer may ask for: those of revisions that were sent to it and are not answered yet
// (replication.md §5.10). That is what keeps anybody from fetching content by its digest alone.
type offers struct {
	mu    sync.Mutex
	byKey map[offerKey][]*offer
}

// offerKey is what getAttachment names: version 2 knows no docID.
type offerKey struct {
	coll          int
	docID, digest string
}

// offer is one revision with attachments that is on its way.
type offer struct {
	coll *collection
	doc  *database.Document // without its body
}

// offered is one attachment of an offer.
type offered struct {
	*offer
	name string
}

// keys yields the keys of the offer's attachments.
func (o *offer) keys(v Version) []offerKey {
	keys := make([]offerKey, 0, len(o.doc.Attachments))
	for _, a := range o.doc.Attachments {
		keys = append(keys, keyOf(v, o.coll.index, o.doc.ID, a.Digest))
	}
	return keys
}

func keyOf(v Version, coll int, docID, digest string) offerKey {
	if v == V2 {
		docID = ""
	}
	return offerKey{coll, docID, digest}
}

// add lets the peer ask for the document's attachments until the returned function is called.
func (s *offers) add(v Version, coll *collection, doc *database.Document) (withdraw func()) {
	light := *doc
	light.Body = nil
	o := &offer{coll: coll, doc: &light}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey == nil {
		s.byKey = map[offerKey][]*offer{}
	}
	for _, key := range o.keys(v) {
		s.byKey[key] = append(s.byKey[key], o)
	}
	return func() { s.remove(v, o) }
}

func (s *offers) remove(v Version, o *offer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range o.keys(v) {
		left := s.byKey[key][:0]
		for _, other := range s.byKey[key] {
			if other != o {
				left = append(left, other)
			}
		}
		if len(left) == 0 {
			delete(s.byKey, key)
			continue
		}
		s.byKey[key] = left
	}
}

// find returns the offered attachment that the peer asks for. Without a docID, which proveAttachment never has, it is that of
// any document of the collection: there are no more than the peer owes answers for.
func (s *offers) find(v Version, coll int, docID, digest string) (offered, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := keyOf(v, coll, docID, digest)
	if v != V2 && docID == "" {
		for k := range s.byKey {
			if k.coll == coll && k.digest == digest {
				key = k
				break
			}
		}
	}
	for _, o := range s.byKey[key] {
		for name, a := range o.doc.Attachments {
			if a.Digest == digest {
				return offered{o, name}, true
			}
		}
	}
	return offered{}, false
}
