package replicate

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/delta"
)

// handleGetAttachment sends an attachment of a revision that is on its way to the peer (replication.md §5.10).
func (coll *collection) handleGetAttachment(r *blip.Request) error {
	content, a, err := coll.openOffered(r)
	if err != nil {
		return err
	}
	pull := &coll.c.stats().Pull
	pull.Attachments.Add(1)
	pull.AttachmentBytes.Add(storedLength(&a))
	if coll.active != nil {
		push := &coll.active.s.h.r.o.Stats.Push
		push.Attachments.Add(1)
		push.AttachmentBytes.Add(storedLength(&a))
	}
	coll.c.respond(r, &blip.Message{ // holding its place until it is sent, so that few files are open at a time
		BodyReader: content, Compress: truth(r, "compress"),
		Done: func() { _ = content.Close() }, // it was only read
	})
	return nil
}

// storedLength is the length of an attachment as it is stored and sent.
func storedLength(a *tidegate.Attachment) int64 {
	if a.Encoding != "" {
		return a.EncodedLength
	}
	return a.Length
}

// openOffered opens the attachment that a request names by its digest, if it is one that the peer may have now.
func (coll *collection) openOffered(r *blip.Request) (io.ReadSeekCloser, tidegate.Attachment, error) {
	c := coll.c
	digest, ok := r.Property("digest")
	if !ok {
		return nil, tidegate.Attachment{}, errNoDigest
	}
	id, ok := r.Property("docID")
	if !ok && c.peer.Version >= V3 && r.Profile() == profileGetAttachment {
		return nil, tidegate.Attachment{}, errNoDocID
	}
	o, ok := c.offers.find(c.peer.Version, coll.index, id, digest)
	if !ok {
		return nil, tidegate.Attachment{}, errNotSyncing
	}
	h, err := coll.principal(c.ctx())
	if err != nil {
		return nil, tidegate.Attachment{}, err
	}
	return h.OpenAttachment(c.ctx(), o.doc, o.name)
}

// Bounds of the nonce of a proof, in bytes (replication.md §5.11).
const (
	nonceBytes = 20
	maxNonce   = 255
)

// handleProveAttachment proves to the peer that we have an attachment that we told it of.
func (coll *collection) handleProveAttachment(r *blip.Request) error {
	nonce := slices.Clone(r.Body())
	if len(nonce) == 0 || len(nonce) > maxNonce {
		return tidegate.Errorf(tidegate.Invalid, "Missing or invalid nonce")
	}
	content, _, err := coll.openOffered(r)
	if err != nil {
		return err
	}
	defer content.Close()
	proof, err := proofOf(nonce, content)
	if err != nil {
		return err
	}
	coll.c.respond(r, &blip.Message{Body: []byte(proof)})
	return nil
}

// proofOf is the proof that whoever computes it has the content (replication.md §5.11).
func proofOf(nonce []byte, content io.Reader) (string, error) {
	sum := sha1.New()
	sum.Write([]byte{byte(len(nonce))})
	sum.Write(nonce)
	if _, err := io.Copy(sum, content); err != nil {
		return "", fmt.Errorf("read attachment: %w", err)
	}
	return "sha1-" + base64.StdEncoding.EncodeToString(sum.Sum(nil)), nil
}

// fetchAttachments gets from the peer what the revision's attachments need: the content of those that the document does
// not have here, and a proof for those that a revision of it has which is not the current one.
func (coll *collection) fetchAttachments(ctx context.Context, h *database.Handle, in *incomingRev, w *database.Write) error {
	for name, a := range w.Attachments { // what has no content is a stub, whatever it says
		if a.Data == nil && !a.Stub {
			a.Stub, a.Follows = true, false
			w.Attachments[name] = a
		}
	}
	needs, err := h.AttachmentNeeds(ctx, w)
	if err != nil {
		return err
	}
	for _, name := range needs.Prove {
		if err := coll.prove(ctx, h, in, w, name); err != nil {
			return err
		}
	}
	for _, name := range needs.Get {
		if err := coll.fetch(ctx, h, in, w, name); err != nil {
			return err
		}
	}
	return nil
}

// fetch gets an attachment's content from the peer.
func (coll *collection) fetch(ctx context.Context, h *database.Handle, in *incomingRev, w *database.Write, name string) error {
	a := w.Attachments[name]
	switch {
	case a.Digest == "":
		return tidegate.Errorf(tidegate.Invalid, "Attachment %q has no digest", name)
	case max(a.Length, a.EncodedLength) > coll.c.peer.DB.MaxAttachmentBytes():
		return tidegate.Errorf(tidegate.TooLarge, "Attachment too large")
	}
	m := coll.message(profileGetAttachment)
	m.Properties.Add("digest", a.Digest)
	if coll.c.peer.Version >= V3 {
		m.Properties.Add("docID", in.id)
	}
	if compressible(name, &a) {
		m.Properties.Add("compress", "true")
	}
	m.StreamReply = true
	reply, err := coll.c.conn.Call(ctx, m)
	if err != nil {
		return err
	}
	defer reply.Release()
	if err := reply.Err(); err != nil {
		return peerFailed("getAttachment", err)
	}
	content := &counted{Reader: reply.Reader()}
	said := a.Length
	if a.Encoding != "" {
		said = a.EncodedLength
	}
	if said >= 0 { // one byte more shows that the peer did not say the truth; no need for all of them
		content.Reader = io.LimitReader(content.Reader, said+1)
	}
	release, err := h.Receive(ctx, &a, content)
	in.done = append(in.done, release)
	if err != nil {
		return err
	}
	a.Stub = false
	w.Attachments[name] = a
	push := &coll.c.stats().Push
	push.Attachments.Add(1)
	push.AttachmentBytes.Add(content.n)
	if coll.active != nil {
		pull := &coll.active.s.h.r.o.Stats.Pull
		pull.Attachments.Add(1)
		pull.AttachmentBytes.Add(content.n)
	}
	return nil
}

