package rest

import (
	"bufio"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"

	"github.com/tidegate/tidegate/internal/store/archive"
	"github.com/tidegate/tidegate/internal/store/blob"
	"github.com/tidegate/tidegate/internal/store/move"
	"github.com/tidegate/tidegate/internal/store/pebblestore"
)

// moveSource is the end of a move over a store that is nobody else's.
func (e *exercise) moveSource() *move.Source {
	st, err := pebblestore.OpenMem()
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = st.Close() })
	blobs, err := blob.OpenFiles(e.t.TempDir(), blob.Options{})
	if err != nil {
		e.t.Fatal(err)
	}
	return move.NewSource(move.NewRecorder(st), blobs, func() archive.Header { return archive.Header{} }, slog.New(slog.DiscardHandler))
}

// moves carries out a move, with its requests in the wrong order before they are in the right one.
func (e *exercise) moves() {
	srv := httptest.NewServer(e.handler(admin))
	defer srv.Close()
	begin, err := http.NewRequestWithContext(e.t.Context(), http.MethodPost, srv.URL+"/_move", nil)
	if err != nil {
		e.t.Fatal(err)
	}
	begin.SetBasicAuth("root", "a secret that is long")
	res, err := srv.Client().Do(begin)
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	var first struct{ Move string }
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &first)
	}
	if err != nil || first.Move == "" {
		e.t.Fatalf("POST /_move: status %d, %q, %v", res.StatusCode, line, err)
	}
	path := "/_move/" + first.Move
	e.call(admin, "POST", "/_move", "", 409)
	e.call(admin, "GET", "/_move/nobody/snapshot", "", 410)
	e.call(admin, "GET", "/_move/nobody/changes", "", 410)
	e.call(admin, "GET", path+"/digest", "", 409)
	e.call(admin, "GET", "/_move/nobody/digest", "", 410)
	e.call(admin, "GET", path+"/snapshot", "", 200)
	e.call(admin, "GET", path+"/changes", "", 200)
	e.call(admin, "POST", path+"/finish", `{"to":"elsewhere"}`, 409)
	e.call(admin, "POST", path+"/stop", `{"seconds":0}`, 400)
	e.call(admin, "POST", "/_move/nobody/stop", `{"seconds":1}`, 410)
	e.call(admin, "POST", path+"/stop", `{"seconds":60}`, 200)
	e.call(admin, "GET", path+"/digest", "", 200)
	e.call(admin, "POST", path+"/finish", `{}`, 400)
	e.call(admin, "POST", "/_move/nobody/finish", `{"to":"elsewhere"}`, 410)
	e.call(admin, "POST", path+"/finish", `{"to":"elsewhere"}`, 200)
	rest, err := io.ReadAll(lines)
	if err != nil {
		e.t.Fatal(err)
	}
	e.check(admin, "POST", "/_move", "", reply{status: res.StatusCode, header: res.Header, body: string(line) + string(rest)})
}
