package gatewaycluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// entry is a line of a feed.
type entry struct {
	seq uint64
	id  string
}

// event says that the document was touched: what it is now is fetched. A tombstone is fetched as well, for it goes along.
func (e entry) event(ref clustersync.Ref) clustersync.Event {
	key := keyOf(e.id)
	return clustersync.Event{
		Op: clustersync.OpTouched, Ref: ref, Time: timestamp(time.Now()), Bytes: len(e.id),
		Doc: clustersync.Document{Key: key, Format: clustersync.Tidegate},
	}
}

// feed reads the entries of a collection after a sequence, at most feedEntries: all documents, tombstones too.
func (c *Cluster) feed(ctx context.Context, ns clustersync.Namespace, since uint64) ([]entry, error) {
	var answer struct {
		Results []struct {
			Seq json.RawMessage `json:"seq"`
			ID  string          `json:"id"`
		} `json:"results"`
	}
	query := url.Values{"since": {strconv.FormatUint(since, 10)}, "limit": {strconv.Itoa(feedEntries)}, "style": {"all_docs"}}
	if err := c.client.get(ctx, keyspace(ns)+"_changes", query, &answer); err != nil {
		return nil, fmt.Errorf("read changes of %s: %w", ns, err)
	}
	out := make([]entry, 0, len(answer.Results))
	for _, r := range answer.Results {
		seq, err := strconv.ParseUint(string(r.Seq), 10, 64)
		if err != nil { // an administrator's feed has plain sequences
			return nil, fmt.Errorf("read changes of %s: sequence %s is no number", ns, cut(string(r.Seq), 50))
		}
		out = append(out, entry{seq, r.ID})
	}
	return out, nil
}
