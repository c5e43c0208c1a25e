package changes

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/tidegate/tidegate"
)

// feeder is what a client reads: a Feed, or a Feed with a fault planted into it.
type feeder interface {
	Next(ctx context.Context, max int) ([]tidegate.Change, error)
	Close()
}

// client is a replica of what one user may see, kept by applying feed entries the way a real client does: it
// fetches the revision it is told of, if it still may, and drops what it is told to drop.
type client struct {
	w      *world
	user   string
	filter tidegate.ChannelSet // nil: all channels
	ids    []string            // nil: all documents
	since  tidegate.Since
	docs   map[string]tidegate.RevID
	seen   []tidegate.Change // everything received, for messages
}

func newClient(w *world, user string) *client {
	return &client{w: w, user: user, docs: map[string]tidegate.RevID{}}
}

// apply takes in one entry.
func (c *client) apply(e tidegate.Change) {
	c.since = e.Seq
	c.seen = append(c.seen, e)
	switch {
	case len(e.Revs) == 0: // a pseudo-entry
	case e.Revoked || e.Deleted:
		delete(c.docs, e.ID)
	case len(e.Removed) > 0 && !c.w.readable(c.user, c.filter, e.ID, e.Revs[0], c.w.placeOf(e)):
		delete(c.docs, e.ID)
	case c.w.readable(c.user, nil, e.ID, e.Revs[0], maxSeq):
		c.docs[e.ID] = e.Revs[0]
	}
}

// clone is a backup of the client.
func (c *client) clone() *client {
	out := *c
	out.docs, out.seen = maps.Clone(c.docs), append([]tidegate.Change(nil), c.seen...)
	return &out
}

// checkI6 (the feed is complete): a client that has caught up holds everything that its user may see and it
// asked for, at the current revision, as far as it is not a matter of backfill.
func checkI6(c *client) error { return c.missing("I6", false) }

// checkI9 (backfill): the same for documents that are older than the grant by which the user sees them.
func checkI9(c *client) error { return c.missing("I9", true) }

func (c *client) missing(invariant string, backfill bool) error {
	for id, rev := range c.w.visible(c.user, c.filter) {
		if c.docs[id] == rev || c.ids != nil && !slices.Contains(c.ids, id) {
			continue
		}
		before := c.w.docs[id].state.Seq
		if backfill == !c.w.readable(c.user, c.filter, id, rev, before) {
			return fmt.Errorf("%s: %s holds %q of %s, may see %s; got %s", invariant, c.user, c.docs[id], id, rev, brief(c.seen))
		}
	}
	return nil
}

// checkI8 (revocation reaches the device): a client that has caught up holds nothing that its user may not see.
func checkI8(c *client) error {
	want := c.w.visible(c.user, c.filter)
	for id, rev := range c.docs {
		if _, ok := want[id]; !ok {
			return fmt.Errorf("I8: %s still holds %s of %s; got %s", c.user, rev, id, brief(c.seen))
		}
	}
	return nil
}

// checkI6Order is the part of I6 about order: positions of one feed grow.
func checkI6Order(entries []tidegate.Change) error {
	for i := 1; i < len(entries); i++ {
		if entries[i-1].Seq.Compare(entries[i].Seq) >= 0 {
			return fmt.Errorf("I6: %s does not come after %s in %s", entries[i].Seq, entries[i-1].Seq, brief(entries))
		}
	}
	return nil
}

// checkI7 (no leak): an entry is about a revision that the user could see at some moment, or takes away a
// document of which he could see some revision before.
func checkI7(w *world, user string, e tidegate.Change) error {
	if len(e.Revs) == 0 {
		if e.ID != "_user/"+user {
			return fmt.Errorf("I7: %s is told of %s", user, e.ID)
		}
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	doc := w.docs[e.ID]
	if doc == nil {
		return fmt.Errorf("I7: %s is told of %s, which is no document", user, e.ID)
	}
	for _, rev := range doc.revs {
		if !couldSee(w, user, rev) {
			continue
		}
		if rev.rev == e.Revs[0] || e.Revoked || len(e.Removed) > 0 {
			return nil
		}
	}
	return fmt.Errorf("I7: %s is sent %s", user, brief([]tidegate.Change{e}))
}

// couldSee reports whether the user had one of the revision's channels while it was current or later. A
// revision stays readable after it was replaced, so only its beginning counts.
func couldSee(w *world, user string, rev modelRev) bool {
	for _, v := range w.users[user].versions {
		if v.channels.CanSee(rev.channels) {
			for _, c := range rev.channels {
				for _, p := range append(v.periods[c], v.periods["*"]...) {
					if p.End == 0 || p.End > rev.seq {
						return true
					}
				}
				if c == tidegate.PublicChannel {
					return true
				}
			}
			if _, ok := v.channels[tidegate.AllChannels]; ok {
				return true
			}
		}
	}
	return false
}
