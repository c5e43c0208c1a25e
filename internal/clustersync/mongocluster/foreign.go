package mongocluster

import (
	"fmt"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// bodyOf is the BSON of a document, whatever cluster it comes from.
func (c *Cluster) bodyOf(doc clustersync.Document) (bson.Raw, error) {
	if doc.Format == clustersync.Tidegate {
		return nil, fmt.Errorf("write document: %w", clustersync.ErrUnmappable)
	}
	return doc.Body, nil
}

// idOf is the _id under which a document is kept here.
func (c *Cluster) idOf(doc clustersync.Document) (bson.RawValue, error) {
	id, err := doc.Key.Raw.LookupErr("_id")
	if err != nil {
		return id, fmt.Errorf("write document: its key has no _id")
	}
	return id, nil
}

func itoa(n int) string { return strconv.Itoa(n) }
