package rest

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
)

func gunzip(t *testing.T, s string) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(s))
	if err != nil {
		t.Fatalf("%q is no gzip: %v", s, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestResponseCompression(t *testing.T) {
	r := newRig(t, rigOptions{})
	long := `"` + strings.Repeat("word ", 300) + `"`
	r.put("long", `{"text":`+long+`}`)
	r.put("short", `{"text":"x"}`)
	const gz = "Accept-Encoding: gzip, deflate"
	plain := r.a("GET", "/db/long", "").is(200).has("Content-Encoding", "")
	a := r.a("GET", "/db/long", "", gz).is(200).has("Content-Encoding", "gzip").has("Vary", "Accept-Encoding").has("Content-Length", "")
	if gunzip(t, a.body) != plain.body {
		t.Error("the compressed body is another")
	}
	r.a("GET", "/db/short", "", gz).has("Content-Encoding", "")
	r.a("HEAD", "/db/long", "", gz).has("Content-Encoding", "")
	r.a("GET", "/db/none", "", gz).has("Content-Encoding", "")
	r.a("GET", "/db/long", "", "Accept-Encoding: gzip;q=0").has("Content-Encoding", "")
	r.a("GET", "/db/long", "", "Accept-Encoding: br").has("Content-Encoding", "")
	r.a("PUT", "/db/text/a", strings.Repeat("word ", 300), "Content-Type: text/plain").is(201)
	r.a("GET", "/db/text/a", "", gz).has("Content-Encoding", "")
	bulk := `{"docs":[{"id":"long"}]}`
	for agent, want := range map[string]string{"": "", "CouchbaseLite/1.1": "", "CouchbaseLite/1.2 (x)": "gzip", "CouchbaseLite/2.0": "gzip", "Mozilla": "gzip"} {
		r.a("POST", "/db/_bulk_get", bulk, gz, "User-Agent: "+agent).is(200).has("Content-Encoding", want)
	}

	off := newRig(t, rigOptions{startup: `{"api":{"compress_responses":false}}`})
	off.put("long", `{"text":`+long+`}`)
	off.a("GET", "/db/long", "", gz).has("Content-Encoding", "")
}

func TestPretty(t *testing.T) {
	r := newRig(t, rigOptions{startup: `{"api":{"pretty":true}}`})
	r.put("doc", `{"a":[1]}`)
	rev := r.a("GET", "/db/doc", "").member("_rev")
	a := r.a("GET", "/db/doc", "").is(200)
	if want := "{\n  \"_id\": \"doc\",\n  \"_rev\": \"" + rev + "\",\n  \"a\": [\n    1\n  ]\n}"; a.body != want {
		t.Errorf("body %s", a.body)
	}
}

func TestRequestEncodings(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("PUT", "/db/a", gzipped(`{"x":1}`), "Content-Encoding: gzip").is(201)
	r.a("PUT", "/db/b", `{"x":1}`, "Content-Encoding: identity").is(201)
	r.a("PUT", "/db/c", `{"x":1}`, "Content-Encoding: deflate").fails(415, "Unsupported Content-Encoding; use gzip")
	r.a("PUT", "/db/c", `{"x":1}`, "Content-Encoding: gzip").fails(400, "Bad gzip body")
	r.a("PUT", "/db/c", gzipped(`{"x":1}`)[:20], "Content-Encoding: gzip").fails(400, "Bad gzip body")
	r.a("POST", "/db/_bulk_docs", gzipped(`{"docs":[{"_id":"d"}]}`), "Content-Encoding: gzip").is(201)
	r.a("PUT", "/db/c", `{"x":1}`, "Content-Type: application/json; charset=utf-8").is(201)
	r.a("PUT", "/db/e", `{"x":1}`, "Content-Type: text/plain").fails(415, "Invalid content type text/plain")
	for _, path := range []string{"_bulk_docs", "_bulk_get", "_revs_diff", "_all_docs", "_changes", "_purge"} {
		r.a("POST", "/db/"+path, `{}`, "Content-Type: text/plain").fails(415, "Invalid content type text/plain - expected application/json")
	}
	r.a("PUT", "/db/_local/x", `{}`, "Content-Type: text/plain").fails(415, "Invalid content type text/plain - expected application/json")
}

func TestAcceptIsChecked(t *testing.T) {
	r := newRig(t, rigOptions{})
	const html = "Accept: text/html"
	r.a("PUT", "/db/doc", `{}`, html).fails(406, "only application/json available")
	r.a("GET", "/db/doc", "").fails(404, "missing") // and nothing was written
	for _, path := range []string{"_all_docs", "_changes", "_changes?feed=longpoll"} {
		r.a("GET", "/db/"+path, "", html).fails(406, "only application/json available")
	}
	r.a("POST", "/db/_bulk_get", `{"docs":[]}`, html).fails(406, "Response is multipart")
	r.a("POST", "/db/", `{}`, "Accept: application/json;q=0.5, text/html").is(200)
	r.a("POST", "/db/", `{}`, "Accept: text/html,*/*;q=0.8").is(200)
}

// Outputs of any size, in pieces of any size, come out whole.
func TestOutputKeepsBytes(t *testing.T) {
	s := &Server{}
	for _, sizes := range [][]int{{1}, {outputChunk}, {outputChunk - 1, 2}, {100_000}, {10, 70_000, 10, 40_000}, {36 << 10, 36 << 10}} {
		var want, got bytes.Buffer
		o := s.newOutputTo(&got)
		for i, n := range sizes {
			piece := bytes.Repeat([]byte{byte('a' + i)}, n)
			want.Write(piece)
			if i%2 == 0 {
				_, _ = o.Write(piece)
			} else {
				o.b = append(o.b, piece...)
				_ = o.spill()
			}
		}
		if err := o.finish(); err != nil {
			t.Fatal(err)
		}
		o.close()
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%v: other bytes came out", sizes)
		}
	}
}
