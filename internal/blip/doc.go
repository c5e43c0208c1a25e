// Package blip speaks BLIP 3, the framing of Couchbase Mobile: requests and replies of any size, interleaved in
// frames over one WebSocket, with compression, checksums and flow control. It knows no document; blip.md is
// its specification and DESIGN.md says how it is built.
package blip
