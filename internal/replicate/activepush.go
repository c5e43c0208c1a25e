package replicate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
)

// beginPush subscribes to the local feed: what comes is offered to the remote.
func (a *activeCollection) beginPush(ctx context.Context) error {
	o := &a.s.h.r.o
	since, err := tidegate.ParseSince(a.cp.since)
	if err != nil {
		since = tidegate.Since{}
	}
	h, err := a.coll.principal(ctx)
	if err != nil {
		return fatal(err)
	}
	sub, err := a.coll.subscribe(h, subscriptionOptions{
		since: since, continuous: o.Continuous, batch: o.BatchSize, channels: a.channels(), gateway: true, replacement: false,
	})
	if err != nil {
		return err
	}
	sub.wake()
	return nil
}

// offered takes account of rows that are about to be offered.
func (a *activeCollection) offered(rows []sentRow) {
	a.s.h.r.o.Stats.Push.Checked.Add(int64(len(rows)))
	seqs := make([]string, len(rows))
	for i := range rows {
		seqs[i] = rows[i].change.Seq.String()
	}
	for i, e := range a.tracker.expect(seqs...) {
		rows[i].due = e
	}
}

// refused is what follows when the remote refuses a list of changes.
func (a *activeCollection) refused(err error) {
	if e, ok := errors.AsType[*blip.Error](err); ok && e.Code == http.StatusConflict {
		a.s.c.conn.Drop(fatal(fmt.Errorf("the target does not take changes of gateways; it has allow_conflicts: false and must be upgraded to 2.8 or later: %s", e.Text)))
		return
	}
	a.s.retry(remoteError("offer changes", err))
}

// pushed takes account of the remote's answer to a revision.
func (a *activeCollection) pushed(row *sentRow, err error) {
	stats := &a.s.h.r.o.Stats.Push
	e, ok := errors.AsType[*blip.Error](err)
	switch {
	case err == nil:
		stats.Written.Add(1)
		a.tracker.finish(row.due)
		return
	case !ok: // the connection ended
		return
	case e.Code == http.StatusConflict:
		stats.Conflicts.Add(1)
	case e.Code == http.StatusForbidden || e.Code == http.StatusInternalServerError && strings.Contains(e.Text, "sync function"):
		stats.Rejected.Add(1)
	case attachmentRefused(e): // it fails
	case e.Code >= 500 || e.Code == http.StatusTooManyRequests || e.Code == http.StatusRequestTimeout:
		a.s.retry(remoteError("send a revision", err))
		return
	}
	stats.Failures.Add(1)
	a.tracker.finish(row.due)
}
