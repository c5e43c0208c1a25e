package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
)

// model is what a store should hold: a map, and the last sequence of each space.
type model struct {
	rows map[string]string
	seqs map[store.Space]tidegate.Seq
}

func (m model) clone() model { return model{maps.Clone(m.rows), maps.Clone(m.seqs)} }

// between returns the rows of a range as dumpRaw does.
func (m model) between(r store.Range) []string {
	var keys []string
	for k := range m.rows {
		if (r.Start == nil || k >= string(r.Start)) && (r.End == nil || k < string(r.End)) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	if r.Reverse {
		slices.Reverse(keys)
	}
	out := make([]string, 0, len(keys))
	for _, k := range keys {
		out = append(out, fmt.Sprintf("%x=%s", k, m.rows[k]))
	}
	return out
}

func dumpRaw(r store.Reader, rng store.Range) ([]string, error) {
	it := r.Scan(rng)
	defer it.Close()
	out := []string{}
	for it.Next() {
		out = append(out, fmt.Sprintf("%x=%s", it.Key(), it.Value()))
	}
	return out, it.Err()
}

// machine drives a store and a model of it with the same operations. Views stay open across Updates.
type machine struct {
	s     store.Store
	m     model
	views []openView
}

// openView is a View that is held open in a goroutine, with the model of the moment when it began.
type openView struct {
	r    store.Reader
	m    model
	end  chan struct{}
	done chan error
}

func testModel(t *testing.T, open func(t *testing.T) store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{s: open(t), m: model{map[string]string{}, map[store.Space]tidegate.Seq{}}}
		defer func() {
			for len(m.views) > 0 {
				m.endView(rt, 0)
			}
			if err := m.s.Close(); err != nil {
				rt.Errorf("Close: %v", err)
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"":          m.check,
			"update":    m.update,
			"beginView": m.beginView,
			"endView": func(rt *rapid.T) {
				if len(m.views) == 0 {
					rt.Skip("no View is open")
				}
				m.endView(rt, rapid.IntRange(0, len(m.views)-1).Draw(rt, "view"))
			},
		})
	})
}

// drawKey draws one of few keys, so that operations meet: two spaces, names with the bytes that ranges and
// escapes turn on.
func drawKey(rt *rapid.T, label string) []byte {
	space := store.Space(rapid.IntRange(1, 2).Draw(rt, label+" space"))
	name := rapid.StringOfN(rapid.RuneFrom([]rune{0, 'a', 'b'}), 0, 3, -1).Draw(rt, label+" name")
	return store.NewKey(space, store.KindDoc).Name(name)
}

func drawRange(rt *rapid.T) store.Range {
	r := store.Range{Start: store.SpaceKey(1), End: store.SpaceKey(3), Reverse: rapid.Bool().Draw(rt, "reverse")}
	if rapid.Bool().Draw(rt, "from a key") {
		r.Start = drawKey(rt, "start")
	}
	if rapid.Bool().Draw(rt, "to a key") {
		r.End = drawKey(rt, "end")
	}
	return r
}

// step is one thing that a transaction does. All is drawn before the transaction runs, since a function
// that an engine runs must not panic, as a draw may.
type step struct {
	do    string
	key   []byte
	value string
	rng   store.Range
	space store.Space
	look  look
}

// look is something to read.
type look struct {
	key []byte
	rng store.Range
}

func drawLook(rt *rapid.T) look { return look{drawKey(rt, "get"), drawRange(rt)} }

func drawStep(rt *rapid.T) step {
	s := step{do: rapid.SampledFrom([]string{"put", "put", "delete", "read", "next", "delete range"}).Draw(rt, "do")}
	switch s.do {
	case "put":
		s.key, s.value = drawKey(rt, "put"), rapid.StringN(0, 8, -1).Draw(rt, "value")
	case "delete":
		s.key = drawKey(rt, "delete")
	case "delete range":
		s.rng = store.Range{Start: drawKey(rt, "start"), End: drawKey(rt, "end")}
	case "next":
		s.space = store.Space(rapid.IntRange(1, 2).Draw(rt, "space"))
	default:
		s.look = drawLook(rt)
	}
	return s
}

