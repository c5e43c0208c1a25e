package script

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tidegate/tidegate"
)

func TestParseExpiry(t *testing.T) {
	unix := func(n int64) time.Time { return time.Unix(n, 0).UTC() }
	for _, c := range []struct {
		raw  string
		want time.Time
	}{
		{`null`, time.Time{}}, {`0`, time.Time{}}, {`"0"`, time.Time{}}, {`0.5`, time.Time{}}, {`-0`, time.Time{}}, {`-0.5`, time.Time{}},
		{`1`, testNow.Add(time.Second)}, {`"3600"`, testNow.Add(time.Hour)},
		{`2591999`, testNow.Add(2591999 * time.Second)}, {`2592000`, unix(2592000)},
		{`1893456000`, unix(1893456000)}, {`"1893456000"`, unix(1893456000)}, {`1.893456e9`, unix(1893456000)},
		{`4294967295`, unix(4294967295)}, {`4294967295.9`, unix(4294967295)},
		{`"2030-01-01T00:00:00Z"`, unix(1893456000)}, {`"2030-01-01T01:00:00.75+01:00"`, unix(1893456000)},
	} {
		got, has, err := ParseExpiry([]byte(c.raw), testNow)
		if err != nil || !got.Equal(c.want) || has == c.want.IsZero() {
			t.Errorf("%s: got %v, %v, %v, want %v", c.raw, got, has, err, c.want)
		}
	}
	for _, raw := range []string{`-1`, `"-1"`, `4294967296`, `1e20`, `true`, `[]`, `{}`, `""`, `"soon"`, `"2030-01-01"`, `"1960-01-01T00:00:00Z"`,
		`"2200-01-01T00:00:00Z"`, `"1.5"`, `"1e3"`, `" 5"`, `nonsense`, `"99999999999999999999"`, ``} {
		_, has, err := ParseExpiry([]byte(raw), testNow)
		if has || tidegate.ErrorCode(err) != tidegate.Invalid || !strings.HasPrefix(tidegate.ErrorReason(err), "Invalid expiry: ") {
			t.Errorf("%s: got %v, %v", raw, has, err)
		}
	}
}

func FuzzParseExpiry(f *testing.F) {
	f.Add(`3600`)
	f.Add(`"2030-01-01T00:00:00Z"`)
	f.Add(`"` + strings.Repeat("é", 100) + `"`)
	f.Fuzz(func(t *testing.T, raw string) {
		got, has, err := ParseExpiry([]byte(raw), testNow)
		switch {
		case err != nil && (has || len(err.Error()) > 200):
			t.Errorf("%q: %v, %v", raw, has, err)
		case has && (got.Unix() <= 0 || got.Unix() > 1<<32+testNow.Unix()):
			t.Errorf("%q: %v", raw, got)
		case err == nil && !json.Valid([]byte(raw)):
			t.Errorf("%q is no JSON, but no error", raw)
		}
	})
}
