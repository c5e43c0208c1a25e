package clustersync

import (
	"sync"
	"time"
)

// lagMeter knows how far the destination is behind the source (spec §5.2, §17).
type lagMeter struct {
	mu      sync.Mutex
	at      Position // applied
	mark    Position // newest of the source
	samples []lagSample
}

type lagSample struct {
	when time.Time
	lag  int64
}

// The window in which the decrease of the lag is measured.
const (
	lagWindow  = time.Minute
	lagSamples = 120
)

// applied notes what is applied.
func (l *lagMeter) applied(at Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = at
	l.sample()
}

// beat notes where the source is.
func (l *lagMeter) beat(mark Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mark = mark
	l.sample()
}

// sample keeps the lag of now. mu is held.
func (l *lagMeter) sample() {
	lag, ok := l.seconds()
	if !ok {
		return
	}
	now := time.Now()
	if n := len(l.samples); n > 0 && now.Sub(l.samples[n-1].when) < lagWindow/lagSamples {
		l.samples[n-1].lag = lag
		return
	}
	l.samples = append(l.samples, lagSample{now, lag})
	for len(l.samples) > lagSamples || now.Sub(l.samples[0].when) > lagWindow {
		l.samples = l.samples[1:]
	}
}

// seconds is the lag; false if it is unknown. mu is held.
func (l *lagMeter) seconds() (int64, bool) {
	if l.mark.Time.IsZero() || l.at.Time.IsZero() {
		return 0, false
	}
	return max(0, int64(l.mark.Time.T)-int64(l.at.Time.T)), true
}

// get returns the lag, and the seconds until it is caught up at the rate of the last minute; nil if unknown or not falling.
func (l *lagMeter) get() (lag, catchUp *int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, ok := l.seconds()
	if !ok {
		return nil, nil
	}
	lag = &now
	if len(l.samples) < 2 {
		return lag, nil
	}
	first, last := l.samples[0], l.samples[len(l.samples)-1]
	fell, took := first.lag-last.lag, last.when.Sub(first.when).Seconds()
	if fell <= 0 || took <= 0 || now == 0 {
		return lag, nil
	}
	seconds := int64(float64(now) * took / float64(fell))
	return lag, &seconds
}
