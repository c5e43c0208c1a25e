package gatewaycluster

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// endless gives a byte again and again.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// TestRows: whatever an answer is, its rows come or an error does; no more than one document is held.
func TestRows(t *testing.T) {
	const first = `{"rows":[` + "\n" + `{"key":"a","id":"a","value":{"rev":"1-a"},"doc":{"_id":"a"}}`
	read := func(r io.Reader) (string, error) {
		var got []string
		err := eachRow(r, 100_000, func(r row) error {
			got = append(got, r.Key+r.ID+r.Error+string(r.Doc))
			return nil
		})
		return strings.Join(got, " "), err
	}
	got, err := read(strings.NewReader(first + `,{"key":"b","error":"not_found","status":404}],"total_rows":2,"update_seq":5}`))
	if got != `aa{"_id":"a"} bnot_found` || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	for _, answer := range []string{"", "{", `{"rows":[`, first, first + "]", first + `],"total_rows":`, `{"error":"x"}`, `[]`, `{"rows":[5]}`, first + `,{"key"`} {
		var broken *brokenAnswer
		if _, err := read(strings.NewReader(answer)); !errors.As(err, &broken) {
			t.Errorf("%s: %v", answer, err)
		}
	}
	got, err = read(io.MultiReader(strings.NewReader(first+`,{"key":"b","id":"b","doc":{"x":"`), endless('x')))
	if got != `aa{"_id":"a"}` || !errors.Is(err, clustersync.ErrTooLarge) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("an endless document: %s, %v", got, err)
	}
	stop := errors.New("stop")
	if err := eachRow(strings.NewReader(first), 100_000, func(row) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

// TestPortions: what goes into one request is bounded; a long document goes alone.
func TestPortions(t *testing.T) {
	docs := make([]clustersync.Document, 2*requestDocs+10)
	docs[5].Body = make([]byte, requestBytes+1)
	docs[9].Body, docs[10].Body = make([]byte, requestBytes/2), make([]byte, requestBytes/2+1)
	var got []int
	for some := range portions(docs) {
		got = append(got, len(some))
	}
	if want := []int{5, 1, 4, requestDocs, requestDocs}; !slices.Equal(got, want) {
		t.Errorf("portions of %v, want %v", got, want)
	}
	for range portions(nil) {
		t.Error("a portion of nothing")
	}
}
