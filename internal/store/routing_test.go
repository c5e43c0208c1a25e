package store_test

import (
	"reflect"
	"testing"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

func TestRoutingOfNoRow(t *testing.T) {
	var r *store.Routing
	if r.Live(3) != 3 || r.Function(3) != 0 {
		t.Error("a collection without a row has its own number")
	}
	if _, ok := r.Next(3); ok {
		t.Error("a next generation of nothing")
	}
	if coll, live := r.Logical(3); coll != 3 || !live {
		t.Error(coll, live)
	}
	if _, live := r.Logical(store.FirstPhysical); live {
		t.Error("a physical number is live though nobody gave it out")
	}
}

func TestRouting(t *testing.T) {
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	r := (*store.Routing)(nil).Clone()
	r.Runs, r.Run, r.Base, r.Marks, r.Switched, r.Dropped = 7, 7, 1<<40, 5, 5, 6
	g := r.Generation(9)
	g.Next, g.HasNext = r.NewPhysical(), true
	g = r.Generation(0)
	g.Live, g.Function = r.NewPhysical(), 5
	r.Old = []store.OldGeneration{{Collection: 0, Physical: 0}}
	cache := store.NewRoutingCache(4)
	err = st.Update(t.Context(), func(tx store.Tx) error {
		if got, err := cache.Read(tx); got != nil || err != nil {
			t.Error(got, err)
		}
		return store.WriteRouting(tx, 4, r)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = st.View(t.Context(), func(rd store.Reader) error {
		got, err := store.ReadRouting(rd, 4)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v %v, want %+v", got, err, r)
		}
		one, err := cache.Read(rd)
		if err != nil || !reflect.DeepEqual(one, r) {
			t.Errorf("%+v %v", one, err)
		}
		if two, _ := cache.Read(rd); two != one {
			t.Error("the same row was taken apart twice")
		}
		pinned, err := cache.Pin(rd)
		if two, _ := cache.Read(pinned); two != one || err != nil {
			t.Error("the pinned reader reads again")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Live(0) != store.FirstPhysical+1 || r.Live(9) != 9 || r.Live(5) != 5 {
		t.Error(r.Live(0), r.Live(9), r.Live(5))
	}
	if next, ok := r.Next(9); !ok || next != store.FirstPhysical {
		t.Error(next, ok)
	}
	for physical, want := range map[store.Collection]bool{0: false, 5: true, 9: true, store.FirstPhysical: false, store.FirstPhysical + 1: true} {
		if _, live := r.Logical(physical); live != want {
			t.Errorf("%d is live: %v, want %v", physical, live, want)
		}
	}
	if coll, _ := r.Logical(store.FirstPhysical + 1); coll != 0 {
		t.Error(coll)
	}
}

func TestRoutingThatMakesNoSense(t *testing.T) {
	st, err := pebblestore.OpenMem()
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, raw := range []string{"", "\x02", "\x01", "\x01\x01\x01\x01\x01\x01\x01\x01\x01\x7f", "\x01\x01\x01\x01\x01\x01\x01\x01\x01\x00\x00\x00"} {
		err := st.Update(t.Context(), func(tx store.Tx) error {
			if err := tx.Put(store.NewKey(4, store.KindMeta).Name("routing"), []byte(raw)); err != nil {
				return err
			}
			_, err := store.ReadRouting(tx, 4)
			return err
		})
		if tidegate.ErrorCode(err) != tidegate.Corrupt {
			t.Errorf("%q: %v", raw, err)
		}
	}
}
