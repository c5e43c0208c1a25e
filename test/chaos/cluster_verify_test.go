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
	w.checkRuns()
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

// checkRuns looks at who ran each replication of the cluster, and whether all nodes say the same.
func (w *clusterWorld) checkRuns() {
	w.t.Helper()
	for id := range farRuns {
		var said string
		for _, n := range w.nodes {
			var status struct{ Runs []replicationRun }
			code, err := call(http.MethodGet, n.url("/_replicationStatus/"+id+"?includeRuns=true"), nil, &status)
			if err == nil && code != http.StatusOK {
				err = fmt.Errorf("status %d", code)
			}
			if err == nil {
				err = oneAtATime(status.Runs, clusterLease)
			}
			if err == nil && said != "" && said != fmt.Sprint(status.Runs) {
				err = fmt.Errorf("it says %v, another node says %s", status.Runs, said)
			}
			if err != nil {
				w.t.Errorf("runs of %s, says %s: %v", id, n.name, err)
			}
			said = fmt.Sprint(status.Runs)
		}
		w.t.Logf("%s was run: %s", id, said)
	}
}

// replicationRun is a run of a replication on a node, as a status tells.
type replicationRun struct {
	Epoch          uint64
	Node           string
	Started, Ended time.Time
}

func (r replicationRun) String() string { return fmt.Sprintf("%d on %.4s", r.Epoch, r.Node) }

// noticing is how long a node may take to notice that it stood still.
const noticing = time.Second

var errTwoOwners = errors.New("a replication ran on two nodes at once")

// oneAtATime: runs follow one another. Each has a later epoch than the one before, under which that one can write nothing more, and began after that had
// ended, or, if it could not say so, half a lease after it began: who learns of a lease later than that does not take it. All clocks are this machine's. A node that stood
// still beyond its lease ends its run when it notices that, and may still say so until the next one has made its claim.
func oneAtATime(runs []replicationRun, lease time.Duration) error {
	if len(runs) == 0 {
		return errors.New("nobody has run it")
	}
	for i, r := range runs[1:] {
		before := runs[i]
		switch {
		case r.Epoch <= before.Epoch:
			return fmt.Errorf("%w: epoch %d after %d", errTwoOwners, r.Epoch, before.Epoch)
		case !before.Ended.IsZero() && r.Started.Before(before.Ended.Add(-noticing)):
			return fmt.Errorf("%w: %v began at %v, %v had not ended until %v", errTwoOwners, r, r.Started, before, before.Ended)
		case before.Ended.IsZero() && before.Node != r.Node && r.Started.Before(before.Started.Add(lease/2)):
			return fmt.Errorf("%w: %v began at %v, the lease of %v, which began at %v, was good for longer", errTwoOwners, r, r.Started, before, before.Started)
		}
	}
	return nil
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
			w.describePouch()
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
	all := map[*node]*feedLog{}
	for _, f := range w.feeds {
		full := all[f.node]
		if full == nil {
			var err error
			if full, err = readAll(f.node); err != nil {
				return err
			}
			all[f.node] = full
		}
		f.mu.Lock()
		err := f.compare(full)
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}
