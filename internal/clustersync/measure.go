package clustersync

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/tidegate/tidegate/internal/job"
)

// How often what is measured.
const (
	lookEvery   = 5 * time.Second
	pingEvery   = 30 * time.Second
	pingTimeout = 10 * time.Second
	oplogEvery  = 5 * time.Minute
	reportEvery = 30 * time.Second
)

// oplogUnknown is what there is to say of the time remaining before it is measured, and where it cannot be.
const oplogUnknown = "not checked yet"

// gauges are what the coordinator measures itself.
type gauges struct {
	pings     [2]*int64 // milliseconds; -1: failed; nil: not measured
	window    string    // estimatedOplogTimeRemaining
	warnings  []string
	preflight []string // warnings of the checks before the start
	told      []string // by clusters
	host      hostUse
}

// maxTold bounds the warnings of clusters that are kept.
const maxTold = 100

// Warn has a text among the warnings of /progress.
func (c *Control) Warn(text string) {
	c.log.Warn(text)
	c.mu.Lock()
	defer c.mu.Unlock()
	if told := c.gauges.told; len(told) < maxTold && !slices.Contains(told, text) {
		c.gauges.told = append(told[:len(told):len(told)], text) // readers keep what they have
	}
}

// side is what there is to say of a cluster; nil if nothing (spec §5.2).
func (g gauges) side(i int) *Side {
	p := g.pings[i]
	if p == nil || *p == 0 {
		return nil
	}
	return &Side{*p}
}

// measure keeps the gauges until ctx ends.
func (c *Control) measure(ctx context.Context) {
	c.mu.Lock()
	c.gauges.window = oplogUnknown
	c.mu.Unlock()
	var pinged, reported, oplogged time.Time
	host := hostSampler{read: os.ReadFile}
	for {
		use := host.sample()
		c.mu.Lock()
		c.gauges.host = use
		c.mu.Unlock()
		if pauseFor(ctx, lookEvery) != nil {
			return
		}
		now := time.Now()
		v := c.look()
		if v.state == job.SyncInitializing {
			continue
		}
		if now.Sub(pinged) >= pingEvery {
			pinged = now
			c.pingBoth(ctx)
		}
		if !v.working {
			continue
		}
		if now.Sub(oplogged) >= oplogEvery {
			oplogged = now
			c.checkOplog(ctx, v, now)
		}
		if now.Sub(reported) >= reportEvery {
			reported = now
			c.report(v)
		}
	}
}

func (c *Control) pingBoth(ctx context.Context) {
	for i, cluster := range c.cfg.Clusters {
		ms := int64(-1)
		pctx, cancel := context.WithTimeout(ctx, pingTimeout)
		if d, err := cluster.Ping(pctx); err == nil {
			ms = d.Milliseconds()
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.gauges.pings[i] = &ms
		c.mu.Unlock()
	}
}

// checkOplog compares the oldest change that the source still has with the oldest that is still needed (spec §5.2, §17).
func (c *Control) checkOplog(ctx context.Context, v view, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	src, _ := v.sides()
	oldest, newest, err := c.cfg.Clusters[src].Oplog(ctx)
	text, warnings := oplogUnknown, []string(nil)
	if err == nil && !oldest.IsZero() && !newest.IsZero() {
		needed := now
		if t := v.engine.Resume.Time; t.T > 0 {
			needed = time.Unix(int64(t.T), 0)
		}
		remaining := needed.Sub(oldest)
		text = remainingText(remaining)
		if remaining < shortWindow && newest.Sub(oldest) > shortWindow {
			warnings = append(warnings, "the history of changes of the source may be too short for the sync to finish: enlarge it (replSetResizeOplog)")
		}
	}
	c.mu.Lock()
	c.gauges.window, c.gauges.warnings = text, warnings
	c.mu.Unlock()
}

// shortWindow is how little history makes a warning.
const shortWindow = 15 * time.Minute

// remainingText is the text that mongosync gives.
func remainingText(d time.Duration) string {
	switch {
	case d > 72*time.Hour:
		return "more than 72 hours"
	case d >= time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d >= shortWindow:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	default:
		return "less than 15 minutes"
	}
}

// report writes the line of spec §21.2.
func (c *Control) report(v view) {
	p := v.progress()
	attrs := []any{"state", p.State, "lagTimeSeconds", p.LagTimeSeconds, "lag", p.Lag, "totalEventsApplied", p.TotalEventsApplied,
		"estimatedOplogTimeRemaining", p.EstimatedOplogTimeRemaining, "ceaStage", p.CEAStage}
	if p.Verification != nil {
		attrs = append(attrs, "verifierSrcLagTimeSeconds", p.Verification.Source.LagTimeSeconds, "verifierDstLagTimeSeconds", p.Verification.Destination.LagTimeSeconds)
	}
	c.log.Info("Replication progress", attrs...)
	src, dst := v.sides()
	c.log.Info("Operation duration stats", append(c.metrics.durationStats(), "sourcePingLatencyMs", v.gauges.pings[src], "destinationPingLatencyMs", v.gauges.pings[dst])...)
}
