package rest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// bulkGetItem is one document asked for in a _bulk_get.
type bulkGetItem struct {
	id        string
	rev       string // as given; "" if it was not
	parsed    tidegate.RevID
	attsSince []tidegate.RevID
	revsFrom  []tidegate.RevID
	revsLimit int
	err       error
}

// handleBulkGet answers POST {ks}/_bulk_get (gateway-rest.md §13.2): as multipart/mixed, or as JSON to a
// client that takes nothing else.
func (s *Server) handleBulkGet(w http.ResponseWriter, r *request) error {
	opts, err := r.docOptions()
	if err != nil {
		return err
	}
	items, err := s.readBulkGet(r)
	if err != nil {
		return err
	}
	g := bulkGet{s: s, r: r, opts: opts, latest: r.q.boolean("latest", false)}
	accept := accepts(r.Header)
	switch {
	case accept.any || accept.multipart:
		if !bulkGetGzip(r.Header.Get("User-Agent")) {
			r.answer.noGzip()
		}
		return s.writeMixed(w, r, func(o *output, parts *partWriter) error {
			for i := range items {
				if err := g.part(o, parts, &items[i]); err != nil {
					return err
				}
			}
			return nil
		})
	case accept.json:
		return g.json(w, items)
	}
	return errMultipart
}

// bulkGetGzip reports whether a _bulk_get may be compressed as a whole: not for old clients
// (gateway-rest.md §3).
func bulkGetGzip(userAgent string) bool {
	_, version, ok := strings.Cut(userAgent, "/")
	if !ok {
		return userAgent != ""
	}
	majorText, rest, _ := strings.Cut(version, ".")
	minorText := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	major, err := strconv.Atoi(majorText)
	if err != nil {
		return true
	}
	minor, err := strconv.Atoi(minorText)
	return major > 1 || (major == 1 && err == nil && minor >= 2)
}

// readBulkGet reads the request. An entry that makes no sense becomes an item with an error.
func (s *Server) readBulkGet(r *request) ([]bulkGetItem, error) {
	body, err := s.readJSON(r)
	if err != nil {
		return nil, err
	}
	defer body.Free()
	docs, ok := jsondoc.Get(body.bytes, "docs")
	if !ok || docs[0] != '[' {
		return nil, errMissingDocs
	}
	var items []bulkGetItem
	for elem := range jsondoc.Elements(docs) {
		if len(items) >= s.limits.BulkDocs {
			return nil, tidegate.Errorf(tidegate.TooLarge, "Too many documents (at most %d)", s.limits.BulkDocs)
		}
		items = append(items, parseBulkGetItem(elem))
	}
	return items, nil
}

var errBulkGetID = tidegate.Errorf(tidegate.Invalid, "Invalid doc's ID in _bulk_get")

// parseBulkGetItem reads one entry of docs.
func parseBulkGetItem(elem []byte) bulkGetItem {
	var item bulkGetItem
	hasID, bad := false, false
	for name, value := range jsondoc.Members(elem) {
		ok := true
		switch name {
		case "id":
			item.id, hasID = jsondoc.Unquote(value)
		case "rev":
			item.rev, ok = jsondoc.Unquote(value)
			ok = ok || string(value) == "null"
		case "atts_since":
			item.attsSince, ok = revsOf(value)
		case "revs_from":
			item.revsFrom, ok = revsOf(value)
		case "revs_limit":
			item.revsLimit, _ = strconv.Atoi(string(value))
		}
		bad = bad || !ok
	}
	switch {
	case !hasID || item.id == "":
		item.err = errBulkGetID
	case bad:
		item.err = tidegate.ErrInvalidRevID
	default:
		item.err = tidegate.ValidDocID(item.id)
	}
	if item.err == nil && item.rev != "" {
		item.parsed, item.err = tidegate.ParseRevID(item.rev)
	}
	return item
}

// revsOf reads an array of revision IDs; null counts as none.
func revsOf(raw []byte) ([]tidegate.RevID, bool) {
	if string(raw) == "null" {
		return nil, true
	}
	list, ok := parseStrings(string(raw))
	if !ok {
		return nil, false
	}
	revs, err := parseRevs(list)
	return revs, err == nil
}

