package replicate

import "sync"

// What a connection's peer may leave unanswered. Each row takes some 200 bytes here until it is answered, each
// revision some kilobytes (what may be asked of its attachments). Real peers answer after 200 of either.
const (
	maxOwedRows = 20_000
	maxOwedRevs = 2_000
)

// owed counts what was sent to a peer, by all subscriptions of a connection, and is not answered yet: also by those that
// have ended, or a peer could have any number of lists by subscribing again and again.
type owed struct {
	limit int

	mu   sync.Mutex
	n    int
	held map[*subscription]struct{} // wait for room
}

// room reports whether more may be sent. If not, the subscription is woken when there is room.
func (o *owed) room(s *subscription) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n < o.limit {
		return true
	}
	if o.held == nil {
		o.held = map[*subscription]struct{}{}
	}
	o.held[s] = struct{}{}
	return false
}

// add counts what is sent. It may go beyond the limit by as much as was begun when there was room.
func (o *owed) add(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n += n
}

// paid counts what was answered.
func (o *owed) paid(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.n -= n; o.n >= o.limit {
		return
	}
	for s := range o.held {
		s.wake()
	}
	clear(o.held)
}

// forget drops a subscription that has ended.
func (o *owed) forget(s *subscription) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.held, s)
}
