package database

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/store"
)

// The bounds of an explanation. What is beyond them is counted, not listed.
const (
	maxExplainedChannels = 100 // of a document, and of each leaf
	maxExplainedLeaves   = 100
)

// Visibility says whether a user sees a document.
type Visibility string

// The verdicts, and what a GET by the user answers.
const (
	VisibilityFull       Visibility = "visible"          // 200
	VisibilityDeleted    Visibility = "deleted"          // 404 deleted: the user is told of the deletion, and that is all there is
	VisibilityRemoved    Visibility = "removed"          // 403: the user's feed says that the document left a channel, and nothing more
	VisibilityNotVisible Visibility = "not_visible"      // 403
	VisibilityNoDocument Visibility = "no_such_document" // 404 missing
	VisibilityDisabled   Visibility = "user_disabled"    // 401
	VisibilityNoUser     Visibility = "no_such_user"     // 401
)

// Explanation is why a user sees a document or does not (sync-function.md §10), as of one snapshot. It has no document's
// body in it and no secret.
type Explanation struct {
	Doc        string       `json:"doc"`
	User       string       `json:"user"` // GUEST for the guest
	Collection string       `json:"collection"`
	Sequence   tidegate.Seq `json:"sequence"` // the last one of the snapshot
	Verdict    Visibility   `json:"verdict"`
	Visible    bool         `json:"visible"` // the verdict is VisibilityFull
	// Sentences say the same for people: the verdict first.
	Sentences []string          `json:"sentences"`
	Document  ExplainedDocument `json:"document"`
	Principal ExplainedUser     `json:"principal"`
	// Channels is what the user has of each channel that the document is or was in, and of "*": those it has first.
	Channels     []access.ChannelReach `json:"channels"`
	MoreChannels int                   `json:"more_channels,omitempty"`
}

// ExplainedDocument is where a document is.
type ExplainedDocument struct {
	Exists       bool                  `json:"exists"`
	Rev          string                `json:"rev,omitempty"` // the current revision
	Sequence     tidegate.Seq          `json:"sequence,omitempty"`
	Deleted      bool                  `json:"deleted"`
	Conflict     bool                  `json:"conflict"` // more than one leaf is live
	Leaves       []ExplainedLeaf       `json:"leaves"`   // the current one first
	MoreLeaves   int                   `json:"more_leaves,omitempty"`
	Channels     []ExplainedMembership `json:"channels"` // those it is in first
	MoreChannels int                   `json:"more_channels,omitempty"`
}

// ExplainedLeaf is the end of one branch.
type ExplainedLeaf struct {
	Rev          string   `json:"rev"`
	Deleted      bool     `json:"deleted"`
	Channels     []string `json:"channels"`
	MoreChannels int      `json:"more_channels,omitempty"`
	Visible      bool     `json:"visible"` // the user may read it by its revision ID
}

// ExplainedMembership is when a document was in a channel.
type ExplainedMembership struct {
	Channel string        `json:"channel"`
	Member  bool          `json:"member"`
	Periods []access.Span `json:"periods"` // oldest first
	// If not a member: the revision that removed it, and whether that was a deletion.
	RemovedBy string `json:"removed_by,omitempty"`
	Deletion  bool   `json:"deletion,omitempty"`
}

// ExplainedUser is who reads.
type ExplainedUser struct {
	Exists    bool               `json:"exists"`
	Disabled  bool               `json:"disabled"`
	Roles     []access.RoleReach `json:"roles"`
	MoreRoles int                `json:"more_roles,omitempty"`
}

// Explain tells why a user sees a document or does not; "" or GUEST is the guest. For administrators: Forbidden to all
// others.
func (h *Handle) Explain(ctx context.Context, id, user string) (*Explanation, error) {
	if !h.IsAdmin() {
		return nil, tidegate.ErrForbidden
	}
	e := &Explanation{Doc: id, User: cmp.Or(user, tidegate.GuestName), Collection: h.coll.scope + "." + h.coll.name}
	err := h.db.st.View(ctx, func(r store.Reader) error { return h.explain(ctx, r, e) })
	if err != nil {
		return nil, fmt.Errorf("explain document: %w", err)
	}
	e.Visible = e.Verdict == VisibilityFull
	e.Sentences = e.sentences()
	e.trim()
	return e, nil
}

