package script

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
)

// CompileSync compiles a sync function. An empty source (or only blanks) is the default function:
// channel(doc.channels), or channel(defaultChannel) if that is not empty (sync-function.md §1).
//
// A source that does not compile gives an Invalid error that tells line, column and what is wrong.
func CompileSync(source string, defaultChannel string, opts Options) (SyncFunction, error) {
	code := trimSource(source)
	if code == "" {
		code = defaultSource(defaultChannel)
	}
	f, err := compile(kindSync, source, code, opts)
	if err != nil {
		return nil, compileError("sync function", err)
	}
	return syncFunction{f}, nil
}

func defaultSource(channel string) string {
	if channel == "" {
		return "function (doc) { channel(doc.channels); }"
	}
	return "function (doc) { channel(" + string(appendJSONString(nil, channel)) + "); }"
}

type syncFunction struct{ *compiled }

func (f syncFunction) Sync(ctx context.Context, in *SyncInput) (*SyncOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f.direct.worthTrying() {
		if m := f.direct.run(in); m != nil {
			defer f.direct.release(m)
			f.log.write(ctx, in.DocID, &m.out)
			return m.out.result()
		}
	}
	return f.syncOnEngine(ctx, in)
}

// syncOnEngine runs the function on the JavaScript engine.
func (f syncFunction) syncOnEngine(ctx context.Context, in *SyncInput) (*SyncOutput, error) {
	text, err := f.pool.call(ctx, syncArgs(in, f.pool.program.asksUser))
	if err == nil && strings.HasPrefix(text, markNeedsUser) {
		text, err = f.pool.call(ctx, syncArgs(in, true))
	}
	if err != nil {
		return nil, engineError(err)
	}
	o := outcome{now: in.Now}
	if err := o.read(text); err != nil {
		return nil, engineError(err)
	}
	f.log.write(ctx, in.DocID, &o)
	return o.result()
}

// syncArgs makes the arguments of prelude.js' runSync. The user may have thousands of channels; they are passed only
// if the function asks for them.
func syncArgs(in *SyncInput, withUser bool) []any {
	args := make([]any, 0, 7)
	args = append(args, string(quoteUnsafeIntegers(appendDoc(make([]byte, 0, len(in.Body)+256), in))))
	if in.OldBody == nil {
		args = append(args, nil)
	} else {
		args = append(args, string(quoteUnsafeIntegers(appendOldDoc(make([]byte, 0, len(in.OldBody)+128), in))))
	}
	if len(in.Meta) == 0 {
		args = append(args, nil)
	} else {
		args = append(args, string(quoteUnsafeIntegers(in.Meta)))
	}
	u := &in.User
	if u.Admin || !withUser {
		return append(args, u.Admin)
	}
	return append(args, false, nameList(u.Name), nameList(u.Roles...), nameList(u.Channels...))
}

// nameList joins names, none of which has a comma, with a comma on each side.
func nameList(names ...string) string {
	if len(names) == 0 {
		return ","
	}
	return "," + strings.Join(names, ",") + ","
}

// engineError is the error of a call that gave no records.
func engineError(err error) error {
	switch {
	case errors.Is(err, errInterrupted):
		return timedOut()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		return exception(err.Error())
	}
}

// read takes the records of one run in.
func (o *outcome) read(text string) error {
	recs, err := splitRecords(text, make([]record, 0, 8))
	if err != nil {
		return err
	}
	for _, r := range recs {
		switch r.tag {
		case tagChannel:
			o.channels = append(o.channels, r.text)
		case tagAccess, tagRole:
			o.grants = append(o.grants, grant{role: r.tag == tagRole})
		case tagLeft:
			g := &o.grants[len(o.grants)-1]
			g.left = append(g.left, r.text)
		case tagRight:
			g := &o.grants[len(o.grants)-1]
			g.right = append(g.right, r.text)
		case tagExpiry:
			o.setExpiry(r.text[0], r.text[1:])
		case tagReject, tagThrown:
			o.reject(rejection(r))
		case tagFault:
			o.throwFault(r.text)
		case tagResult:
			o.returned = r.text
		case tagWarning:
			o.warn(r.text)
		case tagInfo:
			o.logLine(slog.LevelInfo, r.text)
		case tagError:
			o.logLine(slog.LevelError, r.text)
		}
	}
	return nil
}

// rejection reads "status message".
func rejection(r record) error {
	number, message, _ := strings.Cut(r.text, " ")
	status, err := strconv.Atoi(number)
	if err != nil {
		status = statusRejectedBeyond + 1 // too large for an int, or infinite
	}
	if r.tag == tagThrown {
		return thrownRejection(status, message)
	}
	return calledRejection(status, message)
}
