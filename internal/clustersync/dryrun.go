package clustersync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// DryRunReport says what a sync would do.
type DryRunReport struct {
	Source, Destination string // "cluster0: host:port (MongoDB 8.0.5, replicaSet)"
	Plan                *Plan  // nil if the options were refused
	Copied              []DryRunItem
	Skipped             []DryRunItem // by the filter
	Refused             []Refusal
	Warnings            []string
}

// DryRunItem is a namespace of the source.
type DryRunItem struct {
	Collection
	Target Namespace // on the destination
}

// Refusal is what would keep /start from starting.
type Refusal struct {
	Name ErrorName
	Text string
}

// DryRun looks at both clusters and says what /start with this request would do. It writes nothing. Unlike /start it goes on after a check
// that fails. The error is for what could not be looked at.
func DryRun(ctx context.Context, clusters [2]Cluster, req *StartRequest, env Environment) (*DryRunReport, error) {
	report := &DryRunReport{}
	plan, err := req.plan(env)
	if err != nil {
		report.refuse(err)
		return report, nil
	}
	var infos [2]Info
	for i, c := range clusters {
		if infos[i], err = c.Inspect(ctx); err != nil {
			return nil, fmt.Errorf("look at %s: %w", labelOf(i), err)
		}
	}
	if err := different(infos); err != nil {
		report.refuse(err)
		return report, nil
	}
	src, dst := direction(plan, false)
	report.Source, report.Destination = describe(labelOf(src), infos[src]), describe(labelOf(dst), infos[dst])
	if err := plan.settle(req, infos[src], infos[dst]); err != nil {
		report.refuse(err)
	}
	report.Plan = plan
	p := &preflight{src: clusters[src], dst: clusters[dst], srcInfo: infos[src], dstInfo: infos[dst], plan: plan, env: env}
	all, err := p.src.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the source: %w", err)
	}
	for _, c := range all {
		item := DryRunItem{c, plan.Filter.Target(c.Namespace)}
		why := p.unfit(c)
		switch {
		case !plan.Filter.Includes(c.Namespace):
			report.Skipped = append(report.Skipped, item)
		case why != "":
			report.refuse(Errorf(APIError, "%s cannot be synced: %s", c.Namespace, why))
		default:
			report.Copied = append(report.Copied, item)
			p.listed = append(p.listed, c)
		}
	}
	for _, check := range []func(context.Context) error{p.usable, p.versions, p.balancers, p.privileges, p.writeBlocking, p.empty, p.conflicts, p.diskSpace} {
		err := check(ctx)
		if errors.Is(err, ErrUnreachable) {
			return nil, err
		}
		report.refuse(err)
	}
	report.Warnings = p.warnings
	return report, nil
}

func (r *DryRunReport) refuse(err error) {
	if err != nil {
		r.Refused = append(r.Refused, Refusal{NameOf(named(err)), err.Error()})
	}
}

func describe(label string, i Info) string {
	kind := "MongoDB protocol"
	switch {
	case i.Topology == Gateways:
		kind = "tidegate"
	case i.MongoDB:
		kind = "MongoDB"
	}
	return fmt.Sprintf("%s: %s (%s %s, %s)", label, i.Name, kind, i.Version, i.Topology)
}

// Err says whether /start would refuse.
func (r *DryRunReport) Err() error {
	if len(r.Refused) == 0 {
		return nil
	}
	first := r.Refused[0]
	return Errorf(first.Name, "the sync would be refused (%s)", first.Name)
}

// String is the report for people.
func (r *DryRunReport) String() string {
	var b strings.Builder
	if r.Source != "" {
		fmt.Fprintf(&b, "Source       %s\nDestination  %s\n", r.Source, r.Destination)
	}
	if p := r.Plan; p != nil {
		fmt.Fprintf(&b, "Options      write blocking %s, indexes %s, reversible %t, verification %t\n", p.WriteBlocking, p.BuildIndexes, p.Reversible, p.Verification)
	}
	r.table(&b, "Would be copied", r.Copied)
	r.table(&b, "Would be skipped (not in the filter)", r.Skipped)
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n%s: %d\n  %s\n", title, len(lines), strings.Join(lines, "\n  "))
		}
	}
	list("Warnings", r.Warnings)
	var refused []string
	for _, f := range r.Refused {
		refused = append(refused, string(f.Name)+": "+f.Text)
	}
	list("Would be refused", refused)
	b.WriteString("\nSystem databases and collections, users and roles are never copied. Nothing was written.\n")
	return b.String()
}

func (r *DryRunReport) table(b *strings.Builder, title string, items []DryRunItem) {
	if r.Plan == nil {
		return
	}
	var docs, bytes int64
	for _, i := range items {
		docs, bytes = docs+i.Count, bytes+i.Bytes
	}
	fmt.Fprintf(b, "\n%s: %d namespaces, about %d documents, %d bytes\n", title, len(items), docs, bytes)
	if len(items) == 0 {
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  namespace\tas\tkind\tdocuments\tbytes\tindexes")
	for _, i := range slices.SortedFunc(slices.Values(items), func(a, b DryRunItem) int { return strings.Compare(a.String(), b.String()) }) {
		kind := string(i.Type)
		if i.Capped {
			kind = "capped"
		}
		as := "same"
		if i.Target != i.Namespace {
			as = i.Target.String()
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%d\t%d\t%d\n", i.Namespace, as, kind, i.Count, i.Bytes, len(i.Indexes))
	}
	_ = w.Flush() // into memory
}
