package replicate

import (
	"math/rand/v2"
	"time"
)

// Times of reconnecting (inter-gateway.md §7).
const (
	firstDelay       = time.Second
	unlimitedCap     = 5 * time.Minute  // of a delay, with MaxBackoff 0
	giveUpAfter      = 5 * time.Minute  // in all, with MaxBackoff 0
	loginPatience    = 30 * time.Minute // of refused logins in a row
	jitterPercent    = 10
	connectTimeout   = 30 * time.Second
	checkpointEvery  = 5 * time.Second
	closingPatience  = 10 * time.Second
	defaultHeartbeat = 300 * time.Second
)

// backoff decides how long to wait before the next try to connect. It has no clock: times are given to it.
type backoff struct {
	max     time.Duration // of a delay; 0: give up after giveUpAfter
	delay   time.Duration // the next one
	began   time.Time     // of the present row of failures; zero: there is none
	refused time.Time     // of the present row of refused logins; zero: there is none
}

// connected notes a success: the row of failures is over.
func (b *backoff) connected() { b.delay, b.began, b.refused = 0, time.Time{}, time.Time{} }

// failed notes a failure and returns how long to wait; ok is false if it is time to give up. login: the remote refused
// the credentials.
func (b *backoff) failed(now time.Time, login bool) (wait time.Duration, ok bool) {
	if b.began.IsZero() {
		b.began = now
	}
	switch {
	case !login:
		b.refused = time.Time{}
	case b.refused.IsZero():
		b.refused = now
	case now.Sub(b.refused) >= loginPatience:
		return 0, false
	}
	limit := b.max
	if limit <= 0 {
		if now.Sub(b.began) >= giveUpAfter {
			return 0, false
		}
		limit = unlimitedCap
	}
	b.delay = min(max(2*b.delay, firstDelay), limit)
	return b.delay, true
}

// jittered spreads a delay by a tenth, so that many who lost the same peer do not come back at once.
func jittered(d time.Duration) time.Duration {
	spread := int64(d) * jitterPercent / 100
	if spread <= 0 {
		return d
	}
	return d + time.Duration(rand.Int64N(2*spread+1)-spread)
}
