package websocket

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
)

// What may be wrong with a request for an upgrade.
var (
	ErrNotUpgrade = errors.New("websocket: the request asks for no WebSocket")
	ErrVersion    = errors.New("websocket: unsupported version") // the answer must have Sec-WebSocket-Version: 13
	ErrKey        = errors.New("websocket: bad Sec-WebSocket-Key")
)

const acceptMagic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// CheckUpgrade checks whether a server can answer a request with AcceptUpgrade.
func CheckUpgrade(r *http.Request) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key")))
	switch {
	case r.Method != http.MethodGet || !isUpgrade(r.Header):
		return ErrNotUpgrade
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		return ErrVersion
	case err != nil || len(key) != 16:
		return ErrKey
	}
	return nil
}

// AcceptUpgrade puts into h what the head of the 101 response must say. Subprotocol is what the server chose of
// those that the request offers; "" is none.
func AcceptUpgrade(r *http.Request, h http.Header, subprotocol string) {
	h.Set("Upgrade", "websocket")
	h.Set("Connection", "Upgrade")
	h.Set("Sec-WebSocket-Accept", acceptKey(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key"))))
	if subprotocol != "" {
		h.Set("Sec-WebSocket-Protocol", subprotocol)
	}
}

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + acceptMagic))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// isUpgrade reports whether a head speaks of an upgrade to WebSocket.
func isUpgrade(h http.Header) bool {
	return hasToken(h.Values("Connection"), "upgrade") && hasToken(h.Values("Upgrade"), "websocket")
}

func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}
