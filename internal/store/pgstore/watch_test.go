package pgstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pgstore"
)

// swallower is a proxy before the server that can be told to forget its connections without a word: what was open stays so, and nothing
// comes through it any more. New ones work.
type swallower struct {
	ln  net.Listener
	era atomic.Int64 // connections of an earlier era are forgotten
	// renumber gives new connections another number (BackendKeyData) than the server does.
	renumber atomic.Bool
	held     atomic.Pointer[chan struct{}] // what the server says waits until it is closed; nil: nothing is held
	mu       sync.Mutex
	conns    []net.Conn
	all      sync.WaitGroup
}

// newSwallower puts one before the server and returns it with the URL of the database behind it.
func newSwallower(t *testing.T) (*swallower, string) {
	t.Helper()
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &swallower{ln: ln}
	target := u.Host
	u.Host = ln.Addr().String()
	p.all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = c.Close()
				continue
			}
			t.Cleanup(func() { _, _ = c.Close(), out.Close() })
			p.mu.Lock()
			p.conns = append(p.conns, c, out)
			p.mu.Unlock()
			era := p.era.Load()
			p.all.Go(func() { p.pump(out, c, era, nil) })
			renumber := p.renumbered()
			p.all.Go(func() {
				p.pump(c, out, era, func(b []byte) {
					if held := p.held.Load(); held != nil {
						<-*held
					}
					if renumber != nil {
						renumber(b)
					}
				})
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close() })
	return p, u.String()
}

// renumbered returns what changes the first number that comes by; nil: nothing is to be changed.
func (p *swallower) renumbered() func([]byte) {
	if !p.renumber.Load() {
		return nil
	}
	done := false
	return func(b []byte) {
		if at := bytes.Index(b, []byte("K\x00\x00\x00\x0c")); at >= 0 && !done {
			done = true
			binary.BigEndian.PutUint32(b[at+5:], 1<<30)
		}
	}
}

func (p *swallower) pump(to, from net.Conn, era int64, change func([]byte)) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if change != nil {
			change(buf[:n])
		}
		if p.era.Load() == era {
			_, _ = to.Write(buf[:n])
		}
		if err != nil {
			if p.era.Load() == era {
				_ = to.Close()
			}
			return
		}
	}
}

// TestHalfOpenConnections: when all connections are forgotten by the network, reads and writes are slow once, waiters are woken, and the
// store closes.
func TestHalfOpenConnections(t *testing.T) {
	p, through := newSwallower(t)
	s, err := pgstore.Open(t.Context(), through, pgstore.Options{Schema: newSchema(), Connections: 4})
	if err != nil {
		t.Fatal(err)
	}
	next := func() error {
		return s.Update(t.Context(), func(tx store.Tx) error { _, err := tx.NextSequence(1); return err })
	}
	last := func() error {
		return s.View(t.Context(), func(r store.Reader) error { _, err := r.LastSequence(1); return err })
	}
	for range 3 {
		if err := next(); err != nil {
			t.Fatal(err)
		}
		p.era.Add(1)
		began := time.Now()
		var both sync.WaitGroup
		for _, f := range []func() error{next, last, last} {
			both.Go(func() {
				if err := f(); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		t.Logf("reads and writes took %v over connections that were half-open", time.Since(began).Round(time.Millisecond))
	}
	p.era.Add(1)
	ended := make(chan error, 1)
	go func() { ended <- s.Close() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the store does not close over connections that are half-open")
	}
}

// TestSlowStatementsAreNotSilence: a write that waits longer for the server than the network is believed to be whole is carried out,
// also where a pooler gives connections other numbers than the server does.
func TestSlowStatementsAreNotSilence(t *testing.T) {
	schema := newSchema()
	s, other := open(t, schema), open(t, schema)
	defer s.Close()
	defer other.Close()
	p, through := newSwallower(t)
	p.renumber.Store(true)
	pooled, err := pgstore.Open(t.Context(), through, pgstore.Options{Schema: schema, RetryFor: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer pooled.Close()
	entered, hold := make(chan struct{}), make(chan struct{})
	var writers sync.WaitGroup
	writers.Go(func() {
		var once sync.Once
		err := s.Update(t.Context(), func(tx store.Tx) error {
			once.Do(func() { close(entered); <-hold })
			return tx.Put([]byte("\x00\x00\x00\x01a"), []byte("1"))
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-entered
	waiting, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, node := range map[string]*pgstore.Store{"b": other, "c": pooled} {
		writers.Go(func() {
			if err := node.Update(waiting, func(tx store.Tx) error { return tx.Put([]byte("\x00\x00\x00\x01"+name), []byte("1")) }); err != nil {
				t.Error(name, err)
			}
		})
	}
	timer := time.NewTimer(6 * time.Second) // less than what the server allows a transaction that stands still, more than a question takes
	defer timer.Stop()
	<-timer.C
	close(hold)
	writers.Wait()
}

// TestManyViewsWithoutADatabase: however many Views wait while the database is away, each is told so in about the time that one is tried for.
func TestManyViewsWithoutADatabase(t *testing.T) {
	p, through := newSwallower(t)
	const retry = 2 * time.Second
	s, err := pgstore.Open(t.Context(), through, pgstore.Options{Schema: newSchema(), RetryFor: retry})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_ = p.ln.Close()
	p.mu.Lock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	began := time.Now()
	var views sync.WaitGroup
	for range 1500 { // six times as many as share the tries of one moment
		views.Go(func() {
			err := s.ViewReading(t.Context(), nil, func(store.Reader) error { return nil })
			if tidegate.ErrorCode(err) != tidegate.Unavailable {
				t.Error(err)
			}
		})
	}
	views.Wait()
	if took := time.Since(began); took > 4*retry {
		t.Errorf("after %v", took)
	}
}
