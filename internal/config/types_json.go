package config

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// How the types of this package that are more than a string or a number are read and written.

func (s *Secret) decodeNode(d *decoder, n *node, path string) {
	if text, ok := d.str(n, path); ok {
		*s = NewSecret(text)
	}
}

// decodeNode takes the text as it stands: a dollar means nothing in JavaScript.
func (j *JavaScript) decodeNode(d *decoder, n *node, path string) {
	if d.want(n, kindString, path) {
		*j = JavaScript(n.text)
	}
}

func (t *Duration) decodeNode(d *decoder, n *node, path string) {
	if n.kind != kindString {
		d.add(n.at, path, `expected a duration such as "10s" or "5m", found %s`, n.kind)
		return
	}
	text, ok := d.str(n, path)
	if !ok {
		return
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		d.add(n.at, path, `expected a duration such as "10s" or "5m", found %q`, shorten(text))
		return
	}
	*t = Duration(v)
}

// MarshalText writes the duration as it is read.
func (t Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(t).String()), nil }

func (v *Number) decodeNode(d *decoder, n *node, path string) {
	if d.want(n, kindNumber, path) {
		*v = Number(n.text)
	}
}

// Float returns the number; 0 for nil.
func (v *Number) Float() float64 {
	if v == nil {
		return 0
	}
	f, _ := strconv.ParseFloat(string(*v), 64) // the parser has checked the form; out of range gives ±Inf
	return f
}

// MarshalJSON writes the digits as they were read.
func (v Number) MarshalJSON() ([]byte, error) {
	if v == "" {
		return []byte("null"), nil
	}
	return []byte(v), nil
}

// MarshalJSON writes true and false as booleans, other words as strings.
func (c Choice) MarshalJSON() ([]byte, error) {
	if c == "true" || c == "false" {
		return []byte(c), nil
	}
	return json.Marshal(string(c))
}

// True reports whether the choice is "true"; a nil one is def.
func (c *Choice) True(def bool) bool {
	if c == nil {
		return def
	}
	return *c == "true"
}

func (r *Raw) decodeNode(d *decoder, n *node, path string) {
	if d.want(n, kindObject, path) {
		*r = n.appendJSON(nil)
	}
}

// MarshalJSON returns the object.
func (r Raw) MarshalJSON() ([]byte, error) { return r, nil }

// appendJSON writes the node as compact JSON.
func (n *node) appendJSON(b []byte) []byte {
	switch n.kind {
	case kindObject:
		b = append(b, '{')
		for i, m := range n.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, m.name)
			b = append(b, ':')
			b = m.value.appendJSON(b)
		}
		return append(b, '}')
	case kindArray:
		b = append(b, '[')
		for i, e := range n.elems {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.appendJSON(b)
		}
		return append(b, ']')
	case kindString:
		return appendString(b, n.text)
	default:
		return append(b, n.text...)
	}
}

func appendString(b []byte, s string) []byte {
	b, err := jsontext.AppendQuote(b, s)
	if err != nil {
		panic("config: a string that the parser checked is not valid UTF-8") // impossible
	}
	return b
}

func (r *RemoteURL) decodeNode(d *decoder, n *node, path string) {
	if text, ok := d.str(n, path); ok {
		r.url = NewSecret(text)
	}
}

// NewRemoteURL wraps a URL; "" gives the zero RemoteURL.
func NewRemoteURL(text string) RemoteURL { return RemoteURL{NewSecret(text)} }

// Reveal returns the URL with its password.
func (r RemoteURL) Reveal() string { return r.url.Reveal() }

// IsZero reports whether there is no URL.
func (r RemoteURL) IsZero() bool { return r.url.IsZero() }

// Masked returns the URL with mask in place of the password, if it has one. A URL that does not parse is all
// mask: nobody knows what is in it.
func (r RemoteURL) Masked(mask string) string {
	text := r.Reveal()
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil {
		return mask
	}
	if password, ok := u.User.Password(); !ok || password == "" {
		return text
	}
	u.User = url.UserPassword(u.User.Username(), Mask)
	return strings.Replace(u.String(), ":"+Mask+"@", ":"+mask+"@", 1)
}

