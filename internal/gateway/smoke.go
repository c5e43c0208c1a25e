package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/config"
	"github.com/tidegate/tidegate/internal/script"
)

// A function that somebody wants to put in force is not only compiled: it is run over a few made-up documents, as the
// administrator (docs/resync.md). What it does there is not judged: a function may well throw for documents that are not its
// own, and so may every other one. Refused is what can be no intention: a name that does not exist, and a run that
// does not end within the limits. Functions that are in force are not tried again when a database loads.

// smokeTime is how long one such run may take: the documents are tiny.
const smokeTime = 2 * time.Second

// smokeInputs are the made-up documents: an empty one, one with what many functions look for, an update of it, and its
// deletion.
func smokeInputs(now time.Time) []*script.SyncInput {
	const plain, full = `{}`, `{"type":"example","name":"example","owner":"example","members":["example"],"channels":["example"],"n":1}`
	inputs := []*script.SyncInput{
		{Body: []byte(plain)},
		{Body: []byte(full)},
		{Body: []byte(full), OldBody: []byte(full)},
		{Body: []byte(plain), OldBody: []byte(full), Deleted: true},
	}
	for _, in := range inputs {
		in.DocID, in.User, in.Now = "example", script.User{Admin: true}, now
	}
	return inputs
}

// smoke tries the sync functions and import filters of a config that are not the same in before, which may be nil. In
// both, sources that are URLs have been fetched. Invalid: one of them is refused.
func (g *Gateway) smoke(ctx context.Context, before, cfg *config.Database) error {
	known := map[string]config.JavaScript{}
	if before != nil {
		for path, source := range before.Scripts() {
			known[path] = source
		}
	}
	for path, source := range cfg.Scripts() {
		if source == "" || known[path] == source || !strings.HasSuffix(path, "sync") && !strings.HasSuffix(path, "import_filter") {
			continue
		}
		if err := g.trySource(ctx, string(source), cfg.Settings().JavaScriptTimeout); err != nil {
			if reason, ok := errors.AsType[*tidegate.Error](err); ok && reason.Code == tidegate.Invalid {
				return tidegate.Errorf(tidegate.Invalid, "%s: %s", path, reason.Reason)
			}
			return err
		}
	}
	return nil
}

// trySource runs a function over the made-up documents. Invalid: it is refused. An import filter is tried as a sync
// function, whose failures are told.
func (g *Gateway) trySource(ctx context.Context, source string, timeout time.Duration) error {
	fn, err := script.CompileSync(source, "", script.Options{Limits: script.Limits{Time: min(timeout, smokeTime), Runtimes: 1}})
	if err != nil {
		return err
	}
	defer fn.Close()
	for _, in := range smokeInputs(g.opts.Now()) {
		_, err := fn.Sync(ctx, in)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if reason := refusal(err); reason != "" {
			return tidegate.Errorf(tidegate.Invalid, "the function cannot be meant so: tried on the document %s it ended with: %s", in.Body, reason)
		}
	}
	return nil
}

// refusal says what is wrong with a function whose run ended with err; "" if that is its own business.
func refusal(err error) string {
	switch script.Classify(err) {
	case script.FailureTimeout:
		return "it does not end within the time limit"
	case script.FailureException:
		detail, _, _ := strings.Cut(errors.Unwrap(err).Error(), "\n")
		detail, _, _ = strings.Cut(detail, "    at ")
		if strings.HasPrefix(detail, "ReferenceError: ") && strings.Contains(detail, "is not defined") || strings.HasPrefix(detail, "InternalError: ") {
			return strings.TrimSpace(detail)
		}
	}
	return ""
}
