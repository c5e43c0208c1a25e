package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func runAdmin(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), append([]string{"admin"}, args...), noEnv, stdio{nil, &out, &out})
	return out.String(), err
}

func TestAdminKeyCommandLine(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"", "apikey", "apikey make", "apikey delete", "apikey list more", "apikey create -o xml", "apikey create --admin nonsense",
		"apikey create --admin http://u:p@h", "key create", "apikey create --nmae x",
	} {
		if _, err := runAdmin(t, strings.Fields(args)...); err == nil || exitCode(err) != 2 {
			t.Errorf("admin %s: %v", args, err)
		}
	}
	if out, err := runAdmin(t, "--help"); err != nil || !strings.Contains(out, "apikey create") {
		t.Errorf("help: %v\n%s", err, out)
	}
}

// The App Services Admin API is beside the gateway's on the admin listener, and only there; pages elsewhere cannot use it.
func TestAppServicesListener(t *testing.T) {
	t.Parallel()
	p := startServe(t, "--data", t.TempDir())
	const path = "/api/admin/v3.0/auth/providers"
	if code, _ := request(t, "GET", p.admin+path, ""); code != 200 {
		t.Errorf("on the admin listener: %d", code)
	}
	if code, _ := request(t, "GET", p.public+path, ""); code == 200 {
		t.Error("it is on the public listener")
	}
	for name, value := range map[string]string{"Origin": "http://evil.example", "Host": "evil.example", "Sec-Fetch-Site": "cross-site"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", p.admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(name, value)
		if name == "Host" {
			req.Host = value
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var said struct {
			Code string `json:"error_code"`
		}
		_ = json.NewDecoder(res.Body).Decode(&said)
		res.Body.Close()
		if res.StatusCode != 403 || said.Code != "Unauthorized" {
			t.Errorf("%s: %s: %d %s", name, value, res.StatusCode, said.Code)
		}
	}
	out, err := runAdmin(t, "apikey", "create", "--admin", p.admin, "-o", "json")
	var key map[string]string
	if err != nil || json.Unmarshal([]byte(out), &key) != nil || len(key) != 2 || key["public_key"] == "" || key["private_key"] == "" {
		t.Errorf("apikey create: %v\n%s", err, out)
	}
	if strings.Contains(p.log.String(), key["private_key"]) {
		t.Error("the private key is in the log")
	}
}