// String masks the password.
func (r RemoteURL) String() string { return r.Masked(Mask) }

// MarshalText masks the password.
func (r RemoteURL) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// decodeNode takes a list of channels, {"channels": list} or {"collections_channels": {collection: list}}.
func (q *QueryParams) decodeNode(d *decoder, n *node, path string) {
	if n.kind == kindArray {
		q.Plain = true
		d.decodeStrings(n, &q.Channels, path)
		return
	}
	if n.kind != kindObject {
		d.add(n.at, path, `expected an array of channels or {"channels": […]}, found %s`, n.kind)
		return
	}
	for _, m := range n.members {
		at := join(path, m.name)
		switch m.name {
		case "channels":
			d.decodeStrings(m.value, &q.Channels, at)
		case "collections_channels":
			if !d.want(m.value, kindObject, at) {
				continue
			}
			q.CollectionsChannels = map[string][]string{}
			for _, c := range m.value.members {
				var list []string
				d.decodeStrings(c.value, &list, join(at, c.name))
				q.CollectionsChannels[c.name] = list
			}
		default:
			d.unknown(m.at, at, "%s", unknownKey(m.name, []string{"channels", "collections_channels"}))
		}
	}
}

// decodeStrings reads an array of strings.
func (d *decoder) decodeStrings(n *node, into *[]string, path string) {
	if !d.want(n, kindArray, path) {
		return
	}
	*into = slices.Grow([]string{}, len(n.elems))
	for _, e := range n.elems {
		if s, ok := d.str(e, path); ok {
			*into = append(*into, s)
		}
	}
}

// MarshalJSON writes the form that was read.
func (q QueryParams) MarshalJSON() ([]byte, error) {
	if q.Plain {
		return json.Marshal(q.Channels)
	}
	return json.Marshal(struct {
		Channels            []string            `json:"channels,omitzero"`
		CollectionsChannels map[string][]string `json:"collections_channels,omitzero"`
	}{q.Channels, q.CollectionsChannels}, json.Deterministic(true))
}

// decodeNode takes a map of definitions, or an array of definitions that name their id.
func (r *Replications) decodeNode(d *decoder, n *node, path string) {
	if *r == nil || !d.merge {
		*r = Replications{}
	}
	given := map[string]bool{}
	if n.kind == kindArray {
		for i, elem := range n.elems {
			r.decodeOne(d, elem, given, "", path+"["+strconv.Itoa(i)+"]")
		}
		return
	}
	if n.kind != kindObject {
		d.add(n.at, path, "expected an object or an array, found %s", n.kind)
		return
	}
	for _, m := range n.members {
		r.decodeOne(d, m.value, given, m.name, join(path, m.name))
	}
}

// decodeOne reads one definition; given holds the ids of this text. id is "" where the definition names it.
func (r Replications) decodeOne(d *decoder, n *node, given map[string]bool, id, path string) {
	if n.kind == kindNull && d.merge && id != "" {
		delete(r, id)
		return
	}
	if !d.want(n, kindObject, path) {
		return
	}
	inner := ""
	if m := n.get("replication_id"); m != nil && m.value.kind == kindString {
		inner = m.value.text
	}
	switch {
	case id == "" && inner == "":
		d.add(n.at, path, "replication_id is missing")
		return
	case id != "" && inner != "" && id != inner:
		d.add(n.at, path, "replication_id %q differs from the key", shorten(inner))
		return
	}
	id = cmp.Or(id, inner)
	if given[id] {
		d.add(n.at, path, "replication_id %q is given twice", shorten(id))
		return
	}
	given[id] = true
	one := &Replication{}
	if old := r[id]; old != nil {
		one = old // only in a merge: into a copy that is ours
	}
	d.decodeValue(n, one, path)
	one.ID = id
	one.normalize()
	r[id] = one
}
