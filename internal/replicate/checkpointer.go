package replicate

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/blip"
	"github.com/tidegate/tidegate/internal/jsondoc"
	"github.com/tidegate/tidegate/internal/store"
)

// checkpointer keeps the checkpoints of one collection and direction on both sides (inter-gateway.md §8).
type checkpointer struct {
	a    *activeCollection
	id   string
	hash string

	since               string // where this session began
	saved               string // the last sequence that both sides have
	localSaved          string // the last sequence that the local side has
	localRev, remoteRev string
}

// savedCheckpoint is a checkpoint's body.
type savedCheckpoint struct {
	LastSequence string `json:"last_sequence"`
	ConfigHash   string `json:"config_hash"`

	// Who saved it, where several nodes could have (Claim). Others ignore what they do not know.
	Node  string `json:"node,omitempty"`
	Epoch uint64 `json:"epoch,omitempty"`
}

func newCheckpointer(a *activeCollection) checkpointer {
	return checkpointer{a: a, id: a.s.h.r.checkpointID(a.s.h.push), hash: a.s.h.r.configHash(a.s.h.push, a.pair, a.channels())}
}

// checkpointID names the checkpoints of a direction.
func (r *Replicator) checkpointID(push bool) string {
	direction := "pull"
	if push {
		direction = "push"
	}
	return r.o.CheckpointPrefix + "sgr2cp:" + direction + ":" + r.o.ID
}

// configHash is a hash of what decides which documents a direction replicates: when it changes the replication begins
// anew. Credentials, resolver, batch size and backoff do not count.
func (r *Replicator) configHash(push bool, pair CollectionPair, channels []string) string {
	channels = slices.Clone(channels)
	slices.Sort(channels)
	filter := ""
	if channels != nil {
		filter = filterByChannel
	}
	// The encoding of a map has its keys sorted, and of these values cannot fail.
	b, _ := json.Marshal(map[string]any{
		"replication_id": r.o.ID, "filter": filter, "channels": channels, "push": push, "remote": r.o.Remote.String(),
		"run_as": r.o.RunAs, "local": r.o.DB.Source(), "local_collection": pair.Local, "remote_collection": pair.Remote,
	})
	sum := sha1.Sum(b)
	return hex.EncodeToString(sum[:])
}

// loadCheckpoints reads the checkpoints of both sides and decides where to begin.
func (s *activeSession) loadCheckpoints(ctx context.Context) error {
	remote, err := s.remoteCheckpoints(ctx)
	if err != nil {
		return err
	}
	for i, a := range s.colls {
		local, err := a.cp.readLocal(ctx)
		if err != nil {
			return err
		}
		a.cp.begin(local, remote[i])
	}
	return nil
}

// remoteCheckpoints reads the remote's checkpoints; nil for one that is not there.
func (s *activeSession) remoteCheckpoints(ctx context.Context) ([]*savedCheckpoint, error) {
	if s.h.r.o.Collections != nil {
		return s.askCollections(ctx)
	}
	a := s.colls[0]
	m := a.coll.message(profileGetCheckpoint)
	m.Properties.Add("client", a.cp.id)
	reply, err := s.c.conn.Call(ctx, m)
	if err != nil {
		return nil, err
	}
	defer reply.Release()
	if err := reply.Err(); err != nil {
		if e, ok := errors.AsType[*blip.Error](err); ok && e.Code == http.StatusNotFound && e.Domain == domainHTTP {
			return []*savedCheckpoint{nil}, nil
		}
		return nil, remoteError("read the target's checkpoint", err)
	}
	a.cp.remoteRev, _ = reply.Property("rev")
	return []*savedCheckpoint{parseCheckpoint(reply.Body())}, nil
}

