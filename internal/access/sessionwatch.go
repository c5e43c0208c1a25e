package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/tidegate/tidegate/internal/store"
)

// sessionWatches are who waits for the ends of sessions, by the hash of the id in hexadecimal digits, as events name them. Its owner locks it.
type sessionWatches map[string]map[*sessionWatcher]struct{}

type sessionWatcher struct{ changed func(ended bool) }

// WatchSession calls changed when the session with the hash (SHA-256) of an id was ended on any node: deleted, not expired. ended is
// false if that is not known, since events may have been missed: then SessionStored tells. How changed is called, and what it may do,
// is as with Watch. The caller must call stop once.
func (r *Registry) WatchSession(hash [sha256.Size]byte, changed func(ended bool)) (stop func()) {
	id, own := hex.EncodeToString(hash[:]), &sessionWatcher{changed}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ends[id] == nil {
		r.ends[id] = map[*sessionWatcher]struct{}{}
	}
	r.ends[id][own] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.ends[id], own)
		if len(r.ends[id]) == 0 {
			delete(r.ends, id)
		}
	}
}

// SessionStored reports whether there is a session with the hash of its id, in the store and not in memory.
func (r *Registry) SessionStored(ctx context.Context, hash [sha256.Size]byte) (stored bool, err error) {
	err = r.cfg.Store.View(ctx, func(rd store.Reader) error {
		_, stored, err = r.readSession(rd, hash)
		return err
	})
	return stored, err
}

// ended adds who watches the session to those to be woken.
func (s sessionWatches) ended(id string, woken []*watcher) []*watcher {
	for own := range s[id] {
		woken = append(woken, &watcher{func() { own.changed(true) }})
	}
	return woken
}

// doubted adds everybody.
func (s sessionWatches) doubted(woken []*watcher) []*watcher {
	for _, watchers := range s {
		for own := range watchers {
			woken = append(woken, &watcher{func() { own.changed(false) }})
		}
	}
	return woken
}
