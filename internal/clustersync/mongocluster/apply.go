package mongocluster

import (
	"context"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Limits of an apply.
const (
	maxRaces    = 5 // how often an upsert that lost a race for its _id is sent again
	slowWriters = 8 // connections for upserts to a server that scans for each (spec §23.5)
)

// Apply implements [clustersync.Destination] (spec §8.4). Deletes go first and inserts last, so that a value of a unique index that
// moves between documents of the batch is free when it is taken.
func (c *Cluster) Apply(ctx context.Context, ns clustersync.Namespace, intents []clustersync.Intent, opts clustersync.WriteOptions) ([]clustersync.Failure, error) {
	a := &applier{c: c, ns: ns, intents: intents, docs: make([]translated, len(intents)), skip: map[int]bool{}}
	if err := a.prepare(ctx); err != nil {
		return nil, err
	}
	if opts.Ordered {
		err := a.inOrder(ctx)
		return a.failed, err
	}
	var deletes, replaces, inserts []int
	fresh := a.allNew() || c.scans()
	for i, doc := range a.docs {
		switch {
		case a.skip[i]:
		case doc.body == nil:
			deletes = append(deletes, i)
		case fresh && intents[i].New:
			inserts = append(inserts, i)
		default:
			replaces = append(replaces, i)
		}
	}
	if err := a.delete(ctx, deletes); err != nil {
		return nil, err
	}
	if err := a.replace(ctx, replaces); err != nil {
		return nil, err
	}
	err := a.insert(ctx, inserts)
	return a.failed, err
}

// applier is one call of Apply. Items are known by their index among the intents.
type applier struct {
	c       *Cluster
	ns      clustersync.Namespace
	intents []clustersync.Intent
	docs    []translated
	skip    map[int]bool // failed before anything was sent
	shard   shardKey

	mu     sync.Mutex
	failed []clustersync.Failure
}

// prepare reads keys and bodies. A document that has no counterpart here fails alone.
func (a *applier) prepare(ctx context.Context) error {
	tr := translator{c: a.c, ns: a.ns}
	for i, intent := range a.intents {
		var err error
		if a.docs[i], err = tr.document(intent.Doc); err != nil {
			a.skip[i] = true
			a.failed = append(a.failed, clustersync.Failure{Index: i, Err: err})
		}
	}
	tr.report(ctx)
	shard, err := a.c.shardKey(ctx, a.ns)
	a.shard = shard
	return err
}

func (a *applier) allNew() bool {
	for _, intent := range a.intents {
		if !intent.New || intent.Doc.Body == nil {
			return false
		}
	}
	return len(a.intents) > 0
}

// inOrder applies a capped collection's changes one kind after the other as they come.
func (a *applier) inOrder(ctx context.Context) error {
	for start := 0; start < len(a.docs); {
		deletes := a.docs[start].body == nil
		var items []int
		for ; start < len(a.docs) && (a.docs[start].body == nil) == deletes; start++ {
			if !a.skip[start] {
				items = append(items, start)
			}
		}
		apply := a.replaceOrdered
		if deletes {
			apply = a.delete
		}
		if err := apply(ctx, items); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) delete(ctx context.Context, items []int) error {
	if len(items) == 0 {
		return nil
	}
	ops := make([]bson.Raw, len(items))
	for n, i := range items {
		ops[n] = newDoc().document("q", a.filter(i)).int("limit", 1).end()
	}
	_, failed, err := write{command: "delete", list: "deletes", ns: a.ns}.send(ctx, a.c, ops)
	a.fail(items, failed)
	return err
}

// insert tries new documents as inserts; those that are there already are replaced (spec §8.4).
func (a *applier) insert(ctx context.Context, items []int) error {
	if len(items) == 0 {
		return nil
	}
	docs := make([]bson.Raw, len(items))
	for n, i := range items {
		docs[n] = a.docs[i].body
	}
	_, failed, err := write{command: "insert", list: "documents", ns: a.ns, bypass: true}.send(ctx, a.c, docs)
	if err == nil {
		err = a.c.settle(ctx, a.ns, failed, false, func(n int) bson.Raw { return a.docs[items[n]].body })
	}
	if err != nil {
		return err
	}
	var present []int
	var others []itemError
	for _, e := range failed {
		if e.onID() {
			present = append(present, items[e.Index])
		} else {
			others = append(others, e)
		}
	}
	a.fail(items, others)
	return a.replace(ctx, present)
}

// replace upserts documents by _id. On a server that scans for each, several connections do.
func (a *applier) replace(ctx context.Context, items []int) error {
	if !a.c.scans() {
		return a.replacePart(ctx, items)
	}
	group, ctx := errgroup.WithContext(ctx)
	size := (len(items) + slowWriters - 1) / slowWriters
	for start := 0; start < len(items); start += size {
		group.Go(func() error { return a.replacePart(ctx, items[start:min(start+size, len(items))]) })
	}
	return group.Wait()
}

func (a *applier) replacePart(ctx context.Context, items []int) error {
	for races := 0; len(items) > 0; races++ {
		_, failed, err := write{command: "update", list: "updates", ns: a.ns, bypass: true}.send(ctx, a.c, a.upserts(items))
		if err == nil {
			err = a.c.settle(ctx, a.ns, failed, true, func(n int) bson.Raw { return a.docs[items[n]].body })
		}
		if err != nil {
			return err
		}
		var again []int
		var others []itemError
		for _, e := range failed {
			if e.onID() && races < maxRaces {
				again = append(again, items[e.Index]) // two upserts met; now it is there and is found (spec §8.8)
			} else {
				others = append(others, e)
			}
		}
		a.fail(items, others)
		items = again
	}
	return nil
}

// replaceOrdered upserts one after the other; what fails is left out and the rest goes on.
func (a *applier) replaceOrdered(ctx context.Context, items []int) error {
	for len(items) > 0 {
		_, failed, err := write{command: "update", list: "updates", ns: a.ns, bypass: true, ordered: true}.send(ctx, a.c, a.upserts(items))
		if err != nil || len(failed) == 0 {
			return err
		}
		a.fail(items, failed[:1])
		items = items[failed[0].Index+1:]
	}
	return nil
}

func (a *applier) upserts(items []int) []bson.Raw {
	ops := make([]bson.Raw, len(items))
	for n, i := range items {
		op := newDoc().document("q", a.filter(i))
		if needsPipeline(a.docs[i].body) {
			op.array("u", []bson.Raw{newDoc().document("$replaceWith", newDoc().document("$literal", a.docs[i].body).end()).end()})
		} else {
			op.document("u", a.docs[i].body)
		}
		op.boolean("upsert", true)
		if a.shard.collated {
			op.document("collation", marshal(bson.D{{Key: "locale", Value: "simple"}}))
		}
		ops[n] = op.end()
	}
	return ops
}

// needsPipeline tells a document that an update would take for operators, or refuse for its names (spec §20).
func needsPipeline(body bson.Raw) bool {
	elements, _ := body.Elements()
	for _, e := range elements {
		if strings.HasPrefix(e.Key(), "$") {
			return true
		}
	}
	return false
}

// filter finds the document of an intent: by _id, and by shard key where there is one (spec §8.4).
func (a *applier) filter(i int) bson.Raw {
	q := newDoc().append("_id", a.docs[i].id)
	for _, field := range a.shard.fields {
		if field == "_id" {
			continue
		}
		from := a.docs[i].body
		if from == nil {
			from = a.intents[i].Doc.Key.Raw
		}
		if value, ok := lookUpField(from, field); ok {
			q.append(field, value)
		}
	}
	return q.end()
}

// lookUpField finds the value of a shard key field, which documentKey writes with its dots.
func lookUpField(doc bson.Raw, field string) (bson.RawValue, bool) {
	if value, err := doc.LookupErr(field); err == nil {
		return value, true
	}
	value, err := doc.LookupErr(strings.Split(field, ".")...)
	return value, err == nil
}

func (a *applier) fail(items []int, errs []itemError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range errs {
		a.failed = append(a.failed, clustersync.Failure{Index: items[e.Index], Err: e.error()})
	}
}
