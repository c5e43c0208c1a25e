package script

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/tidegate/tidegate"
)

// Fault is what a run failed of, for who mends the function.
type Fault struct {
	Kind    Failure
	Status  int    // of the answer that a write would get
	Message string // at most maxFaultMessage bytes
	// Line and Column in the source, from 1; 0 if not known: the script threw something that is no Error, or what
	// it did is refused only after it.
	Line, Column int
}

// maxFaultMessage bounds the message of a Fault, in bytes.
const maxFaultMessage = 500

// Trace describes the error of a run of fn. An exception without a place is looked for once more on the engine, which
// knows lines.
func Trace(ctx context.Context, fn SyncFunction, in *SyncInput, err error) Fault {
	f := Fault{Kind: Classify(err), Status: tidegate.ErrorCode(err).HTTPStatus(), Message: tidegate.ErrorReason(err)}
	if e, ok := errors.AsType[*tidegate.Error](err); ok && e.Status != 0 {
		f.Status, f.Message = e.Status, e.Reason
	}
	if f.Kind == FailureException {
		f.Message, f.Line, f.Column = faultOf(fn, err)
		if sync, ok := fn.(syncFunction); ok && f.Line == 0 {
			if _, err := sync.syncOnEngine(ctx, in); Classify(err) == FailureException {
				f.Message, f.Line, f.Column = faultOf(fn, err)
			}
		}
	}
	f.Message = cut(f.Message, maxFaultMessage)
	return f
}

// faultOf takes the description of an exception apart: what it says, and where the innermost call of the source stood.
func faultOf(fn SyncFunction, err error) (message string, line, column int) {
	detail := err.Error()
	if e, ok := errors.AsType[*failure](err); ok {
		detail = e.detail
	}
	message, stack, ok := strings.Cut(detail, "     at ") // prelude.js: fault
	if !ok {
		return message, 0, 0
	}
	source := fn.Source()
	trimmed := strings.TrimLeft(source, " \t\r\n")
	above := strings.Count(source[:len(source)-len(trimmed)], "\n") // lines that were cut off before it was compiled
	lines := strings.Split(trimmed, "\n")
	for _, frame := range stackFrame.FindAllStringSubmatch("at "+stack, -1) {
		l, _ := strconv.Atoi(frame[2])
		c, _ := strconv.Atoi(frame[3])
		if l == 1 {
			c -= len(factoryPrefix)
		}
		// The helpers of prelude.js stand in the stack too, and look the same.
		if preludeNames[frame[1]] || l < 1 || l > len(lines) || c < 1 || c > len(lines[l-1])+1 {
			continue
		}
		return message, l + above, c
	}
	return message, 0, 0
}

var stackFrame = regexp.MustCompile(`at (\S+) \(<eval>:(\d+):(\d+)\)`)

// preludeNames are the functions of prelude.js that a script can have in its stack.
var preludeNames = map[string]bool{
	"channel": true, "access": true, "role": true, "grant": true, "each": true, "describe": true, "require": true, "holds": true,
	"requireUser": true, "requireRole": true, "requireAccess": true, "requireAdmin": true, "reject": true, "expiry": true,
	"log": true, "write": true, "show": true, "put": true, "warn": true, "runSync": true,
}
