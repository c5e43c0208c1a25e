package mapping

import (
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

func convert(doc clustersync.Document, to clustersync.Kind) (Converted, error) {
	return Converted{Doc: doc}, nil
}
func documentToJSON(doc bson.Raw) (id string, body []byte, err error) {
	return "", nil, clustersync.ErrUnmappable
}
func documentToBSON(doc []byte) (bson.Raw, error) { return nil, clustersync.ErrUnmappable }
func documentID(key bson.Raw) (id string, exact bool, err error) {
	return "", false, clustersync.ErrUnmappable
}
func keyOf(id string) (bson.Raw, error)                        { return nil, clustersync.ErrUnmappable }
func canonical(doc clustersync.Document) ([]byte, error)       { return doc.Body, nil }
func canonicalLeaves(doc clustersync.Document) ([]byte, error) { return doc.Body, nil }
func translate(k clustersync.Key, from, to clustersync.Kind) (clustersync.Key, error) {
	return k, nil
}
func namespace(ns clustersync.Namespace, from, to clustersync.Kind) (clustersync.Namespace, error) {
	return ns, nil
}
