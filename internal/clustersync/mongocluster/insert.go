package mongocluster

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Insert implements [clustersync.Destination] (spec §7.4): a document whose _id is there already is left as it is.
func (c *Cluster) Insert(ctx context.Context, ns clustersync.Namespace, docs []clustersync.Document, opts clustersync.WriteOptions) (clustersync.InsertResult, error) {
	var result clustersync.InsertResult
	tr := translator{c: c, ns: ns}
	bodies := make([]bson.Raw, 0, len(docs))
	for _, doc := range docs {
		here, err := tr.document(doc)
		if err != nil {
			return result, err
		}
		if here.body != nil {
			bodies = append(bodies, here.body)
		}
	}
	tr.report(ctx)
	w := write{command: "insert", list: "documents", ns: ns, ordered: opts.Ordered, bypass: true}
	for rest := bodies; len(rest) > 0; {
		_, failed, err := w.send(ctx, c, rest)
		if err != nil {
			return result, err
		}
		if err := c.settle(ctx, ns, failed, false, func(i int) bson.Raw { return rest[i] }); err != nil {
			return result, err
		}
		tried := len(rest)
		if opts.Ordered && len(failed) > 0 {
			tried = failed[0].Index + 1
		}
		present := make(map[int]bool, len(failed))
		for _, e := range failed {
			if !e.onID() {
				return result, e.error() // no other unique index is unique during the copy (spec §7.4)
			}
			present[e.Index] = true
		}
		for i, body := range rest[:tried] {
			if present[i] {
				result.Present++
				continue
			}
			result.Inserted++
			result.Bytes += int64(len(body))
		}
		rest = rest[tried:]
	}
	return result, nil
}
