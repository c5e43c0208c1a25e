package database

import (
	"context"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/script"
	"github.com/tidegate/tidegate/internal/store"
)

// outputs are what the sync function made of a revision.
type outputs struct {
	channels  tidegate.ChannelSet
	access    map[string]tidegate.ChannelSet
	roles     map[string][]string
	expiry    time.Time
	hasExpiry bool
}

// runSync runs the sync function for the new revision, and once more if the write makes an older revision
// current (sync-function.md §5). It decides what the document's outputs become.
func (e *edit) runSync(ctx context.Context) error {
	in := script.SyncInput{
		DocID: e.w.ID, Rev: e.rev, Deleted: e.body.deleted, Body: e.body.json, User: e.h.writer(), Now: e.now,
	}
	if e.base.ancestor >= 0 {
		in.OldBody, in.OldDeleted = e.base.old.json, e.base.old.deleted
	}
	var err error
	if e.out, err = e.run(ctx, &in); err != nil {
		return err
	}
	e.body.channels = e.out.channels
	e.tree.At(e.at).Channels = e.out.channels
	if e.closes {
		if err := e.closeBranch(); err != nil {
			return err
		}
		e.tree.At(e.at).Channels = nil // kept with the body, since it is no leaf
	}
	before, existed := e.base.rec.tree.Winner()
	e.winner, _ = e.tree.Winner()
	switch {
	case e.winner == e.at:
		e.docOut = &e.out
		e.expiry = e.exp
		if e.resolved == ResolvedLocal {
			e.expiry = e.base.rec.expiry // it is still the local document
		}
		if e.out.hasExpiry {
			e.expiry = e.out.expiry
		}
	case existed && e.tree.At(e.winner).ID == e.base.rec.tree.At(before).ID:
		e.expiry = e.base.rec.expiry
	default:
		return e.rerun(ctx)
	}
	return nil
}

// rerun runs the function for an older revision that the write makes current, as the same writer. A tombstone
// that closed a branch is the server's own: nobody is asked, and like most tombstones it is in no channel.
func (e *edit) rerun(ctx context.Context) error {
	winner := e.tree.At(e.winner)
	if winner.Deleted() && winner.Flags&tidegate.RevClosed != 0 {
		winner.Channels, e.docOut = nil, &outputs{}
		return nil
	}
	again, err := e.inputOf(ctx, e.winner)
	if err != nil {
		return err
	}
	out, err := e.run(ctx, again)
	if err != nil {
		return err
	}
	winner.Channels = out.channels
	e.docOut, e.expiry = &out, out.expiry
	return nil
}

// inputOf reads what the sync function needs to be run for a stored revision.
func (e *edit) inputOf(ctx context.Context, i int) (*script.SyncInput, error) {
	rev := e.tree.At(i)
	in := &script.SyncInput{DocID: e.w.ID, Rev: rev.ID, Deleted: rev.Deleted(), User: e.h.writer(), Now: e.now}
	err := e.h.db.st.View(ctx, func(r store.Reader) error {
		own, err := readLeaf(r, e.h.coll, e.w.ID, rev)
		if err != nil {
			return err
		}
		in.Body = own.json
		if len(own.attachments) > 0 {
			in.Attachments = tidegate.AppendStubsJSON(nil, own.attachments)
		}
		for _, ancestor := range e.tree.Ancestors(i) {
			old, err := readBody(r, e.h.coll, e.w.ID, ancestor.ID)
			if err != nil {
				return err
			}
			if old != nil {
				in.OldBody, in.OldDeleted = old.json, old.deleted
				break
			}
		}
		return nil
	})
	return in, err
}

// run runs the function and counts.
func (e *edit) run(ctx context.Context, in *script.SyncInput) (outputs, error) {
	start := time.Now()
	out, err := e.base.fn.Sync(ctx, in)
	e.h.countSync(time.Since(start), err)
	if err != nil {
		if !e.force || ctx.Err() != nil {
			return outputs{}, err
		}
		e.h.db.log.WarnContext(ctx, "sync function failed for a document that must go; it loses its channels",
			"error", err, "collection", e.h.coll.name)
		return outputs{}, nil
	}
	e.h.warn(out)
	return outputs{
		channels: out.Channels, access: out.Access, roles: out.Roles, expiry: out.Expiry, hasExpiry: out.HasExpiry,
	}, nil
}

