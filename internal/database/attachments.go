package database

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/store"
	"github.com/tidegate/tidegate/internal/store/blob"
)

// content is the content of a new attachment, received and checked.
type content struct {
	info blob.Info
	data []byte // if it goes into the store; nil if it is in the blob store
}

// blobRef is a reference that a write makes from its document to the content of an attachment.
type blobRef struct {
	row store.Key // KindBlobRef
	// kept: the content is in use by an older body of the document already; the write holds only if it still is.
	kept bool
	key  blob.Key
	data []byte // content to be put if it is not there; nil if it is in the blob store
}

// Upload streams an attachment into the blob store, for use as AttachmentInput.Blob. The content is kept at
// least until release has been called, which the caller does after Put. TooLarge: it is over the limit for
// attachments.
func (h *Handle) Upload(ctx context.Context, r io.Reader) (info *blob.Info, release func(), err error) {
	i, unpin, err := h.db.blobs.Put(ctx, h.db.space, r, h.db.opts.MaxAttachmentBytes)
	if err != nil {
		return nil, nil, err
	}
	return &i, func() { h.db.unpin(unpin) }, nil
}

// Receive takes an attachment's content from r: into memory if it is small enough to be kept in the store,
// else as Upload does. It fills in Data or Blob of in. release is never nil.
func (h *Handle) Receive(ctx context.Context, in *AttachmentInput, r io.Reader) (release func(), err error) {
	limit := max(h.db.opts.InlineAttachmentBytes, 0)
	head, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return func() {}, err
	}
	if int64(len(head)) <= limit {
		in.Data = head
		return func() {}, nil
	}
	info, release, err := h.Upload(ctx, io.MultiReader(bytes.NewReader(head), r))
	if err != nil {
		return func() {}, err
	}
	in.Blob = info
	return release, nil
}

// unpin releases a pin. It waits while a blob is being removed: whoever looks for references to a blob and
// then removes it must not miss those that were committed in between (see removeBlob).
func (db *Database) unpin(release func()) {
	db.blobGC.RLock()
	defer db.blobGC.RUnlock()
	release()
}

// resolveAttachments settles the attachments of the new revision.
func (e *edit) resolveAttachments(ctx context.Context) error {
	w := e.w
	if w.KeepAttachments {
		return e.keepAll()
	}
	if len(w.Attachments) == 0 {
		return nil
	}
	e.body.attachments = make(map[string]tidegate.Attachment, len(w.Attachments))
	for _, name := range slices.Sorted(maps.Keys(w.Attachments)) {
		in := w.Attachments[name]
		var a tidegate.Attachment
		var err error
		switch {
		case name == "":
			err = tidegate.Errorf(tidegate.Invalid, "Missing name of attachment")
		case in.Stub:
			a, err = e.resolveStub(ctx, name, &in)
		default:
			a, err = e.newAttachment(ctx, name, &in)
		}
		if err != nil {
			return err
		}
		e.body.attachments[name] = a
	}
	return nil
}

// keepAll gives the new revision the attachments of its parent.
func (e *edit) keepAll() error {
	if e.base.parent < 0 {
		return nil
	}
	if e.base.ancestor != e.base.parent || !e.canSeeParent() {
		return tidegate.ErrForbidden
	}
	e.body.attachments = e.base.old.attachments
	for _, a := range e.base.old.attachments {
		e.keep(a.Key)
	}
	return nil
}

// canSeeParent reports whether the writer may read the parent, whose body was read.
func (e *edit) canSeeParent() bool {
	tree := e.base.rec.tree
	if tree.IsLeaf(e.base.parent) {
		return e.h.canSee(tree.At(e.base.parent).Channels)
	}
	return e.h.canSee(e.base.old.channels)
}

// keep notes that the new revision refers to content that the document refers to already.
func (e *edit) keep(key [32]byte) {
	e.refs = append(e.refs, blobRef{row: e.h.coll.refKey(key, e.w.ID), kept: true, key: key})
}

