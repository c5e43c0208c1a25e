package websocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// What is read of a server's answer, in bytes.
const (
	maxResponseHead = 64 << 10
	maxRefusalBody  = 64 << 10
)

// DialOptions say how to connect. The zero value works.
type DialOptions struct {
	Options

	Header       http.Header // more headers of the request: Authorization, Cookie, Origin …
	Subprotocols []string    // offered, in order of preference, in one header line
	TLSConfig    *tls.Config // for wss; nil: the system's certificates

	// DialContext makes the TCP connection; nil: net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

// ErrRefused says that the server answered something else than an upgrade. The response comes with it.
var ErrRefused = errors.New("websocket: the server refused the upgrade")

// Dial connects to a ws, wss, http or https URL, under ctx until the upgrade is done. No redirects are followed.
// The response is the server's answer if there was one; its body, of a refusal, has been read up to 64 KiB and
// need not be closed. Its Sec-WebSocket-Protocol is one of those offered, or absent.
func Dial(ctx context.Context, target string, o DialOptions) (*Conn, *http.Response, error) {
	req, err := o.request(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	conn, err := o.connect(ctx, req.URL)
	if err != nil {
		return nil, nil, fmt.Errorf("dial WebSocket: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	stream, resp, err := o.handshake(conn, req)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, resp, fmt.Errorf("dial WebSocket: %w", err)
	}
	return newConn(stream, o.Options, true), resp, nil
}

// request makes the request for an upgrade.
func (o *DialOptions) request(ctx context.Context, target string) (*http.Request, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("dial WebSocket: %w", err)
	}
	switch u.Scheme {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	case "http", "https":
	default:
		return nil, fmt.Errorf("dial WebSocket: unknown scheme %q", u.Scheme)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("dial WebSocket: %w", err)
	}
	for name, values := range o.Header {
		req.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Version", "13")
	req.Header.Set("Sec-WebSocket-Key", base64.StdEncoding.EncodeToString(key[:]))
	if len(o.Subprotocols) > 0 {
		req.Header.Set("Sec-WebSocket-Protocol", strings.Join(o.Subprotocols, ","))
	}
	return req, nil
}

// connect makes the TCP or TLS connection.
func (o *DialOptions) connect(ctx context.Context, u *url.URL) (net.Conn, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	dial := o.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil || u.Scheme == "http" {
		return conn, err
	}
	config := &tls.Config{}
	if o.TLSConfig != nil {
		config = o.TLSConfig.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = u.Hostname()
	}
	config.NextProtos = []string{"http/1.1"} // a WebSocket of HTTP/2 is another protocol
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// handshake sends the request and reads the answer.
func (o *DialOptions) handshake(conn net.Conn, req *http.Request) (*Stream, *http.Response, error) {
	if err := req.Write(conn); err != nil {
		return nil, nil, err
	}
	bounded := &io.LimitedReader{R: conn, N: maxResponseHead}
	in := bufio.NewReader(bounded)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		if bounded.N <= 0 {
			err = errors.New("the head of the response is too long")
		}
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		bounded.N = maxRefusalBody
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusalBody)) // what there is of it
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return nil, resp, fmt.Errorf("%w: %s", ErrRefused, resp.Status)
	}
	resp.Body = http.NoBody
	if err := o.check(resp, req.Header.Get("Sec-WebSocket-Key")); err != nil {
		return nil, resp, err
	}
	early, err := in.Peek(in.Buffered())
	if err != nil {
		return nil, resp, err
	}
	return NewStream(conn, bytes.Clone(early)), resp, nil
}

// check checks the answer of a server that agrees to the upgrade.
func (o *DialOptions) check(resp *http.Response, key string) error {
	chosen := resp.Header.Values("Sec-WebSocket-Protocol")
	switch {
	case !isUpgrade(resp.Header):
		return fmt.Errorf("%w: no Upgrade in its answer", ErrRefused)
	case resp.Header.Get("Sec-WebSocket-Accept") != acceptKey(key):
		return fmt.Errorf("%w: bad Sec-WebSocket-Accept", ErrRefused)
	case resp.Header.Get("Sec-WebSocket-Extensions") != "":
		return fmt.Errorf("%w: it uses an extension that was not offered", ErrRefused)
	case len(chosen) > 1 || len(chosen) == 1 && !slices.Contains(o.Subprotocols, chosen[0]):
		return fmt.Errorf("%w: it chose a subprotocol that was not offered", ErrRefused)
	}
	return nil
}
