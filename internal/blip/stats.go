package blip

import "sync/atomic"

// Stats counts what connections do. It may be shared by any number of them.
type Stats struct {
	Connections    atomic.Int64 // open now
	ProtocolErrors atomic.Int64 // connections ended, or replies ignored, because a peer broke the rules
	Panics         atomic.Int64 // of handlers
	Queued         atomic.Int64 // messages queued and not yet sent completely, now
	In, Out        Traffic
}

// Traffic counts one direction.
type Traffic struct {
	Messages  atomic.Int64 // complete
	Frames    atomic.Int64 // without acknowledgements
	WireBytes atomic.Int64 // of frames, acknowledgements too
	RawBytes  atomic.Int64 // of frames' payloads before compression
}
