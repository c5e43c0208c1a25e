package pgstore

import (
	"log/slog"
	"time"
)

// Options configure a store; zero values mean the defaults.
type Options struct {
	// Schema is the PostgreSQL schema that holds the tables; it is made if missing. "tidegate".
	Schema string
	// Connections is how many connections Views may use at once; a View beyond waits. 32, and at least 2, since a check or a backup reads
	// attachments within a View. The committer, leases and the listener have four more.
	Connections int
	// RetryFor is how long a lost connection or a serialization failure is tried again before Update and View answer
	// Unavailable. 5 s.
	RetryFor time.Duration
	// Queue is how many Updates may wait for the commit section; an Update beyond waits under its context. 4,096.
	Queue int
	// MaxTxBytes bounds the keys and values of one transaction. 256 MiB.
	MaxTxBytes int
	// Poll is how often waiters look at the database while notifications do not work. 100 ms; with notifications it is
	// done every 5 s, in case one is lost.
	Poll time.Duration

	Logger *slog.Logger // discards if nil
}

func (o Options) withDefaults() Options {
	if o.Schema == "" {
		o.Schema = "tidegate"
	}
	if o.Connections <= 0 {
		o.Connections = 32
	}
	o.Connections = max(o.Connections, 2)
	if o.RetryFor <= 0 {
		o.RetryFor = 5 * time.Second
	}
	if o.Queue <= 0 {
		o.Queue = 4096
	}
	if o.MaxTxBytes <= 0 {
		o.MaxTxBytes = 256 << 20
	}
	if o.Poll <= 0 {
		o.Poll = 100 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Bounds of a group of Updates that commit together.
const (
	maxGroupUpdates = 1024
	maxGroupBytes   = 8 << 20
)

// maxFetchBytes is up to how many bytes Fetch reads; what is beyond is read when it is asked for.
const maxFetchBytes = 16 << 20

// Bounds of a page that a scan reads: it begins small, since most scans end early, and doubles. A page holds no more rows once it has pageBytes.
const (
	firstPage = 32
	maxPage   = 1024
	pageBytes = 4 << 20
)
