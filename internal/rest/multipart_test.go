package rest

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
)

// mixed reads a multipart body: for each part its header and content, nested parts behind their JSON.
func readParts(t *testing.T, contentType, body string) (parts []part) {
	t.Helper()
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		t.Fatalf("Content-Type %q: %v", contentType, err)
	}
	mr := multipart.NewReader(strings.NewReader(body), params["boundary"])
	for {
		p, err := mr.NextRawPart()
		if err == io.EOF {
			return parts
		}
		if err != nil {
			t.Fatalf("read %q: %v", body, err)
		}
		content, err := io.ReadAll(p)
		if err != nil {
			t.Fatalf("read %q: %v", body, err)
		}
		one := part{header: http.Header(p.Header), body: string(content)}
		if ct := p.Header.Get("Content-Type"); strings.HasPrefix(ct, "multipart/") {
			one.nested = readParts(t, ct, one.body)
		}
		parts = append(parts, one)
	}
}

type part struct {
	header http.Header
	body   string
	nested []part
}

func TestGetMultipart(t *testing.T) {
	r := newRig(t, rigOptions{})
	rev := r.put("doc", `{"n":1,"_attachments":{"b.txt":{"content_type":"text/plain","data":"`+base64Of("bbb")+`"},"a":{"content_type":"image/png","data":"`+base64Of("aa")+`"}}}`)
	a := r.a("GET", "/db/doc?attachments=true", "").is(200).has("ETag", `"`+rev+`"`)
	if ct := a.header.Get("Content-Type"); !strings.HasPrefix(ct, `multipart/related; boundary="`) {
		t.Fatalf("Content-Type %q", ct)
	}
	parts := readParts(t, a.header.Get("Content-Type"), a.body)
	if len(parts) != 3 || parts[1].body != "aa" || parts[2].body != "bbb" {
		t.Fatalf("parts: %+v", parts)
	}
	want := `{"_id":"doc","_rev":"` + rev + `","_attachments":{
		"a":{"content_type":"image/png","digest":"` + sha1Digest("aa") + `","length":2,"revpos":1,"follows":true},
		"b.txt":{"content_type":"text/plain","digest":"` + sha1Digest("bbb") + `","length":3,"revpos":1,"follows":true}},"n":1}`
	if !sameBody(parts[0].body, want) || parts[0].header.Get("Content-Type") != "application/json" {
		t.Errorf("first part: %+v", parts[0])
	}
	if parts[2].header.Get("Content-Type") != "text/plain" || parts[2].header.Get("Content-Disposition") != `attachment; filename=b.txt` {
		t.Errorf("second attachment: %+v", parts[2].header)
	}
	for _, accept := range []string{"*/*", "multipart/related", "application/json, multipart/*", "application/json, */*"} {
		a := r.a("GET", "/db/doc?attachments=true", "", "Accept: "+accept).is(200)
		if !strings.HasPrefix(a.header.Get("Content-Type"), "multipart/related") {
			t.Errorf("Accept %q: %s", accept, a.header.Get("Content-Type"))
		}
	}
	// Without contents to send it is JSON, unless the client takes nothing but multipart.
	r.put("plain", `{"n":1}`)
	r.a("GET", "/db/plain?attachments=true", "").is(200).has("Content-Type", "application/json")
	r.a("GET", "/db/doc", "").is(200).has("Content-Type", "application/json")
	only := r.a("GET", "/db/plain?attachments=true", "", "Accept: multipart/related").is(200)
	if parts := readParts(t, only.header.Get("Content-Type"), only.body); len(parts) != 1 {
		t.Errorf("parts: %+v", parts)
	}
}

func TestOpenRevsMultipart(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"allow_conflicts":true}`})
	r.a("PUT", "/db/doc?new_edits=false", `{"v":1,"_revisions":{"start":1,"ids":["a"]},"_attachments":{"x":{"data":"`+base64Of("xx")+`"}}}`).is(201)
	r.a("PUT", "/db/doc?new_edits=false", `{"v":2,"_revisions":{"start":1,"ids":["b"]}}`).is(201)
	for _, header := range [][]string{nil, {"Accept: */*"}, {"Accept: multipart/mixed"}} {
		a := r.a("GET", `/db/doc?open_revs=%5B%221-a%22,%221-b%22,%221-c%22%5D`, "", header...).is(200)
		if !strings.HasPrefix(a.header.Get("Content-Type"), `multipart/mixed; boundary="`) {
			t.Fatalf("Content-Type %q", a.header.Get("Content-Type"))
		}
		parts := readParts(t, a.header.Get("Content-Type"), a.body)
		if len(parts) != 3 {
			t.Fatalf("parts: %+v", parts)
		}
		nested := parts[0].nested
		if len(nested) != 2 || nested[1].body != "xx" || !strings.Contains(nested[0].body, `"follows":true`) {
			t.Errorf("first: %+v", parts[0])
		}
		if parts[0].header.Get("X-Doc-ID") != "doc" || parts[0].header.Get("X-Rev-ID") != "1-a" {
			t.Errorf("first: %+v", parts[0].header)
		}
		if !sameBody(parts[1].body, `{"_id":"doc","_rev":"1-b","v":2}`) || parts[1].header.Get("X-Rev-ID") != "1-b" {
			t.Errorf("second: %+v", parts[1])
		}
		if parts[2].body != `{"missing":"1-c"}` || parts[2].header.Get("Content-Type") != `application/json; error="true"` {
			t.Errorf("third: %+v", parts[2])
		}
	}
}

