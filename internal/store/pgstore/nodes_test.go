package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pgstore"
	"github.com/tidegate/tidegate/internal/store/pgstore/pgtest"
	"github.com/tidegate/tidegate/internal/store/storetest"
)

// TestNodesStartAtOnce: many nodes may make the tables of one schema at the same time.
func TestNodesStartAtOnce(t *testing.T) {
	schema := newSchema()
	var nodes sync.WaitGroup
	for range 8 {
		nodes.Go(func() {
			s, err := pgstore.Open(t.Context(), server.URL(), pgstore.Options{Schema: schema, Connections: 1})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	nodes.Wait()
}

// TestNodesShareSequences: the sequences of three nodes that write at once are dense, a reader on any node sees no gap, and each node is
// woken for what the others write.
func TestNodesShareSequences(t *testing.T) {
	const nodes, writers, each = 3, 4, 25
	const space = store.Space(7)
	schema := newSchema()
	var stores [nodes]*pgstore.Store
	for i := range stores {
		stores[i] = open(t, schema)
		defer stores[i].Close()
	}
	row := func(seq tidegate.Seq) []byte { return store.NewKey(space, store.KindChannel).Seq(seq) }
	var work sync.WaitGroup
	for i, s := range stores {
		for w := range writers {
			work.Go(func() {
				for n := range each {
					err := s.Update(t.Context(), func(tx store.Tx) error {
						seq, err := tx.NextSequence(space)
						if err != nil {
							return err
						}
						return tx.Put(row(seq), fmt.Append(nil, i, w, n))
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		work.Go(func() { // a reader that follows
			for seen := tidegate.Seq(0); seen < nodes*writers*each; {
				last, err := s.Wait(t.Context(), space, seen)
				if err != nil {
					t.Error(err)
					return
				}
				err = s.View(t.Context(), func(r store.Reader) error {
					for seq := seen + 1; seq <= last; seq++ {
						if v, err := r.Get(row(seq)); v == nil || err != nil {
							return fmt.Errorf("sequence %d of %d cannot be seen: %w", seq, last, err)
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				seen = last
			}
		})
	}
	work.Wait()
}

// TestLeaseMovesOn: the lease of a node that is gone without a word is free after its time, under a higher epoch; and one that is
// given back is free at once.
func TestLeaseMovesOn(t *testing.T) {
	schema := newSchema()
	a, b := open(t, schema), open(t, schema)
	defer b.Close()
	la, err := a.Lease(t.Context(), "job", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := b.Lease(ctx, "job", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("two nodes have the lease: %v", err)
	}
	got := make(chan store.Lease, 1)
	go func() {
		l, err := b.Lease(context.Background(), "job", time.Minute)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	lb := <-got
	if lb.Epoch() <= la.Epoch() || !errors.Is(context.Cause(la.Context()), store.ErrLeaseLost) {
		t.Errorf("epoch %d after %d; the first holder's context ended with %v", lb.Epoch(), la.Epoch(), context.Cause(la.Context()))
	}
	lb.Release()
}

// TestServerRestarts: writers and readers go on when the server is restarted or killed under them, nothing acknowledged is lost, nothing
// is there in part or twice; and a lease that cannot be renewed ends before its time.
func TestServerRestarts(t *testing.T) {
	srv, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	s, err := pgstore.Open(t.Context(), srv.URL(), pgstore.Options{RetryFor: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var work storetest.Work
	for round, end := range []func() error{srv.Down, srv.Kill, srv.Kill} {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			work.Run(ctx, s, 8, 1_000_000, uint64(round))
		}()
		before := work.Len()
		if !work.Await(t.Context(), before+100) {
			t.Fatal("the work does not go on")
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := srv.Up(); err != nil {
			t.Fatal(err)
		}
		if !work.Await(t.Context(), work.Len()+100) {
			t.Fatal("the work does not go on after the restart")
		}
		stop()
		<-done
		if err := work.Check(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
	l, err := s.Lease(t.Context(), "job", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Down(); err != nil {
		t.Fatal(err)
	}
	<-l.Context().Done()
	if cause := context.Cause(l.Context()); !errors.Is(cause, store.ErrLeaseLost) {
		t.Errorf("cause = %v", cause)
	}
	if err := srv.Up(); err != nil {
		t.Fatal(err)
	}
}

// TestStandsStill: a process that stands still in a transaction, as one that was stopped, loses the writers' lock to others, and starts over when it goes on.
func TestStandsStill(t *testing.T) {
	schema := newSchema()
	a, b := open(t, schema), open(t, schema)
	defer a.Close()
	defer b.Close()
	key := []byte("\x00\x00\x00\x01a")
	entered, hold := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	var once sync.Once
	go func() {
		done <- a.Update(t.Context(), func(tx store.Tx) error {
			once.Do(func() { close(entered); <-hold })
			v, err := tx.Get(key)
			if err != nil {
				return err
			}
			return tx.Put(key, append(append([]byte{}, v...), "a"...))
		})
	}()
	<-entered
	if err := b.Update(t.Context(), func(tx store.Tx) error { return tx.Put(key, []byte("b")) }); err != nil {
		t.Errorf("the other node: %v", err)
	}
	close(hold)
	if err := <-done; err != nil {
		t.Errorf("the one that stood still: %v", err)
	}
	err := a.View(t.Context(), func(r store.Reader) error {
		if v, err := r.Get(key); string(v) != "ba" {
			return fmt.Errorf("%q, %w", v, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestServerGone: with no server to be reached, Update and View answer Unavailable within their time and lose nothing else.
func TestServerGone(t *testing.T) {
	srv, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	s, err := pgstore.Open(t.Context(), srv.URL(), pgstore.Options{RetryFor: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := srv.Down(); err != nil {
		t.Fatal(err)
	}
	key := store.NewKey(1, store.KindDoc).Name("x")
	err = s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(key, []byte("x")) })
	if tidegate.ErrorCode(err) != tidegate.Unavailable {
		t.Errorf("Update = %v", err)
	}
	if err := s.View(t.Context(), func(store.Reader) error { return nil }); tidegate.ErrorCode(err) != tidegate.Unavailable {
		t.Errorf("View = %v", err)
	}
	if err := srv.Up(); err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(tx store.Tx) error { return tx.Put(key, []byte("y")) })
	if err != nil {
		t.Errorf("Update after the server came back: %v", err)
	}
}

// TestPasswordStaysSecret: no error names the password of the URL.
func TestPasswordStaysSecret(t *testing.T) {
	for _, url := range []string{
		"postgres://tidegate:hunter2@127.0.0.1:1/postgres?sslmode=disable&connect_timeout=1",
		"postgres://tidegate:hunter2@127.0.0.1:notaport/postgres",
		"postgres://tidegate:hunter2@127.0.0.1:1/postgres?sslmode=nonsense",
	} {
		_, err := pgstore.Open(t.Context(), url, pgstore.Options{})
		if err == nil {
			t.Fatalf("%s was opened", url)
		}
		if s := fmt.Sprintf("%v %+v %q", err, err, err); len(s) == 0 || containsSecret(s) {
			t.Errorf("the password is in %s", s)
		}
	}
}

func containsSecret(s string) bool {
	for i := range len(s) - len("hunter2") + 1 {
		if s[i:i+len("hunter2")] == "hunter2" {
			return true
		}
	}
	return false
}

// TestNewerSchema: tables of a later version are refused and left alone.
func TestNewerSchema(t *testing.T) {
	schema := newSchema()
	if err := open(t, schema).Close(); err != nil {
		t.Fatal(err)
	}
	exec(t, "INSERT INTO "+schema+".versions (version) VALUES (99)")
	_, err := pgstore.Open(t.Context(), server.URL(), pgstore.Options{Schema: schema})
	if tidegate.ErrorCode(err) != tidegate.Invalid {
		t.Errorf("Open = %v", err)
	}
}
