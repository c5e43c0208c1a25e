package rest

import (
	"errors"
	"net/http"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/websocket"
)

// upgrade makes the request's connection a WebSocket. The error is for an HTTP answer if nothing was sent.
// subprotocol is what was chosen of those that the client offers; "" is none.
func upgrade(w *response, r *request, subprotocol string, o websocket.Options) (*websocket.Conn, error) {
	switch err := websocket.CheckUpgrade(r.Request); {
	case errors.Is(err, websocket.ErrNotUpgrade):
		w.Header().Set("Upgrade", "websocket")
		return nil, statusError(http.StatusUpgradeRequired, "this feed needs a WebSocket upgrade")
	case errors.Is(err, websocket.ErrVersion):
		w.Header().Set("Sec-WebSocket-Version", "13")
		return nil, statusError(http.StatusUpgradeRequired, "unsupported WebSocket version")
	case err != nil:
		return nil, tidegate.Errorf(tidegate.Invalid, "bad Sec-WebSocket-Key")
	}
	head := w.Header().Clone()
	conn, ok, err := hijack(w)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, statusError(http.StatusHTTPVersionNotSupported, "a WebSocket needs HTTP/1.1")
	}
	websocket.AcceptUpgrade(r.Request, head, subprotocol)
	if err := writeHead(conn, "HTTP/1.1", "101 Switching Protocols", head, o.WriteTimeout); err != nil {
		conn.Close()
		return nil, err
	}
	return websocket.Server(conn, o), nil
}
