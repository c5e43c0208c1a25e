package script

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidegate/tidegate"
)

// outcome collects the effects of one run, in the order in which the script caused them, and turns them into
// the result. Both the engine's records and the direct evaluator feed it, so that names and rejections are
// judged by the same rules.
type outcome struct {
	now      time.Time
	channels []string
	grants   []grant
	expiry   time.Time
	hasExp   bool
	rejected error // the first rejection
	fault    string
	faulty   bool
	warnings []string
	dropped  int // warnings beyond maxWarnings
	lines    []logLine
	returned string // by an import filter or a conflict resolver
}

// logLine is a line of console.log or console.error.
type logLine struct {
	level slog.Level
	text  string
}

// grant is one access() or role() call.
type grant struct {
	role        bool
	left, right []string
}

// maxWarnings is how many warnings of one run are logged; all are counted.
const maxWarnings = 16

// maxLogLines and maxLogText, in bytes, bound what one run logs; js/prelude.js has the same bounds.
const (
	maxLogLines = 64
	maxLogText  = 1024
)

func (o *outcome) warn(text string) {
	if len(o.warnings) >= maxWarnings {
		o.dropped++
		return
	}
	o.warnings = append(o.warnings, text)
}

// logLine notes a line that the script logs, cut to the bounds of one run.
func (o *outcome) logLine(level slog.Level, text string) {
	if len(o.lines) < maxLogLines {
		o.lines = append(o.lines, logLine{level, cut(text, maxLogText)})
	}
}

func (o *outcome) reject(err error) {
	if o.rejected == nil {
		o.rejected = err
	}
}

func (o *outcome) throwFault(detail string) {
	o.faulty = true
	o.fault = detail
}

// setExpiry is an expiry() call: kind n is a number and its text, s a string, o anything else.
func (o *outcome) setExpiry(kind byte, text string) {
	var t time.Time
	var err error
	switch kind {
	case 'n':
		f, perr := strconv.ParseFloat(text, 64)
		if perr != nil && f == 0 {
			err = invalidExpiry(text)
			break
		}
		t, err = expirySeconds(f, o.now)
	case 's':
		t, err = expiryText(text, o.now)
	default:
		err = invalidExpiry(text)
	}
	if err != nil {
		o.warn("expiry: ignored: " + err.Error())
		return
	}
	o.expiry, o.hasExp = t, true
}

// result judges what was collected: an exception comes before a rejection, a rejection before bad names.
func (o *outcome) result() (*SyncOutput, error) {
	switch {
	case o.faulty:
		return nil, exception(o.fault)
	case o.rejected != nil:
		return nil, o.rejected
	}
	for _, c := range o.channels {
		if !tidegate.ValidChannelName(c) {
			return nil, exception("illegal channel name " + strconv.Quote(cut(c, 100)))
		}
	}
	out := &SyncOutput{
		Expiry:    o.expiry,
		HasExpiry: o.hasExp,
		Warnings:  len(o.warnings) + o.dropped,
	}
	if len(o.channels) > 0 {
		out.Channels = tidegate.NewChannelSet(slices.Clone(o.channels)...)
	}
	for _, g := range o.grants {
		if err := g.apply(out); err != nil {
			return nil, err
		}
	}
	for user, roles := range out.Roles {
		slices.Sort(roles)
		out.Roles[user] = slices.Compact(roles)
	}
	for user, channels := range out.Access {
		out.Access[user] = tidegate.NewChannelSet(channels...)
	}
	return out, nil
}

// apply adds one access() or role() call to out.
func (g grant) apply(out *SyncOutput) error {
	if len(g.left) == 0 {
		return nil
	}
	right, err := g.names()
	if err != nil || len(right) == 0 {
		return err
	}
	for _, user := range g.left {
		name := user
		if !g.role {
			name = strings.TrimPrefix(user, rolePrefix)
		}
		if err := tidegate.ValidPrincipalName(name); err != nil {
			return failed(FailureException, reasonInvalidGrant, err.Error())
		}
		if g.role {
			if out.Roles == nil {
				out.Roles = make(map[string][]string)
			}
			out.Roles[user] = append(out.Roles[user], right...)
			continue
		}
		if out.Access == nil {
			out.Access = make(map[string]tidegate.ChannelSet)
		}
		out.Access[user] = append(out.Access[user], right...)
	}
	return nil
}

// rolePrefix marks a role among user names.
const rolePrefix = "role:"

// names checks the right side and gives it as it is stored: channels without "*", roles without prefix.
func (g grant) names() ([]string, error) {
	names := make([]string, 0, len(g.right))
	for _, n := range g.right {
		if !g.role {
			if !tidegate.ValidChannelName(n) {
				return nil, exception("illegal channel name " + strconv.Quote(cut(n, 100)))
			}
			if n != tidegate.AllChannels {
				names = append(names, n)
			}
			continue
		}
		role, ok := strings.CutPrefix(n, rolePrefix)
		if !ok {
			return nil, exception("role " + strconv.Quote(cut(n, 100)) + " does not begin with " + rolePrefix)
		}
		if err := tidegate.ValidPrincipalName(role); err != nil {
			return nil, failed(FailureException, reasonInvalidGrant, err.Error())
		}
		names = append(names, role)
	}
	return names, nil
}
