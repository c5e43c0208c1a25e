package clustersync

import "go.mongodb.org/mongo-driver/v2/bson"

// DocumentFilter keeps documents whose top-level field equals one of some values (spec §11.5).
type DocumentFilter struct {
	Field  string          `bson:"field"`
	Values []bson.RawValue `bson:"matchValues"`
}

func (f *DocumentFilter) keeps(d Document) bool { return true }
