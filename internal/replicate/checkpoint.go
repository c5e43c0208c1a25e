package replicate

import (
	"context"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// checkpointPrefix is what the local documents of checkpoints begin with (replication.md §10).
const checkpointPrefix = "checkpoint/"

// handleGetCheckpoint answers getCheckpoint (replication.md §5.1).
func (coll *collection) handleGetCheckpoint(r *blip.Request) error {
	client, ok := r.Property("client")
	if !ok {
		return errNoClient
	}
	doc, err := coll.readCheckpoint(coll.c.ctx(), client)
	if err != nil {
		return err
	}
	m := &blip.Message{Body: doc.Body}
	m.Properties.Add("rev", doc.Rev)
	coll.c.respond(r, m)
	return nil
}

// handleSetCheckpoint answers setCheckpoint (replication.md §5.2).
func (coll *collection) handleSetCheckpoint(r *blip.Request) error {
	client, ok := r.Property("client")
	if !ok {
		return errNoClient
	}
	body, err := checkpointBody(r.Body())
	if err != nil {
		return err
	}
	h, err := coll.principal(coll.c.ctx())
	if err != nil {
		return err
	}
	rev, _ := r.Property("rev")
	written, err := h.StoreCheckpoint(coll.c.ctx(), coll.refOf(client), rev, body)
	if err != nil {
		return err
	}
	m := &blip.Message{}
	m.Properties.Add("rev", written)
	coll.c.respond(r, m)
	return nil
}

// maxCheckpoint bounds a checkpoint, in bytes. Those of real clients have some hundred; one that lists many completed
// sequences may have more.
const maxCheckpoint = 1 << 20

// checkpointBody checks a checkpoint and takes out what belongs to its storage: gateways send _rev along.
func checkpointBody(raw []byte) ([]byte, error) {
	if len(raw) > maxCheckpoint {
		return nil, tidegate.Errorf(tidegate.TooLarge, "Checkpoint too large")
	}
	doc, err := jsondoc.Split(raw, jsondoc.Limits{}, true)
	if err != nil {
		return nil, errNotJSON
	}
	return doc.Body, nil
}

// checkpoint returns the checkpoint of a client as getCollections shows it: with its revision under both names that
// peers look for, {} if there is none.
func (coll *collection) checkpoint(ctx context.Context, client string) ([]byte, error) {
	doc, err := coll.readCheckpoint(ctx, client)
	if tidegate.ErrorCode(err) == tidegate.NotFound && err != nil {
		return []byte("{}"), nil
	}
	if err != nil {
		return nil, err
	}
	rev := jsondoc.AppendString(nil, doc.Rev)
	return jsondoc.AppendDoc(nil, doc.Body, jsondoc.Member{Name: "_rev", Value: rev}, jsondoc.Member{Name: "rev", Value: rev}), nil
}
