package database_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

const hello = "aGVsbG8=" // "hello"

func sha1Digest(s string) string {
	sum := sha1.Sum([]byte(s))
	return "sha1-" + base64.StdEncoding.EncodeToString(sum[:])
}

func md5Digest(s string) string {
	sum := md5.Sum([]byte(s))
	return "md5-" + base64.StdEncoding.EncodeToString(sum[:])
}

// content reads an attachment of a revision.
func (e *env) content(h *database.Handle, id string, rev tidegate.RevID, name string) string {
	e.t.Helper()
	r, a, err := h.OpenAttachment(e.t.Context(), e.get(h, id, rev), name)
	if err != nil {
		e.t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		e.t.Fatal(err)
	}
	if a.Encoding == "" && int64(len(data)) != a.Length {
		e.t.Fatalf("%d bytes, length %d", len(data), a.Length)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		e.t.Fatal(err)
	}
	return string(data)
}

func TestInlineAttachment(t *testing.T) {
	for _, limit := range []int64{-1, 0} { // in files, in the store
		e := open(t, database.Options{InlineAttachmentBytes: limit})
		r1 := e.put(`{"_id":"d","_attachments":{"f.txt":{"content_type":"text/plain","data":"` + hello + `"}}}`)
		a := e.get(e.admin, "d", tidegate.RevID{}).Attachments["f.txt"]
		if a.Digest != sha1Digest("hello") || a.Length != 5 || a.RevPos != 1 || a.ContentType != "text/plain" {
			t.Fatalf("%+v", a)
		}
		if got := e.content(e.admin, "d", r1, "f.txt"); got != "hello" {
			t.Fatalf("content %q", got)
		}
		// A stub keeps it, without one it is gone.
		r2 := e.put(`{"_id":"d","_rev":"` + r1.String() + `","v":2,"_attachments":{"f.txt":{"stub":true},"g":{"data":"` + hello + `"}}}`)
		doc := e.get(e.admin, "d", r2)
		if doc.Attachments["f.txt"].RevPos != 1 || doc.Attachments["g"].RevPos != 2 {
			t.Fatalf("%+v", doc.Attachments)
		}
		if got := e.content(e.admin, "d", r2, "f.txt"); got != "hello" {
			t.Fatalf("content %q", got)
		}
		r3 := e.put(`{"_id":"d","_rev":"` + r2.String() + `"}`)
		if doc := e.get(e.admin, "d", r3); len(doc.Attachments) != 0 {
			t.Fatalf("%+v", doc.Attachments)
		}
		if _, _, err := e.admin.OpenAttachment(t.Context(), e.get(e.admin, "d", r3), "g"); err != nil {
			wantErr(t, err, tidegate.NotFound, "missing attachment g")
		}
		// Older revisions have theirs as long as they are kept.
		if got := e.content(e.admin, "d", r1, "f.txt"); got != "hello" {
			t.Fatalf("content %q", got)
		}
		if report := e.check(); report.Blobs != 1 || report.BlobRefs != 1 {
			t.Fatalf("%s, %d references", report, report.BlobRefs)
		}
		e.clock.add(time.Hour)
		if err := e.db.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		report := e.check()
		if limit == 0 && report.Blobs != 0 || report.BlobRefs != 0 {
			t.Fatalf("%s, %d references", report, report.BlobRefs)
		}
	}
}

