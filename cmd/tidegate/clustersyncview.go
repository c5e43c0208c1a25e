package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/tidegate/tidegate/internal/clustersync"
)

// syncView shows the status of a cluster sync: on a terminal in place, elsewhere in lines.
type syncView struct {
	out      io.Writer
	terminal bool
	color    bool
	size     func() (columns, rows int)

	samples []rateSample
	lines   int // shown last, to be written over
	state   string
	shownAt time.Time
}

// rateSample is a moment that rates are counted from.
type rateSample struct {
	at             time.Time
	copied, events int64
}

// rateWindow is what a rate is the mean of.
const rateWindow = 10 * time.Second

func newSyncView(out io.Writer, color bool) *syncView {
	t := isTerminal(out)
	return &syncView{out: out, terminal: t, color: color && t, size: func() (int, int) { return terminalSize(out) }}
}

// terminalSize is 80 by 24 where it is not known.
func terminalSize(w io.Writer) (columns, rows int) {
	if f, ok := w.(*os.File); ok {
		if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && ws.Col > 0 && ws.Row > 0 {
			return int(ws.Col), int(ws.Row)
		}
	}
	return 80, 24
}

// once shows everything there is.
func (v *syncView) once(s *syncStatus) error {
	_, err := io.WriteString(v.out, strings.Join(v.screen(s, len(s.namespaces)), "\n")+"\n")
	return err
}

