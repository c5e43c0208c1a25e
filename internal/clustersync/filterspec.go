package clustersync

import (
	"fmt"
	"regexp"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// FilterSpec is a [Filter] as it is written down, in requests and in records.
type FilterSpec struct {
	Include   []NamespacePattern `bson:"inclusionFilter"`
	Exclude   []NamespacePattern `bson:"exclusionFilter"`
	Natural   []NamespacePattern `bson:"naturalOrder"`
	Remap     []Remap            `bson:"namespaceRemap"`
	Documents *DocumentFilter    `bson:"documentFilter,omitempty"`
}

// Remap has a database of the source called otherwise on the destination.
type Remap struct {
	From string `bson:"from"`
	To   string `bson:"to"`
}

// NewFilter checks a filter (spec §5.1.2, §11) and makes it fit for use. Errors are InvalidOption and name the member of /start.
func NewFilter(spec FilterSpec, metadataDatabase string) (*Filter, error) {
	f := &Filter{spec: spec, metadata: metadataDatabase}
	var err error
	if f.include, err = compileAll("includeNamespaces", spec.Include, f); err != nil {
		return nil, err
	}
	if f.exclude, err = compileAll("excludeNamespaces", spec.Exclude, f); err != nil {
		return nil, err
	}
	if f.natural, err = compileAll("copyInNaturalOrder", spec.Natural, f); err != nil {
		return nil, err
	}
	if f.remap, err = f.remapping(spec.Remap); err != nil {
		return nil, err
	}
	if f.docs, err = spec.Documents.compile(); err != nil {
		return nil, err
	}
	return f, nil
}

// Spec returns what the filter was made of.
func (f *Filter) Spec() FilterSpec {
	if f == nil {
		return FilterSpec{}
	}
	return f.spec
}

// compileAll compiles one list.
func compileAll(member string, elements []NamespacePattern, f *Filter) ([]pattern, error) {
	if len(elements) > maxPatterns {
		return nil, Errorf(InvalidOption, "%q has more than %d elements", member, maxPatterns)
	}
	var out []pattern
	for i, e := range elements {
		if member == "copyInNaturalOrder" && e.Database == everyDatabase {
			e.Database, e.DatabaseRegex = "", &Regex{Pattern: "^", Options: "s"}
		}
		p, err := e.compile()
		if err != nil {
			return nil, Errorf(InvalidOption, "\"%s[%d]\" %w", member, i, err)
		}
		if e.Database != "" && f.internalDatabase(e.Database) {
			return nil, Errorf(InvalidOption, "\"%s[%d]\" names %s, a system database", member, i, e.Database)
		}
		for _, c := range e.Collections {
			if strings.HasPrefix(c, "system.") {
				return nil, Errorf(InvalidOption, "\"%s[%d]\" names %s, a system collection", member, i, c)
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// remapping checks namespaceRemap (spec §5.1.2): the names must be fit for servers on any system.
func (f *Filter) remapping(list []Remap) (map[string]string, error) {
	if len(list) > maxPatterns {
		return nil, Errorf(InvalidOption, `"namespaceRemap" has more than %d elements`, maxPatterns)
	}
	out := map[string]string{}
	folded := map[string]string{} // of a name in lower case: the name
	for i, m := range list {
		where := fmt.Sprintf("namespaceRemap[%d]", i)
		if m.From == "" || m.To == "" {
			return nil, Errorf(InvalidOption, "%q needs from.database and to.database", where)
		}
		if _, twice := out[m.From]; twice {
			return nil, Errorf(InvalidOption, "%q maps %s for the second time", where, m.From)
		}
		for _, db := range []string{m.From, m.To} {
			if f.internalDatabase(db) {
				return nil, Errorf(InvalidOption, "%q names %s, a system database", where, db)
			}
		}
		if len(m.To) > maxDatabaseName || badDatabaseName.MatchString(m.To) {
			return nil, Errorf(InvalidOption, "%q: to.database must have at most %d bytes and none of the characters /\\. \"$*<>:|? or 0", where, maxDatabaseName)
		}
		lower := strings.ToLower(m.To)
		if other, ok := folded[lower]; ok && other != m.To {
			return nil, Errorf(InvalidOption, "%q: %s and %s differ only in case", where, other, m.To)
		}
		folded[lower] = m.To
		out[m.From] = m.To
	}
	return out, nil
}

const maxDatabaseName = 63 // bytes

var badDatabaseName = regexp.MustCompile(`[/\\. "$*<>:|?\x00]`)

// maxMatchValues bounds the values of a document filter.
const maxMatchValues = 10_000

// compile checks a document filter.
func (d *DocumentFilter) compile() (*documents, error) {
	if d == nil {
		return nil, nil
	}
	switch {
	case d.Field == "":
		return nil, Errorf(InvalidOption, `"documentFilter.field" is required`)
	case strings.ContainsAny(d.Field, ".$\x00"):
		return nil, Errorf(InvalidOption, `"documentFilter.field" must be a top-level field, without . and $`)
	case len(d.Values) == 0:
		return nil, Errorf(InvalidOption, `"documentFilter.matchValues" must not be empty`)
	case len(d.Values) > maxMatchValues:
		return nil, Errorf(InvalidOption, `"documentFilter.matchValues" has more than %d values`, maxMatchValues)
	}
	out := &documents{field: d.Field, wanted: map[string]bool{}}
	for i, v := range d.Values {
		switch v.Type {
		case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128, bson.TypeString, bson.TypeBinary,
			bson.TypeBoolean, bson.TypeDateTime, bson.TypeObjectID:
			out.wanted[canonicalValue(v)] = true
		default:
			return nil, Errorf(InvalidOption, "\"documentFilter.matchValues[%d]\" must be a number, binary, boolean, date, ObjectId or string", i)
		}
	}
	return out, nil
}
