package pgstore_test

import (
	"testing"

	"github.com/tidegate/tidegate/internal/store"
)

// TestConnectionsAreKept: Views of both kinds use the connections that there are again. A new one for each would cost
// milliseconds, which nobody notices but who measures.
func TestConnectionsAreKept(t *testing.T) {
	s := open(t, newSchema())
	defer s.Close()
	look := func(r store.Reader) error {
		_, err := r.LastSequence(1)
		return err
	}
	for range 100 {
		if err := s.View(t.Context(), look); err != nil {
			t.Fatal(err)
		}
		if err := s.ViewReading(t.Context(), [][]byte{[]byte("key")}, look); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Dialed(); n > 12 {
		t.Errorf("200 Views have made %d connections, though there may be 12", n)
	}
}
