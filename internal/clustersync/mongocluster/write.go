package mongocluster

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// Limits of one write command (spec §7.4). A command is one BSON document, and so is bounded by the size of one.
const (
	maxWriteItems = 10_000
	maxWriteBytes = 15 << 20
)

// write is a command that writes many documents: "insert", "update" or "delete" with its list of items.
type write struct {
	command string // and below what name the items are
	list    string
	ns      clustersync.Namespace
	ordered bool
	bypass  bool // document validation
	journal bool
}

// itemError is what a server says of one item of a write.
type itemError struct {
	Index      int      `bson:"index"`
	Code       int      `bson:"code"`
	Message    string   `bson:"errmsg"`
	KeyPattern bson.Raw `bson:"keyPattern"`
	KeyValue   bson.Raw `bson:"keyValue"`

	index string // found out by settle
}

// send writes the items and returns the errors of single ones, with their index among these items. It splits what is too much for one
// command, and what a server finds too large (spec §7.4).
func (w write) send(ctx context.Context, c *Cluster, items []bson.Raw) (n int64, failed []itemError, err error) {
	for start := 0; start < len(items); {
		end, bytes := start, 0
		for end < len(items) && end-start < maxWriteItems && (end == start || bytes+len(items[end]) <= maxWriteBytes) {
			bytes += len(items[end])
			end++
		}
		done, errs, err := w.part(ctx, c, items[start:end])
		n += done
		for _, e := range errs {
			e.Index += start
			failed = append(failed, e)
		}
		if err != nil {
			return n, failed, err
		}
		if w.ordered && len(errs) > 0 {
			return n, failed, nil // what follows was not tried
		}
		start = end
	}
	return n, failed, nil
}

// part sends one command, in halves if it is too large.
func (w write) part(ctx context.Context, c *Cluster, items []bson.Raw) (int64, []itemError, error) {
	var n int64
	var failed []itemError
	err := c.retry(ctx, func() error {
		var err error
		n, failed, err = w.once(ctx, c, items)
		return err
	})
	switch {
	case !errors.Is(err, clustersync.ErrTooLarge):
		return n, failed, err
	case len(items) == 1:
		return 0, []itemError{{Code: codeTooLarge, Message: err.Error()}}, nil
	}
	half := len(items) / 2
	n, failed, err = w.part(ctx, c, items[:half])
	if err != nil || w.ordered && len(failed) > 0 {
		return n, failed, err
	}
	more, others, err := w.part(ctx, c, items[half:])
	for _, e := range others {
		e.Index += half
		failed = append(failed, e)
	}
	return n + more, failed, err
}

func (w write) once(ctx context.Context, c *Cluster, items []bson.Raw) (int64, []itemError, error) {
	caps, err := c.capabilities(ctx)
	if err != nil {
		return 0, nil, err
	}
	concern := majority
	if w.journal {
		concern = journaled
	}
	cmd := newDoc().string(w.command, w.ns.Collection).boolean("ordered", w.ordered).document("writeConcern", marshal(concern))
	if w.bypass {
		cmd.boolean("bypassDocumentValidation", true)
	}
	if caps.emptyTimestamp && w.command != "delete" {
		cmd.boolean("bypassEmptyTsReplacement", true)
	}
	answer, err := c.once(ctx, w.command+" into "+w.ns.String(), w.ns.Database, cmd.array(w.list, items).end())
	if err != nil {
		return 0, nil, err
	}
	var reply struct {
		N      int64       `bson:"n"`
		Errors []itemError `bson:"writeErrors"`
	}
	if err := bson.Unmarshal(answer, &reply); err != nil {
		return 0, nil, c.failed("read answer", err)
	}
	for _, e := range reply.Errors {
		if err := e.ofCall(w.command + " into " + w.ns.String()); err != nil {
			return reply.N, nil, err // the whole call is of no use, and safe to repeat
		}
	}
	return reply.N, reply.Errors, nil
}

// ofCall returns an error for what is not the item's own fault: nobody may write, or not now.
func (e itemError) ofCall(verb string) error {
	is := func(codes []int) bool {
		for _, code := range codes {
			if e.Code == code {
				return true
			}
		}
		return false
	}
	text := "code " + strconv.Itoa(e.Code)
	switch {
	case e.Code == codeUnauthorized:
		return &failure{verb: verb, kind: clustersync.ErrUnauthorized, err: clustersync.ErrUnauthorized, text: text}
	case e.Code == codeWritesBlocked:
		return &failure{verb: verb, kind: clustersync.ErrUnauthorized, err: errBlocked, text: errBlocked.Error()}
	case is(passing):
		return &failure{verb: verb, kind: clustersync.ErrUnreachable, err: clustersync.ErrUnreachable, text: text}
	}
	return nil
}

// errBlocked: writes of users are blocked, and this user may not pass (spec §12).
var errBlocked = errors.New("user writes are blocked, and the sync's user lacks bypassWriteBlockingMode")

// onID reports whether a duplicate key is one of _id.
func (e itemError) onID() bool {
	if e.Code != codeDuplicateKey {
		return false
	}
	if elements, err := e.KeyPattern.Elements(); err == nil && len(elements) > 0 {
		return len(elements) == 1 && elements[0].Key() == "_id"
	}
	return strings.Contains(e.Message, "_id_")
}

// unclear reports whether a duplicate key may be one of _id, because the server does not say which index it is.
func (e itemError) unclear() bool {
	return e.duplicate() && len(e.KeyPattern) == 0 && !indexName.MatchString(e.Message)
}

// uniqueFailed is what FerretDB's storage says of a duplicate key.
const uniqueFailed = "UNIQUE constraint"

// duplicate reports whether an item failed for a unique index. FerretDB says so with another code (spec §23.5).
func (e itemError) duplicate() bool {
	return e.Code == codeDuplicateKey || e.Code == codeInternal && strings.Contains(e.Message, uniqueFailed)
}

var indexName = regexp.MustCompile(`index: (?:[^ ]*\$)?(.+?)(?: collation:.*)? dup key`)

// error is the error of a document that could not be written. The server's own text can hold data of users and is left out.
func (e itemError) error() error {
	switch {
	case e.duplicate():
		dup := &clustersync.DuplicateKeyError{Index: e.index, Holder: e.KeyValue, Err: errors.New("code " + strconv.Itoa(e.Code))}
		if m := indexName.FindStringSubmatch(e.Message); m != nil && dup.Index == "" {
			dup.Index = m[1]
		}
		return dup
	case e.Code == codeTooLarge || e.Code == codeTooLargeUpdate || e.Code == 17280:
		return &failure{verb: "write document", kind: clustersync.ErrTooLarge, err: clustersync.ErrTooLarge, text: clustersync.ErrTooLarge.Error()}
	}
	return errors.New("write document: the server refuses it with code " + strconv.Itoa(e.Code))
}
