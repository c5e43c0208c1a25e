package rest

import (
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

var (
	errBadKeys     = tidegate.Errorf(tidegate.Invalid, "Bad keys")
	errBadBodyKeys = tidegate.Errorf(tidegate.Invalid, "Bad/missing keys")
	errAllDocsShut = tidegate.Errorf(tidegate.Forbidden, "public access to _all_docs is disabled for this database")
)

// handleAllDocs answers GET and POST {ks}/_all_docs (gateway-rest.md §13.3).
func (s *Server) handleAllDocs(w http.ResponseWriter, r *request) error {
	if r.listener == public && r.running.Settings().DisablePublicAllDocs {
		return errAllDocsShut
	}
	opts, err := s.allDocsOptions(r)
	if err != nil {
		return err
	}
	last, err := r.db.LastSequence(r.Context())
	if err != nil {
		return err
	}
	doc, err := r.docOptions()
	if err != nil {
		return err
	}
	s.setJSON(w)
	o := s.newOutput(w, http.StatusOK)
	defer o.close()
	l := listing{
		r: r, o: o, seqs: r.q.boolean("update_seq", false), keys: opts.Keys != nil, channels: opts.Channels,
		d: &renderer{ctx: r.Context(), handle: r.handle, opts: doc},
	}
	o.b = append(o.b, `{"rows":[`...)
	if !r.q.has("limit") || r.q.integer("limit", 1) > 0 {
		if err := r.handle.AllDocs(r.Context(), opts, l.row); err != nil {
			return err
		}
	}
	o.b = strconv.AppendInt(append(o.b, `],"total_rows":`...), int64(l.n), 10)
	o.b = strconv.AppendUint(append(o.b, `,"update_seq":`...), uint64(last), 10)
	o.b = append(o.b, '}')
	return o.finish()
}

// allDocsOptions reads the parameters and, of a POST, the list of keys.
func (s *Server) allDocsOptions(r *request) (database.AllDocsOptions, error) {
	o := database.AllDocsOptions{
		IncludeDocs:  r.q.boolean("include_docs", false),
		Channels:     r.q.boolean("channels", false),
		Access:       r.admin && r.q.boolean("access", false),
		Deleted:      r.admin && r.q.boolean("deleted", false),
		Descending:   r.q.boolean("descending", false),
		ExclusiveEnd: !r.q.boolean("inclusive_end", true),
		Skip:         int(min(r.q.integer("skip", 0), 1<<31)),
		Limit:        int(min(r.q.integer("limit", 0), 1<<31)),
	}
	o.StartKey, o.HasStartKey = r.q.jsonTextOf("startkey", "start_key")
	o.EndKey, o.HasEndKey = r.q.jsonTextOf("endkey", "end_key")
	if key, ok := r.q.jsonTextOf("key"); ok {
		o.StartKey, o.EndKey, o.HasStartKey, o.HasEndKey, o.ExclusiveEnd = key, key, true, true, false
	}
	var err error
	switch {
	case r.Method == http.MethodPost:
		o.Keys, err = s.keysOfBody(r)
	case r.q.has("keys"):
		var ok bool
		if o.Keys, ok = parseStrings(r.q.text("keys")); !ok {
			err = errBadKeys
		}
	}
	if err == nil && len(o.Keys) > s.limits.BulkDocs {
		err = tidegate.Errorf(tidegate.TooLarge, "Too many keys (at most %d)", s.limits.BulkDocs)
	}
	if o.Keys != nil && o.Descending {
		slices.Reverse(o.Keys)
	}
	return o, err
}

// keysOfBody reads {"keys":[…]}; a body without keys is no list.
func (s *Server) keysOfBody(r *request) ([]string, error) {
	body, err := s.readJSON(r)
	if err != nil {
		return nil, err
	}
	defer body.Free()
	if len(body.bytes) == 0 {
		return nil, nil
	}
	if obj := body.bytes[skipSpaces(body.bytes, 0)]; obj != '{' {
		return nil, errBadBodyKeys
	}
	raw, ok := jsondoc.Get(body.bytes, "keys")
	if !ok {
		return nil, nil
	}
	keys, ok := parseStrings(string(raw))
	if !ok {
		return nil, errBadBodyKeys
	}
	return keys, nil
}

// listing is an _all_docs under way.
type listing struct {
	r        *request
	o        *output
	d        *renderer
	n        int // rows written
	keys     bool
	channels bool
	seqs     bool
}

// row writes one row.
func (l *listing) row(row *database.AllDocsRow) error {
	if l.n > 0 {
		l.o.b = append(l.o.b, ',')
	}
	l.n++
	l.o.b = tidegate.AppendJSONString(append(l.o.b, "\n"+`{"key":`...), row.ID)
	if row.Err != nil {
		e := l.r.itemErrorOf(row.Err)
		l.o.b = tidegate.AppendJSONString(append(l.o.b, `,"error":`...), e.Name)
		l.o.b = append(strconv.AppendInt(append(l.o.b, `,"status":`...), int64(e.Status), 10), '}')
		return l.o.spill()
	}
	l.o.b = tidegate.AppendJSONString(append(l.o.b, `,"id":`...), row.ID)
	l.o.b = append(row.Rev.Append(append(l.o.b, `,"value":{"rev":"`...)), '"')
	if row.Deleted {
		l.o.b = append(l.o.b, `,"deleted":true`...)
	}
	if l.channels {
		l.o.b = row.Channels.AppendJSON(append(l.o.b, `,"channels":`...))
	}
	if len(row.Access) > 0 {
		l.o.b = appendAccess(append(l.o.b, `,"access":`...), row.Access)
	}
	l.o.b = append(l.o.b, '}')
	if row.Doc != nil {
		l.o.b = append(l.o.b, `,"doc":`...)
		if err := l.d.document(l.o, row.Doc, l.d.contents(row.Doc)); err != nil {
			return err
		}
	}
	if l.seqs {
		l.o.b = strconv.AppendUint(append(l.o.b, `,"update_seq":`...), uint64(row.Seq), 10)
	}
	l.o.b = append(l.o.b, '}')
	return l.o.spill()
}

// appendAccess appends {"bob":["ch",…]}: who the document grants which channels.
func appendAccess(b []byte, access map[string]tidegate.Grants) []byte {
	b = append(b, '{')
	for i, name := range slices.Sorted(maps.Keys(access)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(tidegate.AppendJSONString(b, name), ':')
		b = tidegate.NewChannelSet(slices.Collect(maps.Keys(access[name]))...).AppendJSON(b)
	}
	return append(b, '}')
}
