package changes

import "context"

// Arm asks to be told when there may be something new for this reader, its principal changed, or the hub stopped.
// ready: there may be something already; notify will not be called, and Next is to be called. Otherwise notify is
// called once, soon after, and Arm must be called again for another call. An earlier Arm counts no more. An idle
// feed needs no goroutine with it, and no memory beyond the func.
//
// notify is called by whoever wrote, changed the principal or follows the store, who waits for it: it must not
// block, nor call the feed or the hub, nor take a lock that is held around Arm, Disarm or Close. It is to note
// that the feed is due, and leave.
//
// Errors: ErrFeedEnded, ErrFeedClosed, ErrHubStopped.
func (f *Feed) Arm(notify func()) (ready bool, err error) {
	switch {
	case f.closed:
		return false, ErrFeedClosed
	case f.ended:
		return false, ErrFeedEnded
	case !f.idle || f.stale:
		return true, nil // there is more to read
	}
	// First the hub's list, then the alarm: what the hub publishes after the first rings, and the second sees it.
	if ready, err = f.h.await(f); err != nil || ready {
		f.Disarm()
		return ready, err
	}
	return f.waiter.alarm.arm(notify), nil
}

// Disarm takes back Arm: when it has returned no call of notify is under way, and none begins. It reports whether
// it took back a call; false: notify was called already, or the feed was not armed. Unlike the other methods it may be
// called while another goroutine uses the feed.
func (f *Feed) Disarm() (armed bool) { return f.waiter.alarm.disarm() }

// Wait returns when there may be something new for this reader, or its principal changed. It takes the place of
// an earlier Arm. It returns ctx's error, ErrFeedEnded, ErrFeedClosed or ErrHubStopped.
func (f *Feed) Wait(ctx context.Context) error {
	if f.woken == nil {
		f.woken = make(chan struct{}, 1)
	}
	ready, err := f.Arm(f.wake)
	switch {
	case err != nil:
		return err
	case ready:
		return ctx.Err()
	}
	select {
	case <-f.woken:
		return f.h.stopped()
	case <-ctx.Done():
		f.Disarm()
		select {
		case <-f.woken: // it came meanwhile; the alarm remembers
		default:
		}
		return ctx.Err()
	}
}

// wake ends a Wait.
func (f *Feed) wake() {
	select {
	case f.woken <- struct{}{}:
	default:
	}
}

// principalChanged is called by the Viewers.
func (f *Feed) principalChanged() { f.h.count(f.waiter.alarm.ringChanged()) }

// Close ends the feed: when it has returned no call of notify is under way, and none begins. It is idempotent.
func (f *Feed) Close() {
	if f.closed {
		return
	}
	f.closed = true
	f.Disarm()
	f.h.unregister(&f.waiter)
	if f.unwatch != nil {
		f.unwatch()
	}
}
