package tidegate

// Revisions is a revision's history in the form of the _revisions member: the generation of the newest
// and the digests, newest first, without gaps (gateway-rest.md §11.3).
type Revisions struct {
	Start uint64   `json:"start"`
	IDs   []string `json:"ids"`
}

// ErrBadRevisions says that a history is empty, out of order or holds something that is no revision ID.
var ErrBadRevisions = Errorf(Invalid, "Bad _revisions")

// NewRevisions makes the _revisions form of a history, newest first. It ends before the first gap, since
// the form has no way to write one.
func NewRevisions(history []RevID) Revisions {
	r := Revisions{IDs: make([]string, 0, len(history))}
	for i, id := range history {
		if i == 0 {
			r.Start = id.Generation
		} else if id.Generation+uint64(i) != r.Start {
			break
		}
		r.IDs = append(r.IDs, id.Digest)
	}
	return r
}

// RevIDs returns the revisions, newest first; at least one. ErrBadRevisions: there is none, there are more
// digests than generations, or a digest is none.
func (r Revisions) RevIDs() ([]RevID, error) {
	if len(r.IDs) == 0 || r.Start < uint64(len(r.IDs)) || r.Start > maxGeneration {
		return nil, ErrBadRevisions
	}
	ids := make([]RevID, len(r.IDs))
	for i, digest := range r.IDs {
		id := RevID{Generation: r.Start - uint64(i), Digest: digest}
		if !id.valid() {
			return nil, ErrBadRevisions
		}
		ids[i] = id
	}
	return ids, nil
}
