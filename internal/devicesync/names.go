package devicesync

import (
	"slices"
	"strings"
)

// Words of the query language that no queryable field may be called (device-sync.md §4.2).
var (
	anyCaseWords = strings.Fields(`and asc ascending beginswith between contains desc descending distinct endswith falsepredicate inf
		infinity like limit nan nil null or sort subquery truepredicate`)
	exactWords = strings.Fields(`ALL ANY B64 FALSE IN NONE NOT SOME TRUE all any false in none not oid some true uuid`)
)

// checkNames refuses names of fields that cannot be queried.
func checkNames(member string, names []string) error {
	for _, name := range names {
		switch {
		case strings.Contains(name, "."):
			return invalid(member, "%q is not a top-level field", name)
		case slices.Contains(anyCaseWords, strings.ToLower(name)), slices.Contains(exactWords, name):
			return invalid(member, "%q is a word of the query language and cannot name a queryable field", name)
		}
	}
	return nil
}
