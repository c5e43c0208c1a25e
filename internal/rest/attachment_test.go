package rest

import (
	"compress/gzip"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func sha1Digest(s string) string {
	sum := sha1.Sum([]byte(s))
	return "sha1-" + base64.StdEncoding.EncodeToString(sum[:])
}

func md5Digest(s string) string {
	sum := md5.Sum([]byte(s))
	return "md5-" + base64.StdEncoding.EncodeToString(sum[:])
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func gzipped(s string) string {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	_ = z.Close()
	return b.String()
}

func TestInlineAttachments(t *testing.T) {
	r := newRig(t, rigOptions{})
	rev := r.put("doc", `{"_attachments":{"a.txt":{"content_type":"text/plain","data":"`+base64Of("hello")+`"}}}`)
	stub := `{"content_type":"text/plain","digest":"` + sha1Digest("hello") + `","length":5,"revpos":1,"stub":true}`
	r.a("GET", "/db/doc", "").want(200, `{"_id":"doc","_rev":"`+rev+`","_attachments":{"a.txt":`+stub+`}}`)
	r.a("GET", "/db/doc?attachments=true", "", "Accept: application/json").want(200,
		`{"_id":"doc","_rev":"`+rev+`","_attachments":{"a.txt":{"content_type":"text/plain","digest":"`+sha1Digest("hello")+
			`","length":5,"revpos":1,"data":"`+base64Of("hello")+`"}}}`)
	// Stubs keep, omission deletes.
	rev2 := r.a("PUT", "/db/doc?rev="+rev, `{"n":2,"_attachments":{"a.txt":{"stub":true},"b":{"data":"`+base64Of("b")+`"}}}`).is(201).rev()
	r.a("GET", "/db/doc/a.txt", "").is(200)
	r.a("GET", `/db/doc?attachments=true&atts_since=%5B%22`+rev+`%22%5D`, "", "Accept: application/json").want(200,
		`{"_id":"doc","_rev":"`+rev2+`","n":2,"_attachments":{"a.txt":`+stub+`,"b":{"digest":"`+sha1Digest("b")+`","length":1,"revpos":2,"data":"`+base64Of("b")+`"}}}`)
	rev3 := r.a("PUT", "/db/doc?rev="+rev2, `{"n":3}`).is(201).rev()
	r.a("GET", "/db/doc", "").want(200, `{"_id":"doc","_rev":"`+rev3+`","n":3}`)
	r.a("GET", "/db/doc/a.txt?rev="+rev2, "").want(200, "hello")

	for body, want := range map[string]string{
		`{"_attachments":{"x":{}}}`:                                                            `Missing data of attachment "x"`,
		`{"_attachments":{"x":{"stub":true}}}`:                                                 `Missing digest in stub attachment "x"`,
		`{"_attachments":{"x":{"stub":true,"digest":"sha1-AAAA"}}}`:                            `Unknown digest in stub attachment "x"`,
		`{"_attachments":{"x":{"data":"%%%"}}}`:                                                `Invalid attachment "x"`,
		`{"_attachments":{"x":{"data":"` + base64Of("x") + `","length":2}}}`:                   `Incorrect length of attachment "x"`,
		`{"_attachments":{"x":{"data":"` + base64Of("x") + `","digest":"sha1-AAAA"}}}`:         `Incorrect digest of attachment "x"`,
		`{"_attachments":{"x":{"follows":true,"length":1}}}`:                                   `Too few MIME parts: expected 1 attachments, got 0`,
		`{"_attachments":{"x":7}}`:                                                             `Invalid _attachments`,
		`{"_attachments":{"x":{"data":"` + base64Of("x") + `","digest":"md5-AAAA=="},"y":{}}}`: `…`,
	} {
		r.a("PUT", "/db/bad", body).fails(400, want)
	}
	r.a("GET", "/db/bad", "").fails(404, "missing")
	// PouchDB's digests are verified and replaced.
	r.put("pouch", `{"_attachments":{"x":{"content_type":"a/b","data":"`+base64Of("x")+`","digest":"`+md5Digest("x")+`"}}}`)
	if body := r.a("GET", "/db/pouch", "").body; !strings.Contains(body, sha1Digest("x")) {
		t.Errorf("digest: %s", body)
	}
}

func TestStandaloneAttachments(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("PUT", "/db/doc/a/b.txt?rev=1-x", "hello", "Content-Type: text/plain").fails(409, "Document revision conflict")
	rev := r.a("PUT", "/db/doc/a/b.txt", "hello", "Content-Type: text/plain").want(201, `{"id":"doc","ok":true,"rev":"REV"}`).rev()
	r.a("GET", "/db/doc", "").is(200).has("ETag", `"`+rev+`"`)
	for _, path := range []string{"/db/doc/a/b.txt", "/db/doc/a%2Fb.txt", "/db/doc/a/b.txt?rev=" + rev} {
		r.a("GET", path, "").want(200, "hello").has("Content-Type", "text/plain").has("ETag", `"`+sha1Digest("hello")+`"`).
			has("Content-Length", "5").has("Accept-Ranges", "bytes").has("X-Content-Type-Options", "nosniff").
			has("Content-Security-Policy", "sandbox").has("Content-Disposition", "attachment")
		r.a("HEAD", path, "").want(200, "").has("Content-Length", "5").has("Content-Type", "text/plain")
	}
	r.a("GET", "/db/doc/a/b.txt?meta=true", "").want(200, `{"content_type":"text/plain","digest":"`+sha1Digest("hello")+
		`","length":5,"revpos":1,"stub":true,"key":"`+sha1Digest("hello")+`"}`)
	r.a("GET", "/db/doc/none", "").fails(404, "missing attachment none")
	r.a("GET", "/db/none/none", "").fails(404, "missing")
	r.a("GET", "/db/doc/a/b.txt?rev=9-x", "").fails(404, "missing")

	r.a("PUT", "/db/doc/c", "x").fails(409, "Cannot modify attachments without a specific rev ID")
	r.a("PUT", "/db/doc/c?rev=1-x", "x").fails(409, "Document revision conflict")
	r.a("PUT", "/db/doc/c", "cc", `If-Match: "`+rev+`"`).is(201)
}

func TestStandaloneAttachmentEdits(t *testing.T) {
	r := newRig(t, rigOptions{})
	rev := r.put("doc", `{"n":1,"_attachments":{"keep":{"data":"`+base64Of("k")+`"}}}`)
	a := r.a("PUT", "/db/doc/c?rev="+rev, "cc").is(201)
	a.has("ETag", `"`+a.rev()+`"`)
	r.a("GET", "/db/doc/c", "").want(200, "cc").has("Content-Type", "application/octet-stream")
	r.a("GET", "/db/doc/keep", "").want(200, "k")
	if body := r.a("GET", "/db/doc", "").body; !strings.Contains(body, `"n":1`) || !strings.Contains(body, `"revpos":2`) {
		t.Errorf("the rest of the document: %s", body)
	}
	r.a("PUT", "/db/doc/c?rev="+rev, "dd").fails(409, "Document revision conflict")

	r.a("DELETE", "/db/none/c", "").fails(404, "Document specified is not found")
	r.a("DELETE", "/db/doc/none?rev="+a.rev(), "").fails(404, "Attachment none is not found")
	r.a("DELETE", "/db/doc/c?rev="+rev, "").fails(409, "Incorrect revision ID specified")
	r.a("DELETE", "/db/doc/c", "").fails(409, "Incorrect revision ID specified")
	r.a("DELETE", "/db/doc/c?rev="+a.rev(), "").want(200, `{"id":"doc","ok":true,"rev":"REV"}`)
	r.a("GET", "/db/doc/c", "").fails(404, "missing attachment c")
	r.a("GET", "/db/doc/keep", "").want(200, "k")

	r.a("DELETE", "/db/doc?rev="+r.a("GET", "/db/doc", "").member("_rev"), "").is(200)
	r.a("GET", "/db/doc/keep", "").fails(404, "deleted")
	r.a("PUT", "/db/doc/new", "x").is(201) // like a document made anew
}

func TestAttachmentRanges(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.a("PUT", "/db/doc/a", "0123456789", "Content-Type: text/plain").is(201)
	r.a("PUT", "/db/empty/a", "", "Content-Type: text/plain").is(201)
	for _, tt := range []struct {
		path, spec string
		status     int
		body, rng  string
	}{
		{"/db/doc/a", "bytes=2-4", 206, "234", "bytes 2-4/10"},
		{"/db/doc/a", "bytes=7-", 206, "789", "bytes 7-9/10"},
		{"/db/doc/a", "bytes=-3", 206, "789", "bytes 7-9/10"},
		{"/db/doc/a", "bytes=-30", 206, "0123456789", "bytes 0-9/10"},
		{"/db/doc/a", "bytes=8-99", 206, "89", "bytes 8-9/10"},
		{"/db/doc/a", "bytes=0-0", 206, "0", "bytes 0-0/10"},
		{"/db/doc/a", "bytes=4-2", 200, "0123456789", ""},
		{"/db/doc/a", "bytes=1-2,4-5", 200, "0123456789", ""},
		{"/db/doc/a", "items=1-2", 200, "0123456789", ""},
		{"/db/doc/a", "bytes=x-y", 200, "0123456789", ""},
		{"/db/doc/a", "bytes=1", 200, "0123456789", ""},
		{"/db/empty/a", "bytes=0-", 416, "", "bytes */0"},
		{"/db/doc/a", "bytes=10-", 416, "", "bytes */10"},
		{"/db/doc/a", "bytes=-0", 416, "", "bytes */10"},
	} {
		a := r.a("GET", tt.path, "", "Range: "+tt.spec).is(tt.status).has("Content-Range", tt.rng)
		if tt.status == 416 {
			a.fails(416, "the range is beyond the end")
		} else if a.body != tt.body {
			t.Errorf("%s: %q", tt.spec, a.body)
		} else {
			a.has("Content-Length", fmt.Sprint(len(tt.body)))
		}
	}
	r.a("GET", "/db/doc/a", "", "Range: bytes=2-4", `If-Range: "other"`).want(200, "0123456789")
	r.a("GET", "/db/doc/a", "", "Range: bytes=2-4", `If-Range: "`+sha1Digest("0123456789")+`"`).is(206)
}

func TestEncodedAttachment(t *testing.T) {
	r := newRig(t, rigOptions{})
	packed := gzipped("hello hello hello")
	r.a("PUT", "/db/doc/a", packed, "Content-Type: text/plain", "Content-Encoding: gzip").is(201)
	r.a("GET", "/db/doc/a", "").want(200, packed).has("Content-Encoding", "gzip").has("Content-Type", "text/plain").has("Content-Length", fmt.Sprint(len(packed)))
	r.a("GET", "/db/doc/a?content_encoding=false", "").want(200, packed).has("Content-Encoding", "").
		has("Content-Type", "application/gzip").has("X-Content-Encoding", "gzip")
	r.a("PUT", "/db/doc2/a", "x", "Content-Encoding: br").fails(415, "Unsupported Content-Encoding; use gzip")
	if body := r.a("GET", "/db/doc", "").body; !strings.Contains(body, `"encoding":"gzip"`) {
		t.Errorf("metadata: %s", body)
	}
}

func TestAttachmentsInBrowsers(t *testing.T) {
	for _, insecure := range []bool{false, true} {
		r := newRig(t, rigOptions{database: `{"guest":{"disabled":false,"admin_channels":["!"]},"sync":"function(){channel(\"!\")}","serve_insecure_attachment_types":` + fmt.Sprint(insecure) + `}`})
		for ct, runs := range map[string]bool{"text/html": true, "text/html; charset=utf-8": true, "image/svg+xml": true,
			"application/xhtml+xml": true, "TEXT/HTML": true, "image/png": false, "text/plain": false, "nonsense;;": true} {
			path := "/db/" + strings.Map(func(c rune) rune {
				if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
					return c
				}
				return '-'
			}, "d"+ct) + "/a"
			r.p("PUT", path, "<b>", "Content-Type: "+ct).is(201)
			want := ""
			if runs && !insecure {
				want = "attachment"
			}
			r.p("GET", path, "").is(200).has("Content-Disposition", want).has("X-Content-Type-Options", "nosniff")
			r.a("GET", path, "").is(200).has("Content-Disposition", "attachment")
		}
	}
}

func TestAttachmentLimits(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"max_attachment_bytes":100}`})
	big := strings.Repeat("x", 101)
	r.a("PUT", "/db/doc/a", big).fails(413, "Attachment too large")
	r.a("PUT", "/db/doc", `{"_attachments":{"a":{"data":"`+base64Of(big)+`"}}}`).fails(413, "Attachment too large")
	r.a("GET", "/db/doc", "").fails(404, "missing")
	r.a("PUT", "/db/doc/a", big[:100]).is(201)
}

func TestAttachmentAccess(t *testing.T) {
	r := newRig(t, rigOptions{database: `{"guest":{"disabled":false,"admin_channels":["a"]}}`})
	rev := r.put("doc", `{"channels":["a"],"_attachments":{"x":{"data":"`+base64Of("one")+`"}}}`)
	r.p("GET", "/db/doc/x", "").want(200, "one")
	rev2 := r.a("PUT", "/db/doc?rev="+rev, `{"channels":["b"],"_attachments":{"x":{"data":"`+base64Of("two")+`"}}}`).is(201).rev()
	r.p("GET", "/db/doc/x", "").is(401)
	r.p("GET", "/db/doc/x?rev="+rev2, "").is(401)
	r.p("GET", "/db/doc/x?rev="+rev, "").want(200, "one") // the revision that holds it decides
	r.p("PUT", "/db/doc/x?rev="+rev2, "mine").is(401)
	r.p("DELETE", "/db/doc/x?rev="+rev2, "").is(401)
	r.a("GET", "/db/doc/x", "").want(200, "two")
}
