package devicesync

import "sync"

// Live is a database's current row, for everybody who acts by it. It is safe for concurrent use.
type Live struct {
	mu      sync.RWMutex
	row     *Row
	changed chan struct{}
}

// NewLive returns a Live that holds row.
func NewLive(row *Row) *Live { return &Live{row: row, changed: make(chan struct{})} }

// Row is the current row. It is not changed: a later one takes its place.
func (l *Live) Row() *Row {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.row
}

// Watch returns the current row, and a channel that is closed when another one has taken its place.
func (l *Live) Watch() (*Row, <-chan struct{}) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.row, l.changed
}

// Set makes row the current one, once it is durable. An older version than the current one changes nothing.
func (l *Live) Set(row *Row) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if row.Record.Version < l.row.Record.Version {
		return
	}
	l.row = row
	close(l.changed)
	l.changed = make(chan struct{})
}

// Reset makes row the current one, of whatever version: the database has got other data.
func (l *Live) Reset(row *Row) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.row = row
	close(l.changed)
	l.changed = make(chan struct{})
}
