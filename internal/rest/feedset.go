package rest

import (
	"sync"

	"github.com/tidegate/tidegate"
)

var errFeedLimit = tidegate.Errorf(tidegate.Unavailable, "Replication limit exceeded. Try again later.")

// feedSet counts the open feeds, so that their number is bounded: all together by
// replicator.max_concurrent_replications, which feeds and _blipsync connections share, and those of one user.
type feedSet struct {
	mu     sync.Mutex
	max    int // of all; 0 = no limit
	perUsr int // of one user of one database
	n      int
	byUser map[feedOwner]int
}

type feedOwner struct{ db, user string }

// open counts a feed in; done counts it out and may be called once. Unavailable: there are too many.
// Admin's feeds have no owner and only the common limit.
func (f *feedSet) open(owner feedOwner, admin bool) (done func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.max > 0 && f.n >= f.max {
		return nil, errFeedLimit
	}
	if !admin && f.byUser[owner] >= f.perUsr {
		return nil, errFeedLimit
	}
	f.n++
	if !admin {
		f.byUser[owner]++
	}
	return func() { f.close(owner, admin) }, nil
}

func (f *feedSet) close(owner feedOwner, admin bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
	if admin {
		return
	}
	if f.byUser[owner]--; f.byUser[owner] == 0 {
		delete(f.byUser, owner)
	}
}

// setMax changes the limit of all feeds together; 0 = none. Feeds that are open stay.
func (f *feedSet) setMax(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.max = n
}

// count is the number of open feeds.
func (f *feedSet) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}
