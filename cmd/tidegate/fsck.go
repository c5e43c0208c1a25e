package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/telemetry"
)

const fsckHelp = `
Usage: tidegate fsck [--data DIR | --store URL] [--db NAME,…] [--blobs] [--json]

Checks the data directory of a gateway that is stopped (it takes the directory's lock), or the PostgreSQL
database that no gateway serves from, and changes nothing:
every document record decodes; the index of every channel is what recomputation from the documents gives;
sequences are unique and none is above the last; bodies, attachments, grants and expiry entries agree with
the documents. Ends with 0 if all is well and 1 if there are problems.
`

var errProblems = errors.New("problems were found")

// fsckCommand checks a data directory.
func fsckCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	fs := newFlags("fsck", fsckHelp, std)
	data := fs.String("data", defaultData, "data `directory`")
	url := fs.String("store", "", "`URL` of the PostgreSQL database that is the store (default: "+storeEnv+", if --data is not given)")
	schema := fs.String("store-schema", "tidegate", "PostgreSQL `schema` of the tables")
	names := fs.String("db", "", "`names` of the databases to check, comma-separated (default all)")
	blobs := fs.Bool("blobs", false, "also read every attachment and compare it with its hash")
	most := fs.Int("problems", 100, "`number` of problems reported in words for each database")
	asJSON := fs.Bool("json", false, "print the report as JSON")
	if err := parseFlags(fs, args); err != nil {
		return ignoreHelp(err)
	}
	where, err := storeOf(fs, *url, getenv)
	if err != nil {
		return err
	}
	var only []string
	if *names != "" {
		only = strings.Split(*names, ",")
	}
	checked, err := check(ctx, where, *schema, *data, database.CheckOptions{MaxProblems: *most, ReadBlobs: *blobs}, only, std)
	if err != nil {
		return err
	}
	if *asJSON {
		err = printJSON(std.out, checked)
	} else {
		err = printReport(std.out, checked)
	}
	for _, c := range checked {
		if !c.Report.OK() {
			return errors.Join(err, errProblems)
		}
	}
	return err
}

func check(ctx context.Context, url, schema, data string, o database.CheckOptions, names []string, std stdio) (_ []gateway.Checked, err error) {
	level, err := telemetry.ParseLevel("warn")
	if err != nil {
		return nil, err
	}
	log, err := telemetry.NewLogger(std.err, telemetry.Text, level)
	if err != nil {
		return nil, err
	}
	st, err := openForCheck(ctx, url, schema, data, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return gateway.Check(ctx, st.Store, st.blobs, o, names...)
}

func printJSON(w io.Writer, checked []gateway.Checked) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(checked)
}

func printReport(w io.Writer, checked []gateway.Checked) error {
	if len(checked) == 0 {
		_, err := fmt.Fprintln(w, "there are no databases")
		return err
	}
	for _, c := range checked {
		detached := ""
		if c.Detached {
			detached = " (deleted, its data kept)"
		}
		fmt.Fprintf(w, "%s%s: %s, in %s\n", c.Name, detached, c.Report, c.Report.Ended.Sub(c.Report.Started).Round(time.Millisecond))
		for _, p := range c.Report.Problems {
			fmt.Fprintf(w, "  %s: %s\n", p.Kind, p.What)
		}
		if more := c.Report.NProblems - len(c.Report.Problems); more > 0 {
			fmt.Fprintf(w, "  and %d more\n", more)
		}
	}
	return nil
}
