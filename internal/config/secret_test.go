package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

const theSecret = "correct-horse"

func TestSecretsCannotBePrinted(t *testing.T) {
	type hidden struct {
		s Secret
		u RemoteURL
	}
	s, u := NewSecret(theSecret), NewRemoteURL("https://bob:"+theSecret+"@example.com:4984/db?x=1")
	var out bytes.Buffer
	for _, v := range []any{s, &s, u, &u, hidden{s, u}, &hidden{s, u}, []Secret{s}, map[string]RemoteURL{"a": u}, Principal{Password: s}, &Replication{Remote: u, Password: s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T", "%p", "%U", "%10.3s"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("x", "value", v)
		}
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
	}
	hex := fmt.Sprintf("%x", theSecret)
	for _, bad := range []string{theSecret, theSecret[:8], hex, strings.ToUpper(hex)} {
		if i := strings.Index(out.String(), bad); i >= 0 {
			t.Fatalf("printed: …%s…", out.String()[max(0, i-60):i+20])
		}
	}
	if s.Reveal() != theSecret || !strings.Contains(u.Reveal(), theSecret) {
		t.Fatal("Reveal does not give the text")
	}
	if got := u.String(); got != "https://bob:xxxxx@example.com:4984/db?x=1" {
		t.Errorf("masked URL: %s", got)
	}
	if got := u.Masked("****"); got != "https://bob:****@example.com:4984/db?x=1" {
		t.Errorf("masked URL: %s", got)
	}
	for _, plain := range []string{"http://example.com/db", "http://bob@example.com/db", "http://bob:@example.com/db", ""} {
		if got := NewRemoteURL(plain).String(); got != plain {
			t.Errorf("%q became %q", plain, got)
		}
	}
	if got := NewRemoteURL("http://a:" + theSecret + "@[bad").String(); got != Mask {
		t.Errorf("a URL that does not parse shows %q", got)
	}
}

// full returns a config with every field set, so that a field which is forgotten somewhere shows.
func full() *Database {
	d := &Database{}
	n := 0
	fillAll(reflect.ValueOf(d).Elem(), &n)
	return d
}

// fillAll sets v and everything in it to values that are all different.
func fillAll(v reflect.Value, n *int) {
	*n++
	text := "v" + strconv.Itoa(*n)
	switch p := v.Addr().Interface().(type) {
	case *Secret:
		*p = NewSecret(theSecret + text)
		return
	case *RemoteURL:
		*p = NewRemoteURL("https://user:" + theSecret + text + "@host/db")
		return
	case *JavaScript:
		*p = JavaScript("function() { return '" + text + "'; }")
		return
	case *Choice:
		*p = "true"
		return
	case *Number:
		*p = Number(strconv.Itoa(*n) + ".50")
		return
	case *Raw:
		*p = Raw(`{"kid":"` + text + `"}`)
		return
	case *QueryParams:
		*p = QueryParams{Channels: []string{text}, CollectionsChannels: map[string][]string{"s.c": {text}}}
		return
	case *Replications:
		r := &Replication{}
		fillAll(reflect.ValueOf(r).Elem(), n)
		*p = Replications{r.ID: r}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillAll(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			fillAll(v.Field(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fillAll(v.Index(0), n)
		fillAll(v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		e := reflect.New(v.Type().Elem()).Elem()
		fillAll(e, n)
		v.SetMapIndex(reflect.ValueOf("key"+text), e)
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		v.SetBool(true)
	default:
		v.SetInt(int64(*n))
	}
}

func TestEncodingRoundTripsEveryField(t *testing.T) {
	d := full()
	again, err := Decode(d.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(d, again) {
		t.Fatalf("lost something:\n%s\n%s", d.Encode(), again.Encode())
	}
	if !reflect.DeepEqual(d, d.Clone()) {
		t.Fatal("Clone lost something")
	}
}

func TestMaskedShowsNoSecretAndReadsBack(t *testing.T) {
	d := full()
	masked := d.Masked()
	if bytes.Contains(masked, []byte(theSecret)) {
		t.Fatalf("%s", masked)
	}
	if c := bytes.Count(masked, []byte(Mask)); c < 8 {
		t.Fatalf("only %d secrets are masked: %s", c, masked)
	}
	back, err := Decode(masked, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := back.KeepSecrets(d); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.Encode(), d.Encode()) {
		t.Fatalf("what was read and written back is another config:\n%s\n%s", back.Encode(), d.Encode())
	}
}

func TestCloneSharesNothing(t *testing.T) {
	d := full()
	before := string(d.Encode())
	c := d.Clone()
	visit(reflect.ValueOf(c).Elem(), "", func(v reflect.Value, _ string) bool {
		switch v.Kind() {
		case reflect.String:
			v.SetString("7")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Int, reflect.Int64:
			v.SetInt(-1)
		case reflect.Struct:
			return !isSecret(v)
		}
		return true
	})
	if string(c.Encode()) == before {
		t.Fatal("the copy was not changed")
	}
	if string(d.Encode()) != before {
		t.Fatal("changing the copy changed the original")
	}
}

func TestMaskedSecretsMeanUnchanged(t *testing.T) {
	old := mustParse(t, `{"password":"p1","replications":{
		"a":{"remote":"https://bob:secret@host/db","direction":"pull"},
		"b":{"remote":"https://host/db","remote_username":"u","remote_password":"p2","direction":"pull"}}}`)
	for _, tc := range []struct{ name, src, err, want string }{
		{name: "password", src: `{"password":"xxxxx"}`, want: `{"password":"p1"}`},
		{name: "another mask", src: `{"password":"****"}`, want: `{"password":"p1"}`},
		{name: "new value", src: `{"password":"new"}`, want: `{"password":"new"}`},
		{name: "url", src: `{"replications":{"a":{"remote":"https://bob:xxxxx@host/db"}}}`,
			want: `{"replications":{"a":{"replication_id":"a","remote":"https://bob:secret@host/db"}}}`},
		{name: "url, other path", src: `{"replications":{"a":{"remote":"https://bob:****@host/db2"}}}`,
			want: `{"replications":{"a":{"replication_id":"a","remote":"https://bob:secret@host/db2"}}}`},
		{name: "url, other host", src: `{"replications":{"a":{"remote":"https://bob:xxxxx@evil/db"}}}`,
			err: "replications.a.remote: a masked password means the stored one, and none is stored for this host and user"},
		{name: "url, other user", src: `{"replications":{"a":{"remote":"https://eve:xxxxx@host/db"}}}`, err: "none is stored for this host"},
		{name: "nothing stored", src: `{"replications":{"c":{"remote_password":"xxxxx"}}}`,
			err: "replications.c.remote_password: a masked secret means the stored one, and none is stored"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := mustParse(t, tc.src)
			err := cfg.KeepSecrets(old)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("got %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil || string(cfg.Encode()) != tc.want {
				t.Fatalf("got %s, %v", cfg.Encode(), err)
			}
		})
	}
}

func mustParse(t *testing.T, src string) *Database {
	t.Helper()
	cfg, err := ParseDatabase([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
