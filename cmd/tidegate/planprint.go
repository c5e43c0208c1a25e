package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/tidegate/tidegate/internal/database"
)

// How many entries of each list are printed; all that there are come with -o json.
const (
	printedChannels = 40
	printedSamples  = 20
)

// printPlan prints a report as a difference.
func printPlan(out io.Writer, r *database.PlanReport) error {
	p := &planPrinter{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0), r}
	p.printf("Plan for %s at sequence %d: %s documents, %s would change\n", strings.Join(r.Collections, ", "), r.Sequence,
		grouped(r.DocsProcessed), grouped(r.DocsWouldChange))
	if !r.AnyChange() && r.DocsRejected+r.DocsErrored == 0 {
		p.printf("\nNo changes: routing and access stay as they are.\n")
		return p.Flush()
	}
	p.channels()
	p.principals()
	p.documents()
	p.failures()
	p.summary()
	return p.Flush()
}

// planPrinter prints the parts of a report.
type planPrinter struct {
	*tabwriter.Writer
	r *database.PlanReport
}

func (p *planPrinter) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// beyond says that not all is printed.
func (p *planPrinter) beyond(printed int, of int64, what string) {
	if of > int64(printed) {
		p.printf("  and %s more %s\n", grouped(of-int64(printed)), what)
	}
}

func (p *planPrinter) channels() {
	if len(p.r.Channels) == 0 {
		return
	}
	p.printf("\nChannels, by documents gained and lost%s:\n", inexact(p.r.Exact.Channels))
	shownNow := p.r.Channels[:min(len(p.r.Channels), printedChannels)]
	for _, c := range shownNow {
		p.printf("  %s\t%s\t%s\n", channelName(c.Collection, c.Channel), gained(c.Gained), lost(c.Lost))
	}
	others := database.PlanOthers{Channels: p.r.Others.Channels, Gained: p.r.Others.Gained, Lost: p.r.Others.Lost}
	for _, c := range p.r.Channels[len(shownNow):] {
		others.Channels++
		others.Gained += c.Gained
		others.Lost += c.Lost
	}
	if others.Gained+others.Lost > 0 {
		p.printf("  %s other channels\t%s\t%s\n", grouped(int64(others.Channels)), gained(others.Gained), lost(others.Lost))
	}
}

func (p *planPrinter) principals() {
	if len(p.r.Principals) == 0 {
		return
	}
	p.printf("\nUsers and roles, by documents that come into sight and go out of it%s:\n", inexact(p.r.Exact.Documents && p.r.Exact.Principals))
	shownNow := p.r.Principals[:min(len(p.r.Principals), printedSamples)]
	for i := range shownNow {
		w := &shownNow[i]
		what := differences(w)
		if what != "" {
			what = "\t" + what
		}
		p.printf("  %s %s\t%s\t%s%s\n", w.Kind, shown(w.Name), gained(w.DocsGained), lost(w.DocsLost), what)
	}
	p.beyond(len(shownNow), p.r.Users+p.r.Roles, "users and roles")
}

// differences lists the channels and roles that a principal gains and loses.
func differences(w *database.PlanReach) string {
	var texts []string
	if names := signed(w.ChannelsGained, "+", w.More.ChannelsGained) + signed(w.ChannelsLost, "-", w.More.ChannelsLost); names != "" {
		texts = append(texts, "channels"+names)
	}
	if names := signed(w.RolesGained, "+", w.More.RolesGained) + signed(w.RolesLost, "-", w.More.RolesLost); names != "" {
		texts = append(texts, "roles"+names)
	}
	return strings.Join(texts, "; ")
}

// signed is " +a +b" and how many more.
func signed(names []string, sign string, more int) string {
	var b strings.Builder
	for _, n := range names {
		b.WriteString(" " + sign + shown(n))
	}
	if more > 0 {
		fmt.Fprintf(&b, " %s(%d more)", sign, more)
	}
	return b.String()
}

func (p *planPrinter) documents() {
	if len(p.r.Documents) == 0 {
		return
	}
	p.printf("\nDocuments that would change:\n")
	shownNow := p.r.Documents[:min(len(p.r.Documents), printedSamples)]
	for i := range shownNow {
		d := &shownNow[i]
		what := signed(d.ChannelsGained, "+", d.More.ChannelsGained) + signed(d.ChannelsLost, "-", d.More.ChannelsLost)
		if d.Grants {
			what += " (other grants)"
		}
		if d.Branches {
			what += " (another branch)"
		}
		if d.Deleted {
			what += " (deleted)"
		}
		p.printf("  %s\t%s\n", documentName(p.r, d.Collection, d.Doc), strings.TrimSpace(what))
	}
	p.beyond(len(shownNow), p.r.DocsWouldChange, "documents")
}

func (p *planPrinter) failures() {
	if len(p.r.Failures) == 0 {
		return
	}
	p.printf("\nDocuments for which the function gives nothing, and which would be in no channel:\n")
	shownNow := p.r.Failures[:min(len(p.r.Failures), printedSamples)]
	for _, f := range shownNow {
		where := ""
		if f.Line > 0 {
			where = fmt.Sprintf("line %d, column %d: ", f.Line, f.Column)
		}
		p.printf("  %s\t%s\t%s%s\n", documentName(p.r, f.Collection, f.Doc), f.Kind, where, printable(f.Error))
	}
	p.beyond(len(shownNow), p.r.DocsRejected+p.r.DocsErrored, "documents")
}

func (p *planPrinter) summary() {
	r := p.r
	p.printf("\nPlan: %s of %s documents change", grouped(r.DocsWouldChange), grouped(r.DocsProcessed))
	p.printf(", %s users and %s roles reach others; the function throws for %s and refuses %s.\n", grouped(r.Users), grouped(r.Roles),
		grouped(r.DocsFailed), grouped(r.DocsRejected-r.DocsFailed))
	if r.DocsErrored > 0 {
		p.printf("%s documents cannot be read; `tidegate fsck` tells more.\n", grouped(r.DocsErrored))
	}
	if e := r.Exact; !e.Channels || !e.Principals || !e.Documents {
		p.printf("Counts marked with \"at least\" are too low: there was more to count than the gateway gives memory to.\n")
	}
}

func inexact(exact bool) string {
	if exact {
		return ""
	}
	return " (at least)"
}

// channelName names a channel, with its collection unless that is the default one.
func channelName(collection, channel string) string {
	if collection == "_default._default" {
		return shown(channel)
	}
	return collection + ":" + shown(channel)
}

// documentName names a document, with its collection if there are several.
func documentName(r *database.PlanReport, collection, doc string) string {
	if len(r.Collections) == 1 {
		return shown(doc)
	}
	return collection + ":" + shown(doc)
}

// gained and lost write a number with its sign; nothing is a point.
func gained(n int64) string { return number("+", n) }
func lost(n int64) string   { return number("-", n) }

func number(sign string, n int64) string {
	if n == 0 {
		return "."
	}
	return sign + grouped(n)
}
