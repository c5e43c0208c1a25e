package clustersync

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// dirtyID names a document over both sides: its pair, and the name both share.
type dirtyID struct{ pair, id string }

// dirtyDocument is a document that changed since it was compared.
type dirtyDocument struct {
	key        Key       // on the source
	generation uint64    // of the last change
	due        time.Time // not to be compared before
	misses     int       // how often it was found to differ since
	last       Difference
}

// dirtySet holds the documents to be compared: so many in memory, the rest in metadata.
type dirtySet struct {
	most     int
	metadata Metadata
	fence    func() int64

	held       chan struct{} // taken by who uses what follows, also while metadata is written
	docs       map[dirtyID]*dirtyDocument
	generation uint64
	spilled    int64     // about how many are in metadata
	full       []dirtyID // to be put into metadata
	fullKeys   []Key

	size atomic.Int64 // of all of it, to be read without the lock
}

// Limits of the set, and where the rest of it is.
const (
	dirtyCollection = "verifierDirty"
	spillBatch      = 1000
	maxMissDelay    = 30 * time.Second
)

func newDirtySet(most int, metadata Metadata, fence func() int64) *dirtySet {
	return &dirtySet{most: most, metadata: metadata, fence: fence, docs: map[dirtyID]*dirtyDocument{}, held: make(chan struct{}, 1)}
}

// len is how many there are, those in metadata counted as often as they were put there.
func (s *dirtySet) len() int64 { return s.size.Load() }

// lock and unlock guard what changes the set.
func (s *dirtySet) lock() { s.held <- struct{}{} }

func (s *dirtySet) unlock() {
	s.size.Store(int64(len(s.docs)+len(s.full)) + s.spilled)
	<-s.held
}

// add makes a document dirty, or dirty again.
func (s *dirtySet) add(ctx context.Context, id dirtyID, k Key) error {
	s.lock()
	defer s.unlock()
	s.generation++
	if d, ok := s.docs[id]; ok {
		d.generation, d.misses, d.due = s.generation, 0, time.Time{}
		return nil
	}
	if len(s.docs) < s.most || s.metadata == nil {
		s.docs[id] = &dirtyDocument{key: k, generation: s.generation}
		return nil
	}
	s.full, s.fullKeys = append(s.full, id), append(s.fullKeys, k)
	if len(s.full) < spillBatch {
		return nil
	}
	return s.spill(ctx)
}

// dirtyRecord is a document in metadata. Its _id is a hash, since the parts of a name can be long.
type dirtyRecord struct {
	ID   string   `bson:"_id"`
	Pair string   `bson:"pair"`
	Name string   `bson:"name"`
	Key  string   `bson:"key"`
	Raw  bson.Raw `bson:"raw"`
}

// spill puts what is too much into metadata. The lock is held: there is nothing else to be done with a full set.
func (s *dirtySet) spill(ctx context.Context) error {
	records := make([]any, len(s.full))
	for i, id := range s.full {
		sum := xxh3.HashString128(id.pair + "\x00" + id.id)
		records[i] = dirtyRecord{fmt.Sprintf("%016x%016x", sum.Hi, sum.Lo), id.pair, id.id, s.fullKeys[i].ID, s.fullKeys[i].Raw}
	}
	if len(records) == 0 {
		return nil
	}
	if err := s.metadata.Put(ctx, s.fence(), dirtyCollection, records...); err != nil {
		return fmt.Errorf("put changed documents into metadata: %w", err)
	}
	s.spilled += int64(len(records))
	s.full, s.fullKeys = nil, nil
	return nil
}

// errEnough ends a walk over records.
var errEnough = errors.New("enough")

