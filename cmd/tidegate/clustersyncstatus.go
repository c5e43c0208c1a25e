package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tidegate/tidegate/internal/clustersync"
)

const clusterSyncStatusHelp = `
Usage: tidegate clustersync status [--watch] [--url URL]

Shows how far a running cluster sync is: state and phases, the copy of each namespace, rates, lag, verification and warnings.
With --watch it goes on until Ctrl-C, on a terminal in place, elsewhere a line whenever the state changes and every 5 seconds.
Ends with 0, or 1 when the sync does not answer or has failed.
`

// syncStatus is what a running sync says of itself.
type syncStatus struct {
	at         time.Time
	progress   clustersync.Progress
	namespaces []clustersync.NamespaceStatus
}

// Bounds of what is asked.
const (
	statusEvery   = time.Second
	statusTimeout = 10 * time.Second
	maxStatusBody = 64 << 20
)

// clusterSyncStatusCommand shows how far a sync is.
func clusterSyncStatusCommand(ctx context.Context, args []string, getenv env, std stdio) error {
	fs := newFlags("clustersync status", clusterSyncStatusHelp, std)
	watch := fs.Bool("watch", false, "go on until Ctrl-C")
	base := fs.String("url", "http://127.0.0.1:27182", "`URL` of the sync")
	if err := parseFlags(fs, args); err != nil {
		return ignoreHelp(err)
	}
	u, err := url.Parse(*base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return usageErrorf("--url must be of the form http://127.0.0.1:27182")
	}
	_, noColor := getenv("NO_COLOR")
	v := newSyncView(std.out, !noColor)
	c := &statusClient{base: strings.TrimRight(*base, "/"), http: &http.Client{Timeout: statusTimeout}}
	if !*watch {
		s, err := c.get(ctx)
		if err != nil {
			return err
		}
		return v.once(s)
	}
	return c.watch(ctx, v)
}

// statusClient asks a running sync.
type statusClient struct {
	base string
	http *http.Client
}

// watch shows it until ctx ends. A sync that does not answer may come back.
func (c *statusClient) watch(ctx context.Context, v *syncView) error {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	defer v.close()
	for {
		s, err := c.get(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := v.show(s, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *statusClient) get(ctx context.Context) (*syncStatus, error) {
	s := &syncStatus{at: time.Now()}
	var progress struct {
		Progress    *clustersync.Progress `json:"progress"`
		Success     bool                  `json:"success"`
		Error       string                `json:"error"`
		Description string                `json:"errorDescription"`
	}
	if err := c.ask(ctx, "progress", &progress); err != nil {
		return nil, err
	}
	if !progress.Success || progress.Progress == nil {
		return nil, fmt.Errorf("the sync has failed: %s: %s", progress.Error, progress.Description)
	}
	s.progress = *progress.Progress
	var namespaces struct {
		Namespaces []clustersync.NamespaceStatus `json:"namespaces"`
	}
	// mongosync itself has no such thing.
	if err := c.ask(ctx, "namespaces", &namespaces); err == nil {
		s.namespaces = namespaces.Namespaces
	}
	return s, nil
}

func (c *statusClient) ask(ctx context.Context, what string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/v1/"+what, nil)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", what, err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("the sync does not answer: %w", err)
	}
	defer res.Body.Close()
	if err := json.UnmarshalRead(io.LimitReader(res.Body, maxStatusBody), into); err != nil {
		return fmt.Errorf("%s is no cluster sync: it answers %s", c.base, res.Status)
	}
	return nil
}
