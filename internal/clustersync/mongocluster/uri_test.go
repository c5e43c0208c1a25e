package mongocluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/clustersync"
)

func TestURI(t *testing.T) {
	for _, c := range []struct {
		uri, name string
		fault     string // part of the message; "" if there is none
	}{
		{"mongodb://localhost", "localhost:27017", ""},
		{"mongodb://a:1,b:2/?replicaSet=rs", "a:1", ""},
		{"mongodb://user:pa%2Fss@h1,h2:5/admin?w=majority&readConcernLevel=majority&readPreference=primary", "h1:27017", ""},
		{"mongodb://[::1]:99/", "[::1]:99", ""},
		{"mongodb://[::1]/", "[::1]:27017", ""},
		{"mongodb+srv://u:secret@cluster.example.org/", "cluster.example.org", ""},
		{"mongodb://h/?readConcernLevel=local", "h:27017", "read concern must be majority"},
		{"mongodb://h/?w=1", "h:27017", "write concern must be majority"},
		{"mongodb://h/?readPreference=secondary", "h:27017", "read preference must be primary"},
		{"mongodb://h/?socketTimeoutMS=1000", "h:27017", "socketTimeoutMS"},
		{"mongodb://h:notaport/", "h:notaport", "read URI"},
		{"http://h/", "h:27017", "mongodb://"},
		{"mongodb://u:sec/ret@h:1/", "h:1", "read URI"},
	} {
		p, err := parseURI(c.uri)
		if (c.fault == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: error %v, want %q", c.uri, err, c.fault)
		}
		if p.name != c.name {
			t.Errorf("%s is named %q, want %q", c.uri, p.name, c.name)
		}
		for _, shown := range []string{fmt.Sprint(p), fmt.Sprintf("%v %+v %#v %s", p, p, p, p), fmt.Sprint(err)} {
			for _, secret := range []string{"pa%2Fss", "pa/ss", "secret", "sec/ret"} {
				if strings.Contains(shown, secret) {
					t.Errorf("%q shows %q", shown, secret)
				}
			}
		}
	}
}

// TestNoSecretInErrors: whatever an error says, the password is not in it.
func TestNoSecretInErrors(t *testing.T) {
	c, err := Open(t.Context(), "mongodb://someone:hunter%232@127.0.0.1:1/?serverSelectionTimeoutMS=50&connectTimeoutMS=50", Options{Retry: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	_, err = c.Inspect(t.Context())
	if !errors.Is(err, clustersync.ErrUnreachable) {
		t.Errorf("error %v, want ErrUnreachable", err)
	}
	for _, text := range []string{fmt.Sprint(err), fmt.Sprintf("%+v", err), c.failed("try", fmt.Errorf("cannot use hunter#2 or hunter%%232")).Error()} {
		if strings.Contains(text, "hunter") {
			t.Errorf("%q shows the password", text)
		}
	}
	if _, err := Open(t.Context(), "mongodb://h/", Options{Changes: "guess"}); err == nil {
		t.Error("an unknown change source is taken")
	}
}
