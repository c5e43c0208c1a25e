package script

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
)

// testNow is the time of all test runs.
var testNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// input makes the input of a new document by an admin.
func input(body string) *SyncInput {
	return &SyncInput{
		DocID: "doc1",
		Rev:   tidegate.RevID{Generation: 1, Digest: "abc"},
		Body:  []byte(body),
		User:  User{Admin: true},
		Now:   testNow,
	}
}

// result is everything that a run shows.
type result struct {
	Out    *SyncOutput
	Code   tidegate.Code
	Reason string
	Status int
	Kind   Failure
	Lines  []logLine
}

func (r result) String() string {
	if r.Out == nil {
		return fmt.Sprintf("error %v %q status %d kind %d lines %q", r.Code, r.Reason, r.Status, r.Kind, r.Lines)
	}
	return fmt.Sprintf("%+v lines %q", *r.Out, r.Lines)
}

func resultOf(o *outcome) result {
	out, err := o.result()
	r := result{Out: out, Kind: Classify(err), Lines: append([]logLine(nil), o.lines...)}
	if e, ok := errors.AsType[*tidegate.Error](err); ok {
		r.Code, r.Reason, r.Status = e.Code, e.Reason, e.Status
	}
	return r
}

func (l logLine) String() string { return slog.Level.String(l.level) + " " + l.text }

// testEngines are QuickJS and goja, each on a runtime that runs any program: it comes in meta.source. Loading a runtime
// costs milliseconds, many of them under the race detector.
type testEngines map[string]vm

const anyProgram = `function (doc, oldDoc, meta) {
	var source = meta.source;
	delete meta.source;
	return Function("return (" + source + "\n)")()(doc, oldDoc, meta);
}`

// sharedEngines are the engines of all tests, which do not run in parallel.
var sharedEngines = sync.OnceValue(func() testEngines { return loadEngines(anyProgram) })

func loadEngines(source string) testEngines {
	engines := make(testEngines)
	for name, e := range map[string]engine{"quickjs": quickEngine{}, "goja": gojaEngine{}} {
		v, err := e.load(newProgram(kindSync, source), Limits{Time: time.Minute}.withDefaults(1))
		if err != nil {
			panic(fmt.Sprintf("%s: %v", name, err))
		}
		engines[name] = v
	}
	return engines
}

func (e testEngines) close() {
	for _, v := range e {
		v.close()
	}
}

// thin leaves out most of the cases of an expensive test when the race detector is on.
func thin[T any](cases []T) []T {
	if !raceBuild {
		return cases
	}
	var some []T
	for i := 0; i < len(cases); i += 4 {
		some = append(some, cases[i])
	}
	return some
}

// testFunction is a program that is run in every way there is.
type testFunction struct {
	engines testEngines
	source  string
	direct  *directProgram // nil if the program is not in the subset
}

func (e testEngines) function(source string) *testFunction {
	return &testFunction{engines: e, source: source, direct: compileDirect(newProgram(kindSync, source))}
}

// runAll runs the program on in everywhere. The key "direct" is missing if the direct evaluator leaves the run to an engine.
func (f *testFunction) runAll(in *SyncInput) (map[string]result, error) {
	withSource := *in
	meta := []byte(noMeta)
	if in.Meta != nil {
		meta = in.Meta
	}
	withSource.Meta = append([]byte(`{"source":`), appendJSONString(nil, f.source)...)
	withSource.Meta = append(append(withSource.Meta, ','), meta[1:]...)
	args := syncArgs(&withSource, true)
	results := make(map[string]result)
	for name, v := range f.engines {
		text, err := v.call(args)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		o := outcome{now: in.Now}
		if err := o.read(strings.TrimPrefix(text, markSpoilt)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		results[name] = resultOf(&o)
	}
	if f.direct != nil {
		if m := f.direct.run(in); m != nil {
			results["direct"] = resultOf(&m.out)
			f.direct.release(m)
		}
	}
	return results, nil
}

// disagreement describes the first difference among results, "" if there is none.
func disagreement(results map[string]result) string {
	want := results["quickjs"]
	for name, got := range results {
		if !reflect.DeepEqual(got, want) {
			return fmt.Sprintf("%s: %v\nquickjs: %v", name, got, want)
		}
	}
	return ""
}

// agree runs the program everywhere and returns the common result.
func (f *testFunction) agree(t *testing.T, in *SyncInput) result {
	t.Helper()
	results, err := f.runAll(in)
	if err != nil {
		t.Fatalf("run %s: %v", f.source, err)
	}
	if d := disagreement(results); d != "" {
		t.Fatalf("%s\non %s\n%s", f.source, in.Body, d)
	}
	return results["quickjs"]
}
