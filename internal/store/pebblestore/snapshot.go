package pebblestore

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// snapshot is a state of the store with a count of who reads it. The published one is held by the store
// itself; a snapshot that nobody holds is closed, so that Pebble can drop what only it could see.
type snapshot struct {
	*pebble.Snapshot
	refs   atomic.Int64
	closed func()
}

func newSnapshot(db *pebble.DB, closed func()) *snapshot {
	s := &snapshot{Snapshot: db.NewSnapshot(), closed: closed}
	s.refs.Store(1)
	return s
}

// acquire takes a reference; it fails if the snapshot was given up by everybody in the meantime.
func (s *snapshot) acquire() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *snapshot) release() {
	if s.refs.Add(-1) == 0 {
		_ = s.Snapshot.Close() // cannot fail: it only unlinks the snapshot
		s.closed()
	}
}
