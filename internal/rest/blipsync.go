package rest

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
)

// GET /{db}/_blipsync is where Couchbase Lite and other gateways connect (replication.md §2, gateway-rest.md §19). This
// file is the handshake; replication.go is what becomes of the connection.

// blipProtocol is the beginning of the subprotocols that are spoken; the version of the replication protocol follows.
const blipProtocol = "BLIP_3+CBMobile_"

// The versions that are spoken, newest first.
var blipVersions = [...]int{4, 3, 2}

// oneTimePrefix marks a one-time session among the subprotocols that a client offers: a web page cannot set other
// headers of a WebSocket.
const oneTimePrefix = "SyncGatewaySession_"

var errNotKeyspace = tidegate.Errorf(tidegate.Invalid, "replication connects to a database; its collections are chosen by messages")

// handleBLIPSync answers GET /{db}/_blipsync.
func (s *Server) handleBLIPSync(w http.ResponseWriter, r *request) error {
	if err := checkUpgrade(r.answer, r); err != nil {
		return err
	}
	if err := s.checkWebSocketOrigin(r); err != nil {
		return err
	}
	version, ok := negotiateBLIP(subprotocols(r.Header))
	if !ok {
		return replyText(w, http.StatusInternalServerError, "text/plain", blipRefusal()) // the status that old peers look for
	}
	counted, err := s.openFeedSlot(r)
	if err != nil {
		return err
	}
	c, err := s.newReplication(r, version, counted)
	if err != nil {
		if s.refuseUpgrade(r.answer, r, err) { // paused since steps asked
			return nil
		}
		return err
	}
	w.Header().Set("X-Correlation-Id", c.what.ID)
	stream, err := switchProtocols(r.answer, r, blipProtocol+strconv.Itoa(version), socketBuffers{}, c.what.Limits.SlowReaderTimeout)
	if err != nil {
		c.release()
		return err
	}
	go c.run(stream)
	return nil
}

// subprotocols are the entries of Sec-WebSocket-Protocol in the client's order.
func subprotocols(h http.Header) []string {
	var all []string
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for entry := range strings.SplitSeq(line, ",") {
			if entry = strings.TrimSpace(entry); entry != "" {
				all = append(all, entry)
			}
		}
	}
	return all
}

// negotiateBLIP takes the first of the offers that is spoken here: the client's preference counts (blip.md §1.3).
func negotiateBLIP(offers []string) (version int, ok bool) {
	for _, offer := range offers {
		if n, found := strings.CutPrefix(offer, blipProtocol); found {
			if v, err := strconv.Atoi(n); err == nil && slices.Contains(blipVersions[:], v) && strconv.Itoa(v) == n {
				return v, true
			}
		}
	}
	return 0, false
}

// blipRefusal is what a client is told that offers nothing that is spoken here.
func blipRefusal() string {
	var names []string
	for _, v := range blipVersions {
		names = append(names, blipProtocol+strconv.Itoa(v))
	}
	return "I only speak " + strings.Join(names, ", ") + " protocols"
}

// oneTimeToken is the one-time session among the subprotocols of a request; "" for none.
func oneTimeToken(h http.Header) string {
	for _, entry := range subprotocols(h) {
		if id, ok := strings.CutPrefix(entry, oneTimePrefix); ok {
			return id
		}
	}
	return ""
}

// newCorrelationID is what a connection is called in the logs of both ends.
func newCorrelationID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
