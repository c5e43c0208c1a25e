package replicate

import (
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// filterByChannel is the only filter there is.
const filterByChannel = "sync_gateway/bychannel"

// Bounds of a batch, in rows (replication.md §5.4).
const (
	defaultBatch = 200
	minBatch     = 10
	maxBatch     = 1000
)

// maxDocIDs bounds a docIDs filter.
const maxDocIDs = 100_000

// subscriptionOptions are what a peer subscribes to (replication.md §5.4).
type subscriptionOptions struct {
	since       tidegate.Since
	future      bool // only what comes after now
	continuous  bool
	batch       int
	activeOnly  bool // until the peer has caught up
	revocations bool
	channels    []string // nil: all
	docIDs      []string // nil: all
	replacement bool     // a newer revision may be sent in place of the one asked for
	rewound     bool     // the peer starts again and may hold documents from before
	gateway     bool     // rows go to a gateway, which takes conflicts: ignoreNoConflicts
}

// parseSubscription reads the properties and the body of subChanges. requestPlus needs no doing: a feed always brings
// everything that was acknowledged before it was asked for.
func parseSubscription(r *blip.Request) (subscriptionOptions, error) {
	o := subscriptionOptions{
		future: truth(r, "future"), activeOnly: truth(r, "activeOnly"), revocations: truth(r, "revocations"),
		replacement: truth(r, "sendReplacementRevs"), gateway: truth(r, "client_sgr2"), batch: defaultBatch,
	}
	var err error
	if text, ok := r.Property("since"); ok {
		if o.since, err = tidegate.ParseSince(text); err != nil {
			return o, errBadSince
		}
	}
	if text, ok := r.Property("continuous"); ok {
		o.continuous = text != "false" && text != "0"
	}
	if text, ok := r.Property("batch"); ok {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return o, tidegate.Errorf(tidegate.Invalid, "Invalid value for batch")
		}
		o.batch = int(min(max(n, minBatch), maxBatch))
	}
	if o.channels, err = filterChannels(r); err != nil {
		return o, err
	}
	o.docIDs, err = filterDocIDs(r.Body())
	if err == nil && o.docIDs != nil && o.continuous {
		err = errDocIDsContinuous
	}
	return o, err
}

// filterChannels reads the channel filter; nil if there is none.
func filterChannels(r *blip.Request) ([]string, error) {
	filter, ok := r.Property("filter")
	if !ok {
		return nil, nil
	}
	if filter != filterByChannel {
		return nil, errUnknownFilter
	}
	text, ok := r.Property("channels")
	if !ok {
		return nil, errNoChannels
	}
	channels := strings.Split(text, ",")
	for _, name := range channels {
		if !tidegate.ValidChannelName(name) {
			return nil, errBadChannel
		}
	}
	return channels, nil
}

// filterDocIDs reads the docIDs of a subChanges body. A body that is no object, or has none, is no filter.
func filterDocIDs(body []byte) ([]string, error) {
	if len(body) == 0 || jsondoc.Check(body, jsondoc.Limits{Bytes: len(body)}) != nil || trimSpace(body)[0] != '{' {
		return nil, nil
	}
	raw, ok := jsondoc.Get(body, "docIDs")
	if !ok || string(raw) == "null" {
		return nil, nil
	}
	items, err := elementsOf(raw, maxDocIDs)
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(items))
	for _, item := range items {
		id, ok := jsondoc.Unquote(item)
		if !ok {
			return nil, tidegate.Errorf(tidegate.Invalid, "docIDs must be strings")
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return ids, nil
}

// request is the feed that the options ask for, from a position on.
func (o *subscriptionOptions) request(since tidegate.Since, activeOnly bool) changes.Request {
	return changes.Request{
		Since: since, Channels: o.channels, DocIDs: o.docIDs, ActiveOnly: activeOnly,
		Revocations: o.revocations && !activeOnly, OneShot: !o.continuous, Rewound: o.rewound,
	}
}

// handleSubChanges answers subChanges: changes follow as requests of ours.
func (coll *collection) handleSubChanges(r *blip.Request) error {
	o, err := parseSubscription(r)
	if err != nil {
		return err
	}
	o.gateway = o.gateway || coll.c.peer.Gateway
	ctx := coll.c.ctx()
	h, err := coll.principal(ctx)
	if err != nil {
		return err
	}
	if o.future {
		last, err := coll.c.peer.DB.LastSequence(ctx)
		if err != nil {
			return err
		}
		o.since = tidegate.Since{Seq: last}
	}
	if err := coll.judgeSince(ctx, h, &o); err != nil {
		return err
	}
	sub, err := coll.subscribe(h, o)
	if err != nil {
		return err
	}
	coll.c.respond(r, &blip.Message{})
	sub.wake()
	return nil
}

// handleUnsubChanges ends the subscription.
func (coll *collection) handleUnsubChanges(r *blip.Request) error {
	coll.unsubscribe()
	coll.c.respond(r, &blip.Message{})
	return nil
}

// unsubscribe ends the subscription, if there is one.
func (coll *collection) unsubscribe() {
	coll.mu.Lock()
	sub := coll.sub
	coll.sub = nil
	coll.mu.Unlock()
	if sub != nil {
		sub.end()
	}
}