func TestAttachmentRules(t *testing.T) {
	e := open(t, database.Options{MaxAttachmentBytes: 1000})
	r := e.put(`{"_id":"d","_attachments":{"f":{"data":"` + hello + `"}}}`)
	big := base64.StdEncoding.EncodeToString(make([]byte, 1001))
	for _, tt := range []struct {
		name, attachments, want string // want: the reason, or "" for success
	}{
		{"right digest and length", `{"g":{"data":"` + hello + `","digest":"` + sha1Digest("hello") + `","length":5}}`, ""},
		{"md5", `{"g":{"data":"` + hello + `","digest":"` + md5Digest("hello") + `"}}`, ""},
		{"wrong digest", `{"g":{"data":"` + hello + `","digest":"` + sha1Digest("x") + `"}}`, `Incorrect digest of attachment "g"`},
		{"wrong md5", `{"g":{"data":"` + hello + `","digest":"` + md5Digest("x") + `"}}`, `Incorrect digest of attachment "g"`},
		{"unknown digest", `{"g":{"data":"` + hello + `","digest":"x"}}`, `Incorrect digest of attachment "g"`},
		{"wrong length", `{"g":{"data":"` + hello + `","length":6}}`, `Incorrect length of attachment "g"`},
		{"too large", `{"g":{"data":"` + big + `"}}`, "Attachment too large"},
		{"nothing", `{"g":{}}`, `Missing data of attachment "g"`},
		{"follows", `{"g":{"follows":true}}`, `Missing data of attachment "g"`},
		{"empty", `{"g":{"data":""}}`, ""},
		{"no name", `{"":{"data":""}}`, `Missing name of attachment`},
		{"stub", `{"f":{"stub":true}}`, ""},
		{"stub with digest", `{"f":{"stub":true,"digest":"` + sha1Digest("hello") + `"}}`, ""},
		{"stub with md5", `{"f":{"stub":true,"digest":"` + md5Digest("hello") + `"}}`, ""},
		{"stub of another name", `{"g":{"stub":true,"digest":"` + sha1Digest("hello") + `"}}`, ""},
		{"stub of another name without digest", `{"g":{"stub":true}}`, `Missing digest in stub attachment "g"`},
		{"stub of nothing", `{"f":{"stub":true,"digest":"` + sha1Digest("x") + `"}}`, `Unknown digest in stub attachment "f"`},
		{"bad base64", `{"g":{"data":"%%"}}`, `Invalid attachment "g"`},
		{"bad length", `{"g":{"data":"","length":"5"}}`, `Invalid attachment "g"`},
		{"encoded", `{"g":{"data":"` + hello + `","encoding":"gzip","length":100,"encoded_length":5}}`, ""},
		{"wrong encoded length", `{"g":{"data":"` + hello + `","encoding":"gzip","length":100,"encoded_length":6}}`, `Incorrect length of attachment "g"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, err := parse(`{"_id":"d","_rev":"`+r.String()+`","v":"`+tt.name+`","_attachments":`+tt.attachments+`}`, true)
			var res database.Written
			if err == nil {
				res, err = e.admin.Put(t.Context(), w)
			}
			if tt.want != "" {
				if err == nil || tidegate.ErrorReason(err) != tt.want {
					t.Fatalf("%v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for name, a := range e.get(e.admin, "d", res.Rev).Attachments {
				want := "hello"
				if tt.name == "empty" {
					want = ""
				}
				if got := e.content(e.admin, "d", res.Rev, name); got != want || a.Digest != sha1Digest(want) {
					t.Fatalf("%q %+v", got, a)
				}
			}
			// Back to one with the attachment, for the next case.
			r = e.put(`{"_id":"d","_rev":"` + res.Rev.String() + `","_attachments":{"f":{"data":"` + hello + `"}}}`)
		})
	}
	e.check()
}

// Stubs of revisions made elsewhere name what the document had in any revision (§12.1).
func TestStubsByDigest(t *testing.T) {
	e := open(t, database.Options{AllowConflicts: true})
	for _, raw := range []string{
		`{"_id":"d","_revisions":{"start":1,"ids":["a"]},"_attachments":{"f":{"data":"` + hello + `"}}}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["b","a"]}}`,
		`{"_id":"d","_revisions":{"start":4,"ids":["d","c","b","a"]},"_attachments":{"g":{"stub":true,"digest":"` + sha1Digest("hello") + `","revpos":3,"content_type":"x/y"}}}`,
		`{"_id":"d","_revisions":{"start":2,"ids":["z","y"]},"_attachments":{"h":{"stub":true,"digest":"` + md5Digest("hello") + `","revpos":99}}}`,
	} {
		if _, err := e.push(raw); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	}
	if a := e.get(e.admin, "d", rev(t, "4-d")).Attachments["g"]; a.RevPos != 3 || a.ContentType != "x/y" {
		t.Fatalf("%+v", a)
	}
	if a := e.get(e.admin, "d", rev(t, "2-z")).Attachments["h"]; a.RevPos != 2 {
		t.Fatalf("%+v", a)
	}
	// Not what another document has, nor by an interactive write what the parent has not.
	_, err := e.push(`{"_id":"other","_revisions":{"start":1,"ids":["a"]},"_attachments":{"f":{"stub":true,"digest":"` + sha1Digest("hello") + `"}}}`)
	wantErr(t, err, tidegate.Invalid, `Unknown digest in stub attachment "f"`)
	r := e.put(`{"_id":"i","_attachments":{"f":{"data":"` + hello + `"}}}`)
	r = e.put(`{"_id":"i","_rev":"` + r.String() + `"}`)
	_, err = e.admin.Put(t.Context(), e.write(`{"_id":"i","_rev":"`+r.String()+`","_attachments":{"f":{"stub":true,"digest":"`+sha1Digest("hello")+`"}}}`, true))
	wantErr(t, err, tidegate.Invalid, `Unknown digest in stub attachment "f"`)
	e.check()
}

// A stub is no way to read what one cannot see (I7).
func TestStubLeaksNothing(t *testing.T) {
	e := open(t, database.Options{})
	r := e.put(`{"_id":"d","channels":["secret"],"_attachments":{"f":{"data":"` + hello + `"}}}`)
	bob := e.user("bob", "b")
	put := func(attachments string) error {
		_, err := bob.Put(t.Context(), e.write(`{"_id":"d","_rev":"`+r.String()+`","channels":["b"],"_attachments":`+attachments+`}`, true))
		return err
	}
	wantErr(t, put(`{"f":{"stub":true}}`), tidegate.Invalid, `Missing digest in stub attachment "f"`)
	wantErr(t, put(`{"f":{"stub":true,"digest":"`+sha1Digest("x")+`"}}`), tidegate.Invalid, `Unknown digest in stub attachment "f"`)
	_, err := bob.Put(t.Context(), &database.Write{ID: "d", NewEdits: true, Parent: r, KeepAttachments: true, Body: []byte(`{"channels":"b"}`)})
	wantErr(t, err, tidegate.Forbidden, "forbidden")
	if _, _, err := bob.OpenAttachment(t.Context(), e.get(bob, "d", r), "f"); tidegate.ErrorCode(err) != tidegate.NotFound {
		t.Fatalf("%v", err)
	}
	// Who knows the content's digest has had it.
	if err := put(`{"f":{"stub":true,"digest":"` + sha1Digest("hello") + `"}}`); err != nil {
		t.Fatal(err)
	}
}

func TestUpload(t *testing.T) {
	e := open(t, database.Options{MaxAttachmentBytes: 100_000, InlineAttachmentBytes: 100})
	large := strings.Repeat("x", 50_000)
	info, release, err := e.admin.Upload(t.Context(), strings.NewReader(large))
	if err != nil {
		t.Fatal(err)
	}
	w := &database.Write{ID: "d", NewEdits: true, Attachments: map[string]database.AttachmentInput{
		"big":   {Blob: info, Length: -1},
		"small": {Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("small")), nil }, Length: 5},
		"also":  {Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(large)), nil }, Length: 50_000, Digest: sha1Digest(large)},
		"data":  {Data: []byte(large + "y"), Length: -1},
	}}
	res, err := e.admin.Put(t.Context(), w)
	release()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"big": large, "also": large, "small": "small", "data": large + "y"} {
		if got := e.content(e.admin, "d", res.Rev, name); got != want {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
	if report := e.check(); report.Blobs != 3 || report.Garbage != 0 {
		t.Fatalf("%s, garbage %d", report, report.Garbage)
	}
	_, _, err = e.admin.Upload(t.Context(), bytes.NewReader(make([]byte, 100_001)))
	wantErr(t, err, tidegate.TooLarge, "Attachment too large")
	broken := errors.New("line cut")
	if _, _, err = e.admin.Upload(t.Context(), iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	// Another write keeps them all.
	w = &database.Write{ID: "d", NewEdits: true, Parent: res.Rev, KeepAttachments: true, Body: []byte(`{"v":2}`)}
	if res, err = e.admin.Put(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if doc := e.get(e.admin, "d", res.Rev); len(doc.Attachments) != 4 || doc.Attachments["big"].RevPos != 1 {
		t.Fatalf("%+v", doc.Attachments)
	}
}

func TestPurgeRemovesAttachments(t *testing.T) {
	for _, limit := range []int64{-1, 0} {
		e := open(t, database.Options{InlineAttachmentBytes: limit})
		e.put(`{"_id":"a","_attachments":{"f":{"data":"` + hello + `"}}}`)
		e.put(`{"_id":"b","_attachments":{"f":{"data":"` + hello + `"},"g":{"data":"eA=="}}}`)
		if purged, err := e.admin.Purge(t.Context(), []string{"b", "nope"}); err != nil || len(purged) != 1 || purged[0] != "b" {
			t.Fatalf("%v %v", purged, err)
		}
		if report := e.check(); report.Blobs != 1 || report.BlobRefs != 1 || report.Garbage != 0 {
			t.Fatalf("%s", report)
		}
		if got := e.content(e.admin, "a", tidegate.RevID{}, "f"); got != "hello" {
			t.Fatalf("%q", got)
		}
		if _, err := e.admin.Purge(t.Context(), []string{"a"}); err != nil {
			t.Fatal(err)
		}
		if report := e.check(); report.Blobs != 0 || report.BlobRefs != 0 || report.Documents != 0 || report.Bodies != 0 || report.IndexEntries != 0 {
			t.Fatalf("%s", report)
		}
	}
}

func TestCompactAttachments(t *testing.T) {
	e := open(t, database.Options{InlineAttachmentBytes: -1})
	r := e.put(`{"_id":"a","_attachments":{"f":{"data":"` + hello + `"}}}`)
	e.put(`{"_id":"b","_attachments":{"f":{"data":"eA=="}}}`)
	e.put(`{"_id":"a","_rev":"` + r.String() + `"}`)
	_, release, err := e.admin.Upload(t.Context(), strings.NewReader("under way"))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, r, err := e.admin.Upload(t.Context(), strings.NewReader("given up")); err != nil {
		t.Fatal(err)
	} else {
		r()
	}
	e.clock.add(time.Hour)
	if err := e.db.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if report := e.check(); report.Garbage != 3 || report.Blobs != 4 {
		t.Fatalf("%s, garbage %d", report, report.Garbage)
	}
	if s := e.compact(database.CompactAttachments, database.CompactOptions{DryRun: true}); s.Purged != 3 || s.Marked != 1 || !s.DryRun {
		t.Fatalf("%+v", s)
	}
	if s := e.compact(database.CompactAttachments, database.CompactOptions{}); s.Purged != 2 || s.Marked != 1 || s.Phase != "cleanup" || s.ID == "" {
		t.Fatalf("%+v", s)
	}
	if report := e.check(); report.Garbage != 1 || report.Blobs != 2 {
		t.Fatalf("%s, garbage %d", report, report.Garbage)
	}
	if got := e.content(e.admin, "b", tidegate.RevID{}, "f"); got != "x" {
		t.Fatalf("%q", got)
	}
}

// compact runs a compaction to its end.
func (e *env) compact(kind database.CompactKind, o database.CompactOptions) database.CompactStatus {
	e.t.Helper()
	if _, err := e.db.StartCompact(kind, o); err != nil {
		e.t.Fatal(err)
	}
	s, err := e.db.AwaitCompact(e.t.Context(), kind)
	if err != nil || s.Status != "completed" {
		e.t.Fatalf("%+v %v", s, err)
	}
	return s
}

// A blob that is written again while it is being removed is not lost: writers and a compaction race.
func TestCompactionRace(t *testing.T) {
	e := open(t, database.Options{InlineAttachmentBytes: -1})
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := e.db.StartCompact(database.CompactAttachments, database.CompactOptions{}); err != nil {
				done <- err
				return
			}
			if _, err := e.db.AwaitCompact(t.Context(), database.CompactAttachments); err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 60 {
		id := fmt.Sprintf("d%d", i%3)
		res, err := e.admin.Put(t.Context(), e.write(fmt.Sprintf(`{"_id":"%s","_attachments":{"f":{"data":"%s"}}}`, id, hello), true))
		if err != nil {
			t.Fatal(err)
		}
		if got := e.content(e.admin, id, res.Rev, "f"); got != "hello" {
			t.Fatalf("%q", got)
		}
		if _, err := e.admin.Purge(t.Context(), []string{id}); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	e.check()
}

// slowRemoval is a blob store that lets somebody else act between the look for references and the removal.
type slowRemoval struct {
	blob.Store
	between func()
}

func (s *slowRemoval) Remove(ctx context.Context, space store.Space, key blob.Key) error {
	if between := s.between; between != nil {
		s.between = nil
		between()
	}
	return s.Store.Remove(ctx, space, key)
}

// A blob that nothing refers to is being removed when a writer commits a reference to it.
func TestRemovalMeetsCommit(t *testing.T) {
	e := open(t, database.Options{InlineAttachmentBytes: -1})
	blobs := &slowRemoval{Store: e.blobs}
	e2 := openWith(t, e.st, blobs, database.Options{InlineAttachmentBytes: -1})
	raw := `"_attachments":{"f":{"data":"` + hello + `"}}}`
	e2.put(`{"_id":"first",` + raw)
	var wg sync.WaitGroup
	blobs.between = func() {
		last, err := e2.db.LastSequence(t.Context())
		if err != nil {
			t.Error(err)
		}
		wg.Go(func() {
			if _, err := e2.admin.Put(t.Context(), e2.write(`{"_id":"second",`+raw, true)); err != nil {
				t.Error(err)
			}
		})
		if _, err := e2.st.Wait(t.Context(), space, last); err != nil {
			t.Error(err)
		}
		for range 10_000 {
			runtime.Gosched() // a writer who need not wait has let go of his pin by now
		}
	}
	if _, err := e2.admin.Purge(t.Context(), []string{"first"}); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got := e2.content(e2.admin, "second", tidegate.RevID{}, "f"); got != "hello" {
		t.Fatalf("%q", got)
	}
	e2.check()
}
