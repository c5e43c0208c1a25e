package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// progressView shows how far a replication is: on a terminal in one line that is written over and over, elsewhere in a line
// now and then.
type progressView struct {
	out      io.Writer
	terminal bool
	started  time.Time

	shownAt time.Time
	state   string // that was shown last
	open    bool   // a line on a terminal has no end yet

	rateAt     time.Time // of the figures that the rate is counted from
	rateCopied int64
	rate       float64 // documents a second; below 0: not known yet

	behind, total int64 // sequences; below 0: not known
}

const (
	plainEvery = 5 * time.Second // lines where there is no terminal
	rateOver   = 2 * time.Second // the time a rate is the mean of
	barWidth   = 20
)

func newProgressView(out io.Writer) *progressView {
	now := time.Now()
	return &progressView{out: out, terminal: isTerminal(out), started: now, rateAt: now, rate: -1, behind: -1}
}

// isTerminal reports whether what is written is read by a person.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// lag notes how many sequences are still to come, of all.
func (v *progressView) lag(behind, total int64) { v.behind, v.total = behind, total }

// lagUnknown notes that nobody tells.
func (v *progressView) lagUnknown() { v.behind = -1 }

// show shows a status, if it is time to.
func (v *progressView) show(s *replicationStatus, now time.Time) {
	if past := now.Sub(v.rateAt); past >= rateOver {
		v.rate = float64(s.copied()-v.rateCopied) / past.Seconds()
		v.rateAt, v.rateCopied = now, s.copied()
	}
	state := s.Status
	if s.Error != "" {
		state += " (" + s.Error + ")"
	}
	switch {
	case v.terminal:
		// Without wrapping: what is too long for the line is cut off.
		fmt.Fprint(v.out, "\r\x1b[?7l", v.line(s, state), "\x1b[K\x1b[?7h")
		v.open = true
	case state != v.state || now.Sub(v.shownAt) >= plainEvery:
		fmt.Fprintln(v.out, v.line(s, state))
		v.shownAt = now
	}
	v.state = state
}

// line is what is shown of a status.
func (v *progressView) line(s *replicationStatus, state string) string {
	var b strings.Builder
	if v.terminal && v.behind >= 0 && v.total > 0 {
		done := int(barWidth * (v.total - v.behind) / v.total)
		b.WriteString("[" + strings.Repeat("#", done) + strings.Repeat("-", barWidth-done) + "] ")
	}
	b.WriteString(state + ": " + figures(s))
	if v.rate >= 0 {
		b.WriteString(", " + grouped(int64(v.rate+0.5)) + "/s")
	}
	if v.behind >= 0 {
		b.WriteString(", lag " + grouped(v.behind))
	}
	return b.String()
}

// figures are the counters of a status in words.
func figures(s *replicationStatus) string {
	return fmt.Sprintf("%s checked, %s read, %s written, %s errors", grouped(s.checked()), grouped(s.Read), grouped(s.Written), grouped(s.failed()))
}

// summary says how it came out: err is nil if everything was copied.
func (v *progressView) summary(s *replicationStatus, err error) {
	if v.open {
		fmt.Fprintln(v.out)
		v.open = false
	}
	took := time.Since(v.started)
	outcome := "done"
	if err != nil {
		outcome = "ended"
	}
	fmt.Fprintf(v.out, "%s in %s: %s", outcome, took.Round(10*time.Millisecond), figures(s))
	if s.copied() > 0 {
		fmt.Fprintf(v.out, ", %s/s", grouped(int64(float64(s.copied())/took.Seconds()+0.5)))
	}
	fmt.Fprintln(v.out)
	if s.RejectedLocal > 0 {
		fmt.Fprintf(v.out, "  %s could not be stored at SRC; its log names them\n", grouped(s.RejectedLocal))
	}
	if s.WriteFailures > 0 {
		fmt.Fprintf(v.out, "  %s were refused by DST: %s conflicts, %s by its sync function\n", grouped(s.WriteFailures), grouped(s.Conflicts), grouped(s.RejectedThere))
	}
}

// grouped writes a number with commas between thousands.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