// load takes documents back from metadata, as many as fit, and reports whether there were any.
func (s *dirtySet) load(ctx context.Context) (some bool, err error) {
	s.lock()
	defer s.unlock()
	for i, id := range s.full { // these did not even get there
		if len(s.docs) >= s.most {
			s.full, s.fullKeys = s.full[i:], s.fullKeys[i:]
			return some, nil
		}
		s.put(id, s.fullKeys[i])
		some = true
	}
	s.full, s.fullKeys = nil, nil
	if s.spilled == 0 {
		return some, nil
	}
	var ids []any
	err = s.metadata.All(ctx, dirtyCollection, func(raw bson.Raw) error {
		var r dirtyRecord
		if err := bson.Unmarshal(raw, &r); err != nil {
			return fmt.Errorf("decode a changed document: %w", err)
		}
		if len(s.docs) >= s.most || len(ids) == spillBatch*10 {
			return errEnough
		}
		s.put(dirtyID{r.Pair, r.Name}, Key{ID: r.Key, Raw: r.Raw})
		ids = append(ids, r.ID)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return some, fmt.Errorf("read changed documents from metadata: %w", err)
	}
	if err == nil {
		s.spilled = 0 // that was all
	}
	for len(ids) > 0 {
		n := min(spillBatch, len(ids))
		if err := s.metadata.Delete(ctx, s.fence(), dirtyCollection, ids[:n]...); err != nil {
			return true, fmt.Errorf("remove changed documents from metadata: %w", err)
		}
		some, ids = true, ids[n:]
	}
	return some, nil
}

func (s *dirtySet) put(id dirtyID, k Key) {
	if s.docs[id] == nil {
		s.generation++
		s.docs[id] = &dirtyDocument{key: k, generation: s.generation}
	}
}

// erase forgets what an earlier verifier left in metadata.
func (s *dirtySet) erase(ctx context.Context) error {
	if s.metadata == nil {
		return nil
	}
	s.lock()
	defer s.unlock()
	for {
		var ids []any
		err := s.metadata.All(ctx, dirtyCollection, func(raw bson.Raw) error {
			if len(ids) == spillBatch {
				return errEnough
			}
			ids = append(ids, raw.Lookup("_id").StringValue())
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return fmt.Errorf("read changed documents from metadata: %w", err)
		}
		if len(ids) == 0 {
			s.spilled = 0
			return nil
		}
		if err := s.metadata.Delete(ctx, s.fence(), dirtyCollection, ids...); err != nil {
			return fmt.Errorf("remove changed documents from metadata: %w", err)
		}
	}
}

// taken is a dirty document in the hands of a round.
type taken struct {
	id         dirtyID
	key        Key
	generation uint64
}

// take returns the documents that are due, by pair; all of them if all.
func (s *dirtySet) take(now time.Time, all bool) map[string][]taken {
	s.lock()
	defer s.unlock()
	out := map[string][]taken{}
	for id, d := range s.docs {
		if all || !d.due.After(now) {
			out[id.pair] = append(out[id.pair], taken{id, d.key, d.generation})
		}
	}
	return out
}

// equal takes a document out, unless it changed since it was taken.
func (s *dirtySet) equal(t taken) {
	s.lock()
	defer s.unlock()
	if d := s.docs[t.id]; d != nil && d.generation == t.generation {
		delete(s.docs, t.id)
	}
}

// differs notes what is different, to be looked at again later and later.
func (s *dirtySet) differs(t taken, what Difference, now time.Time, pause time.Duration) {
	s.lock()
	defer s.unlock()
	if d := s.docs[t.id]; d != nil && d.generation == t.generation {
		d.last = what
		d.due = now.Add(min(pause<<min(d.misses, 10), maxMissDelay))
		d.misses++
	}
}

// forget drops all documents of a pair.
func (s *dirtySet) forget(pair string) {
	s.lock()
	defer s.unlock()
	for id := range s.docs {
		if id.pair == pair {
			delete(s.docs, id)
		}
	}
}

// differences are what is known to be different, the first of them with what is, and how many documents the source does not have.
func (s *dirtySet) differences(most int) (total, strangers int64, first []Difference) {
	s.lock()
	defer s.unlock()
	for _, d := range s.docs {
		if d.last.What == ExtraDocument {
			strangers++
		}
		if total++; len(first) < most {
			first = append(first, d.last)
		}
	}
	return total + s.spilled + int64(len(s.full)), strangers, first
}

// hasRoom reports whether documents can be taken back from metadata.
func (s *dirtySet) hasRoom() bool {
	s.lock()
	defer s.unlock()
	return len(s.docs) < s.most
}
