package main

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
)

// The demo database: the world's countries, a channel for each region. The data are those of
// demo/NOTICE.md.
var (
	//go:embed demo/countries.json
	demoCountries []byte
	//go:embed demo/world.js
	demoSync string
)

const demoDB = "world"

// demoUsers are the users of the demo and the channels they see.
var demoUsers = []struct {
	name     string
	channels []string
}{
	{"ada", []string{"Europe"}},
	{"kwame", []string{"Africa", "landlocked"}},
}

// seedDemo makes the demo database through the admin API, as any client would, and writes to out what there
// is to try. Passwords are made up on the first run and kept, readable by the owner only, in
// dataDir/demo-credentials.json; the gateway stores hashes.
func seedDemo(ctx context.Context, adminURL, publicURL, dataDir string, out io.Writer) error {
	passwords, err := demoPasswords(filepath.Join(dataDir, "demo-credentials.json"))
	if err != nil {
		return fmt.Errorf("keep the demo's passwords: %w", err)
	}
	c := demoClient{ctx: ctx, base: adminURL + "/" + demoDB}
	status, err := c.do(http.MethodGet, "/", nil)
	if err != nil {
		return err
	}
	if status == http.StatusNotFound {
		if err := c.fill(passwords); err != nil {
			return fmt.Errorf("fill the demo database: %w", err)
		}
	}
	_, err = io.WriteString(out, demoText(publicURL, adminURL, passwords))
	return err
}

// demoPasswords reads the passwords, or makes them up.
func demoPasswords(file string) (map[string]string, error) {
	passwords := map[string]string{}
	text, err := os.ReadFile(file)
	if err == nil {
		return passwords, json.Unmarshal(text, &passwords)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, u := range demoUsers {
		passwords[u.name] = rand.Text()[:12]
	}
	if text, err = json.MarshalIndent(passwords, "", "  "); err != nil {
		return nil, err
	}
	return passwords, os.WriteFile(file, append(text, '\n'), 0o600)
}

type demoClient struct {
	ctx  context.Context
	base string
}

func (c demoClient) fill(passwords map[string]string) error {
	config, err := json.Marshal(map[string]any{"sync": demoSync})
	if err != nil {
		return err
	}
	if err := c.want(http.MethodPut, "/", config); err != nil {
		return err
	}
	for _, u := range demoUsers {
		user, err := json.Marshal(map[string]any{"password": passwords[u.name], "admin_channels": u.channels})
		if err != nil {
			return err
		}
		if err := c.want(http.MethodPut, "/_user/"+u.name, user); err != nil {
			return err
		}
	}
	docs := append([]byte(`{"docs":`), demoCountries...)
	return c.want(http.MethodPost, "/_bulk_docs", append(docs, '}'))
}

func (c demoClient) want(method, path string, body []byte) error {
	status, err := c.do(method, path, body)
	if err == nil && status >= 300 {
		err = fmt.Errorf("%s %s: status %d", method, c.base+path, status)
	}
	return err
}

func (c demoClient) do(method, path string, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(c.ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// demoText is what `make run` shows. Every command in it works as pasted.
func demoText(public, admin string, passwords map[string]string) string {
	return fmt.Sprintf(`
tidegate is up, with the countries of the world in the database %[1]q.

  public API   %[2]s   users: ada (sees Europe), kwame (sees Africa and landlocked countries)
  admin API    %[3]s   no login from this machine
  console      %[3]s/_console/   "tidegate admin apikey create" makes a login

Try, in another terminal:

  # Ada sees the countries of Europe, and no others.
  curl -s -u ada:%[4]s '%[2]s/world/_all_docs?limit=3'
  curl -s -u ada:%[4]s %[2]s/world/FRA
  curl -s -u ada:%[4]s %[2]s/world/KEN

  # Kwame follows his changes; leave it running …
  curl -sN -u kwame:%[5]s '%[2]s/world/_changes?feed=continuous&since=now&include_docs=true'

  # … and add a country in a third terminal. Kwame's feed shows it, Ada's would not.
  curl -s -X PUT -H 'Content-Type: application/json' -d '{"type":"country","name":"Wakanda","region":"Africa"}' %[3]s/world/WKD

  # Give Ada Africa too: she gets its older documents without a new write.
  curl -s -X PUT -H 'Content-Type: application/json' -d '{"admin_channels":["Europe","Africa"]}' %[3]s/world/_user/ada
  curl -s -u ada:%[4]s '%[2]s/world/_changes?active_only=true' | grep -c '"id"'

  # A real PouchDB: npm install pouchdb, then in node
  #   const PouchDB = require('pouchdb')
  #   new PouchDB('mine').sync('%[6]s', {live: true, retry: true}).on('change', console.log)

Stop with Ctrl-C; the data stay.
`, demoDB, public, admin, passwords["ada"], passwords["kwame"], demoPouchURL(public, passwords["ada"]))
}

// demoPouchURL puts Ada's login into the public URL.
func demoPouchURL(public, password string) string {
	const scheme = "http://"
	return scheme + "ada:" + password + "@" + public[len(scheme):] + "/" + demoDB
}
