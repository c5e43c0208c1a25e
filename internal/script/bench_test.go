package script

import (
	"fmt"
	"testing"

	"github.com/tidegate/tidegate"
)

// benchBody is a document of 1.1 KB.
const benchBody = `{"type":"order","owner":"alice","channels":["a","b"],"status":"open","total":1234.5,"items":[` +
	`{"sku":"A-100","qty":2,"price":9.99,"note":"first item of the order"},` +
	`{"sku":"B-200","qty":1,"price":19.99,"note":"second item of the order"},` +
	`{"sku":"C-300","qty":5,"price":4.99,"note":"third item of the order"}],` +
	`"address":{"street":"12 Long Street","city":"Springfield","zip":"12345","country":"US"},` +
	`"history":[{"at":"2026-01-01T00:00:00Z","by":"alice","what":"created"},{"at":"2026-01-02T00:00:00Z","by":"bob","what":"approved"},` +
	`{"at":"2026-01-03T00:00:00Z","by":"carol","what":"shipped"}],` +
	`"notes":"A longer text that stands for what people write into such fields: it has a few sentences, no line breaks and nothing ` +
	`that has to be escaped. It is there to give the document its size, and to be skipped when the function runs.",` +
	`"tags":["red","green","blue"],"flags":{"urgent":false,"gift":true,"archived":false},` +
	`"customer":{"id":"cust-4711","name":"Alice Example","email":"alice@example.com"}}`

// benchFunctions are a sync function of 12 lines, the default, and one that goes through a list.
var benchFunctions = []struct{ name, source string }{
	{"default", ""},
	{"12 lines", `function (doc, oldDoc, meta) {
		if (doc._deleted) {
			requireUser(oldDoc.owner);
			return;
		}
		if (!doc.type) {
			throw({forbidden: "type is required"});
		}
		if (oldDoc && oldDoc.owner !== doc.owner) {
			throw({forbidden: "owner is fixed"});
		}
		channel(doc.channels, "type-" + doc.type);
	}`},
	{"loop", `function (doc) {
		for (var i = 0; i < doc.items.length; i++) {
			channel("sku-" + doc.items[i].sku);
		}
		access(doc.owner, ["user-" + doc.owner]);
	}`},
}

func benchInput() *SyncInput {
	in := input(benchBody)
	in.Rev = tidegate.RevID{Generation: 1, Digest: "0123456789abcdef0123456789abcdef"}
	return in
}

// BenchmarkSync measures whole calls: on the path that the function takes, and on QuickJS.
func BenchmarkSync(b *testing.B) {
	for _, fn := range benchFunctions {
		f, err := CompileSync(fn.source, "", Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		in := benchInput()
		for _, path := range []struct {
			name string
			call func() (*SyncOutput, error)
		}{
			{"direct", func() (*SyncOutput, error) { return f.Sync(b.Context(), in) }},
			{"quickjs", func() (*SyncOutput, error) { return f.(syncFunction).syncOnEngine(b.Context(), in) }},
		} {
			b.Run(fn.name+"/"+path.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := path.call(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkEngines compares the engines alone: arguments in, records out.
func BenchmarkEngines(b *testing.B) {
	for name, e := range map[string]engine{"quickjs": quickEngine{}, "goja": gojaEngine{}} {
		b.Run("call/"+name, func(b *testing.B) {
			v, err := e.load(newProgram(kindSync, benchFunctions[1].source), Limits{}.withDefaults(1))
			if err != nil {
				b.Fatal(err)
			}
			defer v.close()
			in := benchInput()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.call(syncArgs(in, true)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("load/"+name, func(b *testing.B) {
			p := newProgram(kindSync, benchFunctions[1].source)
			b.ReportAllocs()
			for b.Loop() {
				v, err := e.load(p, Limits{}.withDefaults(1))
				if err != nil {
					b.Fatal(err)
				}
				v.close()
			}
		})
	}
}

// BenchmarkCompile measures compiling for the direct evaluator.
func BenchmarkCompile(b *testing.B) {
	p := newProgram(kindSync, benchFunctions[1].source)
	b.ReportAllocs()
	for b.Loop() {
		if compileDirect(p) == nil {
			b.Fatal("not in the subset")
		}
	}
}

// BenchmarkBigDocument measures the direct evaluator on documents of several sizes.
func BenchmarkBigDocument(b *testing.B) {
	f, err := CompileSync("", "", Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 10, 16 << 10, 1 << 20} {
		body := []byte(`{"text":"`)
		for len(body) < size {
			body = append(body, "lorem ipsum dolor sit amet "...)
		}
		in := input(string(append(body, `","channels":["a"]}`...)))
		b.Run(fmt.Sprintf("%d KiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(in.Body)))
			for b.Loop() {
				if _, err := f.Sync(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
