package script

import (
	"context"
	"strconv"
)

// FilterInput is one document as an import filter sees it (sync-function.md §9).
type FilterInput struct {
	DocID   string // for the log
	Body    []byte // the external body, a JSON object; nil if none is known
	Deleted bool
}

// ImportFilter is a compiled import filter. It is safe for concurrent use.
type ImportFilter interface {
	// Filter tells whether to import the document. Whatever goes wrong in the script is logged and counts as no; the
	// error is only ever ctx's.
	Filter(ctx context.Context, in *FilterInput) (bool, error)
	// Source returns the source as configured.
	Source() string
	// Close frees the runtimes once running calls have ended.
	Close()
}

// CompileImportFilter compiles an import filter: a function of one argument whose result is a boolean or a string that
// reads as one ("true", "1", "t" …). A source that does not compile gives an Invalid error.
func CompileImportFilter(source string, opts Options) (ImportFilter, error) {
	f, err := compile(kindFilter, source, trimSource(source), opts)
	if err != nil {
		return nil, compileError("import filter", err)
	}
	return importFilter{f}, nil
}

type importFilter struct{ *compiled }

func (f importFilter) Filter(ctx context.Context, in *FilterInput) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	body := in.Body
	if body == nil {
		body = []byte("{}")
	}
	if ok, done := f.filterDirect(ctx, in, body); done {
		return ok, nil
	}
	doc := []byte("{")
	if in.Deleted {
		doc = append(doc, `"_deleted":true`...)
	}
	text, err := f.pool.call(ctx, []any{string(quoteUnsafeIntegers(appendMembers(doc, body)))})
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	var o outcome
	if err == nil {
		err = o.read(text)
	}
	if err != nil {
		o.warn("import filter: " + err.Error())
	}
	return f.verdict(ctx, in, &o, o.returned), nil
}

// filterDirect tries the direct evaluator.
func (f importFilter) filterDirect(ctx context.Context, in *FilterInput, body []byte) (ok, done bool) {
	if !f.direct.worthTrying() {
		return false, false
	}
	m := f.direct.run(&SyncInput{DocID: in.DocID, Body: body, Deleted: in.Deleted})
	if m == nil {
		return false, false
	}
	defer f.direct.release(m)
	returned := ""
	switch m.returns.kind {
	case kindBool:
		returned = strconv.FormatBool(m.returns.truthy())
	case kindString:
		returned = string(m.returns.text)
	}
	return f.verdict(ctx, in, &m.out, returned), true
}

// verdict reads what the script returned, and logs.
func (f importFilter) verdict(ctx context.Context, in *FilterInput, o *outcome, returned string) bool {
	if o.faulty {
		o.warn("import filter: " + o.fault)
	}
	f.log.write(ctx, in.DocID, o)
	ok, err := strconv.ParseBool(returned)
	return err == nil && ok && !o.faulty
}
