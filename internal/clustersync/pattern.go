package clustersync

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// NamespacePattern is one element of includeNamespaces, excludeNamespaces or copyInNaturalOrder, as it is written down (spec §11.1).
type NamespacePattern struct {
	Database         string   `json:"database,omitempty" bson:"database,omitempty"`
	DatabaseRegex    *Regex   `json:"databaseRegex,omitempty" bson:"databaseRegex,omitempty"`
	Collections      []string `json:"collections,omitempty" bson:"collections,omitempty"`
	CollectionsRegex *Regex   `json:"collectionsRegex,omitempty" bson:"collectionsRegex,omitempty"`
}

// Regex is a regular expression with the options of MongoDB's $regex.
type Regex struct {
	Pattern string `json:"pattern" bson:"pattern"`
	Options string `json:"options,omitempty" bson:"options,omitempty"`
}

// pattern is a compiled NamespacePattern.
type pattern struct {
	database    names
	collections names // matching nothing at all: the element is of whole databases
}

// names matches a name that is listed or that the expression finds.
type names struct {
	listed []string
	re     *regexp.Regexp
}

func (n names) matches(name string) bool {
	return slices.Contains(n.listed, name) || n.re != nil && n.re.MatchString(name)
}

func (n names) none() bool { return len(n.listed) == 0 && n.re == nil }

func (p pattern) wholeDatabase() bool { return p.collections.none() }

func (p pattern) matches(ns Namespace) bool {
	return p.database.matches(ns.Database) && (p.wholeDatabase() || p.collections.matches(ns.Collection))
}

// everyDatabase is what copyInNaturalOrder calls every database (spec §5.1).
const everyDatabase = "."

// compile checks the element and makes it fit for use.
func (n NamespacePattern) compile() (pattern, error) {
	var p pattern
	switch {
	case n.Database != "" && n.DatabaseRegex != nil:
		return p, fmt.Errorf("has both database and databaseRegex")
	case n.Database != "":
		p.database.listed = []string{n.Database}
	case n.DatabaseRegex != nil:
		re, err := n.DatabaseRegex.compile()
		if err != nil {
			return p, fmt.Errorf("databaseRegex: %w", err)
		}
		p.database.re = re
	default:
		return p, fmt.Errorf("has neither database nor databaseRegex")
	}
	// An empty list could be read as none and as all.
	if n.Collections != nil && len(n.Collections) == 0 {
		return p, fmt.Errorf("collections is empty; leave it out to mean the whole database")
	}
	if slices.Contains(n.Collections, "") {
		return p, fmt.Errorf("collections has an empty name")
	}
	p.collections.listed = n.Collections
	if n.CollectionsRegex != nil {
		re, err := n.CollectionsRegex.compile()
		if err != nil {
			return p, fmt.Errorf("collectionsRegex: %w", err)
		}
		p.collections.re = re
	}
	return p, nil
}

// maxRegex bounds an expression's length.
const maxRegex = 4 << 10

// compile turns a PCRE expression with $regex's options into one of RE2, which knows all of it but look-around, back-references, possessive
// and atomic groups.
func (r Regex) compile() (*regexp.Regexp, error) {
	if r.Pattern == "" {
		return nil, fmt.Errorf("pattern is empty")
	}
	if len(r.Pattern) > maxRegex {
		return nil, fmt.Errorf("pattern is longer than %d bytes", maxRegex)
	}
	text, flags := r.Pattern, ""
	for _, o := range r.Options {
		switch o {
		case 'i', 'm', 's':
			flags += string(o)
		case 'x':
			text = withoutSpace(r.Pattern)
		case 'u':
		default:
			return nil, fmt.Errorf("option %q is none of i, m, s, u, x", o)
		}
	}
	if flags != "" {
		flags = "(?" + flags + ")"
	}
	re, err := regexp.Compile(flags + text)
	if err != nil {
		return nil, fmt.Errorf("pattern cannot be used: %w (look-around, back-references, atomic and possessive groups are not supported)", err)
	}
	return re, nil
}

// withoutSpace takes white space and comments out of an expression, as the option x wants, but not out of classes or after a backslash.
func withoutSpace(pattern string) string {
	var b strings.Builder
	class, comment := false, false
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch {
		case comment:
			comment = c != '\n'
			continue
		case c == '\\' && i+1 < len(pattern):
			b.WriteByte(c)
			i++
			c = pattern[i]
		case class:
			class = c != ']'
		case c == '[':
			class = true
		case c == '#':
			comment = true
			continue
		case strings.IndexByte(" \t\n\v\f\r", c) >= 0:
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
