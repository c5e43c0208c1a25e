package database

import (
	"cmp"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/script"
)

// PlanReport is what a resync would change (resync.md §3.9). It marshals to the JSON object of the wire. Samples are of at
// most 100 each; no document's body is in it, but messages of the function may have a part of one.
type PlanReport struct {
	Sequence    tidegate.Seq `json:"sequence"`    // of the snapshot that it is about
	Collections []string     `json:"collections"` // worked on, as scope.collection

	DocsTotal       int64 `json:"docs_total"`
	DocsProcessed   int64 `json:"docs_processed"`
	DocsWouldChange int64 `json:"docs_would_change"` // whose channels, in any branch, or grants would be others
	DocsRejected    int64 `json:"docs_rejected"`     // which the function refuses, or fails for: they would be in no channel
	DocsFailed      int64 `json:"docs_failed"`       // of these, those for which it fails
	DocsErrored     int64 `json:"docs_errored"`      // that cannot be processed

	Documents  []PlanDocument `json:"documents"` // samples of those that would change, in order of their IDs
	Channels   []PlanChannel  `json:"channels"`  // those with most documents gained and lost first
	Others     PlanOthers     `json:"other_channels"`
	Users      int64          `json:"users_changed"` // whose reach would change
	Roles      int64          `json:"roles_changed"`
	Losing     int64          `json:"principals_losing"` // users and roles that would lose a document, channel or role
	Principals []PlanReach    `json:"principals"`        // samples: those with most documents gained and lost first
	Failures   []PlanFailure  `json:"failures"`          // samples
	Exact      PlanExact      `json:"exact"`
}

// PlanDocument is a document that would change.
type PlanDocument struct {
	Collection     string      `json:"collection"`
	Doc            string      `json:"doc"`
	Rev            string      `json:"rev"`
	Deleted        bool        `json:"deleted,omitempty"`
	ChannelsGained []string    `json:"channels_gained,omitempty"` // by the current revision
	ChannelsLost   []string    `json:"channels_lost,omitempty"`
	Branches       bool        `json:"branches,omitempty"` // another branch would be in other channels
	Grants         bool        `json:"grants,omitempty"`   // it would grant something else
	More           PlanOmitted `json:"more,omitzero"`
}

// PlanOmitted counts names that are not among the first ones.
type PlanOmitted struct {
	ChannelsGained int `json:"channels_gained,omitempty"`
	ChannelsLost   int `json:"channels_lost,omitempty"`
	RolesGained    int `json:"roles_gained,omitempty"`
	RolesLost      int `json:"roles_lost,omitempty"`
}

// PlanChannel is how many documents a channel would gain and lose.
type PlanChannel struct {
	Collection string `json:"collection"`
	Channel    string `json:"channel"`
	Gained     int64  `json:"docs_gained"`
	Lost       int64  `json:"docs_lost"`
}

// PlanOthers are the channels that are not listed, together.
type PlanOthers struct {
	Channels int   `json:"channels"` // how many; if the counts of channels are not exact there are more
	Gained   int64 `json:"docs_gained"`
	Lost     int64 `json:"docs_lost"`
}

// PlanReach is how the reach of a user or role would change. Names are of the form scope.collection:channel where the
// channel is not one of the default collection.
type PlanReach struct {
	Kind           string      `json:"kind"` // user or role
	Name           string      `json:"name"`
	ChannelsGained []string    `json:"channels_gained,omitempty"`
	ChannelsLost   []string    `json:"channels_lost,omitempty"`
	RolesGained    []string    `json:"roles_gained,omitempty"`
	RolesLost      []string    `json:"roles_lost,omitempty"`
	More           PlanOmitted `json:"more,omitzero"`
	// Documents that are not deleted, of all collections, that come into sight and go out of it.
	DocsGained int64 `json:"docs_gained"`
	DocsLost   int64 `json:"docs_lost"`
}

// size orders samples.
func (r *PlanReach) size() int64 { return r.DocsGained + r.DocsLost }

// PlanFailureKind says what became of a document for which the function gave nothing.
type PlanFailureKind string

// The kinds of failures.
const (
	PlanRejected   PlanFailureKind = "rejected"  // throw({forbidden: …}), throw({unauthorized: …}), reject()
	PlanException  PlanFailureKind = "exception" // it threw something else, or did what it must not
	PlanTimeout    PlanFailureKind = "timeout"
	PlanUnreadable PlanFailureKind = "unreadable" // what is stored does not make sense: the function was not asked
)

