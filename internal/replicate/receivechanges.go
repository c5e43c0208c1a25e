package replicate

import (
	"strconv"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
)

// handleProposeChanges answers which of the peer's revisions it may send (replication.md §5.7).
func (coll *collection) handleProposeChanges(r *blip.Request) error {
	start := time.Now()
	coll.noteOffered()
	rows, err := parseProposals(r.Body())
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		coll.c.respond(r, &blip.Message{})
		return nil
	}
	h, err := coll.principal(coll.c.ctx())
	if err != nil {
		return err
	}
	proposals := make([]database.Proposal, len(rows))
	for i, row := range rows {
		proposals[i] = database.Proposal{ID: row.id, Rev: row.rev, Parent: row.parent}
	}
	verdicts, err := h.Propose(coll.c.ctx(), proposals)
	if err != nil {
		return err
	}
	coll.c.countProposals(len(rows), start)
	m := &blip.Message{Body: appendVerdicts(nil, verdicts, truth(r, "conflictIncludesRev"))}
	m.Compress = len(m.Body) >= smallestCompressedReply
	if coll.c.peer.Deltas {
		m.Properties.Add("deltas", "true")
	}
	m.Properties.AddInt("maxHistory", proposedHistory)
	coll.c.respond(r, m)
	return nil
}

// proposedHistory is how many ancestors pushed revisions are to name: enough to find the deletion of a document that was
// edited while its deletion was unknown (device-sync.md §12.7).
const proposedHistory = 100

// appendVerdicts appends the answer to proposeChanges: statuses without the zeros at the end.
func appendVerdicts(b []byte, verdicts []database.Verdict, withRev bool) []byte {
	n := len(verdicts)
	for n > 0 && verdicts[n-1].Status == 0 {
		n--
	}
	b = append(b, '[')
	for i, v := range verdicts[:n] {
		if i > 0 {
			b = append(b, ',')
		}
		if v.Status == 409 && withRev && v.Rev != "" {
			b = append(tidegate.AppendJSONString(append(b, `{"status":409,"rev":`...), v.Rev), '}')
			continue
		}
		b = strconv.AppendInt(b, int64(v.Status), 10)
	}
	return append(b, ']')
}

// handleChanges answers which of the revisions that the peer offers are wanted (replication.md §5.6).
func (coll *collection) handleChanges(r *blip.Request) error {
	start := time.Now()
	coll.noteOffered()
	db := coll.c.peer.DB
	if !db.AllowConflicts() && !truth(r, "ignoreNoConflicts") {
		return errUseProposals
	}
	rows, err := parseChanges(r.Body())
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		coll.c.respond(r, &blip.Message{Body: []byte("[]")})
		return nil
	}
	h, err := coll.principal(coll.c.ctx())
	if err != nil {
		return err
	}
	offers := make([]database.Offer, len(rows))
	for i, row := range rows {
		offers[i] = database.Offer{ID: row.id, Rev: row.rev}
	}
	known := knownAncestors
	if coll.c.peer.Version >= V4 && !coll.c.peer.Gateway {
		known = 1 // the version; gateways are told the rev-tree ID too
	}
	answers, err := h.Offered(coll.c.ctx(), offers, known)
	if err != nil {
		return err
	}
	coll.c.countProposals(len(rows), start)
	m := &blip.Message{Body: appendAnswers(nil, answers)}
	m.Compress = len(m.Body) >= smallestCompressedReply
	m.Properties.AddInt("maxHistory", proposedHistory)
	if coll.c.peer.Deltas {
		m.Properties.Add("deltas", "true")
	}
	coll.c.respond(r, m)
	return nil
}

// knownAncestors is how many revisions that are here are named for each that is wanted.
const knownAncestors = 10

// appendAnswers appends the answer to changes.
func appendAnswers(b []byte, answers []database.Wish) []byte {
	b = append(b, '[')
	for i, a := range answers {
		if i > 0 {
			b = append(b, ',')
		}
		if !a.Wanted || a.Err != nil {
			b = append(b, '0')
			continue
		}
		b = append(b, '[')
		for k, rev := range a.Known {
			if k > 0 {
				b = append(b, ',')
			}
			b = tidegate.AppendJSONString(b, rev)
		}
		b = append(b, ']')
	}
	return append(b, ']')
}
