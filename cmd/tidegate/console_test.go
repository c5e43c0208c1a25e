package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// consoleBrowser is somebody with a browser at a gateway's console.
type consoleBrowser struct {
	t    *testing.T
	http *http.Client
	base string
	page string // the last answer
}

func newConsoleBrowser(t *testing.T, p *gatewayProcess) *consoleBrowser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &consoleBrowser{t: t, base: p.admin + "/_console", http: &http.Client{Jar: jar}}
}

var consoleToken = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// get follows redirects and returns the status and the path where they led.
func (b *consoleBrowser) get(path string) (int, string) {
	b.t.Helper()
	res, err := b.http.Get(b.base + path)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.read(res)
}

// post sends a form with the token of the last page.
func (b *consoleBrowser) post(path string, form url.Values) (int, string) {
	b.t.Helper()
	m := consoleToken.FindStringSubmatch(b.page)
	if m == nil {
		b.t.Fatal("no form in", b.page)
	}
	form.Set("csrf", m[1])
	res, err := b.http.PostForm(b.base+path, form)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.read(res)
}

func (b *consoleBrowser) read(res *http.Response) (int, string) {
	b.t.Helper()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	b.page = string(text)
	return res.StatusCode, strings.TrimPrefix(res.Request.URL.Path, "/_console")
}

func (b *consoleBrowser) login(name, secret string) (int, string) {
	b.t.Helper()
	b.get("/login")
	return b.post("/login", url.Values{"name": {name}, "secret": {secret}})
}

// makeKey makes an API key with the command line.
func makeKey(t *testing.T, p *gatewayProcess, args ...string) (public, private string) {
	t.Helper()
	out, err := runAdmin(t, append([]string{"apikey", "create", "--admin", p.admin, "-o", "json"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var key struct {
		Public  string `json:"public_key"`
		Private string `json:"private_key"`
	}
	if err := json.Unmarshal([]byte(out), &key); err != nil || key.Public == "" || key.Private == "" {
		t.Fatalf("%v: %s", err, out)
	}
	return key.Public, key.Private
}

func TestConsoleWithAPIKeys(t *testing.T) {
	t.Parallel()
	p := startServe(t, "--data", t.TempDir())
	want(t, "PUT", p.admin+"/world/", `{}`, 201)
	b := newConsoleBrowser(t, p)
	if code, at := b.get("/"); code != 200 || at != "/login" || !strings.Contains(b.page, "tidegate admin apikey create") {
		t.Fatalf("without anybody who could log in: %d %s", code, at)
	}
	public, private := makeKey(t, p, "--name", "ops")
	if code, at := b.login(public, "wrong"); code != 401 || at != "/login" || !strings.Contains(b.page, "wrong") {
		t.Errorf("a wrong secret: %d %s", code, at)
	}
	if code, at := b.login(public, private); code != 200 || at != "/" || !strings.Contains(b.page, "world") || !strings.Contains(b.page, "ops") {
		t.Errorf("the key: %d %s\n%s", code, at, b.page)
	}
	b.get("/new-database")
	if code, at := b.post("/new-database", url.Values{"name": {"made"}}); code != 200 || at != "/db/made/" {
		t.Errorf("a database: %d %s", code, at)
	}
	want(t, "GET", p.admin+"/made/", "", 200)

	// A key for reading; and the end of a key is the end of its sessions.
	reader, readerPrivate := makeKey(t, p, "--name", "watch", "--role", "GROUP_READ_ONLY")
	r := newConsoleBrowser(t, p)
	r.login(reader, readerPrivate)
	if code, _ := r.get("/db/world/documents"); code != 200 {
		t.Errorf("a reader reads: %d", code)
	}
	r.post("/db/world/offline", url.Values{})
	if !strings.Contains(r.page, "this account may read, not change") {
		t.Errorf("a reader changes: %s", r.page)
	}
	keys, err := runAdmin(t, "apikey", "list", "--admin", p.admin, "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var listed []struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	if err := json.Unmarshal([]byte(keys), &listed); err != nil {
		t.Fatalf("%v: %s", err, keys)
	}
	for _, k := range listed {
		if k.Name == "watch" {
			want(t, "DELETE", p.admin+"/_admin_api_keys/"+k.ID, "", 204)
		}
	}
	if _, at := r.get("/"); at != "/login" {
		t.Errorf("with a deleted key: %s", at)
	}
	if code, _ := request(t, "GET", p.public+"/_console/", ""); code == 200 {
		t.Error("the console is on the public listener")
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if log := p.log.String(); strings.Contains(log, private) || strings.Contains(log, readerPrivate) {
		t.Error("a private key is in the log")
	}
}

func TestConsoleWithAdministrators(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json")
	const cfg = `{"bcrypt_cost":10,"auth":{"administrators":{"root":{"password":"a long password","roles":["admin"]},
		"worlds":{"password":"another password","roles":["bucket_admin"],"databases":["world"]}}}}`
	if err := os.WriteFile(file, []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startServe(t, "--data", filepath.Join(dir, "data"), "--config", file)
	want(t, "PUT", p.admin+"/world/", `{}`, 201)
	want(t, "PUT", p.admin+"/other/", `{}`, 201)
	b := newConsoleBrowser(t, p)
	if code, at := b.login("root", "a long password"); code != 200 || at != "/" {
		t.Fatalf("%d %s", code, at)
	}
	if code, _ := b.get("/metrics"); code != 200 {
		t.Errorf("metrics: %d", code)
	}
	w := newConsoleBrowser(t, p)
	w.login("worlds", "another password")
	for path, want := range map[string]int{"/db/world/": 200, "/db/other/": 403, "/log": 403} {
		if code, _ := w.get(path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
}

// TestStopEndsLivePages shows that an open page does not hold up the end of the server.
func TestStopEndsLivePages(t *testing.T) {
	t.Parallel()
	p := startServe(t, "--data", t.TempDir())
	public, private := makeKey(t, p, "--name", "ops")
	b := newConsoleBrowser(t, p)
	b.login(public, private)
	res, err := b.http.Get(b.base + "/events?t=overview")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadFull(res.Body, make([]byte, 12)); err != nil {
		t.Fatal(err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Errorf("cut instead of ended: %v", err)
	}
}