// PlanFailure is a document, or a branch of one, for which the function gave nothing.
type PlanFailure struct {
	Collection string          `json:"collection"`
	Doc        string          `json:"doc"`
	Rev        string          `json:"rev,omitempty"`
	Kind       PlanFailureKind `json:"kind"`
	Status     int             `json:"status,omitempty"` // that a write would be answered with
	Error      string          `json:"error"`
	Line       int             `json:"line,omitempty"` // of the function, from 1; 0: not known
	Column     int             `json:"column,omitempty"`
}

// PlanExact says which counts are exact. Those that are not are lower bounds: there was more than memory is given to.
type PlanExact struct {
	Channels   bool `json:"channels"`   // the documents of each channel
	Principals bool `json:"principals"` // whose channels and roles change
	Documents  bool `json:"documents"`  // the documents that principals gain and lose
}

// AnyChange reports whether routing or access would change.
func (r *PlanReport) AnyChange() bool { return r.DocsWouldChange > 0 || r.Users > 0 || r.Roles > 0 }

// report makes the report of what was counted.
func (p *plan) report() *PlanReport {
	r := &PlanReport{
		Sequence: p.sequence, DocsTotal: p.status.DocsTotal, DocsProcessed: p.status.DocsProcessed,
		DocsWouldChange: p.status.DocsChanged, DocsRejected: p.status.DocsRejected, DocsFailed: p.failed,
		DocsErrored: p.status.DocsErrored, Documents: p.documents, Users: p.users, Roles: p.roles, Losing: p.losing,
		Principals: p.reach, Failures: p.failures,
		Exact: PlanExact{
			Channels: p.channels.exact, Principals: p.grants.Exact(),
			Documents: p.grants.Exact() && p.sets.exact && p.visits < maxPlanVisits,
		},
	}
	for _, c := range p.collections {
		r.Collections = append(r.Collections, c.fullName())
	}
	r.Channels, r.Others = p.channels.list(p.db)
	return r
}

// fullName is scope.collection.
func (c *collection) fullName() string { return c.scope + "." + c.name }

// addFailure adds a sample.
func (p *plan) addFailure(f PlanFailure) {
	if len(p.failures) < maxPlanSamples {
		p.failures = append(p.failures, f)
	}
}

// addDocument adds a sample.
func (p *plan) addDocument(c *planned, d *storedDoc, before, after tidegate.ChannelSet, r *rerouted) {
	if len(p.documents) == maxPlanSamples {
		return
	}
	current := d.rec.tree.At(r.leaves[0].at)
	s := PlanDocument{
		Collection: c.fullName(), Doc: d.id, Rev: current.ID.String(), Deleted: current.Deleted(),
		Grants: !sameAccess(d.rec.grants.Access, r.out.access) || !sameRoles(d.rec.grants.Roles, r.out.roles),
	}
	for _, leaf := range r.leaves[1:] {
		s.Branches = s.Branches || !equalChannels(leaf.channels, d.rec.tree.At(leaf.at).Channels)
	}
	s.ChannelsGained, s.More.ChannelsGained = firstNames(without(after, before))
	s.ChannelsLost, s.More.ChannelsLost = firstNames(without(before, after))
	p.documents = append(p.documents, s)
}

// addReach adds a sample, if it is one of those with most documents.
func (p *plan) addReach(r PlanReach) {
	i, _ := slices.BinarySearchFunc(p.reach, r, func(a, b PlanReach) int {
		return cmp.Or(cmp.Compare(b.size(), a.size()), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	if i < maxPlanSamples {
		p.reach = slices.Insert(p.reach, i, r)
		p.reach = p.reach[:min(len(p.reach), maxPlanSamples)]
	}
}

// failureKind turns what the script package says into what the report says.
func failureKind(kind script.Failure) PlanFailureKind {
	switch kind {
	case script.FailureRejected, script.FailureAccess:
		return PlanRejected
	case script.FailureTimeout:
		return PlanTimeout
	default:
		return PlanException
	}
}

// firstNames returns the first names, and how many more there are.
func firstNames(names []string) (first []string, more int) {
	first = names[:min(len(names), maxPlanNames)]
	return first, len(names) - len(first)
}

// without returns the names of a that are not in b.
func without(a, b tidegate.ChannelSet) (names []string) {
	for _, name := range a {
		if !b.Has(name) {
			names = append(names, name)
		}
	}
	return names
}