// askCollections names the collections to the remote, which answers with their checkpoints.
func (s *activeSession) askCollections(ctx context.Context) ([]*savedCheckpoint, error) {
	var body struct {
		Collections   []string `json:"collections"`
		CheckpointIDs []string `json:"checkpoint_ids"`
	}
	for _, a := range s.colls {
		name := a.pair.Remote
		if name == "" {
			name = a.pair.Local
		}
		body.Collections, body.CheckpointIDs = append(body.Collections, name), append(body.CheckpointIDs, a.cp.id)
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	m := &blip.Message{Body: b}
	m.Properties.Add(propProfile, profileGetCollections)
	reply, err := s.c.conn.Call(ctx, m)
	if err != nil {
		return nil, err
	}
	defer reply.Release()
	if err := reply.Err(); err != nil {
		if e, ok := errors.AsType[*blip.Error](err); ok && e.Code == http.StatusNotFound {
			return nil, fatal(fmt.Errorf("the target has no collections: %s", e.Text))
		}
		return nil, remoteError("name collections to the target", err)
	}
	items, err := parseArray(reply.Body())
	if err != nil || len(items) != len(s.colls) {
		return nil, errors.New("the target's answer to getCollections makes no sense")
	}
	found := make([]*savedCheckpoint, len(items))
	for i, item := range items {
		if string(trimSpace(item)) == "null" {
			return nil, fatal(fmt.Errorf("the target has no collection %s", body.Collections[i]))
		}
		if raw, ok := jsondoc.Get(item, "_rev"); ok {
			s.colls[i].cp.remoteRev, _ = jsondoc.Unquote(raw)
			found[i] = parseCheckpoint(item)
		}
	}
	return found, nil
}

// parseCheckpoint reads a checkpoint; one that makes no sense counts as one at the beginning.
func parseCheckpoint(body []byte) *savedCheckpoint {
	var cp savedCheckpoint
	if err := json.Unmarshal(body, &cp); err != nil {
		return &savedCheckpoint{}
	}
	return &cp
}

// readLocal reads the local checkpoint; nil if there is none.
func (c *checkpointer) readLocal(ctx context.Context) (*savedCheckpoint, error) {
	doc, err := c.a.s.h.r.o.DB.Admin(c.a.coll.id).GetLocal(ctx, checkpointPrefix+c.id)
	if err != nil {
		if tidegate.ErrorCode(err) == tidegate.NotFound {
			return nil, nil
		}
		return nil, err
	}
	c.localRev = doc.Rev
	return parseCheckpoint(doc.Body), nil
}

// begin decides where to begin: at the lower of the two, at the beginning if either is missing or of another
// configuration.
func (c *checkpointer) begin(local, remote *savedCheckpoint) {
	if local == nil || remote == nil || local.ConfigHash != c.hash || remote.ConfigHash != c.hash {
		return
	}
	c.localSaved = local.LastSequence
	c.since = lower(local.LastSequence, remote.LastSequence)
	if local.LastSequence == remote.LastSequence {
		c.saved = c.since
	}
	c.a.tracker.begin(c.since)
	c.a.s.h.reached(c.since)
}

// lower is the earlier of two sequences; one that makes no sense is the beginning.
func lower(a, b string) string {
	x, errX := tidegate.ParseSince(a)
	y, errY := tidegate.ParseSince(b)
	switch {
	case errX != nil || errY != nil:
		return ""
	case x.Compare(y) <= 0:
		return a
	}
	return b
}

// save saves the checkpoints that have moved, on this side and then on the remote. What is in them is durable on the
// receiver.
func (s *activeSession) save(ctx context.Context) error {
	for _, a := range s.colls {
		if err := a.cp.save(ctx); err != nil {
			return err
		}
	}
	return nil
}

// saveAll waits a little for what is under way and saves what there is, while the replication is being stopped.
func (s *activeSession) saveAll(patience time.Duration) {
	ctx, cancel := context.WithTimeout(s.c.ctx(), patience)
	defer cancel()
	for _, a := range s.colls {
		a.coll.unsubscribe()
	}
	if err := s.save(ctx); err != nil {
		s.h.log.Warn("checkpoint not saved; the next start repeats some work", "error", err)
	}
}

// saveLocal saves on this side only: the connection is gone, and at the next start the lower of the two counts.
func (s *activeSession) saveLocal() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.c.ctx()), closingPatience)
	defer cancel()
	for _, a := range s.colls {
		if safe, _ := a.tracker.position(); safe != "" && safe != a.cp.localSaved {
			if err := a.cp.saveLocal(ctx, safe); err != nil {
				s.h.log.Warn("checkpoint not saved; the next start repeats some work", "error", err)
			}
		}
	}
}

