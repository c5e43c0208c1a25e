package pgstore_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/pgstore"
)

// TestLateLease: who hears that it has a lease when that has expired, and another has it, does not take it.
func TestLateLease(t *testing.T) {
	p, through := newSwallower(t)
	schema := newSchema()
	slow, err := pgstore.Open(t.Context(), through, pgstore.Options{Schema: schema, Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	quick := open(t, schema)
	defer quick.Close()
	direct, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close(t.Context())

	for range 4 { // so that the connection knows the statement
		lease, err := slow.TryLease(t.Context(), "job", time.Minute)
		if err != nil || lease == nil {
			t.Fatalf("TryLease = %v, %v", lease, err)
		}
		lease.Release()
	}
	heard := make(chan struct{})
	p.held.Store(&heard)
	type answer struct {
		lease store.Lease
		err   error
	}
	answers := make(chan answer, 1)
	const ttl = time.Second // the connection is not given up before 3 s
	go func() {
		lease, err := slow.TryLease(t.Context(), "job", ttl)
		answers <- answer{lease, err}
	}()
	for taken := 0; taken == 0; {
		if err := direct.QueryRow(t.Context(), "SELECT count(*) FROM "+schema+".leases WHERE holder != ''").Scan(&taken); err != nil {
			t.Fatal(err)
		}
	}
	lease, err := quick.Lease(t.Context(), "job", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	p.held.Store(nil)
	close(heard)
	if a := <-answers; a.lease != nil || a.err != nil {
		t.Errorf("TryLease = %v, %v", a.lease, a.err)
	}
	if err := lease.Context().Err(); err != nil {
		t.Errorf("the lease of the other one: %v", err)
	}
}
