package rest

import (
	"sync"
	"time"

	"github.com/tidegate/tidegate"
)

var errFeedLimit = tidegate.Errorf(tidegate.Unavailable, "Replication limit exceeded. Try again later.")

// feedSet counts the open feeds and the connections of _blipsync, so that their number is bounded: all together by
// replicator.max_concurrent_replications, those of one user by replicator.max_replications_per_user.
type feedSet struct {
	mu     sync.Mutex
	max    int // of all; 0 = no limit
	perUsr int // of one user of one database
	n      int
	byUser map[feedOwner]int
	fewer  chan struct{} // closed and replaced when a feed is counted out and somebody may be waiting for it
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
	if f.fewer != nil {
		close(f.fewer)
		f.fewer = nil
	}
	if admin {
		return
	}
	if f.byUser[owner]--; f.byUser[owner] == 0 {
		delete(f.byUser, owner)
	}
}

// left is closed when the next feed is counted out.
func (f *feedSet) left() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fewer == nil {
		f.fewer = make(chan struct{})
	}
	return f.fewer
}

// slotPatience is how long a new feed waits for those of clients that have gone to be counted out.
const slotPatience = time.Second

// openFeedSlot counts the feed or replication of a request in. When there are too many it first looks whether clients of others
// have gone without anybody having noticed yet: who closes a feed and opens the next must find room.
func (s *Server) openFeedSlot(r *request) (done func(), err error) {
	owner := feedOwner{r.running.Name(), r.userName()}
	defer func() {
		if err == errFeedLimit {
			r.running.Stats().Replication.RejectedLimit.Add(1)
		}
	}()
	var patience <-chan time.Time
	for {
		left := s.feeds.left()
		if done, err = s.feeds.open(owner, r.admin); err == nil {
			return done, nil
		}
		if patience == nil {
			if s.watch.look() == 0 {
				return nil, err
			}
			timer := time.NewTimer(slotPatience)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-left:
		case <-patience:
			return nil, err
		case <-r.ctx.Done():
			return nil, r.ctx.Err()
		}
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