// resolveStub finds the stored attachment that a stub stands for: the parent's of that name; else one that
// has the stub's digest, of the parent or, for a revision made elsewhere, of any revision of the document.
//
// Who cannot read the parent must know the digest: a stub must not be a way to read what it stands for.
func (e *edit) resolveStub(ctx context.Context, name string, in *AttachmentInput) (tidegate.Attachment, error) {
	if e.base.ancestor >= 0 && e.base.ancestor == e.base.parent {
		parent := e.base.old.attachments
		a, ok := parent[name]
		if ok && in.Digest == "" && e.canSeeParent() {
			e.keep(a.Key)
			return a, nil
		}
		if ok && in.Digest != "" && e.hasDigest(ctx, &a, in.Digest) {
			e.keep(a.Key)
			return a, nil
		}
		if found, ok := e.byDigest(ctx, parent, in); ok {
			return found, nil
		}
	}
	if in.Digest == "" {
		return tidegate.Attachment{}, tidegate.Errorf(tidegate.Invalid, "Missing digest in stub attachment %q", name)
	}
	if !e.w.NewEdits {
		stored, err := e.storedAttachments(ctx)
		if err != nil {
			return tidegate.Attachment{}, err
		}
		for _, attachments := range stored {
			if a, ok := e.byDigest(ctx, attachments, in); ok {
				return a, nil
			}
		}
	}
	return tidegate.Attachment{}, tidegate.Errorf(tidegate.Invalid, "Unknown digest in stub attachment %q", name)
}

// byDigest finds an attachment by the stub's digest and gives it the stub's type and place in history.
func (e *edit) byDigest(ctx context.Context, attachments map[string]tidegate.Attachment, in *AttachmentInput) (tidegate.Attachment, bool) {
	if in.Digest == "" {
		return tidegate.Attachment{}, false
	}
	for _, a := range attachments {
		if !e.hasDigest(ctx, &a, in.Digest) {
			continue
		}
		if in.ContentType != "" {
			a.ContentType = in.ContentType
		}
		a.RevPos = e.revPos(in)
		e.keep(a.Key)
		return a, true
	}
	return tidegate.Attachment{}, false
}

// revPos is the generation in which an attachment came: the new revision's, unless a peer says that it was
// earlier.
func (e *edit) revPos(in *AttachmentInput) uint64 {
	if !e.w.NewEdits && in.RevPos > 0 {
		return min(in.RevPos, e.rev.Generation)
	}
	return e.rev.Generation
}

// hasDigest reports whether the stored attachment has the digest. An MD5, which is not stored, is computed.
func (e *edit) hasDigest(ctx context.Context, a *tidegate.Attachment, digest string) bool {
	if !strings.HasPrefix(digest, digestMD5) {
		return a.Digest == digest
	}
	r, err := e.h.db.openContent(ctx, a.Key)
	if err != nil {
		return false
	}
	defer r.Close()
	sum := md5.New()
	if _, err := io.Copy(sum, r); err != nil {
		return false
	}
	return digest == digestMD5+base64.StdEncoding.EncodeToString(sum.Sum(nil))
}

// storedAttachments reads the attachments of all stored revisions of the document.
func (e *edit) storedAttachments(ctx context.Context) (stored []map[string]tidegate.Attachment, err error) {
	err = e.h.db.st.View(ctx, func(r store.Reader) error {
		return eachBody(r, e.h.coll, e.w.ID, func(_ string, y *body) error {
			if len(y.attachments) > 0 {
				stored = append(stored, y.attachments)
			}
			return nil
		})
	})
	return stored, err
}

// The prefixes of digests (gateway-rest.md §12.1).
const (
	digestSHA1 = "sha1-"
	digestMD5  = "md5-"
)

// newAttachment takes in and checks the content of a new attachment.
func (e *edit) newAttachment(ctx context.Context, name string, in *AttachmentInput) (tidegate.Attachment, error) {
	c, ok := e.content[name]
	if !ok {
		var err error
		if c, err = e.receive(ctx, name, in); err != nil {
			return tidegate.Attachment{}, err
		}
		if e.content == nil {
			e.content = map[string]content{}
		}
		e.content[name] = c
	}
	return e.attach(in, c, e.revPos(in)), nil
}