// prove has the peer prove that it has the content that it names by its digest. A peer that has lost it in the meantime,
// or cannot prove, sends it instead.
func (coll *collection) prove(ctx context.Context, h *database.Handle, in *incomingRev, w *database.Write, name string) error {
	digest := w.Attachments[name].Digest
	nonce := make([]byte, nonceBytes)
	rand.Read(nonce) // never fails
	m := coll.message(profileProveAttachment)
	m.Properties.Add("digest", digest)
	m.Body = nonce
	reply, err := coll.c.conn.Call(ctx, m)
	if err != nil {
		return err
	}
	defer reply.Release()
	if err := reply.Err(); err != nil {
		if e, ok := errors.AsType[*blip.Error](err); ok && e.Code == http.StatusNotFound {
			return coll.fetch(ctx, h, in, w, name)
		}
		return peerFailed("proveAttachment", err)
	}
	content, err := h.OpenForProof(ctx, in.id, digest)
	if err != nil {
		return err
	}
	defer content.Close()
	want, err := proofOf(nonce, content)
	if err != nil {
		return err
	}
	if string(reply.Body()) != want {
		return errAttachmentProof
	}
	return nil
}

// peerFailed is the error of a revision whose attachment the peer did not give (replication.md §9).
func peerFailed(what string, err error) error {
	e, ok := errors.AsType[*blip.Error](err)
	if !ok {
		return err
	}
	err = statusError(tidegate.Invalid, http.StatusInternalServerError, fmt.Sprintf("error %d from %s", e.Code, what))
	switch e.Code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return peerBusyError{err}
	}
	return err
}

// peerBusyError is the error of a revision that the peer may be able to complete later.
type peerBusyError struct{ error }

func (e peerBusyError) Unwrap() error { return e.error }

// attachmentRefused reports whether the answer to a revision is that we gave no attachment of it for a reason that stays. It is a
// 500 of the peer, but sending the revision again would end no other way.
func attachmentRefused(e *blip.Error) bool {
	for _, what := range []string{" from getAttachment", " from proveAttachment"} {
		code, found := strings.CutSuffix(e.Text, what)
		if found && strings.HasPrefix(code, "error 4") && code != "error 408" && code != "error 429" {
			return true
		}
	}
	return false
}

// compressible reports whether an attachment is worth compressing: it is not if its type or its name says that it is
// compressed already.
func compressible(name string, a *database.AttachmentInput) bool {
	if a.Encoding != "" {
		return false
	}
	media, _, _ := strings.Cut(strings.ToLower(a.ContentType), ";")
	for _, prefix := range []string{"image/", "audio/", "video/", "application/zip", "application/gzip", "application/x-gzip", "application/x-7z", "application/pdf"} {
		if strings.HasPrefix(media, prefix) && media != "image/svg+xml" && media != "image/bmp" {
			return false
		}
	}
	lower := strings.ToLower(name)
	for _, suffix := range []string{".gz", ".tgz", ".zip", ".7z", ".rar", ".jpg", ".jpeg", ".png", ".gif", ".webp", ".heic", ".mp3", ".m4a", ".mp4", ".mov", ".pdf"} {
		if strings.HasSuffix(lower, suffix) {
			return false
		}
	}
	return true
}

// counted counts what is read.
type counted struct {
	io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// applyDelta makes a write of a revision that came as a delta.
func (coll *collection) applyDelta(ctx context.Context, h *database.Handle, in *incomingRev) (*database.Write, error) {
	if !coll.c.peer.Deltas {
		return nil, errDeltasOff
	}
	src, _ := in.r.Property("deltaSrc")
	base, err := bodyOf(ctx, h, in.id, src)
	if err != nil {
		return nil, err
	}
	if base == nil {
		return nil, errDelta("Can't fetch doc %s for deltaSrc=%s", in.id, src)
	}
	body, err := delta.Apply(base, in.r.Body(), delta.Limits{})
	if err != nil {
		return nil, errDelta("The delta cannot be applied to %s", src)
	}
	coll.c.stats().Delta.Pushed.Add(1)
	return coll.write(in, body)
}

// refusesDelta reports whether a peer's error is about the delta, not the document (replication.md §5.8).
func refusesDelta(err error) bool {
	e, ok := errors.AsType[*blip.Error](err)
	return ok && e.Domain == domainHTTP && (e.Code == http.StatusUnprocessableEntity || e.Code == http.StatusNotFound)
}
