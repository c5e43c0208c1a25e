package rest

import (
	"errors"
	"net/http"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/websocket"
)

// checkUpgrade reports what is wrong with a request that should ask for a WebSocket.
func checkUpgrade(w *response, r *request) error {
	switch err := websocket.CheckUpgrade(r.Request); {
	case errors.Is(err, websocket.ErrNotUpgrade):
		w.Header().Set("Upgrade", "websocket")
		return statusError(http.StatusUpgradeRequired, "this needs a WebSocket upgrade")
	case errors.Is(err, websocket.ErrVersion):
		w.Header().Set("Sec-WebSocket-Version", "13")
		return statusError(http.StatusUpgradeRequired, "unsupported WebSocket version")
	case err != nil:
		return tidegate.Errorf(tidegate.Invalid, "bad Sec-WebSocket-Key")
	}
	return nil
}

// upgrade makes the request's connection a WebSocket. The error is for an HTTP answer if nothing was sent.
func upgrade(w *response, r *request, buffers socketBuffers, o websocket.Options) (*websocket.Conn, error) {
	if err := checkUpgrade(w, r); err != nil {
		return nil, err
	}
	stream, err := switchProtocols(w, r, "", buffers, o.WriteTimeout)
	if err != nil {
		return nil, err
	}
	return websocket.Server(stream, o), nil
}

// switchProtocols takes over the connection of a request that checkUpgrade found good and answers it; the headers of
// w go along. subprotocol is what was chosen of those that the client offers; "" is none. The error is for an HTTP
// answer if nothing was sent.
func switchProtocols(w *response, r *request, subprotocol string, buffers socketBuffers, within time.Duration) (*websocket.Stream, error) {
	head := w.Header().Clone()
	stream, ok, err := hijack(w, buffers)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, statusError(http.StatusHTTPVersionNotSupported, "a WebSocket needs HTTP/1.1")
	}
	websocket.AcceptUpgrade(r.Request, head, subprotocol)
	if err := writeHead(stream, "HTTP/1.1", "101 Switching Protocols", head, within); err != nil {
		stream.Close()
		return nil, err
	}
	return stream, nil
}