// bulkGet is a _bulk_get under way.
type bulkGet struct {
	s      *Server
	r      *request
	opts   docOptions
	latest bool
}

// load finds what an item asks for. With latest, a revision that is no leaf stands for the leaves that
// descend from it.
func (g *bulkGet) load(item *bulkGetItem) ([]database.RevResult, error) {
	if item.err != nil {
		return nil, item.err
	}
	ctx := g.r.Context()
	if !item.parsed.IsZero() && g.latest {
		results, err := g.r.handle.OpenRevs(ctx, item.id, []tidegate.RevID{item.parsed}, true)
		results = slices.DeleteFunc(results, func(res database.RevResult) bool { return res.Doc == nil })
		if err == nil && len(results) == 0 {
			err = tidegate.ErrMissing
		}
		return results, err
	}
	doc, err := g.r.handle.Get(ctx, item.id, database.GetOptions{Rev: item.parsed})
	if err != nil {
		return nil, err
	}
	return []database.RevResult{{Doc: doc}}, nil
}

// renderer shows the revisions of an item as the item and the request say.
func (g *bulkGet) renderer(item *bulkGetItem) *renderer {
	opts := g.opts
	if item.attsSince != nil {
		opts.attsSince = item.attsSince
	}
	if item.revsFrom != nil {
		opts.revsFrom = item.revsFrom
	}
	if item.revsLimit > 0 {
		opts.revsLimit = item.revsLimit
	}
	return &renderer{ctx: g.r.Context(), handle: g.r.handle, opts: opts}
}

// part writes the part, or parts, of an item.
func (g *bulkGet) part(o *output, parts *partWriter, item *bulkGetItem) error {
	results, err := g.load(item)
	if err != nil {
		parts.part(`Content-Type: application/json; error="true"`)
		o.b = tidegate.AppendJSONString(append(o.b, `{"id":`...), item.id)
		if item.rev != "" {
			o.b = tidegate.AppendJSONString(append(o.b, `,"rev":`...), item.rev)
		}
		o.b = append(g.r.itemErrorOf(err).appendMembers(append(o.b, ',')), '}')
		return o.spill()
	}
	d := g.renderer(item)
	for _, res := range results {
		if err := d.revPart(o, parts, g.r, res); err != nil {
			return err
		}
	}
	return nil
}

// json answers {"results":[{"id","docs":[{"ok":…}|{"error":…}]}]}.
func (g *bulkGet) json(w http.ResponseWriter, items []bulkGetItem) error {
	g.s.setJSON(w)
	o := g.s.newOutput(w, http.StatusOK)
	defer o.close()
	o.b = append(o.b, `{"results":[`...)
	for i := range items {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = tidegate.AppendJSONString(append(o.b, `{"id":`...), items[i].id)
		o.b = append(o.b, `,"docs":[`...)
		if err := g.item(o, &items[i]); err != nil {
			return err
		}
		o.b = append(o.b, `]}`...)
		if err := o.spill(); err != nil {
			return err
		}
	}
	o.b = append(o.b, `]}`...)
	return o.finish()
}

// item writes the elements of an item's docs.
func (g *bulkGet) item(o *output, item *bulkGetItem) error {
	results, err := g.load(item)
	if err != nil {
		rev := item.rev
		if rev == "" {
			rev = "undefined" // what CouchDB says for a revision that was not given
		}
		o.b = tidegate.AppendJSONString(append(o.b, `{"error":{"id":`...), item.id)
		o.b = tidegate.AppendJSONString(append(o.b, `,"rev":`...), rev)
		o.b = append(g.r.itemErrorOf(err).appendMembers(append(o.b, ',')), `}}`...)
		return nil
	}
	d := g.renderer(item)
	for i, res := range results {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = append(o.b, `{"ok":`...)
		if err := d.document(o, res.Doc, d.contents(res.Doc)); err != nil {
			return err
		}
		o.b = append(o.b, '}')
	}
	return nil
}
