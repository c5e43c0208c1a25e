package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/cluster"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// world is a store that several nodes share, in time that is not real.
type world struct {
	t  *testing.T
	st store.Store
}

// bubble runs f in a world.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		st, err := pebblestore.OpenMem()
		if err != nil {
			t.Fatal(err)
		}
		f(t, &world{t, st})
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
}

// node is a member that runs until it dies.
type node struct {
	*cluster.Cluster
	w   *world
	die context.CancelFunc
	run chan error
}

func (w *world) join(id string) *node {
	w.t.Helper()
	c, err := cluster.Join(w.t.Context(), w.st, cluster.Options{NodeID: id, Beat: time.Second, DeadAfter: 5 * time.Second, About: cluster.About{Host: "host-" + id}})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, die := context.WithCancel(context.Background())
	n := &node{c, w, die, make(chan error, 1)}
	go func() { n.run <- c.Run(ctx) }()
	synctest.Wait()
	return n
}

// kill ends a node without a word.
func (n *node) kill() {
	n.die()
	<-n.run
}

func (n *node) sees(ids ...string) {
	n.w.t.Helper()
	var got []string
	for _, o := range n.Nodes() {
		got = append(got, o.ID)
	}
	if !slices.Equal(got, ids) {
		n.w.t.Errorf("%s sees %v, want %v", n.Self(), got, ids)
	}
}

func TestMembers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.join("a")
		a.sees("a")
		_, changed := a.Watch()
		b := w.join("b")
		synctest.Wait()
		select {
		case <-changed:
		default:
			t.Error("a was not told that b has come")
		}
		a.sees("a", "b")
		b.sees("a", "b")
		if host := b.Nodes()[0].About.Host; host != "host-a" {
			t.Errorf("b sees a on %q", host)
		}
		time.Sleep(time.Minute) // both beat
		a.sees("a", "b")

		if err := b.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.sees("a") // at once
		b.kill()

		b = w.join("b")
		b.kill()
		time.Sleep(4 * time.Second)
		a.sees("a", "b")
		time.Sleep(3 * time.Second)
		a.sees("a")
		if a.Alive("b") || !a.Alive("a") {
			t.Error("Alive does not say what Nodes does")
		}
		b = w.join("b") // the process was started again
		synctest.Wait()
		a.sees("a", "b")
		b.kill()
		a.kill()
	})
}

// TestReplaced: of two processes with one id the one that joined later counts, and the other ends.
func TestReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		first, second := w.join("a"), w.join("a")
		if err := <-first.run; !errors.Is(err, cluster.ErrReplaced) {
			t.Errorf("the first ended with %v", err)
		}
		if err := first.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		other := w.join("b")
		other.sees("a", "b") // the goodbye of the first did not take the row of the second
		second.kill()
		other.kill()
	})
}

// TestHeldUp: a node that was held up is dead for the others, and there again when it goes on.
func TestHeldUp(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.join("a")
		c, err := cluster.Join(t.Context(), w.st, cluster.Options{NodeID: "b", Beat: time.Second, DeadAfter: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // b does not run
		a.sees("a")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		time.Sleep(3 * time.Second)
		a.sees("a", "b")
		cancel()
		<-ended
		a.kill()
	})
}

func TestNotes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("a"), w.join("b")
		woken, stop := b.Subscribe("x")
		own, stopOwn := a.Subscribe("x")
		other, stopOther := b.Subscribe("y")
		for _, ch := range []<-chan struct{}{woken, own, other} {
			<-ch // the first token is there at once
		}
		note := func(topic string, fail error) {
			err := w.st.Update(t.Context(), func(tx store.Tx) error { return errors.Join(a.Note(tx, topic), fail) })
			if !errors.Is(err, fail) {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		has := func(what string, ch <-chan struct{}, want bool) {
			t.Helper()
			select {
			case <-ch:
				if !want {
					t.Errorf("%s: woken", what)
				}
			default:
				if want {
					t.Errorf("%s: not woken", what)
				}
			}
		}
		note("x", errors.New("the transaction fails"))
		has("after a failed transaction", woken, false)
		note("x", nil)
		has("on the other node", woken, true)
		has("on the same node", own, true)
		has("of another topic", other, false)
		note("x", nil)
		note("x", nil)
		has("after two", woken, true)
		has("after two, once more", woken, false)
		stop()
		note("x", nil)
		has("after stop", woken, false)
		stopOwn()
		stopOther()
		a.kill()
		b.kill()
	})
}

