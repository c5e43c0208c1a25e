package script

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// ConflictDoc is one of the two revisions in conflict as a resolver sees it (inter-gateway.md §10).
type ConflictDoc struct {
	Rev     string // shown as _rev; the other document's must differ
	Deleted bool
	Body    []byte // a JSON object without _id, _rev, _deleted, _attachments and _exp
	// Attachments is the JSON object of stubs shown as _attachments; nil is shown as null.
	Attachments []byte
	Expiry      int64 // Unix seconds, shown as _exp of the local document; 0: null
}

// ConflictInput is what a resolver is asked.
type ConflictInput struct {
	DocID         string
	Local, Remote ConflictDoc
	// LocalLater: of two that are both live or both deleted, the default policy keeps the local one.
	LocalLater bool
}

// Choice is what a resolver decided.
type Choice uint8

// The choices.
const (
	ChoiceLocal  Choice = iota + 1 // the local document, as it is
	ChoiceRemote                   // the remote document, as it is
	ChoiceMerge                    // another document
	ChoiceDelete                   // the document is to be deleted
)

// ConflictOutput is a resolver's answer.
type ConflictOutput struct {
	Choice Choice
	// Doc, with ChoiceMerge, is the JSON object that the function returned, its underscore members included. It comes
	// from the script and is not checked. Values that are as in one of the two documents have their bytes from there.
	Doc []byte
}

// Resolver is a compiled conflict resolver. It is safe for concurrent use.
type Resolver interface {
	// Resolve runs the function. Whatever goes wrong in it, a result that is no document included, is an Internal error
	// that Classify tells apart; ctx's error if that ended.
	Resolve(ctx context.Context, in *ConflictInput) (*ConflictOutput, error)
	// Source returns the source as configured.
	Source() string
	// Close frees the runtimes once running calls have ended.
	Close()
}

// The reasons of a resolver's failures.
const (
	reasonResolverException = "Exception in JS conflict resolver"
	reasonResolverTimeout   = "JS conflict resolver timed out"
	reasonResolverResult    = "JS conflict resolver returned no document"
)

// CompileResolver compiles a conflict resolver: a function of one argument, perhaps in back quotes. A source that does
// not compile gives an Invalid error that tells line, column and what is wrong.
func CompileResolver(source string, opts Options) (Resolver, error) {
	f, err := compile(kindResolver, source, unquoteSource(source), opts)
	if err != nil {
		return nil, compileError("conflict resolver", err)
	}
	return resolver{f}, nil
}

// unquoteSource removes the back quotes around a source, as configuration files have them.
func unquoteSource(source string) string {
	code := trimSource(source)
	if len(code) >= 2 && code[0] == '`' && code[len(code)-1] == '`' {
		code = trimSource(code[1 : len(code)-1])
	}
	return code
}

type resolver struct{ *compiled }

func (f resolver) Resolve(ctx context.Context, in *ConflictInput) (*ConflictOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	text, err := f.pool.call(ctx, []any{
		conflictArg(in, &in.Local, true), conflictArg(in, &in.Remote, false), in.Local.Rev, in.Remote.Rev, in.LocalLater,
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var o outcome
	if err == nil {
		err = o.read(text)
	}
	switch {
	case errors.Is(err, errInterrupted):
		return nil, resolverFailed(FailureTimeout, reasonResolverTimeout, "stopped at the time limit")
	case err != nil:
		return nil, resolverFailed(FailureException, reasonResolverException, err.Error())
	}
	f.log.write(ctx, in.DocID, &o)
	if o.faulty {
		return nil, resolverFailed(FailureException, reasonResolverException, o.fault)
	}
	return readResolution(in, o.returned)
}

func resolverFailed(kind Failure, reason, detail string) error {
	return &tidegate.Error{
		Code: tidegate.Internal, Reason: reason, Status: http.StatusInternalServerError, Err: &failure{kind, detail},
	}
}

// conflictArg makes the JSON of one document.
func conflictArg(in *ConflictInput, d *ConflictDoc, withExpiry bool) string {
	b := bytes.TrimSpace(d.Body)
	b = append(make([]byte, 0, len(b)+len(d.Attachments)+256), b[:max(len(b)-1, 0)]...) // without the brace
	if len(b) == 0 {
		b = append(b, '{')
	}
	if len(bytes.TrimSpace(b)) > 1 {
		b = append(b, ',')
	}
	b = appendJSONString(append(b, `"_id":`...), in.DocID)
	b = appendJSONString(append(b, `,"_rev":`...), d.Rev)
	b = strconv.AppendBool(append(b, `,"_deleted":`...), d.Deleted)
	b = append(b, `,"_attachments":`...)
	if d.Attachments == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, d.Attachments...)
	}
	if withExpiry {
		b = append(b, `,"_exp":`...)
		if d.Expiry == 0 {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendInt(b, d.Expiry, 10)
		}
	}
	return string(quoteUnsafeIntegers(append(b, '}')))
}

// readResolution reads what the function returned: prelude.js puts n for nothing, o and the JSON of an object, or x
// and the type of anything else.
func readResolution(in *ConflictInput, returned string) (*ConflictOutput, error) {
	kind, rest := returned[:min(1, len(returned))], returned[min(1, len(returned)):]
	switch kind {
	case "n":
		return &ConflictOutput{Choice: ChoiceDelete}, nil
	case "o":
	default:
		return nil, resolverFailed(FailureException, reasonResolverResult, "it returned "+cut(rest, 100))
	}
	doc := []byte(rest)
	rev := ""
	if raw, ok := jsondoc.Get(doc, "_rev"); ok && strings.HasPrefix(string(raw), `"`) {
		rev, _ = jsondoc.Unquote(raw)
	}
	switch {
	case rev == in.Local.Rev && sameContent(&in.Local, doc):
		return &ConflictOutput{Choice: ChoiceLocal}, nil
	case rev == in.Remote.Rev && sameContent(&in.Remote, doc):
		return &ConflictOutput{Choice: ChoiceRemote}, nil
	}
	return &ConflictOutput{Choice: ChoiceMerge, Doc: appendRestored(nil, doc, in.Local.Body, in.Remote.Body)}, nil
}
