package replicate

import "strconv"

// Version is a version of the replication protocol: the N of CBMobile_N.
type Version int

// The versions that are spoken (replication.md §1).
const (
	V2 Version = 2 // Couchbase Lite 2.x: revision trees, no marks for removals
	V3 Version = 3 // Couchbase Lite 3.x: revision trees
	V4 Version = 4 // Couchbase Lite 4.x: version vectors
)

// subprotocolPrefix is what comes before a version in the name of a WebSocket subprotocol.
const subprotocolPrefix = "BLIP_3+CBMobile_"

// Subprotocol is the version's name in Sec-WebSocket-Protocol.
func (v Version) Subprotocol() string { return subprotocolPrefix + strconv.Itoa(int(v)) }

// Negotiate picks the first of the client's subprotocols, in its order, that is spoken here (blip.md §1.3).
func Negotiate(offered []string) (Version, bool) {
	for _, name := range offered {
		for _, v := range []Version{V4, V3, V2} {
			if name == v.Subprotocol() {
				return v, true
			}
		}
	}
	return 0, false
}
