package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/store/pgstore/pgtest"
	"github.com/tidegate/tidegate/internal/testkit"
)

// TestBackupRestoreMove takes a backup of a gateway that is written to, restores it into another directory and into PostgreSQL, and moves it
// back: everywhere is what was acknowledged before the backup began, whole, and the store agrees with itself.
func TestBackupRestoreMove(t *testing.T) {
	p := start(t, t.TempDir())
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/", map[string]any{"sync": "function (doc) { channel(doc.channels); }"})
	mustCall(t, http.MethodPut, p.admin+"/"+db+"/_user/eve", map[string]any{"password": "correct horse", "admin_channels": []string{"a"}})
	content := strings.Repeat("attachment ", 10_000) // too large to be kept with the documents
	for i := range 200 {
		doc := map[string]any{"channels": []string{"a"}, "n": i}
		if i%50 == 0 {
			doc["_attachments"] = map[string]any{"file": map[string]any{"data": []byte(fmt.Sprint(i) + content)}}
		}
		mustCall(t, http.MethodPut, fmt.Sprintf("%s/%s/doc%d", p.admin, db, i), doc)
	}
	stop, wait := busy(t, p)
	file := filepath.Join(t.TempDir(), "backup")
	out := tidegate(t, "backup", file, "--admin", p.admin)
	stop()
	wait()
	if !strings.Contains(out, "4 attachments") {
		t.Errorf("backup: %s", out)
	}
	if code := p.stop(); code != 0 {
		t.Fatalf("SIGTERM: exit code %d", code)
	}
	server, err := pgtest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	restored, moved := filepath.Join(t.TempDir(), "restored"), filepath.Join(t.TempDir(), "moved")
	tidegate(t, "restore", file, "--check")
	tidegate(t, "restore", file, "--data", restored)
	tidegate(t, "restore", file, "--store", server.URL())
	tidegate(t, "move", "--from", server.URL(), "--to", moved)
	for name, args := range map[string][]string{
		"restored": {"--data", restored}, "postgres": {"--store", server.URL()}, "moved": {"--data", moved},
	} {
		t.Run(name, func(t *testing.T) {
			fsck(t, append(args, "--blobs")...)
			if name != "postgres" {
				compareBackup(t, start(t, args[1]), content)
				return
			}
			compareBackup(t, start(t, t.TempDir(), args...), content)
		})
	}
	refuseRestores(t, file, restored)
}

// busy writes to other documents until it is stopped.
func busy(t *testing.T, p *process) (stop func(), wait func()) {
	var writers sync.WaitGroup
	done := make(chan struct{})
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				if _, err := call(http.MethodPut, fmt.Sprintf("%s/%s/busy-%d-%d", p.admin, db, w, i), map[string]any{"channels": []string{"b"}}, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return func() { close(done) }, writers.Wait
}

// tidegate runs a command and returns what it printed.
func tidegate(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(t, args...)
	if err != nil {
		t.Fatalf("tidegate %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	bin, err := testkit.Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, bin, args...).CombinedOutput()
	return string(out), err
}

// compareBackup looks for every document that was there before the backup, as its reader sees it.
func compareBackup(t *testing.T, p *process, content string) {
	t.Helper()
	defer p.stop()
	req, err := http.NewRequest(http.MethodGet, p.public+"/"+db+"/_changes", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("eve", "correct horse")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var feed struct{ Results []struct{ ID string } }
	if err := json.NewDecoder(res.Body).Decode(&feed); err != nil {
		t.Fatal(err)
	}
	docs := 0
	for _, r := range feed.Results {
		if strings.HasPrefix(r.ID, "doc") {
			docs++
		}
	}
	if docs != 200 {
		t.Errorf("eve sees %d documents, want 200", docs)
	}
	for i := range 200 {
		var doc struct {
			N           int
			Attachments map[string]struct{ Data []byte } `json:"_attachments"`
		}
		_, err := call(http.MethodGet, fmt.Sprintf("%s/%s/doc%d?attachments=true", p.admin, db, i), nil, &doc)
		want := []byte(nil)
		if i%50 == 0 {
			want = []byte(fmt.Sprint(i) + content)
		}
		if err != nil || doc.N != i || !bytes.Equal(doc.Attachments["file"].Data, want) {
			t.Fatalf("document %d: n %d, an attachment of %d bytes, %v", i, doc.N, len(doc.Attachments["file"].Data), err)
		}
	}
}

// refuseRestores: into what is not empty, and from a backup that was cut off, which leaves a directory that no gateway takes.
func refuseRestores(t *testing.T, file, restored string) {
	t.Helper()
	if out, err := command(t, "restore", file, "--data", restored); err == nil || !strings.Contains(out, "not empty") {
		t.Errorf("restore into what is not empty: %v, %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	half, dir := file+".half", filepath.Join(t.TempDir(), "half")
	if err := os.WriteFile(half, b[:len(b)-10], 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := command(t, "restore", half, "--data", dir); err == nil || !strings.Contains(out, "damaged or was cut off") {
		t.Errorf("restore of half a backup: %v, %s", err, out)
	}
	if out, err := command(t, "serve", "--data", dir, "--public", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", ""); err == nil ||
		!strings.Contains(out, "did not finish") {
		t.Errorf("serve from half a restore: %v, %s", err, out)
	}
	if out, err := command(t, "backup", file, "--data", restored); err == nil || !strings.Contains(out, "exists") {
		t.Errorf("backup over a file: %v, %s", err, out)
	}
	if _, err := os.Stat(file + ".part"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a part is left behind: %v", err)
	}
}
