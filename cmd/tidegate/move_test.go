package main

import (
	"errors"
	"flag"
	"testing"
)

// TestStartFrom: what a move says can be typed after tidegate serve.
func TestStartFrom(t *testing.T) {
	for _, c := range []struct {
		to, schema, want string
	}{
		{"/srv/tidegate", "tidegate", "--data /srv/tidegate"},
		{"postgres://t:secret@db/t", "tidegate", "--store (or TIDEGATE_STORE) postgres://t:xxxxx@db/t"},
		{"postgres://t:secret@db/t?password=secret", "other", "--store (or TIDEGATE_STORE) postgres://t:xxxxx@db/t --store-schema other"},
	} {
		m := moveFlags{to: c.to, schema: c.schema}
		if got := startFrom(m.place()); got != c.want {
			t.Errorf("%s in %s: %s", c.to, c.schema, got)
		}
	}
}

// TestStoreOf: what the command line names counts, and the environment only if it names nothing.
func TestStoreOf(t *testing.T) {
	const flagged, inEnvironment = "postgres://flag/t", "postgres://env/t"
	getenv := func(name string) (string, bool) { return inEnvironment, name == storeEnv }
	for _, c := range []struct {
		args []string
		want string
		err  error
	}{
		{nil, inEnvironment, nil},
		{[]string{"--store", flagged}, flagged, nil},
		{[]string{"--data", "d"}, "", nil},
		{[]string{"--data", "d", "--store", flagged}, "", errTwoStores},
	} {
		fs := flag.NewFlagSet("x", flag.ContinueOnError)
		fs.String("data", defaultData, "")
		store := fs.String("store", "", "")
		if err := fs.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		if got, err := storeOf(fs, *store, getenv); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v: %q, %v", c.args, got, err)
		}
	}
}
