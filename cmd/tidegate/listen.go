package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/tidegate/tidegate/internal/rest"
)

// listener is one HTTP listener of the process.
type listener struct {
	name   string
	ln     net.Listener
	server *http.Server
}

// listen opens the listeners that the settings ask for.
func (g *gatewayServer) listen(ctx context.Context, handlers *rest.Server) error {
	tlsConfig, err := g.tls(ctx)
	if err != nil {
		return err
	}
	slots, err := g.connections()
	if err != nil {
		return err
	}
	for _, l := range []struct {
		name, addr string
		handler    http.Handler
		auth       *bool // nil on the public listener
		insecure   bool
		public     bool
	}{
		{name: "public", addr: g.settings.PublicAddr, handler: handlers.Public(), public: true},
		{name: "admin", addr: g.settings.AdminAddr, handler: withConsole(g.console, withAppServices(g.apps, handlers.Admin())), auth: g.settings.AdminAuth, insecure: g.insecureAdmin},
		{name: "metrics", addr: g.settings.MetricsAddr, handler: handlers.Metrics(), auth: g.settings.MetricsAuth, insecure: g.insecureMetrics},
	} {
		if l.addr == "" {
			continue
		}
		if !l.public {
			if err := checkExposure(l.name, l.addr, l.auth, tlsConfig != nil, l.insecure); err != nil {
				return g.closeListeners(err)
			}
		}
		if err := g.listenOne(ctx, l.name, l.addr, l.handler, tlsConfig, slots); err != nil {
			return g.closeListeners(err)
		}
	}
	return nil
}

// checkExposure refuses an administrative listener beyond loopback without TLS and login (hardening.md), unless
// it was asked for by name.
func checkExposure(name, addr string, auth *bool, hasTLS, insecure bool) error {
	if insecure || isLoopback(addr) {
		return nil
	}
	authOn := auth == nil || *auth // beyond loopback the default is on (gateway-rest.md §5.2)
	if hasTLS && authOn {
		return nil
	}
	return fmt.Errorf("the %s listener at %s is reachable from other machines without TLS and login; set api.https and "+
		"auth.administrators, listen on 127.0.0.1, or insist with --insecure-%s", name, addr, name)
}

// isLoopback reports whether the address can be reached from this machine only.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (g *gatewayServer) listenOne(ctx context.Context, name, addr string, h http.Handler, tlsConfig *tls.Config, slots chan struct{}) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for the %s API: %w", name, err)
	}
	address := ln.Addr().String()
	scheme := "http"
	ln = &limited{Listener: ln, slots: slots}
	if tlsConfig != nil {
		ln, scheme = tls.NewListener(ln, tlsConfig), "https"
	}
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: g.settings.ReadHeaderTimeout,
		ReadTimeout:       g.settings.ReadTimeout,
		WriteTimeout:      g.settings.WriteTimeout,
		IdleTimeout:       g.settings.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	if !g.settings.HTTP2 || !http2Safe() {
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
	}
	g.listening = append(g.listening, listener{name, ln, server})
	switch name {
	case "public":
		g.publicURL = scheme + "://" + reachable(address)
	case "admin":
		g.adminURL = scheme + "://" + reachable(address)
		server.RegisterOnShutdown(g.console.Close) // live pages would keep it waiting
	}
	g.log.Info("listening", "listener", name, "address", address, "tls", tlsConfig != nil)
	return nil
}

// maxHeaderBytes bounds a request's header (hardening.md: 32 KiB; net/http adds 4 KiB of slack).
const maxHeaderBytes = 28 << 10

// reachable turns the address of a listener on all interfaces into one that this machine can connect to.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func (g *gatewayServer) closeListeners(err error) error {
	for _, l := range g.listening {
		err = errors.Join(err, l.ln.Close())
	}
	return err
}

// serve answers until the listener is closed.
func (l listener) serve() error {
	err := l.server.Serve(l.ln)
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve the %s API: %w", l.name, err)
}

// refuse takes no new connections.
func (l listener) refuse() { _ = l.ln.Close() }

// shutdown closes idle connections and waits for the others until ctx ends, then closes them too.
func (l listener) shutdown(ctx context.Context) error {
	if err := l.server.Shutdown(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
		_ = l.server.Close()
		return fmt.Errorf("drain the %s API: %w", l.name, err)
	}
	return nil
}

// tls loads the certificate of the config, and again on SIGHUP; nil if TLS is not configured.
func (g *gatewayServer) tls(ctx context.Context) (*tls.Config, error) {
	h := g.startup.API.HTTPS
	if h.TLSCertPath == "" {
		return nil, nil
	}
	var current atomic.Pointer[tls.Certificate]
	load := func() error {
		cert, err := tls.LoadX509KeyPair(h.TLSCertPath, h.TLSKeyPath)
		if err != nil {
			return fmt.Errorf("load the TLS certificate: %w", err)
		}
		current.Store(&cert)
		return nil
	}
	if err := load(); err != nil {
		return nil, err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	context.AfterFunc(ctx, func() { signal.Stop(hup); close(hup) })
	go func() {
		for range hup {
			if err := load(); err != nil {
				g.log.Error("the old TLS certificate stays", "error", err)
				continue
			}
			g.log.Info("TLS certificate loaded again")
		}
	}()
	return &tls.Config{
		MinVersion:     tlsVersions[h.TLSMinimumVersion],
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil },
	}, nil
}

// tlsVersions are the names of gateway-rest.md §24; the default is TLS 1.2.
var tlsVersions = map[string]uint16{
	"": tls.VersionTLS12, "tlsv1": tls.VersionTLS10, "tlsv1.1": tls.VersionTLS11, "tlsv1.2": tls.VersionTLS12, "tlsv1.3": tls.VersionTLS13,
}

// connections makes the slots that bound the connections of all listeners together: api.max_connections, or
// else 90 % of the file descriptors that the process may open. It raises the soft limit as far as it may.
func (g *gatewayServer) connections() (chan struct{}, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("read the limit of file descriptors: %w", err)
	}
	if want := min(max(limit.Cur, g.settings.MaxFileDescriptors), limit.Max); want > limit.Cur {
		raised := syscall.Rlimit{Cur: want, Max: limit.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err == nil {
			limit.Cur = want
		}
	}
	n := int(min(limit.Cur, 1<<20) * 9 / 10)
	if g.settings.MaxConnections > 0 {
		n = min(n, g.settings.MaxConnections)
	}
	return make(chan struct{}, n), nil
}

// limited is a listener whose open connections are bounded; one too many gets an answer and is closed.
type limited struct {
	net.Listener
	slots chan struct{}
}

// tooMany is answered to a connection over the limit, whatever it asks.
const tooMany = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 68\r\n\r\n" +
	`{"error":"Service Unavailable","reason":"too many open connections"}`

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &slotConn{Conn: c, slots: l.slots}, nil
		default:
			_, _ = c.Write([]byte(tooMany)) // fits the socket's buffer: it does not block
			_ = c.Close()
		}
	}
}

// slotConn gives its slot back when it is closed.
type slotConn struct {
	net.Conn
	slots <-chan struct{}
	freed atomic.Bool
}

func (c *slotConn) Close() error {
	err := c.Conn.Close()
	if !c.freed.Swap(true) {
		<-c.slots
	}
	return err
}
