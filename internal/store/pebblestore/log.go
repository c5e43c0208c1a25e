package pebblestore

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// pebbleLog takes what Pebble has to say. Its chatter about flushes and compactions is dropped.
type pebbleLog struct {
	log     *slog.Logger
	running atomic.Bool // false while Open is at work
	broken  func(error)
	last    atomic.Int64 // when a background error was last logged, in Unix seconds
}

// fatalError is panicked with while Open is at work, which turns it into its error.
type fatalError struct{ error }

// Infof implements pebble.Logger.
func (l *pebbleLog) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l *pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. Pebble calls it when it cannot go on, and it must not return. The
// store turns read-only, its writers are answered, and the goroutine that called stays here.
func (l *pebbleLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf("pebble: "+format, args...)
	if !l.running.Load() {
		panic(fatalError{err})
	}
	l.broken(err)
	select {}
}

func (l *pebbleLog) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			// Pebble repeats what failed, and the error with it.
			if now := time.Now().Unix(); l.last.Swap(now) != now {
				l.log.Warn("a flush or compaction failed and will be tried again", "error", err)
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			l.broken(fmt.Errorf("damaged file: %s", info))
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			l.log.Warn("writes wait for a flush or compaction", "reason", info.Reason)
		},
	}
}
