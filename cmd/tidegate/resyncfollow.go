package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// resyncClient drives the resync of one database.
type resyncClient struct {
	o    *resyncOptions
	db   *databaseClient
	view *resyncView
	poll time.Duration
}

// resyncStatus is the part of a resync's status that is shown.
type resyncStatus struct {
	Status    string   `json:"status"`
	Error     string   `json:"last_error"`
	ID        string   `json:"resync_id"`
	Mode      string   `json:"mode"`
	Start     string   `json:"start_time"`
	Processed int64    `json:"docs_processed"`
	Changed   int64    `json:"docs_changed"`
	Total     int64    `json:"docs_total"`
	Errored   int64    `json:"docs_errored"`
	Rejected  int64    `json:"docs_rejected"`
	PerSecond int64    `json:"docs_per_second"`
	Left      *int64   `json:"seconds_left"`
	Warnings  []string `json:"warnings"`
}

func (s *resyncStatus) ended() bool { return s.Status != "running" && s.Status != "stopping" }

// start begins a run and, if asked to, follows it to its end.
func (c *resyncClient) start(ctx context.Context) error {
	body, err := c.o.body()
	if err != nil {
		return err
	}
	if c.o.cycle {
		if err := c.db.request(ctx, http.MethodPost, "/_offline", nil, nil); err != nil {
			return fmt.Errorf("take %s offline: %w", c.o.name, err)
		}
		c.view.say("%s is offline", c.o.name)
	}
	var s resyncStatus
	if err := c.db.request(ctx, http.MethodPost, c.o.query(), body, &s); err != nil {
		return fmt.Errorf("start the resync: %w", c.o.explain(err))
	}
	for _, w := range s.Warnings {
		c.view.say("warning: %s", w)
	}
	if !c.o.wait && !c.o.cycle {
		c.view.say("resync %s runs; `tidegate resync status --db %s` shows how far it is", s.ID, c.o.name)
		return nil
	}
	if err := c.follow(ctx); err != nil {
		return err
	}
	if c.o.cycle {
		if err := c.db.request(ctx, http.MethodPost, "/_online?wait=true", nil, nil); err != nil {
			return fmt.Errorf("bring %s online: %w", c.o.name, err)
		}
		c.view.say("%s is online", c.o.name)
	}
	return nil
}

// follow shows a run until it has ended: nil if it has completed.
func (c *resyncClient) follow(ctx context.Context) error {
	ticker := time.NewTicker(c.poll)
	defer ticker.Stop()
	var silent time.Time // since when the gateway does not answer; zero: it does
	for {
		s, err := c.get(ctx)
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			c.view.end()
			return fmt.Errorf("%w; the resync goes on, `tidegate resync stop --db %s` ends it", errInterrupted, c.o.name)
		case err == nil && s.ended():
			c.view.summary(s)
			return outcome(s)
		case err == nil:
			silent = time.Time{}
			c.view.show(s, now)
		case isAnswer(err):
			c.view.end()
			return fmt.Errorf("follow the resync: %w", err)
		case silent.IsZero():
			silent = now
		case now.Sub(silent) >= silentPatience:
			c.view.end()
			return fmt.Errorf("the gateway does not answer: %w", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// outcome is the error that stands for the end of a run.
func outcome(s *resyncStatus) error {
	switch s.Status {
	case "completed":
		return nil
	case "stopped":
		return errors.New("the resync was stopped, or its gateway was; the same command goes on with it")
	}
	return fmt.Errorf("the resync failed: %s", s.Error)
}

func isAnswer(err error) bool {
	_, ok := errors.AsType[*answerError](err)
	return ok
}

func (c *resyncClient) get(ctx context.Context) (*resyncStatus, error) {
	s := &resyncStatus{}
	return s, c.db.request(ctx, http.MethodGet, "/_resync", nil, s)
}

// status shows how far a run is, or how the last one ended; with --wait until it has ended.
func (c *resyncClient) status(ctx context.Context) error {
	s, err := c.get(ctx)
	if err != nil {
		return fmt.Errorf("ask for the status: %w", err)
	}
	if c.o.wait && !s.ended() {
		return c.follow(ctx)
	}
	if s.ID == "" {
		c.view.say("there never was a resync of %s", c.o.name)
		return nil
	}
	c.view.say("%s resync %s since %s", s.Mode, s.ID, s.Start)
	c.view.say("%s", c.view.line(s))
	if s.Error != "" {
		c.view.say("error: %s", s.Error)
	}
	return nil
}

// stop ends a run, and waits for that.
func (c *resyncClient) stop(ctx context.Context) error {
	if err := c.db.request(ctx, http.MethodPost, "/_resync?action=stop&wait=true", nil, nil); err != nil {
		return fmt.Errorf("stop the resync: %w", err)
	}
	c.view.say("stopped")
	return nil
}

// resyncView shows how far a run is: on a terminal in one line that is written over and over, elsewhere in a line now and
// then.
type resyncView struct {
	out      io.Writer
	terminal bool
	started  time.Time
	shownAt  time.Time
	open     bool // a line on a terminal has no end yet
}

func newResyncView(out io.Writer) *resyncView {
	return &resyncView{out: out, terminal: isTerminal(out), started: time.Now()}
}

func (v *resyncView) say(format string, args ...any) {
	v.end()
	fmt.Fprintf(v.out, format+"\n", args...)
}

// end ends the line that is written over.
func (v *resyncView) end() {
	if v.open {
		fmt.Fprintln(v.out)
		v.open = false
	}
}

func (v *resyncView) show(s *resyncStatus, now time.Time) {
	switch {
	case v.terminal:
		fmt.Fprint(v.out, "\r\x1b[?7l", v.line(s), "\x1b[K\x1b[?7h")
		v.open = true
	case now.Sub(v.shownAt) >= plainEvery:
		fmt.Fprintln(v.out, v.line(s))
		v.shownAt = now
	}
}

// line is what is shown of a status.
func (v *resyncView) line(s *resyncStatus) string {
	var b strings.Builder
	if v.terminal && s.Total > 0 {
		done := int(barWidth * min(s.Processed, s.Total) / s.Total)
		b.WriteString("[" + strings.Repeat("#", done) + strings.Repeat("-", barWidth-done) + "] ")
	}
	fmt.Fprintf(&b, "%s: %s", s.Status, grouped(s.Processed))
	if s.Total > 0 {
		fmt.Fprintf(&b, " of %s", grouped(s.Total))
	}
	fmt.Fprintf(&b, " documents, %s changed", grouped(s.Changed))
	if s.Rejected > 0 {
		fmt.Fprintf(&b, ", %s refused by the function", grouped(s.Rejected))
	}
	if s.Errored > 0 {
		fmt.Fprintf(&b, ", %s errors", grouped(s.Errored))
	}
	if s.PerSecond > 0 && !s.ended() {
		fmt.Fprintf(&b, ", %s/s", grouped(s.PerSecond))
	}
	if s.Left != nil {
		fmt.Fprintf(&b, ", %s left", time.Duration(*s.Left)*time.Second)
	}
	return b.String()
}

// summary says how it came out.
func (v *resyncView) summary(s *resyncStatus) {
	v.say("%s, in %s", v.line(s), time.Since(v.started).Round(10*time.Millisecond))
}
