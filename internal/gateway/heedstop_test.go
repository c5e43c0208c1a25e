package gateway

import (
	"testing"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
)

// TestStopsAreHeeded: what another node asks of a resync is not forgotten because the store could not be read when the node was woken.
func TestStopsAreHeeded(t *testing.T) {
	e := newEnv(t)
	st := &stubborn{Store: e.st}
	e.st = st
	g := e.open(nil)
	r := create(t, g, "db", `{}`)
	space := r.definition().Space
	err := st.Update(t.Context(), func(tx store.Tx) error {
		return tx.Put(store.NewKey(space, store.KindMeta).Name("resync.status"), []byte(`{"id":"x","state":"running"}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	woken, unsubscribe := g.nodes.Subscribe(resyncTopic(space))
	<-woken
	if err := g.askToStop(t.Context(), space, "x"); err != nil {
		t.Fatal(err)
	}
	await(t, woken, "note") // it comes once
	unsubscribe()
	stopped := make(chan struct{})
	run := &resyncRun{begun: make(chan struct{}), done: make(chan struct{}), first: &database.ResyncStatus{ID: "x"}, cancel: func(error) { close(stopped) }}
	tried := e.logs.expect("it cannot be told whether a resync is to stop")
	st.blind.Store(true)
	ended := make(chan struct{})
	go func() { defer close(ended); r.heedStop(space, run) }()
	close(run.begun)
	await(t, tried, "attempt")
	st.blind.Store(false)
	await(t, stopped, "stop")
	close(run.done)
	await(t, ended, "end")
}