// countSync counts one run of the sync function.
func (h *Handle) countSync(took time.Duration, err error) {
	s, c := h.db.stats, h.coll.stats
	s.SyncFunctions.Add(1)
	s.SyncFunctionTime.Add(int64(took))
	c.SyncFunctions.Add(1)
	c.SyncFunctionTime.Add(int64(took))
	switch script.Classify(err) {
	case script.FailureAccess:
		s.AccessErrors.Add(1)
		c.SyncAccess.Add(1)
		fallthrough
	case script.FailureRejected:
		s.DocsRejected.Add(1)
		c.SyncRejects.Add(1)
	case script.FailureException:
		s.SyncExceptions.Add(1)
		c.SyncExceptions.Add(1)
	case script.FailureNone, script.FailureTimeout, script.FailureCanceled:
	}
}

// Above these a write is counted as remarkable (gateway-rest.md §23.2, warning_thresholds).
const (
	warnChannels    = 50
	warnGrants      = 50
	warnChannelName = 250
)

// warn counts outputs that are allowed but remarkable.
func (h *Handle) warn(out *script.SyncOutput) {
	if len(out.Channels) > warnChannels {
		h.db.stats.WarnChannelsPerDoc.Add(1)
	}
	if len(out.Access)+len(out.Roles) > warnGrants {
		h.db.stats.WarnGrantsPerDoc.Add(1)
	}
	for _, c := range out.Channels {
		if len(c) > warnChannelName {
			h.db.stats.WarnChannelNameSize.Add(1)
		}
	}
}

// setChannels computes rec's memberships from what they were in old and the channels of the revision that
// is current now. It returns the channels that the document leaves.
func (rec *record) setChannels(old *record, now tidegate.ChannelSet, rev tidegate.RevID, deleted bool) (left []string) {
	rec.channels = make([]channelState, 0, len(old.channels)+len(now))
	begun := make([]changes.Period, len(now))
	were := old.channels
	for len(were) > 0 || len(now) > 0 {
		if len(were) == 0 || (len(now) > 0 && now[0] < were[0].name) { // one that it never was in
			begun[0] = changes.Period{Start: pending}
			rec.channels = append(rec.channels, channelState{name: now[0], member: true, periods: begun[:1:1]})
			now, begun = now[1:], begun[1:]
			continue
		}
		c := were[0]
		were = were[1:]
		in := len(now) > 0 && now[0] == c.name
		if in {
			now = now[1:]
		}
		switch {
		case in == c.member: // goes on as it was
		case in:
			c = channelState{name: c.name, member: true, periods: addPeriod(c.periods, pending)}
		default:
			c = channelState{name: c.name, rev: rev, deleted: deleted, periods: slices.Clone(c.periods)}
			c.periods[len(c.periods)-1].End = pending
			left = append(left, c.name)
		}
		rec.channels = append(rec.channels, c)
	}
	return left
}

// setGrants computes rec's grants: those that go on keep their sequence. It returns the new ones, which get
// the sequence of the write.
func (rec *record) setGrants(old *record, out *outputs) (begun []grantSlot) {
	give := func(had, now map[string]tidegate.Grants, principal string, names []string) {
		g := make(tidegate.Grants, len(names))
		for _, name := range names {
			if seq, ok := had[principal][name]; ok {
				g[name] = seq
				continue
			}
			g[name] = pending
			begun = append(begun, grantSlot{g, name})
		}
		now[principal] = g
	}
	if len(out.access) > 0 {
		rec.grants.Access = make(map[string]tidegate.Grants, len(out.access))
		for principal, channels := range out.access {
			give(old.grants.Access, rec.grants.Access, principal, channels)
		}
	}
	if len(out.roles) > 0 {
		rec.grants.Roles = make(map[string]tidegate.Grants, len(out.roles))
		for user, roles := range out.roles {
			give(old.grants.Roles, rec.grants.Roles, user, roles)
		}
	}
	return begun
}