// update runs a random transaction that may fail.
func (m *machine) update(rt *rapid.T) {
	next := m.m.clone()
	steps := rapid.SliceOfN(rapid.Custom(drawStep), 0, 8).Draw(rt, "steps")
	fail := rapid.IntRange(0, 3).Draw(rt, "fails") == 0
	err := m.s.Update(context.Background(), func(tx store.Tx) error {
		for _, s := range steps {
			if err := s.run(tx, next); err != nil {
				return err
			}
		}
		if fail {
			return errRefused
		}
		return nil
	})
	switch {
	case fail && !errors.Is(err, errRefused), !fail && err != nil:
		rt.Fatalf("Update: %v", err)
	case !fail:
		m.m = next
	}
}

// run does the step in the transaction and in the model, or compares the two.
func (s step) run(tx store.Tx, next model) error {
	switch s.do {
	case "put":
		next.rows[string(s.key)] = s.value
		return tx.Put(s.key, []byte(s.value))
	case "delete":
		delete(next.rows, string(s.key))
		return tx.Delete(s.key)
	case "delete range":
		d, ok := tx.(store.RangeDeleter)
		if !ok {
			return nil
		}
		next.deleteRange(s.rng)
		return d.DeleteRange(s.rng)
	case "next":
		next.seqs[s.space]++
		if n, err := tx.NextSequence(s.space); err != nil || n != next.seqs[s.space] {
			return fmt.Errorf("NextSequence(%d) = %d, %w; want %d", s.space, n, err, next.seqs[s.space])
		}
		return nil
	default:
		return compare(tx, next, s.look)
	}
}

func (m model) deleteRange(r store.Range) {
	inside := func(k []byte) bool { return bytes.Compare(k, r.Start) >= 0 && bytes.Compare(k, r.End) < 0 }
	maps.DeleteFunc(m.rows, func(k, _ string) bool { return inside([]byte(k)) })
	// A range that goes from one space to the next takes the next one's sequence with it.
	maps.DeleteFunc(m.seqs, func(space store.Space, _ tidegate.Seq) bool {
		return inside(store.NewKey(space, store.KindSequence))
	})
}

// compare reads the same of both.
func compare(r store.Reader, m model, l look) error {
	v, err := r.Get(l.key)
	if want, ok := m.rows[string(l.key)]; err != nil || (v != nil) != ok || string(v) != want {
		return fmt.Errorf("Get(%x) = %q, %w; want %q, %v", l.key, v, err, want, ok)
	}
	for space := store.Space(1); space <= 2; space++ {
		if n, err := r.LastSequence(space); err != nil || n != m.seqs[space] {
			return fmt.Errorf("LastSequence(%d) = %d, %w; want %d", space, n, err, m.seqs[space])
		}
	}
	// Only documents: the engine's own records are none of the model's business.
	got, err := dumpDocs(r, l.rng)
	if want := m.between(l.rng); err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("Scan(%x, %x, %v) = %q, %w; want %q", l.rng.Start, l.rng.End, l.rng.Reverse, got, err, want)
	}
	return nil
}

// dumpDocs is dumpRaw without the keys that are no documents.
func dumpDocs(r store.Reader, rng store.Range) ([]string, error) {
	out, err := dumpRaw(r, rng)
	return slices.DeleteFunc(out, func(row string) bool {
		return row[2*(store.Header-1):2*store.Header] != fmt.Sprintf("%x", byte(store.KindDoc))
	}), err
}

// check compares the newest View and every open one with its model.
func (m *machine) check(rt *rapid.T) {
	l := drawLook(rt)
	err := m.s.View(context.Background(), func(r store.Reader) error { return compare(r, m.m, l) })
	if err != nil {
		rt.Fatalf("a new View: %v", err)
	}
	for i, v := range m.views {
		if err := compare(v.r, v.m, l); err != nil {
			rt.Fatalf("open View %d: %v", i, err)
		}
	}
}

func (m *machine) beginView(rt *rapid.T) {
	if len(m.views) == 3 {
		rt.Skip("enough Views are open")
	}
	v := openView{m: m.m.clone(), end: make(chan struct{}), done: make(chan error, 1)}
	begun := make(chan store.Reader)
	go func() {
		v.done <- m.s.View(context.Background(), func(r store.Reader) error {
			begun <- r
			<-v.end
			return nil
		})
	}()
	v.r = <-begun
	m.views = append(m.views, v)
}

func (m *machine) endView(rt *rapid.T, i int) {
	v := m.views[i]
	m.views = slices.Delete(m.views, i, i+1)
	close(v.end)
	if err := <-v.done; err != nil {
		rt.Errorf("View: %v", err)
	}
}
