package rest

import (
	"context"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/devicesync"
)

// What becomes of clients of the CouchDB protocol that come (device-sync.md §12.5): of one whose checkpoint is read, and of a position that a
// feed is asked from.

// headerClientReset says why a feed starts at nothing although it was asked from a position.
const headerClientReset = "X-Tidegate-Client-Reset"

// isPeer reports whether the request comes from a server, which is never told to discard what it has, or from an administrator.
func (r *request) isPeer() bool {
	return r.admin || r.q.text("client") == peerGateway || strings.HasPrefix(r.Header.Get("User-Agent"), "CouchDB")
}

// clientRef names the client that keeps its checkpoint in a local document.
func (r *request) clientRef(localID string) database.ClientRef {
	return database.ClientRef{Kind: database.ClientCouch, ID: localID, Peer: r.isPeer()}
}

// getLocal reads a local document. If it is the checkpoint of a client that must start again it is not there any more.
func (r *request) getLocal(id, prefix string) (*database.LocalDocument, error) {
	if prefix != localPrefix {
		return r.handle.GetLocal(r.Context(), id) // a design document
	}
	doc, _, err := r.handle.Checkpoint(r.Context(), r.clientRef(id))
	return doc, err
}

// judgeSince decides what becomes of a client that asks for changes from a position: it may have to start at nothing, which the answer's header
// says, or is refused.
func (r *request) judgeSince(ctx context.Context, h *database.Handle, o *feedOptions) error {
	if r.listener == admin {
		o.Plain = true
		return nil
	}
	verdict, err := h.Database().JudgeSince(ctx, o.Since, r.isPeer())
	if err != nil || !verdict.Kind.Reset() {
		return err
	}
	if verdict.Kind == devicesync.ResetWipe {
		return &database.ResetRequired{Verdict: verdict}
	}
	o.Since, o.Rewound = tidegate.Since{}, true
	r.answer.Header().Set(headerClientReset, string(verdict.Reason))
	return nil
}
