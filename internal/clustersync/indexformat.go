package clustersync

import (
	"context"
	"fmt"
	"strings"
)

// IndexFormats is a Cluster whose unique indexes may have been written by servers that are older than it. Optional.
type IndexFormats interface {
	// OldUniqueIndexes looks at these indexes, given by the collection, on every node that can be reached by itself, and returns those that are
	// not in the current format. unchecked says which nodes it could not look at, and why; each begins with the node's "host:port".
	OldUniqueIndexes(ctx context.Context, unique map[Namespace][]string) (old []OldIndex, unchecked []string, err error)
}

// OldIndex is a unique index in the format of MongoDB 4.0 or older, as it is on one node.
type OldIndex struct {
	Node      string // "host:port"
	Namespace Namespace
	Index     string
	Why       string // what the server says
}

// checkIndexFormats makes sure that the unique indexes of an old source can be made non-unique and unique again, on every node (spec §14.1).
// What could not be looked at is among the warnings. The error is ReversePreconditionFailed, with the remedy.
func (c *Control) checkIndexFormats(ctx context.Context, source Cluster, label string) error {
	looker, ok := source.(IndexFormats)
	if !ok {
		return nil
	}
	listed, err := source.List(ctx)
	if err != nil {
		return fmt.Errorf("list %s: %w", label, err)
	}
	unique := map[Namespace][]string{}
	for _, coll := range listed {
		for _, spec := range coll.Indexes {
			if specFlag(spec, "unique") {
				unique[coll.Namespace] = append(unique[coll.Namespace], indexName(spec))
			}
		}
	}
	if len(unique) == 0 {
		return nil
	}
	old, unchecked, err := looker.OldUniqueIndexes(ctx, unique)
	if err != nil {
		return fmt.Errorf("look at the unique indexes of %s: %w", label, err)
	}
	for _, node := range unchecked {
		c.Warn(fmt.Sprintf("the format of unique indexes could not be checked on a node of %s, %s; validate its collections before the reversed sync is committed", label, node))
	}
	if len(old) == 0 {
		return nil
	}
	var names []string
	for _, x := range old {
		names = append(names, fmt.Sprintf("%s of %s on %s (%s)", x.Index, x.Namespace, x.Node, x.Why))
	}
	return Errorf(ReversePreconditionFailed, "%s has unique indexes in the format of MongoDB 4.0 or older: %s. "+
		"Resync each secondary (initial sync), then step the primary down and resync it as well; validate the collections, and call /reverse again",
		label, strings.TrimSpace(someOf(names)))
}