// show shows a status, or why there is none.
func (v *syncView) show(s *syncStatus, failed error) error {
	if s != nil {
		v.sample(s)
	}
	if !v.terminal {
		return v.line(s, failed)
	}
	columns, rows := v.size()
	var lines []string
	if failed != nil {
		lines = []string{v.paint(red, "tidegate clustersync  "+failed.Error())}
	} else {
		fixed := len(v.screen(s, 0))
		lines = v.screen(s, max(1, rows-fixed-3))
	}
	lines = lines[:min(len(lines), max(1, rows-1))]
	var b strings.Builder
	if v.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", v.lines)
	} else {
		b.WriteString("\x1b[?25l") // no cursor
	}
	for _, l := range lines {
		b.WriteString("\r" + clip(l, columns) + "\x1b[0m\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	v.lines = len(lines)
	_, err := io.WriteString(v.out, b.String())
	return err
}

// close leaves the terminal as it was.
func (v *syncView) close() {
	if v.terminal && v.lines > 0 {
		_, _ = io.WriteString(v.out, "\x1b[?25h")
	}
}

// line shows a status in one line, when something has changed and now and then.
func (v *syncView) line(s *syncStatus, failed error) error {
	now := time.Now()
	state, text := "", ""
	if failed != nil {
		state, text = failed.Error(), failed.Error()
	} else {
		p := s.progress
		state = p.State + " " + deref(p.Info)
		parts := []string{strings.TrimSpace(state)}
		if cc := p.CollectionCopy; cc != nil {
			parts = append(parts, "copied "+bytesOf(cc.EstimatedCopiedBytes, cc.EstimatedTotalBytes))
		}
		parts = append(parts, "lag "+secondsOf(p.LagTimeSeconds))
		if p.TotalEventsApplied != nil {
			parts = append(parts, grouped(*p.TotalEventsApplied)+" events applied")
		}
		parts = append(parts, "can commit "+yesNo(p.CanCommit))
		text = strings.Join(parts, ", ")
	}
	if state == v.state && now.Sub(v.shownAt) < plainEvery {
		return nil
	}
	v.state, v.shownAt = state, now
	_, err := fmt.Fprintf(v.out, "%s %s\n", now.Format(time.TimeOnly), printable(text))
	return err
}

// sample keeps what rates are counted from.
func (v *syncView) sample(s *syncStatus) {
	n := rateSample{at: s.at}
	if cc := s.progress.CollectionCopy; cc != nil {
		n.copied = cc.EstimatedCopiedBytes
	}
	if e := s.progress.TotalEventsApplied; e != nil {
		n.events = *e
	}
	v.samples = append(v.samples, n)
	for len(v.samples) > 2 && s.at.Sub(v.samples[1].at) >= rateWindow {
		v.samples = v.samples[1:]
	}
}

// rates are bytes copied and events applied in a second; below 0: not known.
func (v *syncView) rates() (bytes, events float64) {
	if len(v.samples) < 2 {
		return -1, -1
	}
	first, last := v.samples[0], v.samples[len(v.samples)-1]
	took := last.at.Sub(first.at).Seconds()
	if took <= 0 {
		return -1, -1
	}
	rate := func(from, to int64) float64 { return max(0, float64(to-from)) / took }
	return rate(first.copied, last.copied), rate(first.events, last.events)
}

// screen is everything, with at most so many namespaces.
func (v *syncView) screen(s *syncStatus, namespaces int) []string {
	p := s.progress
	lines := []string{v.paint(bold, "tidegate clustersync") + "  " + v.paint(stateColor(p.State), p.State)}
	row := func(name, format string, args ...any) {
		lines = append(lines, v.paint(dim, fmt.Sprintf("%-10s", name))+fmt.Sprintf(format, args...))
	}
	if d := p.DirectionMapping; d != nil {
		row("direction", "%s  ->  %s", printable(d.Source), printable(d.Destination))
	}
	if p.Info != nil {
		row("phase", "%s", v.phases(deref(p.Info)))
	}
	v.addFigures(p, row)
	if len(s.namespaces) > 0 {
		lines = append(lines, "")
		lines = append(lines, v.namespaces(s.namespaces, namespaces)...)
	}
	for _, w := range p.Warnings {
		lines = append(lines, v.paint(yellow, "warning   "+w))
	}
	return lines
}

// addFigures adds what is known in numbers.
func (v *syncView) addFigures(p clustersync.Progress, row func(name, format string, args ...any)) {
	bytesRate, eventRate := v.rates()
	if cc := p.CollectionCopy; cc != nil {
		text := bytesOf(cc.EstimatedCopiedBytes, cc.EstimatedTotalBytes)
		if t := cc.EstimatedTotalBytes; t != nil {
			text = bar(cc.EstimatedCopiedBytes, *t) + " " + text
			if left := *t - cc.EstimatedCopiedBytes; left > 0 && bytesRate > 0 {
				text += fmt.Sprintf("  %s/s  ETA %s", size(int64(bytesRate)), time.Duration(float64(left)/bytesRate*float64(time.Second)).Round(time.Second))
			}
		}
		row("copy", "%s", text)
	}
	if p.TotalEventsApplied != nil {
		text := fmt.Sprintf("lag %s, %s events applied", secondsOf(p.LagTimeSeconds), grouped(*p.TotalEventsApplied))
		if p.CEAStage != "" {
			text = printable(p.CEAStage) + ", " + text
		}
		if eventRate >= 0 {
			text += fmt.Sprintf(" (%s/s)", grouped(int64(eventRate+0.5)))
		}
		if p.EstimatedSecondsToCatchUp != nil {
			text += ", caught up in " + secondsOf(p.EstimatedSecondsToCatchUp)
		}
		row("changes", "%s", text)
	}
	if p.EstimatedOplogTimeRemaining != "" {
		row("oplog", "time remaining: %s", printable(p.EstimatedOplogTimeRemaining))
	}
	if i := p.IndexBuilding; i != nil && i.TotalIndexesToBuild > 0 {
		row("indexes", "%s %d of %d built, %d of %d collections finished", bar(i.IndexesBuilt, i.TotalIndexesToBuild), i.IndexesBuilt, i.TotalIndexesToBuild,
			i.CollectionsFinished, i.CollectionsTotal)
	}
	if f := p.Verification; f != nil {
		side := func(s clustersync.VerificationSide) string {
			return fmt.Sprintf("%s, %s of %s documents", printable(string(s.Phase)), grouped(s.HashedDocumentCount), grouped(max(s.EstimatedDocumentCount, s.HashedDocumentCount)))
		}
		row("verify", "source %s; destination %s", side(f.Source), side(f.Destination))
	}
	if p.CanWrite != nil {
		row("cutover", "can commit: %s, can write to the destination: %s", v.paint(answerColor(p.CanCommit), yesNo(p.CanCommit)), v.paint(answerColor(*p.CanWrite), yesNo(*p.CanWrite)))
	}
}

// phases marks which phases are past.
func (v *syncView) phases(now string) string {
	steps := []struct {
		name string
		of   []clustersync.Phase
	}{
		{"collections", []clustersync.Phase{clustersync.PhaseNone, clustersync.PhaseCollection}},
		{"partitions", []clustersync.Phase{clustersync.PhasePartition}},
		{"copy", []clustersync.Phase{clustersync.PhaseCopy, clustersync.PhaseWait}},
		{"change events", []clustersync.Phase{clustersync.PhaseApply}},
		{"commit", []clustersync.Phase{clustersync.PhaseCommit}},
		{"committed", []clustersync.Phase{clustersync.PhaseDone}},
	}
	at := slices.IndexFunc(steps, func(s struct {
		name string
		of   []clustersync.Phase
	}) bool {
		return slices.Contains(s.of, clustersync.Phase(now))
	})
	if at < 0 {
		return printable(now)
	}
	var parts []string
	for i, s := range steps {
		switch {
		case i < at:
			parts = append(parts, v.paint(green, s.name))
		case i == at:
			parts = append(parts, v.paint(bold, "["+s.name+"]"))
		default:
			parts = append(parts, v.paint(dim, s.name))
		}
	}
	return strings.Join(parts, " > ")
}

// namespaces shows those that are being copied first, then those to come.
func (v *syncView) namespaces(all []clustersync.NamespaceStatus, most int) []string {
	rank := func(n clustersync.NamespaceStatus) int {
		switch {
		case n.Copied:
			return 2
		case n.CopiedBytes > 0 || n.PartitionsDone > 0:
			return 0
		}
		return 1
	}
	sorted := slices.SortedStableFunc(slices.Values(all), func(a, b clustersync.NamespaceStatus) int { return cmp.Compare(rank(a), rank(b)) })
	copied := len(sorted) - slices.IndexFunc(append(sorted, clustersync.NamespaceStatus{Copied: true}), func(n clustersync.NamespaceStatus) bool { return n.Copied })
	lines := []string{v.paint(dim, fmt.Sprintf("namespaces: %d of %d copied", copied, len(all)))}
	shown := sorted[:min(most, len(sorted))]
	names, width := make([]string, len(shown)), 0
	for i, n := range shown {
		names[i] = printable(n.Source)
		if n.Destination != n.Source {
			names[i] += " -> " + printable(n.Destination)
		}
		width = min(max(width, utf8.RuneCountInString(names[i])), maxNameWidth)
	}
	for i, n := range shown {
		done, total := n.CopiedBytes, n.EstimatedBytes
		if n.Copied {
			done, total = 1, 1
		}
		lines = append(lines, fmt.Sprintf("  %s  %-*s  %s docs  %s", bar(done, total), width, names[i], grouped(n.CopiedDocs), size(n.CopiedBytes)))
	}
	if hidden := len(sorted) - most; hidden > 0 {
		lines = append(lines, v.paint(dim, fmt.Sprintf("  and %d more", hidden)))
	}
	return lines
}

// maxNameWidth is how far names push the columns behind them.
const maxNameWidth = 40

// The colors.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// paint colors a text, which may come from a cluster: nothing in it moves the cursor.
func (v *syncView) paint(color, text string) string {
	text = printable(text)
	if !v.color || text == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func stateColor(state string) string {
	switch state {
	case "PAUSED", "COMMITTING", "REVERSING":
		return yellow
	case "RUNNING", "COMMITTED":
		return green
	}
	return bold
}

func answerColor(yes bool) string {
	if yes {
		return green
	}
	return dim
}

// printable takes what is no character out of a text.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

func bar(done, total int64) string {
	part := 0.0
	if total > 0 {
		part = min(1, float64(done)/float64(total))
	}
	n := int(part * barWidth)
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", n), strings.Repeat("-", barWidth-n), int(part*100))
}

func bytesOf(done int64, total *int64) string {
	if total == nil {
		return size(done)
	}
	return size(done) + " of " + size(*total)
}

// size writes bytes for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

func secondsOf(n *int64) string {
	if n == nil {
		return "-"
	}
	return (time.Duration(*n) * time.Second).String()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// clip cuts a line at the width of the terminal; what colors it takes no room.
func clip(line string, columns int) string {
	width, escape := 0, false
	for i, r := range line {
		switch {
		case escape:
			escape = r != 'm'
		case r == '\x1b':
			escape = true
		default:
			if width++; width > columns {
				return line[:i]
			}
		}
	}
	return line
}
