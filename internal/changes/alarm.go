package changes

import "sync"

// alarm is how a feed learns that there may be something new. It may be rung by anybody at any time, also after
// the feed was closed.
type alarm struct {
	mu      sync.Mutex
	rung    bool   // since the feed last took a bound
	changed bool   // the principal changed since the feed last looked at it
	notify  func() // whom to tell when it rings; nil: nobody
}

// ring notes that there may be something new, and tells who waits for it. It reports whether somebody did.
func (a *alarm) ring() (woken bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rung = true
	return a.tell()
}

// ringChanged is ring for a change of the principal.
func (a *alarm) ringChanged() (woken bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changed = true
	return a.tell()
}

// tell calls notify once. mu is held, so that there is no call any more when disarm has returned.
func (a *alarm) tell() bool {
	notify := a.notify
	if notify == nil {
		return false
	}
	a.notify = nil
	notify()
	return true
}

// arm makes sure that notify is called at the next ring, unless it has rung already.
func (a *alarm) arm(notify func()) (ready bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.notify = nil; a.rung || a.changed {
		return true
	}
	a.notify = notify
	return false
}

// disarm makes sure that nobody is told. It reports whether somebody was to be.
func (a *alarm) disarm() (armed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	armed = a.notify != nil
	a.notify = nil
	return armed
}

// quiet makes the alarm as if it had not rung, changes of the principal apart.
func (a *alarm) quiet() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rung = false
}

// takeChanged reports whether the principal changed, once for each change.
func (a *alarm) takeChanged() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	changed := a.changed
	a.changed = false
	return changed
}