func (c *checkpointer) save(ctx context.Context) error {
	safe, _ := c.a.tracker.position()
	if safe == "" || safe == c.saved {
		return nil
	}
	if safe != c.localSaved {
		if err := c.saveLocal(ctx, safe); err != nil {
			return err
		}
	}
	if err := c.saveRemote(ctx, safe); err != nil {
		return err
	}
	c.saved = safe
	c.a.s.h.reached(safe)
	return nil
}

func (c *checkpointer) body(seq string) []byte {
	cp := savedCheckpoint{LastSequence: seq, ConfigHash: c.hash}
	if claim := c.a.s.h.r.o.Claim; claim != nil {
		cp.Node, cp.Epoch = claim.Node, claim.Epoch
	}
	b, _ := json.Marshal(cp) // of strings and a number: it cannot fail
	return b
}

// checkpointTries is how often a checkpoint is tried that somebody else changed.
const checkpointTries = 10

// overError says that the claim of a run is over.
type overError struct{ error }

func (e overError) Unwrap() error { return e.error }

// putLocal writes the local checkpoint, if the claim is not over.
func (c *checkpointer) putLocal(ctx context.Context, seq string) (rev string, err error) {
	h, claim := c.a.s.h.r.o.DB.Admin(c.a.coll.id), c.a.s.h.r.o.Claim
	if claim == nil {
		return h.PutLocal(ctx, checkpointPrefix+c.id, c.localRev, c.body(seq))
	}
	return h.PutLocalIf(ctx, checkpointPrefix+c.id, c.localRev, c.body(seq), func(r store.Reader) error {
		err := claim.Check(r)
		if err == nil || tidegate.ErrorCode(err) == tidegate.Unavailable {
			return err // the store could not be asked: that passes
		}
		return overError{err}
	})
}

func (c *checkpointer) saveLocal(ctx context.Context, seq string) error {
	for range checkpointTries {
		rev, err := c.putLocal(ctx, seq)
		if err == nil {
			c.localRev, c.localSaved = rev, seq
			return nil
		}
		if over, ok := errors.AsType[overError](err); ok {
			return fatal(over.error)
		}
		if code := tidegate.ErrorCode(err); code != tidegate.Conflict && code != tidegate.NotFound {
			return fmt.Errorf("save checkpoint: %w", err)
		}
		c.localRev = ""
		if _, err := c.readLocal(ctx); err != nil {
			return err
		}
	}
	return errors.New("save checkpoint: it is changed by somebody else all the time")
}

func (c *checkpointer) saveRemote(ctx context.Context, seq string) error {
	for range checkpointTries {
		m := c.a.coll.message(profileSetCheckpoint)
		m.Properties.Add("client", c.id)
		if c.remoteRev != "" {
			m.Properties.Add("rev", c.remoteRev)
		}
		m.Body = c.body(seq)
		reply, err := c.a.s.c.conn.Call(ctx, m)
		if err != nil {
			return err
		}
		err = reply.Err()
		if err == nil {
			c.remoteRev, _ = reply.Property("rev")
			reply.Release()
			return nil
		}
		reply.Release()
		e, ok := errors.AsType[*blip.Error](err)
		if !ok || e.Code != http.StatusConflict && e.Code != http.StatusNotFound {
			return remoteError("save the target's checkpoint", err)
		}
		if err := c.rereadRemote(ctx); err != nil {
			return err
		}
	}
	return errors.New("save the target's checkpoint: it is changed by somebody else all the time")
}

// rereadRemote learns the remote checkpoint's revision again. One that was saved under a later claim stays as it is: the run is over.
func (c *checkpointer) rereadRemote(ctx context.Context) error {
	m := c.a.coll.message(profileGetCheckpoint)
	m.Properties.Add("client", c.id)
	reply, err := c.a.s.c.conn.Call(ctx, m)
	if err != nil {
		return err
	}
	defer reply.Release()
	c.remoteRev = ""
	if reply.Err() != nil {
		return nil
	}
	c.remoteRev, _ = reply.Property("rev")
	claim := c.a.s.h.r.o.Claim
	if claim != nil && parseCheckpoint(reply.Body()).Epoch > claim.Epoch {
		return fatal(errors.New("save the target's checkpoint: a later run has saved one"))
	}
	return nil
}
