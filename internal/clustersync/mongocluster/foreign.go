package mongocluster

import (
	"context"
	"fmt"
	"log/slog"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mapping"
)

// translated is a document as it is kept here, whatever cluster it comes from.
type translated struct {
	id   bson.RawValue
	body bson.Raw // nil: there is no document
}

// translator writes documents of one call down as MongoDB does, and counts what could not go along.
type translator struct {
	c                *Cluster
	ns               clustersync.Namespace
	dropped, expires int
}

func (t *translator) document(doc clustersync.Document) (translated, error) {
	if doc.Format == clustersync.Tidegate {
		converted, err := mapping.Convert(doc, clustersync.MongoDB)
		if err != nil {
			return translated{}, err
		}
		t.dropped += converted.Dropped
		if converted.Expires {
			t.expires++
		}
		doc = converted.Doc
	}
	id, err := doc.Key.Raw.LookupErr("_id")
	if err != nil {
		return translated{}, fmt.Errorf("write document: its key has no _id")
	}
	return translated{id: id, body: doc.Body}, nil
}

// report says what of the documents did not go along. Which ones they were is nothing for a log.
func (t *translator) report(ctx context.Context) {
	if t.dropped+t.expires > 0 {
		t.c.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "Parts of documents have no counterpart in MongoDB",
			slog.String("namespace", t.ns.String()), slog.Int("conflictingRevisions", t.dropped), slog.Int("expiries", t.expires))
	}
}
