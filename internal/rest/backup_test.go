package rest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestBackupHandler: what is written arrives under a name for a file; a backup that fails breaks the connection, so that nobody takes it
// for the whole; and no more than two are written at once.
func TestBackupHandler(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := &Server{log: slog.New(slog.DiscardHandler), backups: make(chan struct{}, backupsAtOnce)}
	s.deps.Backup = func(_ context.Context, w io.Writer) (any, error) {
		_, err := io.WriteString(w, "half of it")
		entered <- struct{}{}
		<-leave
		return "summary", err
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.handleBackup(w, &request{Request: r}); err != nil {
			http.Error(w, err.Error(), http.StatusTooManyRequests)
		}
	}))
	defer web.Close()
	type answer struct {
		res  *http.Response
		body string
		err  error
	}
	answers := make(chan answer)
	ask := func() {
		res, err := http.Get(web.URL)
		if err != nil {
			answers <- answer{err: err}
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		answers <- answer{res, string(b), err}
	}
	for range backupsAtOnce {
		go ask()
		<-entered
	}
	go ask()
	if a := <-answers; a.res == nil || a.res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a backup too many: %+v", a)
	}
	close(leave)
	for range backupsAtOnce {
		a := <-answers
		if a.err != nil || a.body != "half of it" || !strings.HasPrefix(a.res.Header.Get("Content-Disposition"), `attachment; filename="tidegate-`) {
			t.Errorf("backup: %+v", a)
		}
	}
	s.deps.Backup = func(_ context.Context, w io.Writer) (any, error) {
		_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		return nil, errors.New("the disk is gone")
	}
	go ask()
	if a := <-answers; a.err == nil {
		t.Errorf("a backup that failed looks whole: %d bytes", len(a.body))
	}
}