// explain fills e from one snapshot.
func (h *Handle) explain(ctx context.Context, r store.Reader, e *Explanation) error {
	var err error
	if e.Sequence, err = r.LastSequence(h.db.space); err != nil {
		return err
	}
	rec, err := readRecord(r, h.coll, e.Doc)
	if err != nil {
		return err
	}
	reach, err := h.db.access.Explain(ctx, r, e.User, h.coll.id, channelsToExplain(rec))
	if err != nil {
		return err
	}
	e.Channels = reach.Channels
	e.Principal = ExplainedUser{Exists: reach.User != nil, Roles: reach.Roles, MoreRoles: reach.MoreRoles}
	reader := h
	if reach.User != nil {
		e.Principal.Disabled = reach.User.Disabled()
		reader = h.db.As(reach.User, h.coll.id)
	}
	if rec != nil {
		e.Document = reader.explainDocument(rec, reach.User != nil)
	} else {
		e.Document = ExplainedDocument{Leaves: []ExplainedLeaf{}, Channels: []ExplainedMembership{}}
	}
	switch {
	case !e.Principal.Exists:
		e.Verdict = VisibilityNoUser
	case e.Principal.Disabled:
		e.Verdict = VisibilityDisabled
	case rec == nil:
		e.Verdict = VisibilityNoDocument
	default:
		e.Verdict = reader.verdict(rec, e)
	}
	return nil
}

// channelsToExplain are all channels that a document or a leaf of it is or was in, and "*".
func channelsToExplain(rec *record) []string {
	names := map[string]bool{tidegate.AllChannels: true}
	if rec != nil {
		for i := range rec.channels {
			names[rec.channels[i].name] = true
		}
		for _, leaf := range rec.tree.Leaves() {
			for _, c := range leaf.Channels {
				names[c] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// verdict says what the reader, who is a user, gets of the document: what current and refusal answer.
func (h *Handle) verdict(rec *record, e *Explanation) Visibility {
	i, _ := rec.tree.Winner()
	winner := rec.tree.At(i)
	sees := h.canSee(winner.Channels)
	switch {
	case sees && !winner.Deleted():
		return VisibilityFull
	case winner.Deleted() && (sees || h.toldOfDeletion(rec, winner.ID)):
		return VisibilityDeleted
	case e.toldOfRemoval():
		return VisibilityRemoved
	}
	return VisibilityNotVisible
}

// toldOfRemoval reports whether the document left a channel that the user has had since then or longer: his feed tells
// of that. What happened before he had the channel is not told (changes/DESIGN.md, Slot).
func (e *Explanation) toldOfRemoval() bool {
	return slices.ContainsFunc(e.Document.Channels, func(m ExplainedMembership) bool {
		c := e.reach(m.Channel)
		return !m.Member && c != nil && c.Held && c.HeldSince <= m.Periods[len(m.Periods)-1].End
	})
}

// explainDocument describes a document. isUser: h is the user's, who may read some of the leaves.
func (h *Handle) explainDocument(rec *record, isUser bool) ExplainedDocument {
	flags := rec.flags()
	d := ExplainedDocument{
		Exists: true, Sequence: rec.seq, Deleted: flags&recDeleted != 0, Conflict: flags&recConflict != 0,
		Leaves: []ExplainedLeaf{}, Channels: make([]ExplainedMembership, 0, len(rec.channels)),
	}
	for _, leaf := range rec.tree.Leaves() {
		if d.Rev == "" {
			d.Rev = leaf.ID.String()
		}
		if len(d.Leaves) == maxExplainedLeaves {
			d.MoreLeaves++
			continue
		}
		shown := leaf.Channels[:min(len(leaf.Channels), maxExplainedChannels)]
		d.Leaves = append(d.Leaves, ExplainedLeaf{
			Rev: leaf.ID.String(), Deleted: leaf.Deleted(), Visible: isUser && h.canSee(leaf.Channels),
			Channels: append([]string{}, shown...), MoreChannels: len(leaf.Channels) - len(shown),
		})
	}
	for i := range rec.channels {
		d.Channels = append(d.Channels, explainMembership(&rec.channels[i]))
	}
	slices.SortStableFunc(d.Channels, func(a, b ExplainedMembership) int { return trueFirst(a.Member, b.Member) })
	return d
}

func explainMembership(c *channelState) ExplainedMembership {
	m := ExplainedMembership{Channel: c.name, Member: c.member, Periods: make([]access.Span, 0, len(c.periods))}
	for _, p := range c.periods {
		m.Periods = append(m.Periods, access.Span{Start: p.Start, End: p.End})
	}
	if !c.member {
		m.RemovedBy, m.Deletion = c.rev.String(), c.deleted
	}
	return m
}

// trim brings the lists of channels within their bounds: what the user has, or had, stays.
func (e *Explanation) trim() {
	slices.SortStableFunc(e.Channels, func(a, b access.ChannelReach) int {
		return cmp.Or(trueFirst(a.Held, b.Held), trueFirst(len(a.History) > 0, len(b.History) > 0))
	})
	e.MoreChannels = max(0, len(e.Channels)-maxExplainedChannels)
	e.Channels = e.Channels[:len(e.Channels)-e.MoreChannels]
	d := &e.Document
	d.MoreChannels = max(0, len(d.Channels)-maxExplainedChannels)
	d.Channels = d.Channels[:len(d.Channels)-d.MoreChannels]
}

// trueFirst orders what is so before what is not.
func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
