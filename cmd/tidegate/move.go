package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store/archive"
	"github.com/tidegate/tidegate/internal/store/move"
)

const moveHelp = `
Usage: tidegate move --from (DIR | URL) --to (DIR | URL)
       tidegate move --admin URL --to URL
       tidegate move --confirm --from DIR --to URL

Copies everything from one store to another: from a data directory into a PostgreSQL database (postgres://…), back, or
to another of the same kind. The target is empty. What was copied is read back and compared.

With --from the gateway is stopped, and the source is left as it is.

With --admin it serves from its data directory and goes on serving: a snapshot is copied, then what was changed since, until
that is little; then writes are refused (503) for a moment, for --write-stop at most, while the rest is copied and
compared. The gateway then stops, and its data directory is not served from any more: start it with --store. If
anything fails before, the gateway goes on as it was and the target is marked as not whole.

With --confirm the target of a move whose last step was cut off is taken for whole, if the data directory says so.
`

// moveFlags are what a move is told.
type moveFlags struct {
	from, to, schema      string
	admin, user, password string
	stop                  time.Duration
	confirm               bool
}

// moveCommand copies a store into another.
func moveCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	var m moveFlags
	fs := newFlags("move", moveHelp, std)
	fs.StringVar(&m.from, "from", "", "data `directory` or PostgreSQL URL to copy from, of a gateway that is stopped")
	fs.StringVar(&m.to, "to", "", "data `directory` or PostgreSQL URL to copy into; required")
	fs.StringVar(&m.schema, "store-schema", "tidegate", "PostgreSQL `schema` of the tables")
	fs.StringVar(&m.admin, "admin", "", "`URL` of the admin API of the gateway that runs")
	fs.StringVar(&m.user, "admin-user", "", "`name` to log in with there; may be in the URL")
	fs.StringVar(&m.password, "admin-password", "", "its password; "+adminPasswordVariable+" in the environment if not given")
	fs.DurationVar(&m.stop, "write-stop", 30*time.Second, "`time` for which writes may be refused at the end, with --admin")
	fs.BoolVar(&m.confirm, "confirm", false, "take a target for whole whose move was cut off at its last step")
	if err := parseFlags(fs, args); err != nil {
		return ignoreHelp(err)
	}
	if m.to == "" || m.from == m.to || (m.from == "") == (m.admin == "") {
		return usageErrorf("say what to copy with one of --from and --admin, and where to with --to; try `tidegate move --help`")
	}
	if m.stop <= 0 || m.stop > move.MaxStop {
		return usageErrorf("--write-stop must be above 0 and at most %v", move.MaxStop)
	}
	switch {
	case m.confirm:
		return m.confirmed(ctx, std)
	case m.admin != "":
		return m.online(ctx, getenv, std)
	}
	return m.stopped(ctx, std)
}

// storeName tells a PostgreSQL URL from a data directory.
func storeName(where string) (url, data string) {
	if isPostgres(where) {
		return where, ""
	}
	return "", where
}

// stopped copies the store of a gateway that is stopped.
func (m *moveFlags) stopped(ctx context.Context, std stdio) error {
	fromURL, fromData := storeName(m.from)
	toURL, toData := storeName(m.to)
	view := newCopyView(std.err)
	return withStore(ctx, fromURL, m.schema, fromData, std, func(source *engine) error {
		return intoStore(ctx, toURL, m.schema, toData, std, func(target *engine) error {
			r, w := io.Pipe()
			go func() {
				_, err := archive.Write(ctx, w, header(""), source.Store, source.blobs, nil)
				w.CloseWithError(err)
			}()
			_, sum, err := archive.Restore(ctx, r, target.Store, target.blobs, view.told)
			r.CloseWithError(errors.New("the copy has ended"))
			view.end()
			if err == nil {
				fmt.Fprintf(std.out, "copied %s; read back and compared\n", describe(sum))
			}
			return err
		})
	})
}

// confirmed takes the mark off a target, if the data directory says that everything was moved.
func (m *moveFlags) confirmed(ctx context.Context, std stdio) error {
	fromURL, fromData := storeName(m.from)
	toURL, toData := storeName(m.to)
	return withStore(ctx, fromURL, m.schema, fromData, std, func(source *engine) error {
		moved, err := archive.MovedTo(ctx, source.Store)
		if err != nil {
			return err
		}
		if moved == nil {
			return fmt.Errorf("%s was not moved: start the gateway from it as before, and move it again into an empty store", m.from)
		}
		if moved.To != m.place() {
			return fmt.Errorf("%s was moved to %s", m.from, moved.To)
		}
		return intoStore(ctx, toURL, m.schema, toData, std, func(target *engine) error {
			err := archive.Confirm(ctx, target.Store)
			if err == nil {
				fmt.Fprintln(std.out, "the target is whole: start from it")
			}
			return err
		})
	})
}

// place is the target without a password, and with its schema if that is not the usual one.
func (m *moveFlags) place() string {
	place := m.to
	if u, err := url.Parse(m.to); err == nil && isPostgres(m.to) {
		u.RawQuery = "" // may have a password in it
		place = u.Redacted()
	}
	if m.schema != "tidegate" {
		place += " (schema " + m.schema + ")"
	}
	return place
}