func TestPartEncoding(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.put("big", `{"text":"`+strings.Repeat("long ", 100)+`"}`)
	r.put("small", `{}`)
	a := r.a("POST", "/db/_bulk_get", `{"docs":[{"id":"big"},{"id":"small"}]}`, "X-Accept-Part-Encoding: gzip").is(200)
	parts := readParts(t, a.header.Get("Content-Type"), a.body)
	if len(parts) != 2 || parts[0].header.Get("Content-Encoding") != "gzip" || parts[1].header.Get("Content-Encoding") != "" {
		t.Fatalf("parts: %+v", parts)
	}
	if text := gunzip(t, parts[0].body); !strings.Contains(text, "long long") {
		t.Errorf("part: %s", text)
	}
}

// A document's name must not be able to write headers.
func TestPartHeadersAreClean(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("PUT", "/db/evil%0D%0AX-Bad:%201", `{"_attachments":{"n\r\nX-Bad: 1":{"content_type":"a/b\r\nX-Bad: 1","data":"`+base64Of("x")+`"}}}`).is(201)
	a := r.a("GET", "/db/evil%0D%0AX-Bad:%201?open_revs=all", "").is(200)
	parts := readParts(t, a.header.Get("Content-Type"), a.body)
	for _, p := range append(parts, parts[0].nested...) {
		if p.header.Get("X-Bad") != "" {
			t.Errorf("header written by content: %+v", p.header)
		}
	}
}

// related makes a multipart/related body.
func related(json string, contents ...string) (header, body string) {
	var b strings.Builder
	fmt.Fprintf(&b, "--B\r\nContent-Type: application/json\r\n\r\n%s", json)
	for _, c := range contents {
		head, content, ok := strings.Cut(c, "\r\n\r\n")
		if !ok {
			head, content = "", c
		}
		if head != "" {
			head += "\r\n"
		}
		fmt.Fprintf(&b, "\r\n--B\r\n%s\r\n%s", head, content)
	}
	b.WriteString("\r\n--B--")
	return `Content-Type: multipart/related; boundary="B"`, b.String()
}

func TestPutMultipart(t *testing.T) {
	r := newRig(t, rigOptions{})
	get := func(id, att, want string) {
		t.Helper()
		r.a("GET", "/db/"+id+"/"+att, "").want(200, want)
	}
	// By order.
	h, body := related(`{"n":1,"_attachments":{"a":{"follows":true,"length":2,"content_type":"text/plain"},"b":{"follows":true,"length":3}}}`, "aa", "bbb")
	r.a("PUT", "/db/order", body, h).is(201)
	get("order", "a", "aa")
	get("order", "b", "bbb")
	r.a("GET", "/db/order/a", "").has("Content-Type", "text/plain")
	// By digest, whatever the order.
	h, body = related(fmt.Sprintf(`{"_attachments":{"a":{"follows":true,"digest":%q},"b":{"follows":true,"digest":%q}}}`, sha1Digest("aa"), md5Digest("bbb")), "bbb", "aa")
	r.a("PUT", "/db/digest", body, h).is(201)
	get("digest", "a", "aa")
	get("digest", "b", "bbb")
	// By file name.
	h, body = related(`{"_attachments":{"a":{"follows":true},"b":{"follows":true}}}`,
		"Content-Disposition: attachment; filename=\"b\"\r\n\r\nbbb", "Content-Disposition: attachment; filename=\"a\"\r\n\r\naa")
	r.a("PUT", "/db/name", body, h).is(201)
	get("name", "a", "aa")
	get("name", "b", "bbb")
	// With history, as the CouchDB replicator sends it; stubs and inline data beside it.
	h, body = related(`{"_revisions":{"start":2,"ids":["b","a"]},"_attachments":{"in":{"data":"`+base64Of("in")+`"},"out":{"follows":true,"revpos":1}}}`, strings.Repeat("x", 100_000))
	r.a("PUT", "/db/history?new_edits=false", body, h).want(201, `{"id":"history","ok":true,"rev":"2-b"}`)
	get("history", "out", strings.Repeat("x", 100_000))
	// Stored compressed.
	packed := gzipped("hello hello hello")
	h, body = related(fmt.Sprintf(`{"_attachments":{"z":{"follows":true,"encoding":"gzip","length":17,"encoded_length":%d}}}`, len(packed)), "Content-Encoding: gzip\r\n\r\n"+packed)
	r.a("PUT", "/db/packed", body, h).is(201)
	r.a("GET", "/db/packed/z", "").want(200, packed).has("Content-Encoding", "gzip")
	// POST makes a document the same way.
	h, body = related(`{"_id":"posted","_attachments":{"a":{"follows":true}}}`, "pp")
	r.a("POST", "/db/", body, h).is(200)
	get("posted", "a", "pp")
}

