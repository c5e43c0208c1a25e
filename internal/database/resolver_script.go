package database

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/script"
)

// ScriptResolver makes a Resolver of a compiled function, which stays the caller's to close. limits bound the
// documents that it returns.
//
// If both documents have the same content and the function keeps it, DefaultPolicy says which revision stays: then two
// databases that merged alike do not go on merging what the other made.
func ScriptResolver(f script.Resolver, limits jsondoc.Limits) Resolver {
	return &scriptResolver{function: f, limits: limits}
}

type scriptResolver struct {
	function script.Resolver
	limits   jsondoc.Limits
}

func (s *scriptResolver) Resolve(ctx context.Context, c *Conflict) (Resolution, error) {
	out, err := s.function.Resolve(ctx, &script.ConflictInput{
		DocID: c.ID, Local: c.Local.scriptDoc(), Remote: c.Remote.scriptDoc(), LocalLater: c.localLater(),
	})
	if err != nil {
		return Resolution{}, err
	}
	var res Resolution
	switch out.Choice {
	case script.ChoiceDelete:
		res = Resolution{Outcome: ResolvedMerge, Body: emptyBody, Deleted: true}
	case script.ChoiceMerge:
		if res, err = s.merged(out.Doc); err != nil {
			return Resolution{}, err
		}
	case script.ChoiceLocal:
		res.Outcome = ResolvedLocal
	case script.ChoiceRemote:
		res.Outcome = ResolvedRemote
	}
	if sameContent(&c.Local, &c.Remote) && res.keeps(&c.Local) {
		return DefaultPolicy.Resolve(ctx, c)
	}
	return res, nil
}

// keeps reports whether the resolution leaves a document with the content of s, which both revisions have.
func (r *Resolution) keeps(s *ConflictSide) bool {
	if r.Outcome != ResolvedMerge {
		return true
	}
	if r.Deleted != s.Deleted || len(r.Attachments) != len(s.Attachments) {
		return false
	}
	for name, in := range r.Attachments {
		if a, ok := s.Attachments[name]; !ok || !in.Stub || in.Digest != "" && in.Digest != a.Digest {
			return false
		}
	}
	return sameBody(r.Body, s.Body)
}

// scriptDoc makes what the function is shown.
func (s *ConflictSide) scriptDoc() script.ConflictDoc {
	d := script.ConflictDoc{Rev: s.Rev.String(), Deleted: s.Deleted, Body: s.Body}
	if len(s.Attachments) > 0 {
		d.Attachments = tidegate.AppendStubsJSON(nil, s.Attachments)
	}
	if !s.Expiry.IsZero() {
		d.Expiry = s.Expiry.Unix()
	}
	return d
}

// merged reads a document that the function returned.
func (s *scriptResolver) merged(raw []byte) (Resolution, error) {
	doc, err := jsondoc.Split(raw, s.limits, true)
	if err != nil {
		return Resolution{}, fmt.Errorf("read resolver's document: %w", err)
	}
	if doc.Removed || doc.Purged {
		return Resolution{}, errResolverMember
	}
	for _, name := range doc.Unknown {
		if name == "_sync" || strings.HasPrefix(name, "_sync_") {
			return Resolution{}, errResolverMember
		}
	}
	attachments, err := ParseAttachments(doc.Attachments)
	if err != nil {
		return Resolution{}, fmt.Errorf("read resolver's document: %w", err)
	}
	return Resolution{Outcome: ResolvedMerge, Body: doc.Body, Deleted: doc.Deleted, Attachments: attachments}, nil
}

// errResolverMember is the error of a returned document with _removed, _purged or members that begin with _sync.
var errResolverMember = tidegate.Errorf(tidegate.Invalid, "the resolver's document has members that are not its to set")

// sameContent reports whether two revisions are the same but for their names.
func sameContent(a, b *ConflictSide) bool {
	if a.Deleted != b.Deleted || len(a.Attachments) != len(b.Attachments) {
		return false
	}
	for name, x := range a.Attachments {
		if y, ok := b.Attachments[name]; !ok || x.Digest != y.Digest {
			return false
		}
	}
	return sameBody(a.Body, b.Body)
}

func sameBody(a, b []byte) bool {
	return bytes.Equal(jsondoc.AppendCanonical(nil, a, false), jsondoc.AppendCanonical(nil, b, false))
}