// attach makes an attachment of content, to which the document refers from now on.
func (e *edit) attach(in *AttachmentInput, c content, revPos uint64) tidegate.Attachment {
	e.refs = append(e.refs, blobRef{row: e.h.coll.refKey(c.info.Key, e.w.ID), key: c.info.Key, data: c.data})
	a := tidegate.Attachment{
		ContentType: in.ContentType, Digest: c.info.Digest(), Length: c.info.Length,
		RevPos: revPos, Key: c.info.Key,
	}
	if in.Encoding != "" {
		a.Encoding, a.EncodedLength = in.Encoding, c.info.Length
		if in.Length >= 0 {
			a.Length = in.Length
		}
	}
	return a
}

// receive brings the content of an attachment to where it will stay, and checks what the client said of it.
func (j *job) receive(ctx context.Context, name string, in *AttachmentInput) (content, error) {
	src := *in
	if src.Open != nil {
		r, err := src.Open()
		if err != nil {
			return content{}, fmt.Errorf("open attachment: %w", err)
		}
		release, err := j.h.Receive(ctx, &src, r)
		j.pins = append(j.pins, release)
		if err := errors.Join(err, r.Close()); err != nil {
			return content{}, err
		}
	}
	c, err := j.place(ctx, name, &src)
	if err != nil {
		return content{}, err
	}
	return c, c.check(name, in)
}

// place puts content that came in memory into the blob store if it is too big for the store.
func (j *job) place(ctx context.Context, name string, in *AttachmentInput) (content, error) {
	o := &j.h.db.opts
	switch {
	case in.Blob != nil:
		if in.Blob.Length > o.MaxAttachmentBytes {
			return content{}, blob.ErrTooLarge
		}
		return content{info: *in.Blob}, nil
	case in.Data == nil:
		return content{}, tidegate.Errorf(tidegate.Invalid, "Missing data of attachment %q", name)
	case int64(len(in.Data)) > o.MaxAttachmentBytes:
		return content{}, blob.ErrTooLarge
	case int64(len(in.Data)) <= o.InlineAttachmentBytes:
		c := content{data: in.Data}
		c.info = blob.Info{
			Key: contentKey(in.Data), SHA1: sha1.Sum(in.Data), MD5: md5.Sum(in.Data), Length: int64(len(in.Data)),
		}
		return c, nil
	}
	info, release, err := j.h.Upload(ctx, bytes.NewReader(in.Data))
	if err != nil {
		return content{}, err
	}
	j.pins = append(j.pins, release)
	return content{info: *info}, nil
}

// check compares content with what the client said of it.
func (c *content) check(name string, in *AttachmentInput) error {
	said := in.Length
	if in.Encoding != "" {
		said = in.EncodedLength
	}
	if said >= 0 && said != c.info.Length {
		return tidegate.Errorf(tidegate.Invalid, "Incorrect length of attachment %q", name)
	}
	switch {
	case in.Digest == "":
		return nil
	case strings.HasPrefix(in.Digest, digestMD5):
		if in.Digest == digestMD5+base64.StdEncoding.EncodeToString(c.info.MD5[:]) {
			return nil
		}
	case in.Digest == c.info.Digest():
		return nil
	}
	return tidegate.Errorf(tidegate.Invalid, "Incorrect digest of attachment %q", name)
}

// OpenAttachment opens the content of one of the document's attachments, as stored. The caller closes it. NotFound
// "missing attachment NAME": the revision has none of that name, or the reader may not see it.
func (h *Handle) OpenAttachment(ctx context.Context, doc *Document, name string) (io.ReadSeekCloser, tidegate.Attachment, error) {
	a, ok := doc.Attachments[name]
	if !ok {
		return nil, tidegate.Attachment{}, tidegate.Errorf(tidegate.NotFound, "missing attachment %s", name)
	}
	r, err := h.db.openContent(ctx, a.Key)
	if err != nil {
		return nil, tidegate.Attachment{}, fmt.Errorf("open attachment: %w", err)
	}
	return r, a, nil
}

