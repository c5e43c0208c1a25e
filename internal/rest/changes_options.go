package rest

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// feedMode is how a changes feed is delivered.
type feedMode string

// The modes.
const (
	feedNormal     feedMode = "normal"
	feedLongpoll   feedMode = "longpoll"
	feedContinuous feedMode = "continuous"
	feedWebSocket  feedMode = "websocket"
)

// Bounds and defaults of feeds (gateway-rest.md §14.1).
const (
	minHeartbeat       = 25 * time.Second
	heartbeatTrue      = 60 * time.Second // of heartbeat=true, which CouchDB clients may send
	defaultFeedTimeout = 300 * time.Second
	maxFeedTimeout     = 900 * time.Second
)

// Names of filters.
const (
	filterChannels = "sync_gateway/bychannel"
	filterDocIDs   = "_doc_ids"
)

var (
	errUnknownFeed     = tidegate.Errorf(tidegate.Invalid, "Unknown feed type")
	errMissingChannels = tidegate.Errorf(tidegate.Invalid, "Missing 'channels' filter parameter")
	errEmptyChannels   = tidegate.Errorf(tidegate.Invalid, "Empty channel list")
	errMissingDocIDs   = tidegate.Errorf(tidegate.Invalid, "Missing 'doc_ids' filter parameter")
	errEmptyDocIDs     = tidegate.Errorf(tidegate.Invalid, "Empty doc_ids list")
	errUnknownFilter   = tidegate.Errorf(tidegate.Invalid, "Unknown filter; try sync_gateway/bychannel or _doc_ids")
)

// feedOptions are the parameters of a feed.
type feedOptions struct {
	database.ChangesOptions
	now       bool          // since=now: Since is to be set to the last sequence
	heartbeat time.Duration // 0: none
	timeout   time.Duration // of an idle feed; 0: none
	gzip      bool          // messages of a WebSocket feed

	conflicts, attachments bool // of documents
}

// parseFeedMode reads the parameter feed.
func parseFeedMode(text string) (feedMode, error) {
	switch mode := feedMode(text); mode {
	case "":
		return feedNormal, nil
	case feedNormal, feedLongpoll, feedContinuous, feedWebSocket:
		return mode, nil
	}
	return "", errUnknownFeed
}

// bodyQuery makes a query of the JSON options that a feed's client sends as a body or message: strings as they
// are, everything else as its JSON.
func bodyQuery(obj []byte) (query, error) {
	if len(obj) == 0 {
		return query{}, nil
	}
	if obj[skipSpaces(obj, 0)] != '{' {
		return query{}, jsondoc.ErrNotObject
	}
	values := make(url.Values)
	for name, raw := range jsondoc.Members(obj) {
		if string(raw) == "null" {
			continue
		}
		if text, ok := jsondoc.Unquote(raw); ok {
			values.Set(name, text)
		} else {
			values.Set(name, string(raw))
		}
	}
	return query{values}, nil
}

// over returns q with the parameters of first in place of its own.
func (q query) over(first query) query {
	if q.values == nil {
		return first
	}
	for name, v := range first.values {
		q.values[name] = v
	}
	return q
}

// feedOptions reads the parameters of a feed (gateway-rest.md §14.1). seq_interval has no meaning here, and
// request_plus none either: whatever was acknowledged is visible to every later request.
func (s *Server) feedOptions(q query, mode feedMode) (feedOptions, error) {
	o := feedOptions{
		heartbeat:   s.heartbeatOf(q.text("heartbeat"), q),
		timeout:     min(milliseconds(q, "timeout", defaultFeedTimeout), maxFeedTimeout),
		gzip:        q.text("accept_encoding") == "gzip",
		conflicts:   q.boolean("conflicts", false),
		attachments: q.boolean("attachments", false),
	}
	o.Limit = int(min(q.integer("limit", 0), 1<<31))
	o.AllLeaves = q.text("style") == "all_docs"
	o.IncludeDocs = q.boolean("include_docs", false)
	o.ActiveOnly = q.boolean("active_only", false)
	o.Revocations = q.boolean("revocations", false) && !o.ActiveOnly
	o.Descending = mode == feedNormal && q.boolean("descending", false)
	if o.heartbeat > 0 {
		o.timeout = 0
	}
	var err error
	if since := q.jsonText("since"); since == "now" {
		o.now = true
	} else if o.Since, err = tidegate.ParseSince(since); err != nil {
		return o, err
	}
	err = setFilter(&o.Request, q)
	return o, err
}

// heartbeatOf reads the parameter heartbeat and brings it into its bounds.
func (s *Server) heartbeatOf(text string, q query) time.Duration {
	d := milliseconds(q, "heartbeat", 0)
	if text == "true" {
		d = heartbeatTrue
	}
	if d <= 0 {
		return 0
	}
	d = max(d, minHeartbeat)
	if s.settings.MaxHeartbeat > 0 {
		d = min(d, s.settings.MaxHeartbeat)
	}
	return d
}

// milliseconds reads a span, of at most a day.
func milliseconds(q query, name string, def time.Duration) time.Duration {
	const day = 24 * 3600 * 1000
	return time.Duration(min(q.integer(name, uint64(def/time.Millisecond)), day)) * time.Millisecond
}

// setFilter reads the parameters filter, channels and doc_ids.
func setFilter(req *changes.Request, q query) error {
	switch q.text("filter") {
	case "":
		return nil
	case filterChannels:
		if !q.has("channels") {
			return errMissingChannels
		}
		for _, name := range listOf(q.text("channels")) {
			if !tidegate.ValidChannelName(name) {
				return tidegate.Errorf(tidegate.Invalid, "Illegal channel name %q", name)
			}
			req.Channels = append(req.Channels, name)
		}
		if len(req.Channels) == 0 {
			return errEmptyChannels
		}
		return nil
	case filterDocIDs:
		if !q.has("doc_ids") {
			return errMissingDocIDs
		}
		if req.DocIDs = listOf(q.text("doc_ids")); len(req.DocIDs) == 0 {
			return errEmptyDocIDs
		}
		return nil
	}
	return errUnknownFilter
}

// listOf reads a JSON array of strings, or a list with commas.
func listOf(text string) []string {
	if list, ok := parseStrings(text); ok {
		return list
	}
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// openFeed opens the feed for a handle.
func (s *Server) openFeed(ctx context.Context, r *request, h *database.Handle, o feedOptions) (*database.Feed, error) {
	if o.now {
		last, err := h.Database().LastSequence(ctx)
		if err != nil {
			return nil, err
		}
		o.Since = tidegate.Since{Seq: last}
	}
	if err := r.judgeSince(ctx, h, &o); err != nil {
		return nil, err
	}
	if user := h.User(); user == nil || user.IsGuest() {
		o.Revocations = false
	}
	if o.IncludeDocs && (o.conflicts || o.attachments) {
		opts := docOptions{conflicts: o.conflicts, attachments: o.attachments}
		o.Render = func(ctx context.Context, doc *database.Document) ([]byte, error) {
			return (&renderer{ctx: ctx, handle: h, opts: opts}).bytes(s, doc)
		}
	}
	return h.Changes(ctx, o.ChangesOptions)
}