func TestTold(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("a"), w.join("b")
		tell := func(n *node, topic, value string) {
			t.Helper()
			v := []byte(value)
			if value == "" {
				v = nil
			}
			if err := n.Tell(t.Context(), topic, v); err != nil {
				t.Fatal(err)
			}
		}
		told := func(n *node, topic, want string) {
			t.Helper()
			got, err := n.Told(t.Context(), topic)
			if text := fmt.Sprintf("%s", got); err != nil || text != want {
				t.Errorf("%s was told %s, %v; want %s", n.Self(), text, err, want)
			}
		}
		tell(a, "x", "from a")
		tell(b, "x", "from b")
		tell(b, "y", "else")
		told(a, "x", "map[a:from a b:from b]")
		told(a, "y", "map[b:else]")
		tell(a, "x", "")
		told(b, "x", "map[b:from b]")
		b.kill()
		time.Sleep(10 * time.Second)
		told(a, "x", "map[]") // the dead say nothing
		b = w.join("b")
		synctest.Wait()
		told(a, "x", "map[]") // what it said before it was started again does not count
		tell(b, "x", "again")
		told(a, "x", "map[b:again]")
		woken, stop := a.Subscribe("x")
		<-woken
		if err := b.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		<-woken // its goodbye takes back what it said
		stop()
		told(a, "x", "map[]")
		b.kill()
		a.kill()
	})
}

// TestForgotten: the row of a node that is long dead goes, with what it told.
func TestForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("a"), w.join("b")
		if err := b.Tell(t.Context(), "x", []byte("v")); err != nil {
			t.Fatal(err)
		}
		b.kill()
		time.Sleep(time.Minute)
		var left []string
		err := w.st.View(t.Context(), func(r store.Reader) error {
			it := r.Scan(store.Prefix(store.NewKey(0, store.KindMeta)))
			defer it.Close()
			for it.Next() {
				name, rest, err := store.CutName(it.Key()[store.Header:])
				if err != nil {
					return err
				}
				if name == "cluster.told" || name == "cluster.node" {
					left = append(left, fmt.Sprintf("%s %q", name, rest))
				}
			}
			return it.Err()
		})
		if want := []string{`cluster.node "a\x00\x01"`}; err != nil || !slices.Equal(left, want) {
			t.Errorf("left are %q, %v; want %q", left, err, want)
		}
		a.kill()
	})
}

// TestBackFromTheDead: a node that was held up until it was forgotten tells again what it told, and does not take for dead who it did not listen to.
func TestBackFromTheDead(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("a"), w.join("b")
		for topic, value := range map[string]string{"x": "kept", "y": "taken back"} {
			if err := b.Tell(t.Context(), topic, []byte(value)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Tell(t.Context(), "y", nil); err != nil {
			t.Fatal(err)
		}
		b.kill()
		time.Sleep(time.Minute)
		told := func(want string) {
			t.Helper()
			for _, topic := range []string{"x", "y"} {
				got, err := a.Told(t.Context(), topic)
				if text := fmt.Sprintf("%s", got); err != nil || topic == "x" && text != want || topic == "y" && text != "map[]" {
					t.Errorf("%s: %s, %v", topic, text, err)
				}
			}
		}
		told("map[]")
		woken, stop := a.Subscribe("x")
		<-woken
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- b.Run(ctx) }() // it goes on
		time.Sleep(1500 * time.Millisecond)
		a.sees("a", "b")
		told("map[b:kept]")
		select {
		case <-woken:
		default:
			t.Error("a was not woken")
		}
		stop()
		cancel()
		<-ended
		a.kill()
	})
}