// openContent opens content by its key, wherever it is.
func (db *Database) openContent(ctx context.Context, key blob.Key) (io.ReadSeekCloser, error) {
	var data []byte
	err := db.st.View(ctx, func(r store.Reader) error {
		stored, err := r.Get(db.blobKey(key))
		if stored != nil {
			data = append(make([]byte, 0, len(stored)), stored...)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if data != nil {
		return inMemory{bytes.NewReader(data)}, nil
	}
	r, _, err := db.blobs.Open(ctx, db.space, key)
	if errors.Is(err, tidegate.ErrMissing) {
		return nil, tidegate.Errorf(tidegate.Corrupt, "the content of an attachment is missing")
	}
	return r, err
}

// inMemory is content that was read at once.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// refPrefix is the beginning of the keys of all references to content.
func (db *Database) refPrefix(key blob.Key) store.Key {
	return append(store.NewKey(db.space, store.KindBlobRef), key[:]...)
}

func (c *collection) refKey(key blob.Key, id string) store.Key {
	k := append(store.NewKey(c.space, store.KindBlobRef), key[:]...)
	return k.Collection(c.id).Name(id)
}

func (db *Database) blobKey(key blob.Key) store.Key {
	return append(store.NewKey(db.space, store.KindBlob), key[:]...)
}

// refsHold reports whether the content that the write means to keep is still referred to by the document.
func (p *prepared) refsHold(tx store.Tx) (bool, error) {
	for _, ref := range p.refs {
		if !ref.kept {
			continue
		}
		if v, err := tx.Get(ref.row); err != nil || v == nil {
			return false, err
		}
	}
	return true, nil
}

// contentHolds reports whether the new content that the write refers to is in the blob store still. It is pinned there; but where nodes share the
// blobs a pin has an end, and a process that stood still for longer must not refer to what another one has removed since.
func (p *prepared) contentHolds(tx store.Tx) (bool, error) {
	p.contentGone = false
	if p.shared == nil {
		return true, nil
	}
	for _, ref := range p.refs {
		if ref.kept || ref.data != nil {
			continue
		}
		if ok, err := p.shared.Present(tx, p.coll.space, ref.key); !ok || err != nil {
			p.contentGone = !ok
			return false, err
		}
	}
	return true, nil
}

// reads are the keys that commit will Get.
func (p *prepared) reads() [][]byte {
	keys := [][]byte{p.docKey}
	if p.shared == nil {
		return keys
	}
	for _, ref := range p.refs {
		if !ref.kept && ref.data == nil {
			keys = append(keys, p.shared.PresentKey(p.coll.space, ref.key))
		}
	}
	return keys
}

// moved notes that the write is to be computed again. Content that was removed is received again, if it can be; what is remembered of clients in a
// reset may be why it moved.
func (j *job) moved(p *prepared) {
	if p.resets != nil {
		j.h.db.clients.resetChanged()
	}
	if p.contentGone {
		j.content = nil
	}
}

// putRefs puts references to new content, and content that is kept in the store.
func (p *prepared) putRefs(tx store.Tx) error {
	for _, ref := range p.refs {
		if ref.kept {
			continue
		}
		if err := tx.Put(ref.row, nothing); err != nil {
			return err
		}
		if ref.data == nil {
			continue
		}
		key := append(store.NewKey(p.coll.space, store.KindBlob), ref.key[:]...)
		if v, err := tx.Get(key); err != nil {
			return err
		} else if v != nil {
			continue
		}
		if err := tx.Put(key, ref.data); err != nil {
			return err
		}
	}
	return nil
}

// nothing is the value of rows whose key says it all.
var nothing = []byte{}

// contentKey is the key of content.
func contentKey(data []byte) blob.Key { return sha256.Sum256(data) }
