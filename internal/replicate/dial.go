package replicate

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/websocket"
)

// What a remote answers that is no tidegate and no Sync Gateway may be anything; so much of it is read, in bytes.
const maxProbe = 64 << 10

// newHTTPClient makes the client for the first look at the remote. It follows redirects on the same host only.
func (r *Replicator) newHTTPClient() *http.Client {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: r.tlsConfig(), DisableKeepAlives: true,
		ResponseHeaderTimeout: connectTimeout, TLSHandshakeTimeout: connectTimeout, MaxResponseHeaderBytes: maxProbe,
	}
	return &http.Client{Transport: transport, Timeout: connectTimeout, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > 3 || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
			return errRedirect
		}
		return nil
	}}
}

// errRedirect is the error of a remote that sends us elsewhere: credentials do not go along.
var errRedirect = errors.New("the target redirects to another server")

func (r *Replicator) tlsConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: r.o.SkipTLSVerify}
}

// header are the credentials and the name of this side.
func (r *Replicator) header() http.Header {
	h := http.Header{"User-Agent": {r.o.UserAgent}}
	if r.o.Username != "" {
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(r.o.Username+":"+r.o.Password)))
	}
	return h
}

// connect looks whether the remote database is there and opens a connection to it, with the newest version of the
// protocol that the remote takes.
func (r *Replicator) connect(ctx context.Context) (*websocket.Conn, Version, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*connectTimeout, errors.New("the target does not answer"))
	defer cancel()
	if err := r.probe(ctx); err != nil {
		return nil, 0, err
	}
	target := *r.o.Remote
	target.Path = strings.TrimSuffix(target.Path, "/") + "/_blipsync"
	target.RawQuery = url.Values{"client": {"sgr2"}}.Encode()
	var last error
	for _, v := range []Version{V4, V3, V2} {
		ws, resp, err := websocket.Dial(ctx, target.String(), websocket.DialOptions{
			Options: websocket.Options{ReadLimit: blip.MaxFrame, PingAfter: r.o.Heartbeat, PongTimeout: r.o.Heartbeat},
			Header:  r.header(), Subprotocols: []string{v.Subprotocol()}, TLSConfig: r.tlsConfig(),
		})
		if err == nil && resp.Header.Get("Sec-WebSocket-Protocol") == v.Subprotocol() {
			return ws, v, nil
		}
		if err == nil {
			_ = ws.Abort()
			err = fmt.Errorf("the target chose no subprotocol")
		}
		if last = refusal(resp, err); resp == nil || resp.StatusCode != http.StatusInternalServerError && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, 0, last // another version would not help
		}
	}
	return nil, 0, fatal(fmt.Errorf("no common version of the replication protocol: %w", last))
}

// probe asks for the remote database, as gateways do before they connect.
func (r *Replicator) probe(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(r.o.Remote.String(), "/")+"/", nil)
	if err != nil {
		return fatal(err)
	}
	req.Header = r.header()
	resp, err := r.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL is the reader's already
		}
		return fmt.Errorf("connect to target: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxProbe) // so that the server may finish
	return statusOf(resp)
}

// statusOf is nil if a remote's answer is a good one.
func statusOf(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	err := fmt.Errorf("unexpected status code %d from target database", resp.StatusCode)
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return loginError{err}
	}
	return err
}

// refusal is the error of an upgrade that failed.
func refusal(resp *http.Response, err error) error {
	if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		if status := statusOf(resp); status != nil {
			return status
		}
	}
	return fmt.Errorf("connect to target: %w", err)
}