// startFrom are the flags that name a place to serve.
func startFrom(place string) string {
	if isPostgres(place) {
		url, schema, has := strings.Cut(strings.TrimSuffix(place, ")"), " (schema ")
		if has {
			schema = " --store-schema " + schema
		}
		return "--store (or " + storeEnv + ") " + url + schema
	}
	return "--data " + place
}

// online moves the store of a gateway that serves.
func (m *moveFlags) online(ctx context.Context, getenv env, std stdio) error {
	e, err := parseEndpoint("--admin", strings.TrimRight(m.admin, "/")+"/_move", m.user, m.password)
	if err != nil {
		return err
	}
	e.passwordFrom(getenv, adminPasswordVariable)
	toURL, toData := storeName(m.to)
	return intoStore(ctx, toURL, m.schema, toData, std, func(target *engine) error {
		// The move lasts as long as this request.
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		source, err := beginMove(ctx, e, cancel)
		if err != nil {
			return fmt.Errorf("begin the move: %w", err)
		}
		view := newCopyView(std.err)
		res, err := move.Run(ctx, source, target.Store, target.blobs, move.Options{To: m.place(), StopAtMost: m.stop, Progress: view.told})
		view.end()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
				err = errors.Join(err, cause)
			}
			return err
		}
		how := "what was changed was read back"
		if res.Whole {
			how = "both were compared as a whole"
		}
		fmt.Fprintf(std.out, "copied %s, and %d rows that were changed meanwhile in %d rounds; writes were refused for %v, %s\n", describe(res.Snapshot),
			res.Changed.Rows, res.Rounds, res.Stopped.Round(time.Millisecond), how)
		fmt.Fprintf(std.out, "the gateway stops; start it again with %s\n", startFrom(m.place()))
		return nil
	})
}

// movingGateway is a gateway whose store is being moved.
type movingGateway struct {
	endpoint
	id        string
	finishing atomic.Bool // it was told to give way, and may end at any time
}

var _ move.Remote = (*movingGateway)(nil)

// beginMove begins a move. ended is called when the gateway has ended it.
func beginMove(ctx context.Context, e endpoint, ended context.CancelCauseFunc) (*movingGateway, error) {
	g := &movingGateway{endpoint: e}
	body, err := g.ask(ctx, http.MethodPost, "", nil)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewReader(body)
	var first struct{ Move string }
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &first)
	}
	if err != nil || first.Move == "" {
		return nil, errors.Join(errors.New("the answer is not that of a gateway that moves"), err, body.Close())
	}
	g.id = first.Move
	go func() {
		defer body.Close()
		_, err := io.Copy(io.Discard, lines)
		if err == nil {
			err = errors.New("the gateway has ended the move")
		}
		if !g.finishing.Load() {
			ended(err)
		}
	}()
	return g, nil
}

// ask makes a request and returns the body of its answer.
func (g *movingGateway) ask(ctx context.Context, method, path string, body any) (io.ReadCloser, error) {
	b := []byte("{}")
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, g.url+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if method == http.MethodGet {
		req.Body, req.ContentLength = nil, 0
	}
	req.Header.Set("Content-Type", "application/json")
	if g.user != "" {
		req.SetBasicAuth(g.user, g.password)
	}
	res, err := http.DefaultClient.Do(req) // it takes as long as it takes
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer)) // what there is of it
	var said struct{ Reason string }
	_ = json.Unmarshal(answer, &said) // an answer of something else has no reason that we could tell
	failed := &answerError{res.StatusCode, said.Reason}
	switch res.StatusCode {
	case http.StatusGone:
		return nil, tidegate.Errorf(tidegate.Gone, "%v", failed)
	case http.StatusConflict:
		return nil, tidegate.Errorf(tidegate.Conflict, "%v", failed)
	}
	return nil, failed
}

// tell makes a request whose answer is a small object.
func (g *movingGateway) tell(ctx context.Context, method, path string, body, answer any) error {
	res, err := g.ask(ctx, method, "/"+g.id+path, body)
	if err != nil {
		return err
	}
	defer res.Close()
	return json.NewDecoder(io.LimitReader(res, maxAnswer)).Decode(answer)
}

func (g *movingGateway) Snapshot(ctx context.Context) (io.ReadCloser, error) {
	return g.ask(ctx, http.MethodGet, "/"+g.id+"/snapshot", nil)
}

func (g *movingGateway) Changes(ctx context.Context) (io.ReadCloser, error) {
	return g.ask(ctx, http.MethodGet, "/"+g.id+"/changes", nil)
}

func (g *movingGateway) Stop(ctx context.Context, most time.Duration) error {
	return g.tell(ctx, http.MethodPost, "/stop", map[string]float64{"seconds": most.Seconds()}, &struct{}{})
}

func (g *movingGateway) Digest(ctx context.Context) (string, error) {
	var answer struct{ Digest string }
	err := g.tell(ctx, http.MethodGet, "/digest", nil, &answer)
	return answer.Digest, err
}

func (g *movingGateway) Finish(ctx context.Context, to string) error {
	g.finishing.Store(true)
	// The last word: who gave up waiting would not know.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return g.tell(ctx, http.MethodPost, "/finish", map[string]string{"to": to}, &struct{}{})
}
