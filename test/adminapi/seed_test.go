package adminapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// build returns the program, as a user would have it.
func build(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("TIDEGATE_BIN"); bin != "" {
		return bin
	}
	bin := filepath.Join(t.TempDir(), "tidegate")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/tidegate/tidegate/cmd/tidegate").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// serve runs a gateway and returns the base URLs of its listeners.
func serve(t *testing.T, bin, data string) (public, admin string) {
	t.Helper()
	cmd := exec.Command(bin, "serve", "--data", data, "--public", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "", "--log-format", "json")
	r, w := io.Pipe()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); w.Close(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			t.Error("the gateway does not stop")
		}
	})
	lines := bufio.NewScanner(r)
	for (public == "" || admin == "") && lines.Scan() {
		log.Write(append(lines.Bytes(), '\n'))
		var entry struct{ Msg, Listener, Address string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" {
			switch entry.Listener {
			case "public":
				public = "http://" + entry.Address
			case "admin":
				admin = "http://" + entry.Address
			}
		}
	}
	if public == "" || admin == "" {
		t.Fatalf("the gateway did not start:\n%s", log.String())
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	return public, admin
}

func send(t *testing.T, method, url, body string, want int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, _ := io.ReadAll(res.Body); res.StatusCode != want {
		t.Fatalf("%s %s: %d %s", method, url, res.StatusCode, answer)
	}
}

// The API procedures of the seed, as a user carries them out with curl (D2, D3, D5, D6, D8).
func TestSeedProceduresWithCurl(t *testing.T) {
	bin := build(t)
	public, admin := serve(t, bin, t.TempDir())
	send(t, "PUT", admin+"/todo/", `{"guest":{"disabled":false,"admin_channels":["*"]},"unsupported":{"allow_guest_star":true}}`, 201)
	send(t, "PUT", admin+"/todo/one", `{"a":1}`, 201)
	cmd := exec.Command("./pause-terminate-enable.sh")
	cmd.Env = append(os.Environ(), "ADMIN="+admin, "PUBLIC_URL="+public, "TIDEGATE="+bin, "DATABASE=todo")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "== done") {
		t.Fatalf("%v\n%s", err, out)
	}
	send(t, "GET", admin+"/todo/one", "", 200) // the data stay
}

// Keys can be made while no gateway runs, and are good when one does.
func TestKeysOfADataDirectory(t *testing.T) {
	bin, data := build(t), t.TempDir()
	apikey := func(args ...string) []byte {
		t.Helper()
		out, err := exec.Command(bin, append([]string{"admin", "apikey"}, args...)...).Output()
		if err != nil {
			t.Fatalf("admin apikey %v: %v\n%s", args, err, out)
		}
		return out
	}
	if err := exec.Command(bin, "admin", "apikey", "create", "--data", filepath.Join(data, "none")).Run(); err == nil {
		t.Error("a key was made where there is no data directory")
	}
	t.Run("first start", func(t *testing.T) { serve(t, bin, data) })
	var key struct {
		Public  string `json:"public_key"`
		Private string `json:"private_key"`
	}
	if err := json.Unmarshal(apikey("create", "--data", data, "--name", "ci", "--role", "GROUP_READ_ONLY", "-o", "json"), &key); err != nil {
		t.Fatal(err)
	}
	_, admin := serve(t, bin, data)
	login := fmt.Sprintf(`{"username":%q,"apiKey":%q}`, key.Public, key.Private)
	send(t, "POST", admin+"/api/admin/v3.0/auth/providers/mongodb-cloud/login", login, 200)
	var all []struct{ ID, Name, Role string }
	if err := json.Unmarshal(apikey("list", "--admin", admin, "-o", "json"), &all); err != nil || len(all) != 1 || all[0].Role != "GROUP_READ_ONLY" {
		t.Fatalf("keys: %v, %v", all, err)
	}
	if text := apikey("list", "--admin", admin); !strings.Contains(string(text), key.Public) || strings.Contains(string(text), key.Private) {
		t.Errorf("list: %s", text)
	}
	if err := exec.Command(bin, "admin", "apikey", "create", "--data", data).Run(); err == nil {
		t.Error("a key was made in a data directory that a gateway uses")
	}
	apikey("delete", all[0].ID, "--admin", admin)
	send(t, "POST", admin+"/api/admin/v3.0/auth/providers/mongodb-cloud/login", login, 401)
}
