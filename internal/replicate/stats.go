package replicate

import (
	"time"

	"github.com/tidegate/tidegate/internal/database"
)

// stats are the counters of the connection's database.
// Where this side drives the replication it has counters of its own, and those of the database are about others.
func (c *connection) stats() *database.ReplicationStats {
	if c.active != nil {
		return &c.active.unseen
	}
	return &c.peer.DB.Stats().Replication
}

// countProposals counts a list of changes that was looked at.
func (c *connection) countProposals(rows int, start time.Time) {
	push := &c.stats().Push
	push.Proposals.Add(int64(rows))
	push.ProposalTime.Add(int64(time.Since(start)))
}

// countStart counts a subscription in.
func (s *subscription) countStart() {
	pull := &s.coll.c.stats().Pull
	pull.Active.Add(1)
	if s.o.continuous {
		pull.ActiveContinuous.Add(1)
		pull.TotalContinuous.Add(1)
	} else {
		pull.ActiveOneShot.Add(1)
		pull.TotalOneShot.Add(1)
	}
	if s.o.since.Seq == 0 && s.o.since.Trigger == 0 {
		pull.SinceZero.Add(1)
	}
}

// countEnd counts a subscription out.
func (s *subscription) countEnd() {
	pull := &s.coll.c.stats().Pull
	pull.Active.Add(-1)
	if s.o.continuous {
		pull.ActiveContinuous.Add(-1)
	} else {
		pull.ActiveOneShot.Add(-1)
	}
	s.countIdle(false)
}

// countOffer counts a list of changes that is sent; pending is how many rows of the subscription are under way then.
func (s *subscription) countOffer(pending int) {
	pull := &s.coll.c.stats().Pull
	pull.RequestChanges.Add(1)
	pull.NotePending(int64(pending))
}

// countCaughtUp counts that a subscription has come to the end for the first time.
func (s *subscription) countCaughtUp() { s.coll.c.stats().Pull.TotalCaughtUp.Add(1) }

// countIdle keeps the number of continuous subscriptions that have nothing to send.
func (s *subscription) countIdle(idle bool) {
	if !s.o.continuous || s.idle == idle {
		return
	}
	s.idle = idle
	if idle {
		s.coll.c.stats().Pull.CaughtUp.Add(1)
	} else {
		s.coll.c.stats().Pull.CaughtUp.Add(-1)
	}
}

// countThrottled counts those of a batch that had to wait for the batches before.
func (c *connection) countThrottled(batch []*incomingRev) {
	now := time.Now()
	n, waited := int64(0), time.Duration(0)
	for _, in := range batch {
		if in.throttled {
			n++
			waited += now.Sub(in.queued)
		}
	}
	push := &c.stats().Push
	push.Throttled.Add(n)
	push.ThrottledTime.Add(int64(waited))
}
