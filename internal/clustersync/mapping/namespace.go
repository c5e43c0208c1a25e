package mapping

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Names of collections. tidegate takes 1 to 251 of [A-Za-z0-9_%-], not beginning with _ or %, and scopes of the same; MongoDB almost anything.
//
//	MongoDB              tidegate
//	orders               _default.orders
//	_default             _default._default     the default collection
//	fs.files             _default.fs%2Efiles   a byte that tidegate does not take, and %, as %XX
//	_tmp                 _default.-%2D_tmp     behind -%2D when the first byte may not be first
//	~shop.orders         shop.orders           a named scope: ~scope.collection
//
// Names of databases: tidegate takes a-z first and then [-a-z0-9_$()+/]*; MongoDB at most 63 bytes without /\. "$*<>:|?.
//
//	shop                 shop
//	shopDB               shop+d+b              a capital is + and the small letter
//	a+b                  a$2bb                 other bytes as $xx
//	Shop                 x$$+shop              behind x$$ when the first byte may not be first

const (
	defaultName   = "_default"
	maxCollection = 251
	maxMongoName  = 63 // of a database, in bytes
	maxMongoSpace = 255
	badFirstColl  = "-%2D" // never written otherwise: - needs no escape
	badFirstDB    = "x$$"  // never written otherwise: no byte is escaped as $$
)

func namespace(ns clustersync.Namespace, from, to clustersync.Kind) (clustersync.Namespace, error) {
	var out clustersync.Namespace
	var ok bool
	switch {
	case from == to:
		return ns, nil
	case to == clustersync.Tidegate:
		out, ok = toGateway(ns)
	default:
		out, ok = toMongo(ns)
		if back, sure := toGateway(out); ok && (!sure || back != ns) {
			ok = false // it would be taken for another one
		}
	}
	if !ok {
		return out, fmt.Errorf("namespace %q has no name on the other side (databases can be remapped): %w", ns.String(), clustersync.ErrUnmappable)
	}
	return out, nil
}

func toGateway(ns clustersync.Namespace) (out clustersync.Namespace, ok bool) {
	if ns.Database == "" || ns.Collection == "" {
		return out, false
	}
	out.Database = databaseToGateway(ns.Database)
	if scope, coll, named := namedScope(ns.Collection); named {
		out.Collection = scope + "." + coll
		return out, true
	}
	coll := collectionToGateway(ns.Collection)
	out.Collection = defaultName + "." + coll
	return out, len(coll) <= maxCollection
}

// namedScope reads ~scope.collection.
func namedScope(name string) (scope, coll string, ok bool) {
	rest, ok := strings.CutPrefix(name, escape)
	scope, coll, cut := strings.Cut(rest, ".")
	return scope, coll, ok && cut && plainName(scope) && (plainName(coll) || coll == defaultName)
}

// plainName reports whether tidegate takes the name of a scope or a collection.
func plainName(s string) bool {
	if s == "" || len(s) > maxCollection || !collectionFirst(s[0]) {
		return false
	}
	for i := range len(s) {
		if !collectionByte(s[i]) && s[i] != '%' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
func collectionFirst(c byte) bool { return alphanumeric(c) || c == '-' }
func collectionByte(c byte) bool  { return alphanumeric(c) || c == '-' || c == '_' }

func collectionToGateway(name string) string {
	if name == defaultName {
		return name
	}
	var b strings.Builder
	if !collectionFirst(name[0]) {
		b.WriteString(badFirstColl)
	}
	for i := range len(name) {
		if c := name[i]; collectionByte(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func databaseToGateway(name string) string {
	var b strings.Builder
	if c := name[0]; c < 'a' || c > 'z' {
		b.WriteString(badFirstDB)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '(', c == ')':
			b.WriteByte(c)
		case 'A' <= c && c <= 'Z':
			b.WriteByte('+')
			b.WriteByte(c - 'A' + 'a')
		default:
			fmt.Fprintf(&b, "$%02x", c)
		}
	}
	return b.String()
}

// toMongo undoes toGateway; the caller makes sure that it is the inverse.
func toMongo(ns clustersync.Namespace) (out clustersync.Namespace, ok bool) {
	if out.Database, ok = databaseToMongo(ns.Database); !ok {
		return out, false
	}
	scope, coll, ok := strings.Cut(ns.Collection, ".")
	switch {
	case !ok || coll == "":
		return out, false
	case scope != defaultName:
		out.Collection = escape + scope + "." + coll
	case coll == defaultName:
		out.Collection = defaultName
	default:
		out.Collection, ok = unescaped(strings.TrimPrefix(coll, badFirstColl), '%', 0)
	}
	return out, ok && legalInMongo(out)
}

func databaseToMongo(name string) (string, bool) {
	return unescaped(strings.TrimPrefix(name, badFirstDB), '$', '+')
}

// unescaped replaces an escape and two hexadecimal digits by the byte they mean, and capital (if not 0) and a small letter by the capital.
func unescaped(s string, escape, capital byte) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == escape:
			if i+2 >= len(s) {
				return "", false
			}
			c, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return "", false
			}
			b.WriteByte(c[0])
			i += 2
		case s[i] == capital && i+1 < len(s) && 'a' <= s[i+1] && s[i+1] <= 'z':
			i++
			b.WriteByte(s[i] - 'a' + 'A')
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), true
}

// legalInMongo reports whether a server would take the name.
func legalInMongo(ns clustersync.Namespace) bool {
	return ns.Database != "" && len(ns.Database) <= maxMongoName && !strings.ContainsAny(ns.Database, "/\\. \"$*<>:|?\x00") &&
		ns.Collection != "" && !strings.ContainsAny(ns.Collection, "$\x00") && !strings.HasPrefix(ns.Collection, "system.") &&
		!strings.HasPrefix(ns.Collection, ".") && len(ns.String()) <= maxMongoSpace
}
