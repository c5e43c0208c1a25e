package database

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/tidegate/tidegate/internal/store"
)

// Bounds of what is committed in one transaction: a longer commit section makes others wait.
const (
	batchDocs  = 500
	batchBytes = 4 << 20
)

// PutAll writes documents, each on its own: a failure of one is no failure of another. Results are in the order of
// ws. Several writes to one document are made in their order. As many as possible share a commit.
func (h *Handle) PutAll(ctx context.Context, ws []*Write) []PutResult {
	jobs := make([]job, len(ws))
	for i, w := range ws {
		jobs[i] = job{h: h, w: w, res: PutResult{Written: Written{ID: w.ID}}}
	}
	for _, wave := range waves(jobs) {
		for len(wave) > 0 {
			n := batchLen(wave)
			h.putBatch(ctx, wave[:n])
			wave = wave[n:]
		}
	}
	results := make([]PutResult, len(ws))
	for i := range jobs {
		jobs[i].close()
		results[i] = jobs[i].res
	}
	return results
}

// waves splits jobs so that no wave has two for the same document and each document's come in order.
func waves(jobs []job) [][]*job {
	var waves [][]*job
	next := make(map[string]int, len(jobs))
	for i := range jobs {
		n := next[jobs[i].w.ID]
		next[jobs[i].w.ID] = n + 1
		if n == len(waves) {
			waves = append(waves, make([]*job, 0, len(jobs)-i))
		}
		waves[n] = append(waves[n], &jobs[i])
	}
	return waves
}

// batchLen is how many of the jobs go into one commit; at least one.
func batchLen(jobs []*job) int {
	n, bytes := 0, 0
	for n < len(jobs) && n < batchDocs {
		bytes += len(jobs[n].w.Body)
		for _, in := range jobs[n].w.Attachments {
			bytes += len(in.Data)
		}
		if bytes > batchBytes && n > 0 {
			break
		}
		n++
	}
	return n
}

// putBatch writes jobs of different documents, those that moved once more and alone.
func (h *Handle) putBatch(ctx context.Context, jobs []*job) {
	for range maxTries {
		ready := h.prepareAll(ctx, jobs)
		if len(ready) == 0 {
			return
		}
		moved, err := h.commitAll(ctx, ready)
		if err != nil {
			for _, r := range ready {
				r.job.res.Err = err
			}
			return
		}
		if len(moved) == 0 {
			return
		}
		h.db.stats.Moved.Add(int64(len(moved)))
		jobs = moved
	}
	for _, j := range jobs {
		j.res.Err = errBusy
	}
}

// readyJob is a job that was prepared.
type readyJob struct {
	job *job
	p   *prepared
}

// prepareAll prepares jobs on as many workers as there are processors, and returns those that have
// something to commit, in order. The others have their result.
func (h *Handle) prepareAll(ctx context.Context, jobs []*job) []readyJob {
	if store.IsFar(h.db.st) && len(jobs) > 1 {
		h.readAhead(ctx, jobs)
	}
	all := make([]readyJob, len(jobs))
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(jobs) {
				return
			}
			j := jobs[i]
			p, err := j.prepare(ctx)
			switch {
			case err != nil:
				j.res.Err = h.countFailure(err)
			case p.nothing:
				j.res.Written = p.result
			default:
				all[i] = readyJob{j, p}
			}
		}
	}
	var wg sync.WaitGroup
	for range min(h.db.workers(), len(jobs)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	ready := all[:0]
	for _, r := range all {
		if r.p != nil {
			ready = append(ready, r)
		}
	}
	return ready
}

// commitAll commits what did not move in one transaction and returns the rest.
func (h *Handle) commitAll(ctx context.Context, ready []readyJob) (moved []*job, err error) {
	records := func() [][]byte {
		keys := make([][]byte, 0, len(ready)+2)
		for i := range ready {
			keys = append(keys, ready[i].p.reads()...)
		}
		return keys
	}
	err = h.update(ctx, records, func(tx store.Tx) error {
		moved = moved[:0]
		routing, err := h.db.routes.Read(tx)
		if err != nil {
			return err
		}
		for i := range ready {
			stale, err := ready[i].p.commit(tx, routing)
			if err != nil {
				return err
			}
			if stale {
				moved = append(moved, ready[i].job)
			}
		}
		if len(moved) == len(ready) {
			return errMoved
		}
		return nil
	})
	if err != nil && !errors.Is(err, errMoved) {
		return nil, err
	}
	again := make(map[*job]bool, len(moved))
	for _, j := range moved {
		again[j] = true
	}
	for _, r := range ready {
		if again[r.job] {
			r.job.moved(r.p)
			continue
		}
		r.job.res.Written = r.p.result
		h.committed(r.p)
	}
	return moved, nil
}