// TestOutage: when the store comes back after nobody could reach it for long, nobody takes the others for dead.
func TestOutage(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("a"), w.join("b")
		if err := b.Tell(t.Context(), "x", []byte("v")); err != nil {
			t.Fatal(err)
		}
		a.kill()
		b.kill()
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.Run(ctx) }()
		time.Sleep(1500 * time.Millisecond) // a looks, before b has had its heartbeat
		a.sees("a", "b")
		if told, err := a.Told(t.Context(), "x"); string(told["b"]) != "v" || err != nil {
			t.Errorf("%s, %v", told, err)
		}
		time.Sleep(10 * time.Second)
		a.sees("a") // b does not go on
		cancel()
		<-ended
	})
}

// TestLead: one leads at a time; another goes on when it ends with an error or gives up, with a higher epoch, and nobody does when the work is done.
func TestLead(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.join("a"), w.join("b")
		var leading, runs atomic.Int32
		var last atomic.Uint64
		work := func(ctx context.Context, epoch uint64) error {
			if n := leading.Add(1); n != 1 {
				t.Errorf("%d lead at once", n)
			}
			defer leading.Add(-1)
			if before := last.Swap(epoch); before >= epoch {
				t.Errorf("epoch %d after %d", epoch, before)
			}
			time.Sleep(time.Second)
			if runs.Add(1) < 4 {
				return errors.New("not yet")
			}
			return nil
		}
		done := make(chan error, 2)
		for _, n := range []*node{a, b} {
			go func() { done <- n.Lead(t.Context(), "job", work) }()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := runs.Load(); n != 5 { // the second one, too, comes to an end
			t.Errorf("%d runs", n)
		}
		held, err := a.TryLease(t.Context(), "job")
		if err != nil || held == nil {
			t.Fatalf("TryLease = %v, %v", held, err)
		}
		if other, err := b.TryLease(t.Context(), "job"); other != nil || err != nil {
			t.Errorf("TryLease of what another has = %v, %v", other, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Lead(ctx, "job", work); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lead while another has the lease = %v", err)
		}
		held.Release()
		a.kill()
		b.kill()
	})
}

// TestExclusive: who must have the store alone waits for the dead, is refused by the living, and keeps others out.
func TestExclusive(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.join("a")
		if _, err := cluster.Exclusive(t.Context(), w.st); tidegate.ErrorCode(err) != tidegate.Unavailable {
			t.Errorf("Exclusive beside a node = %v", err)
		}
		a.kill()
		began := time.Now()
		alone, err := cluster.Exclusive(t.Context(), w.st)
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited < 5*time.Second || waited > 7*time.Second {
			t.Errorf("it waited %s for a node that is dead after 5s", waited)
		}
		if _, err := cluster.Join(t.Context(), w.st, cluster.Options{NodeID: "b"}); tidegate.ErrorCode(err) != tidegate.Unavailable {
			t.Errorf("Join beside who has the store alone = %v", err)
		}
		alone.Release()
		b := w.join("b")
		if err := b.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.kill()
	})
}

func TestAlone(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		c := cluster.Alone(w.st, "me")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		if nodes := c.Nodes(); len(nodes) != 1 || nodes[0].ID != "me" || !c.Alone() || !c.Alive("me") {
			t.Errorf("nodes = %v", nodes)
		}
		woken, stop := c.Subscribe("x")
		defer stop()
		<-woken
		if err := c.Tell(t.Context(), "x", []byte("v")); err != nil {
			t.Fatal(err)
		}
		<-woken
		if told, err := c.Told(t.Context(), "x"); err != nil || string(told["me"]) != "v" {
			t.Errorf("told %q, %v", told, err)
		}
		cancel()
		<-done
		if err := c.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