func TestPutMultipartErrors(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"max_attachment_bytes":1000}`, limits: Limits{MultipartParts: 4}})
	two := `{"_attachments":{"a":{"follows":true,"length":2},"b":{"follows":true,"length":3}}}`
	digest := fmt.Sprintf(`{"_attachments":{"a":{"follows":true,"digest":%q}}}`, sha1Digest("aa"))
	for _, tt := range []struct {
		json     string
		contents []string
		status   int
		reason   string
	}{
		{two, []string{"aa"}, 400, "Too few MIME parts: expected 2 attachments, got 1"},
		{two, nil, 400, "Too few MIME parts: expected 2 attachments, got 0"},
		{two, []string{"aa", "bbb", "c"}, 400, "Too many MIME parts (expected 2)"},
		{`{}`, []string{"c"}, 400, "Too many MIME parts (expected 0)"},
		{digest, []string{"other"}, 400, "MIME part #2 doesn't match any attachment"},
		{two, []string{"aaa", "bbb"}, 400, `Incorrect length of attachment "a"`},
		{two, []string{strings.Repeat("x", 1001), "b"}, 413, "Attachment too large"},
		{two, []string{"Content-Encoding: gzip\r\n\r\naa", "bbb"}, 400, `Attachment "a" comes with…`},
		{two, []string{"Content-Transfer-Encoding: base64\r\n\r\naa", "bbb"}, 400, "Unsupported Content-Transfer-Encoding"},
		{`{"_attachments":{"a":{"follows":true},"b":{"follows":true},"c":{"follows":true},"d":{"follows":true},"e":{"follows":true}}}`,
			[]string{"1", "2", "3", "4", "5"}, 413, "Too many MIME parts (at most 5)"},
		{`not JSON`, nil, 400, "Bad JSON: …"},
		{``, nil, 400, "Document body is empty"},
		{`{"_foo":1}`, nil, 400, "Bad special document member: _foo"},
	} {
		h, body := related(tt.json, tt.contents...)
		r.a("PUT", "/db/doc", body, h).fails(tt.status, tt.reason)
	}
	h, body := related(two, "aa", "bbb")
	for name, tt := range map[string]struct{ header, body, reason string }{
		"no boundary":       {"Content-Type: multipart/related", body, "Bad multipart content type: no boundary"},
		"cut off":           {h, body[:len(body)-6], "Bad multipart body"},
		"cut in a part":     {h, body[:60], "…"},
		"no parts":          {h, "--B--", "Bad multipart body: no parts"},
		"nothing":           {h, "x", "Bad multipart body…"},
		"first is not JSON": {h, "--B\r\nContent-Type: text/plain\r\n\r\n{}\r\n--B--", "the first MIME part must be application/json"},
	} {
		t.Run(name, func(t *testing.T) { r.a("PUT", "/db/doc", tt.body, tt.header).fails(400, tt.reason) })
	}
	r.a("PUT", "/db/doc", body, "Content-Type: multipart/form-data; boundary=B").fails(415, "Invalid content type multipart/form-data; boundary=B")
	r.a("GET", "/db/doc", "").fails(404, "missing")
}

// FuzzPartReader: whatever the body, reading it ends, with an error that is the client's fault or with parts
// within the limits.
func FuzzPartReader(f *testing.F) {
	h, body := related(`{"_attachments":{"a":{"follows":true}}}`, "aa")
	ct := strings.TrimPrefix(h, "Content-Type: ")
	for _, seed := range []string{body, body[:20], "--B", "--B--", "--B\r\n\r\n--B--", "--B\nx:y\n\nz\n--B--", "", "--B\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n--C--\r\n--B--"} {
		f.Add(ct, seed)
	}
	f.Add(`multipart/related; boundary=""`, "--")
	f.Add(`multipart/related; boundary="----"`, "------\r\n\r\n")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		const max = 8
		parts, err := newPartReader(contentType, strings.NewReader(body), max)
		if err != nil {
			if errorStatus(err) != 400 {
				t.Fatalf("%q: %v", contentType, err)
			}
			return
		}
		total := 0
		for n := 0; ; n++ {
			p, err := parts.next()
			if err == io.EOF {
				return
			}
			if err != nil {
				if s := errorStatus(err); s != 400 && s != 413 {
					t.Fatalf("%q: status %d: %v", body, s, err)
				}
				return
			}
			if n >= max {
				t.Fatalf("more than %d parts", max)
			}
			content, err := io.ReadAll(partContentReader{p})
			if err != nil && errorStatus(err) != 400 {
				t.Fatalf("%q: %v", body, err)
			}
			if total += len(content); total > len(body) {
				t.Fatalf("%q: %d bytes of content", body, total)
			}
			_ = partFilename(p.Header)
		}
	})
}
