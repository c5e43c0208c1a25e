package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// verify looks at everything that must be true once all is quiet.
func (w *clusterWorld) verify() {
	w.t.Helper()
	w.await("all replicas hold the same", w.converged)
	w.await("the feeds of all nodes are complete", w.feedsComplete)
	w.endReaders()
	w.readers.Wait()
	for _, n := range w.nodes {
		held, err := replicas(n.asGateway(w.t))
		if err == nil {
			err = errors.Join(checkAcked(w.sites["edge"].acked, held), checkAcked(w.sites["far"].acked, held))
			for _, l := range w.ledgers {
				err = errors.Join(err, checkAcked(l.acked, held), l.check(n.asProcess()))
			}
		}
		if err != nil {
			w.t.Errorf("at %s: %v", n.name, err)
		}
	}
	for _, f := range w.feeds {
		for _, l := range w.ledgers {
			if err := f.hasAcknowledged(l.acked); err != nil {
				w.t.Error(err)
			}
		}
		w.t.Logf("%s: %d documents, %d entries, asked again %d times", f.name, len(f.docs), len(f.bySeq), f.joins)
	}
	if err := agreeOnSequences(w.feeds...); err != nil {
		w.t.Error(err)
	}
	began := time.Now()
	if err := linearizable(w.history.ops, checkLimit); err != nil {
		w.t.Error(err)
	}
	w.t.Logf("the histories of %d registers were checked in %v", registerDocs, time.Since(began).Round(time.Millisecond))
	for _, n := range w.nodes {
		if ended := n.ended.Load(); ended > 0 {
			w.t.Logf("%s ended by itself %d times and was started again", n.name, ended)
		}
	}
}

// await waits until ok returns nil, and says what is wrong if it does not in time.
func (w *clusterWorld) await(what string, ok func() error) {
	w.t.Helper()
	began := time.Now()
	for {
		err := ok()
		if err == nil {
			w.t.Logf("%s after %v", what, time.Since(began).Round(100*time.Millisecond))
			return
		}
		if time.Since(began) > replicasLimit {
			w.t.Fatalf("not within %v: %s: %v", replicasLimit, what, err)
		}
		pause(w.t.Context(), 500*time.Millisecond)
	}
}

// converged is nil if the nodes, the other gateways and PouchDB hold the same.
func (w *clusterWorld) converged() error {
	first := w.nodes[0].asGateway(w.t)
	one, err := replicas(first)
	if err != nil {
		return err
	}
	for _, n := range w.nodes[1:] {
		other, err := replicas(n.asGateway(w.t))
		if err == nil {
			err = sameReplicas(first.name, one, n.name, other, true)
		}
		if err != nil {
			return err
		}
	}
	winners := func(all map[string]replica) map[string]replica {
		out := map[string]replica{}
		for id, r := range all {
			if !strings.HasPrefix(id, "clash-") { // their losing branches are where they were made
				out[id] = r
			} else {
				out[id] = replica{rev: r.rev, deleted: r.deleted}
			}
		}
		return out
	}
	for _, g := range []*gateway{w.edge, w.far} {
		other, err := replicas(g)
		if err == nil {
			err = errors.Join(sameReplicas("the cluster", winners(one), g.name, winners(other), true), equal(first, g), w.sameConflicts(first, g))
		}
		if err != nil {
			return err
		}
	}
	held, err := w.pouch.held()
	if err != nil {
		return err
	}
	return sameReplicas("the cluster", winners(one), "PouchDB", winners(held), false)
}

// sameConflicts compares what is in conflict of the documents that are written at several gateways.
func (w *clusterWorld) sameConflicts(a, b *gateway) error {
	for i := range clashingDocs {
		var said [2]string
		for k, g := range []*gateway{a, b} {
			var doc struct {
				Rev       string          `json:"_rev"`
				Conflicts json.RawMessage `json:"_conflicts"`
			}
			if _, err := call(http.MethodGet, g.url(fmt.Sprintf("/clash-%d?conflicts=true", i)), nil, &doc); err != nil {
				return err
			}
			said[k] = fmt.Sprintf("%s %s", doc.Rev, doc.Conflicts)
		}
		if said[0] != said[1] {
			return fmt.Errorf("%w: clash-%d: %s has %s, %s has %s", errDiffer, i, a.name, said[0], b.name, said[1])
		}
	}
	return nil
}

// feedsComplete is nil if each reader has heard what a reader from the beginning hears, on its node.
func (w *clusterWorld) feedsComplete() error {
	for i, f := range w.feeds {
		full, err := readAll(w.nodes[i])
		if err != nil {
			return err
		}
		f.mu.Lock()
		err = f.compare(full)
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}
