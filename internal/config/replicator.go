package config

import (
	"math"
	"time"
)

// Replicator are the limits of replications and feeds of the whole process. Those about bytes, slow readers, pings
// and users are tidegate's own.
type Replicator struct {
	MaxHeartbeat                Duration `json:"max_heartbeat,omitzero"`
	BLIPCompression             *int     `json:"blip_compression,omitzero"`
	MaxConcurrentReplications   *int     `json:"max_concurrent_replications,omitzero"`
	MaxReplicationsPerUser      *int     `json:"max_replications_per_user,omitzero"`
	MaxConcurrentChangesBatches *int     `json:"max_concurrent_changes_batches,omitzero"`
	MaxConcurrentRevs           *int     `json:"max_concurrent_revs,omitzero"`

	MaxMessageBytes      *int64    `json:"max_message_bytes,omitzero"`
	MaxReceiveBytes      *int64    `json:"max_receive_bytes,omitzero"`
	MaxReceiveBytesTotal *int64    `json:"max_receive_bytes_total,omitzero"`
	MaxSendQueueBytes    *int64    `json:"max_send_queue_bytes,omitzero"`
	SlowReaderTimeout    Duration  `json:"slow_reader_timeout,omitzero"`
	PingInterval         *Duration `json:"websocket_ping_interval,omitzero"`
}

// BLIPSettings are the values in force for connections of Couchbase Lite and of other gateways (/{db}/_blipsync).
// All bounds are for one connection unless noted.
type BLIPSettings struct {
	Compression    int // level of what is sent: 0 (none) to 9 (smallest)
	ChangesBatches int // lists of changes that clients propose, looked at at a time on one connection
	Revs           int // revisions of one connection whose attachments or delta bases are fetched at a time

	// MessageBytes is the longest message that is received, unpacked. Attachments have a bound of their own,
	// Settings.MaxAttachmentBytes.
	MessageBytes int64
	// ReceiveBytes bounds what has been received, unpacked, and not been handled yet; ReceiveBytesTotal that of all
	// connections of the process together.
	ReceiveBytes, ReceiveBytesTotal int64
	// SendQueueBytes is how much may wait to be sent before nothing more is made ready. One message, however long, is
	// always let in.
	SendQueueBytes int64
	// SlowReaderTimeout is how long a write waits for a client that does not read before the connection is cut.
	SlowReaderTimeout time.Duration
	// PingInterval is how long a connection may be silent before the client is pinged; 0: no pings.
	PingInterval time.Duration
}

// Defaults of connections of /{db}/_blipsync. Compression, batches and revisions are the product's.
const (
	DefaultReplicationsPerUser = 1000

	defaultCompression       = 6
	defaultChangesBatches    = 2
	defaultRevs              = 5
	defaultMessageBytes      = 32 << 20
	defaultReceiveBytes      = 64 << 20
	defaultReceiveBytesTotal = 512 << 20
	defaultSendQueueBytes    = 256 << 10
	defaultSlowReader        = 2 * time.Minute
	defaultPing              = Duration(5 * time.Minute)

	// minMessageBytes lets the longest document in, with its properties (blip.md §13).
	minMessageBytes = 21 << 20
)

// blip fills in the defaults.
func (r *Replicator) blip() BLIPSettings {
	return BLIPSettings{
		Compression:       or(r.BLIPCompression, defaultCompression),
		ChangesBatches:    or(r.MaxConcurrentChangesBatches, defaultChangesBatches),
		Revs:              or(r.MaxConcurrentRevs, defaultRevs),
		MessageBytes:      or(r.MaxMessageBytes, defaultMessageBytes),
		ReceiveBytes:      or(r.MaxReceiveBytes, defaultReceiveBytes),
		ReceiveBytesTotal: or(r.MaxReceiveBytesTotal, defaultReceiveBytesTotal),
		SendQueueBytes:    or(r.MaxSendQueueBytes, defaultSendQueueBytes),
		SlowReaderTimeout: orDuration(r.SlowReaderTimeout, defaultSlowReader),
		PingInterval:      time.Duration(or(r.PingInterval, defaultPing)),
	}
}

func (r *Replicator) check(c *check) {
	const path = "replicator."
	notNegative(c, path+"max_heartbeat", r.MaxHeartbeat)
	between(c, path+"blip_compression", r.BLIPCompression, 0, 9)
	between(c, path+"max_concurrent_replications", r.MaxConcurrentReplications, 0, math.MaxInt32)
	between(c, path+"max_replications_per_user", r.MaxReplicationsPerUser, 1, math.MaxInt32)
	between(c, path+"max_concurrent_changes_batches", r.MaxConcurrentChangesBatches, 1, 5)
	between(c, path+"max_concurrent_revs", r.MaxConcurrentRevs, 5, 200)
	between(c, path+"max_message_bytes", r.MaxMessageBytes, minMessageBytes, 1<<30)
	between(c, path+"max_send_queue_bytes", r.MaxSendQueueBytes, 64<<10, 1<<30)
	notNegative(c, path+"slow_reader_timeout", r.SlowReaderTimeout)
	if p := value(r.PingInterval); p != 0 && p < Duration(time.Second) {
		c.fail(path+"websocket_ping_interval", "must be 0 (no pings) or at least 1s")
	}
	b := r.blip()
	if b.ReceiveBytes < b.MessageBytes {
		c.fail(path+"max_receive_bytes", "must be at least max_message_bytes, which is %d", b.MessageBytes)
	}
	if b.ReceiveBytesTotal < b.ReceiveBytes {
		c.fail(path+"max_receive_bytes_total", "must be at least max_receive_bytes, which is %d", b.ReceiveBytes)
	}
}

// fillDefaults sets every field that was not given and has a default to that default.
func (r *Replicator) fillDefaults() {
	b := r.blip()
	fill(&r.BLIPCompression, b.Compression)
	fill(&r.MaxConcurrentReplications, 0)
	fill(&r.MaxReplicationsPerUser, DefaultReplicationsPerUser)
	fill(&r.MaxConcurrentChangesBatches, b.ChangesBatches)
	fill(&r.MaxConcurrentRevs, b.Revs)
	fill(&r.MaxMessageBytes, b.MessageBytes)
	fill(&r.MaxReceiveBytes, b.ReceiveBytes)
	fill(&r.MaxReceiveBytesTotal, b.ReceiveBytesTotal)
	fill(&r.MaxSendQueueBytes, b.SendQueueBytes)
	r.SlowReaderTimeout = Duration(b.SlowReaderTimeout)
	fill(&r.PingInterval, defaultPing)
}
