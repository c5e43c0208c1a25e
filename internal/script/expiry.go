package script

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/tidegate/tidegate"
)

// relativeExpiry is the number of seconds from which on an expiry is a Unix time and no longer a duration
// (gateway-rest.md §11.1).
const relativeExpiry = 30 * 24 * 60 * 60

// ParseExpiry reads an _exp member, a JSON value: a number or numeric string of seconds (below 30 days from
// now on, else a Unix time), or a string in RFC 3339. Fractions are cut off. 0 and null mean none: has is false.
// All else, times before 1970 and after 2^32-1 seconds give an Invalid error "Invalid expiry: …".
func ParseExpiry(raw []byte, now time.Time) (t time.Time, has bool, err error) {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return time.Time{}, false, invalidExpiry(string(raw))
	}
	switch x := v.(type) {
	case nil:
		return time.Time{}, false, nil
	case float64:
		t, err = expirySeconds(x, now)
	case string:
		t, err = expiryText(x, now)
	default:
		err = invalidExpiry(string(raw))
	}
	return t, err == nil && !t.IsZero(), err
}

// expirySeconds is the meaning of a number; the zero time is "never".
func expirySeconds(f float64, now time.Time) (time.Time, error) {
	if !(f > -1 && f < math.MaxUint32+1) { // NaN too
		return time.Time{}, invalidExpiry(strconv.FormatFloat(f, 'g', -1, 64))
	}
	switch n := int64(f); {
	case n == 0:
		return time.Time{}, nil
	case n < relativeExpiry:
		return time.Unix(now.Unix()+n, 0).UTC(), nil
	default:
		return time.Unix(n, 0).UTC(), nil
	}
}

// expiryText is the meaning of a string.
func expiryText(s string, now time.Time) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return expirySeconds(float64(n), now)
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Unix() < 0 || t.Unix() > math.MaxUint32 {
		return time.Time{}, invalidExpiry(s)
	}
	return time.Unix(t.Unix(), 0).UTC(), nil
}

func invalidExpiry(value string) error {
	return tidegate.Errorf(tidegate.Invalid, "Invalid expiry: %s", cut(value, 100))
}
