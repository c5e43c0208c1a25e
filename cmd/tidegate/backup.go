package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tidegate/tidegate/internal/gateway"
	"github.com/tidegate/tidegate/internal/store/archive"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
	"github.com/tidegate/tidegate/internal/telemetry"
)

const backupHelp = `
Usage: tidegate backup FILE [--admin URL | --data DIR | --store URL]

Writes everything that a gateway stores into one file: all databases with their documents, attachments, users and
configs, as they were when the backup began. The gateway goes on serving; with --data or --store it is one that is
stopped. The file is read back and checked before it gets its name. "-" is standard output, without that check.

The key that stored passwords of replications are encrypted with is not in it: keep secrets.key, or whatever
--secrets-key-file names, as well, and in another place.
`

const restoreHelp = `
Usage: tidegate restore FILE [--data DIR | --store URL] [--check] [--as-new]

Puts a backup into a data directory or a PostgreSQL database that is empty, reads it back and compares. It does not
matter which of the two the backup is from. A new sync epoch begins: every client starts again, and offers what it has
that the backup has not; see docs/device-sync.md, "After a restore". With --as-new the databases get other identities, so
that they can be served beside those that the backup is of.
`

// backupCommand writes a backup.
func backupCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	fs := newFlags("backup", backupHelp, std)
	admin := fs.String("admin", "http://127.0.0.1:4985", "`URL` of the admin API of the gateway that runs")
	user := fs.String("admin-user", "", "`name` to log in with there; may be in the URL")
	password := fs.String("admin-password", "", "its password; "+adminPasswordVariable+" in the environment if not given")
	data := fs.String("data", "", "data `directory` of a gateway that is stopped")
	url := fs.String("store", "", "`URL` of the PostgreSQL database of a gateway that is stopped")
	schema := fs.String("store-schema", "tidegate", "PostgreSQL `schema` of the tables")
	file, err := oneFile(fs, args)
	if err != nil {
		return ignoreHelp(err)
	}
	if *data != "" && *url != "" {
		return errTwoStores
	}
	view := newCopyView(std.err)
	write := func(w io.Writer) error {
		e, err := parseEndpoint("--admin", strings.TrimRight(*admin, "/")+"/_backup", *user, *password)
		if err != nil {
			return err
		}
		e.passwordFrom(getenv, adminPasswordVariable)
		return fetchBackup(ctx, e, w)
	}
	if *data != "" || *url != "" {
		write = func(w io.Writer) error {
			return withStore(ctx, *url, *schema, *data, std, func(e *engine) error {
				_, err := archive.Write(ctx, w, header(""), e.Store, e.blobs, view.told)
				return err
			})
		}
	}
	if file == "-" {
		return write(std.out)
	}
	sum, err := writeFile(ctx, file, write, view)
	view.end()
	if err == nil {
		fmt.Fprintf(std.out, "%s: %s\n", file, describe(sum))
	}
	return err
}

func header(node string) archive.Header {
	return archive.Header{Created: time.Now().UTC(), Version: productVersion(), Node: node}
}

// oneFile parses a command line of flags and one file, in any order.
func oneFile(fs *flag.FlagSet, args []string) (string, error) {
	if err := parseLeading(fs, args); err != nil {
		return "", err
	}
	if fs.NArg() == 0 {
		return "", usageErrorf("name the file; try `tidegate %s --help`", fs.Name())
	}
	file := fs.Arg(0)
	return file, parseFlags(fs, fs.Args()[1:])
}

// fetchBackup reads a backup from a gateway that runs.
func fetchBackup(ctx context.Context, e endpoint, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url, nil)
	if err != nil {
		return err
	}
	if e.user != "" {
		req.SetBasicAuth(e.user, e.password)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return &answerError{status: res.StatusCode}
	}
	_, err = io.Copy(w, res.Body)
	return err
}

// writeFile lets write fill a file beside the one that is asked for, checks it and gives it its name.
func writeFile(ctx context.Context, file string, write func(io.Writer) error, view *copyView) (sum archive.Summary, err error) {
	if _, err := os.Lstat(file); err == nil {
		return sum, fmt.Errorf("%s exists", file)
	}
	part := file + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return sum, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(part)
		}
	}()
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := write(f); err != nil {
		return sum, err
	}
	if err := f.Sync(); err != nil {
		return sum, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return sum, err
	}
	if _, sum, err = archive.Check(ctx, f, view.told); err != nil {
		return sum, fmt.Errorf("check what was written: %w", err)
	}
	return sum, errors.Join(os.Rename(part, file), syncDir(filepath.Dir(file)))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// restoreCommand reads a backup into an empty store.
func restoreCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	fs := newFlags("restore", restoreHelp, std)
	data := fs.String("data", defaultData, "data `directory` to restore into")
	url := fs.String("store", "", "`URL` of a PostgreSQL database to restore into (default: "+storeEnv+", if --data is not given)")
	schema := fs.String("store-schema", "tidegate", "PostgreSQL `schema` of the tables")
	check := fs.Bool("check", false, "read the backup to its end and restore nothing")
	asNew := fs.Bool("as-new", false, "give the databases new ids: the ones that the backup is of go on being served")
	file, err := oneFile(fs, args)
	if err != nil {
		return ignoreHelp(err)
	}
	where, err := storeOf(fs, *url, getenv)
	if err != nil {
		return err
	}
	in := std.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	view := newCopyView(std.err)
	if *check {
		h, sum, err := archive.Check(ctx, in, view.told)
		view.end()
		if err == nil {
			fmt.Fprintf(std.out, "%s: of %s, %s\n", file, h.Created.Format(time.RFC3339), describe(sum))
		}
		return err
	}
	return intoStore(ctx, where, *schema, *data, std, func(e *engine) error {
		marked := 0
		h, sum, err := archive.Restore(ctx, in, e.Store, e.blobs, view.told, func(ctx context.Context) (err error) {
			marked, err = gateway.MarkRestored(ctx, e.Store, *asNew)
			return err
		})
		view.end()
		if err == nil {
			fmt.Fprintf(std.out, "restored the backup of %s: %s; read back and compared\n", h.Created.Format(time.RFC3339), describe(sum))
			fmt.Fprintf(std.out, "a new sync epoch has begun in %d databases: every client starts again\n", marked)
		}
		return err
	})
}

// withStore opens the store of a gateway that is stopped, to be read.
func withStore(ctx context.Context, url, schema, data string, std stdio, fn func(*engine) error) error {
	log, err := warnings(std)
	if err != nil {
		return err
	}
	e, err := openForCheck(ctx, url, schema, data, log)
	if err != nil {
		return err
	}
	err = archive.Unfinished(ctx, e.Store)
	if err == nil {
		err = fn(e)
	}
	return errors.Join(err, e.Close())
}

// intoStore opens a store, making it if there is none, to be filled.
func intoStore(ctx context.Context, url, schema, data string, std stdio, fn func(*engine) error) error {
	log, err := warnings(std)
	if err != nil {
		return err
	}
	e, err := openToFill(ctx, url, schema, data, log)
	if err != nil {
		return err
	}
	return errors.Join(fn(e), e.Close())
}

func openToFill(ctx context.Context, url, schema, data string, log *slog.Logger) (*engine, error) {
	if url != "" {
		return openForCheck(ctx, url, schema, data, log)
	}
	st, err := pebblestore.Open(filepath.Join(data, storeDir), pebblestore.Options{Logger: log})
	if err != nil {
		return nil, err
	}
	blobs, err := blob.OpenFiles(filepath.Join(data, blobDir), blob.Options{})
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return &engine{Store: st, blobs: blobs}, nil
}

func warnings(std stdio) (*slog.Logger, error) {
	level, err := telemetry.ParseLevel("warn")
	if err != nil {
		return nil, err
	}
	return telemetry.NewLogger(std.err, telemetry.Text, level)
}

// describe is a summary in words.
func describe(sum archive.Summary) string {
	text := fmt.Sprintf("%d rows and %d attachments, %.1f MiB", sum.Rows, sum.Blobs, float64(sum.Bytes)/(1<<20))
	if sum.Missing > 0 {
		text += fmt.Sprintf(" (%d attachments were purged while it was written)", sum.Missing)
	}
	return text
}

// copyView shows on a terminal how far a copy is.
type copyView struct {
	out io.Writer
	mu  sync.Mutex
	at  time.Time
	any bool
}

func newCopyView(out io.Writer) *copyView {
	if !isTerminal(out) {
		return &copyView{}
	}
	return &copyView{out: out}
}

// showEvery is how often a line is drawn.
const showEvery = 200 * time.Millisecond

func (v *copyView) told(sum archive.Summary) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.out == nil || time.Since(v.at) < showEvery {
		return
	}
	v.at, v.any = time.Now(), true
	fmt.Fprintf(v.out, "\r\x1b[K%s", describe(sum))
}

func (v *copyView) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.any {
		fmt.Fprint(v.out, "\r\x1b[K")
	}
}
