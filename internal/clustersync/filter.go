package clustersync

import (
	"slices"
	"strings"
)

// Filter says which namespaces of the source are synced, and which of their documents; what they are called on the destination; and which
// are copied in natural order (spec §11). A nil or zero Filter lets everything through under its own name. It is immutable and
// safe for concurrent use. Namespaces are those of the source unless said otherwise.
type Filter struct {
	include []pattern // empty: everything
	exclude []pattern
	natural []pattern
	remap   map[string]string // databases; those not in it keep their names
	docs    *documents        // nil: all

	spec     FilterSpec
	metadata string // database with the records of the sync, if it is called otherwise than by default
}

// Includes reports whether the namespace is synced. Internal namespaces never are.
func (f *Filter) Includes(ns Namespace) bool {
	if Internal(ns) || f.internalDatabase(ns.Database) {
		return false
	}
	if f == nil {
		return true
	}
	return (len(f.include) == 0 || matches(f.include, ns)) && !matches(f.exclude, ns)
}

// WholeDatabase reports whether every collection that the database has, or may ever have, is synced.
func (f *Filter) WholeDatabase(db string) bool {
	if f.internalDatabase(db) {
		return false
	}
	if f == nil {
		return true
	}
	whole := func(p pattern) bool { return p.database.matches(db) && p.wholeDatabase() }
	touched := func(p pattern) bool { return p.database.matches(db) }
	return (len(f.include) == 0 || slices.ContainsFunc(f.include, whole)) && !slices.ContainsFunc(f.exclude, touched)
}

// Filtering reports whether there is an include or an exclude filter.
func (f *Filter) Filtering() bool { return f != nil && len(f.include)+len(f.exclude) > 0 }

// Remapping reports whether databases are called otherwise on the destination.
func (f *Filter) Remapping() bool { return f != nil && len(f.remap) > 0 }

// Target returns what the namespace is called on the destination.
func (f *Filter) Target(ns Namespace) Namespace {
	if f != nil {
		if to, ok := f.remap[ns.Database]; ok {
			ns.Database = to
		}
	}
	return ns
}

// Natural reports whether the collection was asked to be copied in natural order.
func (f *Filter) Natural(ns Namespace) bool { return f != nil && matches(f.natural, ns) }

// RenameVerdict says what a rename on the source means under a filter.
type RenameVerdict uint8

// The verdicts of spec §11.3.
const (
	RenameIgnore RenameVerdict = iota // neither name is synced
	RenameFollow                      // rename on the destination
	RenameCopy                        // the collection comes in: create it and copy it now, then go on
	RenameRefuse                      // fatal (UnsupportedEvent)
)

// Rename judges a rename. Of RenameRefuse the reason names both namespaces.
func (f *Filter) Rename(from, to Namespace) (v RenameVerdict, reason string) {
	was, is := f.Includes(from), f.Includes(to)
	// A rename inside one database needs no more than both names.
	crosses := from.Database != to.Database
	switch {
	case !was && !is:
		return RenameIgnore, ""
	case was && !is:
		return RenameRefuse, "rename of " + from.String() + " to " + to.String() + " takes the collection out of the filter"
	case was && (!crosses || f.WholeDatabase(to.Database)):
		return RenameFollow, ""
	case !was && f.WholeDatabase(to.Database):
		return RenameCopy, ""
	}
	return RenameRefuse, "rename of " + from.String() + " to " + to.String() + " needs the whole database " + to.Database + " in the filter"
}

// FilteringDocuments reports whether there is a document filter.
func (f *Filter) FilteringDocuments() bool { return f != nil && f.docs != nil }

// Keeps reports whether a document belongs to the sync. One without a body does not. It must be asked of every document read or fetched.
func (f *Filter) Keeps(d Document) bool {
	if d.Body == nil {
		return false
	}
	return f == nil || f.docs == nil || f.docs.keeps(d)
}

// internalDatabase is InternalDatabase with the records of this sync counted in.
func (f *Filter) internalDatabase(db string) bool {
	return InternalDatabase(db) || f != nil && f.metadata != "" && db == f.metadata
}

// InternalDatabase reports whether no sync ever touches the database: the servers' own, and the metadata of a sync, of this or of other
// tools (spec §6).
func InternalDatabase(db string) bool {
	switch db {
	case "admin", "local", "config", "percona_clustersync_mongodb":
		return true
	}
	return MetadataDatabase(db)
}

// DefaultMetadataDatabase is where the records of a sync are kept unless --metadataDb or --migrationName says otherwise.
const DefaultMetadataDatabase = "mongosync_reserved_for_internal_use"

// MetadataDatabase reports whether the database, by its name, holds the records of a sync or of its verifier.
func MetadataDatabase(db string) bool {
	return db == DefaultMetadataDatabase ||
		strings.HasPrefix(db, "mongosync_internal_") ||
		strings.HasPrefix(db, "mongosync_reserved_for_verification_") ||
		strings.HasPrefix(db, "__mdb_internal")
}

// Internal reports whether no sync ever touches the namespace.
func Internal(ns Namespace) bool {
	return InternalDatabase(ns.Database) || strings.HasPrefix(ns.Collection, "system.")
}

// matches reports whether any pattern matches.
func matches(patterns []pattern, ns Namespace) bool {
	return slices.ContainsFunc(patterns, func(p pattern) bool { return p.matches(ns) })
}
