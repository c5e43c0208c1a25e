package appservices_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/devicesync"
)

// D16: pull, edit sync/config.json, look at the difference, push in a draft, deploy: as the command-line tool of the original does.
func TestD16PullEditPush(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	cli := []string{"X-BAAS-Request-Origin", "mongodb-baas-cli"}
	pulled := f.call("GET", f.app+"/pull", nil, append([]string{"Accept", "application/json"}, cli...)...).want(200)
	if diff := f.call("POST", f.app+"/import?strategy=replace-by-name&diff=true", pulled.body, cli...).want(200).list(); len(diff) != 0 {
		t.Errorf("what was pulled differs: %v", diff)
	}
	app := pulled.json()
	cfg := app["sync"].(map[string]any)["config"].(map[string]any)
	if cfg["type"] != "flexible" || cfg["state"] != "enabled" || cfg["database_name"] != "todo" || cfg["service_name"] != "mongodb-atlas" {
		t.Errorf("sync/config.json: %v", cfg)
	}
	cfg["state"], cfg["client_max_offline_days"] = "disabled", 14
	app["functions"], app["hosting"] = []any{}, map[string]any{"enabled": false}
	diff := f.call("POST", f.app+"/import?strategy=replace-by-name&diff=true", app, cli...).want(200).list()
	if len(diff) != 3 || !strings.Contains(diff[0].(string), `+    "state": "disabled"`) || !strings.Contains(diff[1].(string), "ignored: functions") {
		t.Errorf("diff: %v", diff)
	}
	f.wantState("enabled") // a diff changes nothing

	draft := f.draft()
	f.call("POST", f.app+"/drafts", nil, cli...).want(409, "DraftAlreadyExists")
	f.call("POST", f.app+"/import?strategy=replace-by-name", app, cli...).want(204)
	if f.live().Record.State != devicesync.Enabled {
		t.Error("an import into a draft is live")
	}
	if d := f.deploy(draft); d["status"] != "successful" {
		t.Errorf("deployment: %v", d)
	}
	if row := f.live(); row.Record.State != devicesync.Disabled || *row.Config.ClientMaxOfflineDays != 14 {
		t.Errorf("live: %+v", row)
	}
}

// D16: the same with archives, and without a draft.
func TestD16Archives(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	f.call("POST", f.app+"/schemas", `{"metadata":{"database":"todo","collection":"a/b"},"schema":{"title":"Item"}}`).want(200)
	out := f.call("GET", f.app+"/export?version=20210101&source_control=true", nil).want(200)
	if !strings.Contains(out.header.Get("Content-Disposition"), ".zip") || out.header.Get("Content-Type") != "application/zip" {
		t.Errorf("headers: %v", out.header)
	}
	files := unzip(t, out.body)
	for _, name := range []string{"realm_config.json", "sync/config.json", "data_sources/mongodb-atlas/config.json", "data_sources/mongodb-atlas/todo/a%2Fb/schema.json"} {
		if files[name] == nil {
			t.Errorf("there is no %s among %v", name, files)
		}
	}
	if pulled := f.call("GET", f.app+"/pull", nil, "Accept", "application/zip").want(200); !bytes.Equal(pulled.body, out.body) {
		t.Error("pull and export differ")
	}
	if diff := f.call("POST", f.app+"/import?diff=true", out.body, "Content-Type", "application/zip").want(200).list(); len(diff) != 0 {
		t.Errorf("what was exported differs: %v", diff)
	}
	files["sync/config.json"] = bytes.Replace(files["sync/config.json"], []byte(`"enabled"`), []byte(`"disabled"`), 1)
	files["functions/config.json"] = []byte("[]")
	f.call("PATCH", f.app+"/push", rezip(t, files), "Content-Type", "application/zip").want(204)
	f.wantState("disabled")

	// A file that is gone, or empty, terminates, and that has to be asked for.
	for _, empty := range [][]byte{nil, []byte("\n"), []byte("{}")} {
		files["sync/config.json"] = empty
		f.call("PATCH", f.app+"/push", rezip(t, files), "Content-Type", "application/zip").want(400, "DestructiveChangeNotAllowed")
		f.wantState("disabled")
	}
	delete(files, "sync/config.json")
	f.call("PATCH", f.app+"/push?allow_destructive_changes=true", rezip(t, files), "Content-Type", "application/zip").want(204)
	f.wantState("")
	f.settled()
	f.call("PATCH", f.app+"/push", rezip(t, files), "Content-Type", "application/zip").want(204) // where there is no sync that is normal
	files["sync/config.json"] = []byte(`{"type":"flexible","state":"enabled","service_name":"mongodb-atlas","database_name":"todo"}`)
	f.call("PATCH", f.app+"/push", rezip(t, files), "Content-Type", "application/zip").want(204)
	f.wantState("enabled")
}

func TestImportsThatMakeNoSense(t *testing.T) {
	f := newRig(t, "todo").automatic("todo")
	before := f.call("GET", f.app+"/pull", nil).want(200).body
	for name, body := range map[string]any{
		"no object":       `[]`,
		"no app":          `{"sync":5}`,
		"no such service": `{"sync":{"config":{"state":"enabled","service_name":"other"}}}`,
		"service twice":   `{"data_sources":[{"config":{"name":"a","type":"mongodb"}},{"config":{"name":"a","type":"mongodb"}}]}`,
		"bad type":        `{"data_sources":[{"config":{"name":"a","type":"http"}}]}`,
		"bad days":        `{"sync":{"config":{"state":"enabled","client_max_offline_days":0}}}`,
		"bad mode":        `{"sync":{"config":{"type":"both","state":"enabled"}}}`,
		"no zip":          []byte("PK\x03\x04 but no archive"),
		"files twice":     rezip(t, map[string][]byte{"sync/config.json": []byte("nonsense")}),
		"a bomb":          rezip(t, map[string][]byte{"bomb": make([]byte, 17<<20)}),
	} {
		if a := f.call("POST", f.app+"/import", body); a.code < 400 || a.code >= 500 {
			t.Errorf("%s: %d %s", name, a.code, a.body)
		}
	}
	f.call("POST", f.app+"/import?strategy=merge", before).want(400)
	if after := f.call("GET", f.app+"/pull", nil).want(200).body; !bytes.Equal(before, after) {
		t.Errorf("the configuration was\n%s and is\n%s", before, after)
	}
}

func unzip(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func rezip(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	for name, text := range files {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write(text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Fuzzing an import: whatever the body, the answer is none of 500, and what is refused changes nothing.
func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"name":"todo","sync":{"config":{"state":"enabled","client_max_offline_days":3}},"data_sources":[]}`))
	f.Add([]byte(`{"sync":{"config":{"type":"partition","state":"enabled","partition":{"key":"a","type":"string"}}}}`))
	f.Add([]byte("PK\x03\x04"))
	shared := newSharedRig(f, "todo").automatic("todo")
	f.Fuzz(func(t *testing.T, body []byte) {
		shared.t = t
		before := shared.call("GET", shared.app+"/pull", nil)
		a := shared.call("POST", shared.app+"/import?diff=true", body)
		if a.code >= 500 {
			t.Errorf("%q: %d %s", body, a.code, a.body)
		}
		if after := shared.call("GET", shared.app+"/pull", nil); !bytes.Equal(before.body, after.body) {
			t.Errorf("%q has changed the configuration", body)
		}
	})
}
