package chaos

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	replUser     = "repl"
	replPassword = "letmein"
)

// gateway is one of several that replicate with each other: its data, the process of the moment, and the links by which
// others reach it.
type gateway struct {
	t    *testing.T
	name string
	data string

	// sameNames: what became of conflicts has the same rev-tree ID as at the other gateways, unless it is a deletion.
	sameNames bool

	mu    sync.Mutex
	p     *process
	links []*link
}

// startGateway starts a gateway without databases.
func startGateway(t *testing.T, name string) *gateway {
	t.Helper()
	g := &gateway{t: t, name: name, data: filepath.Join(t.TempDir(), name)}
	g.p = start(t, g.data)
	return g
}

// database makes the database with a user who sees everything.
func (g *gateway) database(config map[string]any) {
	g.t.Helper()
	full := map[string]any{"sgreplicate_websocket_heartbeat_secs": 1}
	maps.Copy(full, config)
	mustCall(g.t, http.MethodPut, g.url("/"), full)
	mustCall(g.t, http.MethodPut, g.url("/_user/"+replUser), map[string]any{"password": replPassword, "admin_channels": []string{"*"}})
}

// url is that of something in the database, by the admin API.
func (g *gateway) url(path string) string { return g.process().admin + "/" + db + path }

func (g *gateway) process() *process {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.p
}

// link makes a new way to the gateway's public API.
func (g *gateway) link() *link {
	l := newLink(g.t)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.links = append(g.links, l)
	l.to(g.p.public)
	return l
}

// crash kills the process and starts it again on the same data. Whoever asks for the process meanwhile waits for the new
// one.
func (g *gateway) crash() {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.p.kill()
	g.p = start(g.t, g.data)
	for _, l := range g.links {
		l.to(g.p.public)
	}
}

// heal undoes what was done to the links.
func (g *gateway) heal() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, l := range g.links {
		l.slow(0, 0)
		l.deafen(false)
		l.to(g.p.public)
	}
}

// replicate defines a replication with the database behind a link. More fields win over the usual ones.
func (g *gateway) replicate(id string, l *link, direction string, more map[string]any) {
	g.t.Helper()
	def := map[string]any{
		"replication_id": id, "remote": "http://" + l.addr() + "/" + db, "remote_username": replUser, "remote_password": replPassword,
		"direction": direction, "continuous": true,
	}
	maps.Copy(def, more)
	mustCall(g.t, http.MethodPost, g.url("/_replication/"), def)
}

// replicationStatus is what the tests look at of a status.
type replicationStatus struct {
	Status      string `json:"status"`
	Error       string `json:"error_message"`
	LastSeqPull string `json:"last_seq_pull"`
	LastSeqPush string `json:"last_seq_push"`
	Read        int    `json:"docs_read"`
	Written     int    `json:"docs_written"`
	CheckedPull int    `json:"docs_checked_pull"`
	CheckedPush int    `json:"docs_checked_push"`
	Rejected    int    `json:"rejected_by_local"`
	Refused     int    `json:"rejected_by_remote"`
	Failures    int    `json:"doc_write_failures"`
	Conflicts   int    `json:"doc_write_conflict"`
	DeltasSent  int    `json:"deltas_sent"`
	DeltasRecv  int    `json:"deltas_recv"`
}

func (g *gateway) status(id string) (s replicationStatus, err error) {
	code, err := call(http.MethodGet, g.url("/_replicationStatus/"+id), nil, &s)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("_replicationStatus/%s: status %d", id, code)
	}
	return s, err
}

// action starts, stops or resets a replication.
func (g *gateway) action(id, action string) {
	g.t.Helper()
	mustCall(g.t, http.MethodPut, g.url("/_replicationStatus/"+id+"?action="+action), nil)
}

// is returns nil if a replication is in a state.
func (g *gateway) is(id, state string) error {
	s, err := g.status(id)
	if err == nil && s.Status != state {
		err = fmt.Errorf("%s of %s is %s (%s), not %s", id, g.name, s.Status, s.Error, state)
	}
	return err
}

// put writes a document interactively and returns its revision.
func (g *gateway) put(id string, body map[string]any) string {
	g.t.Helper()
	var ans struct{ Rev string }
	if code, err := call(http.MethodPut, g.url("/"+id), body, &ans); err != nil || code >= 300 {
		g.t.Fatalf("PUT %s: status %d: %v", id, code, err)
	}
	return ans.Rev
}

// patience is how long something may take before it counts as never.
const patience = time.Minute

// eventually waits until ok returns nil. It gives up when it takes far too long.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-limit.C:
			t.Fatalf("never: %s: %v", what, err)
		}
	}
}

// conflicted reports whether a document is written at several gateways without knowing of each other. Gateways that speak the
// fourth version of the protocol agree on such a document by its version vector. If several of them resolve the same conflict
// they may have different rev-tree IDs for what is the same version.
func conflicted(id string) bool {
	return strings.HasPrefix(id, "shared-") || strings.HasPrefix(id, "clash-") || strings.HasPrefix(id, "merged-")
}

// contents is a database as a reader sees it: a line for each document, with everything that must be the same everywhere.
func (g *gateway) contents() (map[string]string, error) {
	var feed struct {
		Results []struct {
			ID      string
			Deleted bool
			Changes []struct{ Rev string }
			Doc     map[string]json.RawMessage
		}
	}
	code, err := call(http.MethodGet, g.url("/_changes?include_docs=true"), nil, &feed)
	if err != nil || code != http.StatusOK {
		return nil, fmt.Errorf("_changes of %s: status %d: %w", g.name, code, err)
	}
	all := map[string]string{}
	for _, e := range feed.Results {
		if strings.HasPrefix(e.ID, "_user/") || len(e.Changes) == 0 {
			continue
		}
		var b strings.Builder
		if conflicted(e.ID) && (e.Deleted || !g.sameNames) {
			delete(e.Doc, "_rev")
		}
		fmt.Fprintf(&b, "deleted=%v", e.Deleted)
		for _, name := range slices.Sorted(maps.Keys(e.Doc)) {
			switch name {
			case "_attachments":
				fmt.Fprintf(&b, " %s", digests(e.Doc[name]))
			case "_cv":
			default:
				fmt.Fprintf(&b, " %s=%s", name, e.Doc[name])
			}
		}
		all[e.ID] = b.String()
	}
	return all, nil
}

// digests lists attachments by name. Their revpos is each gateway's own.
func digests(raw []byte) string {
	var atts map[string]struct{ Digest string }
	if err := json.Unmarshal(raw, &atts); err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(atts)) {
		fmt.Fprintf(&b, "%s:%s ", name, atts[name].Digest)
	}
	return b.String()
}

var errDiffer = errors.New("two databases differ")

// equal is nil if all gateways hold the same.
func equal(gateways ...*gateway) error {
	first, err := gateways[0].contents()
	if err != nil {
		return err
	}
	for _, g := range gateways[1:] {
		other, err := g.contents()
		if err != nil {
			return err
		}
		for id := range first {
			if first[id] != other[id] {
				return fmt.Errorf("%w: %s: %s has %.300q, %s has %.300q", errDiffer, id, gateways[0].name, first[id], g.name, other[id])
			}
		}
		if len(other) != len(first) {
			return fmt.Errorf("%w: %s has %d documents, %s has %d", errDiffer, gateways[0].name, len(first), g.name, len(other))
		}
	}
	return nil
}

// updateSeq is the database's last sequence.
func (g *gateway) updateSeq() (uint64, error) {
	var info struct {
		UpdateSeq uint64 `json:"update_seq"`
	}
	code, err := call(http.MethodGet, g.url("/"), nil, &info)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("GET /%s/: status %d", db, code)
	}
	return info.UpdateSeq, err
}

type savedCheckpoint struct {
	LastSequence string `json:"last_sequence"`
	ConfigHash   string `json:"config_hash"`
}

func (g *gateway) checkpoint(id string) (cp savedCheckpoint, err error) {
	code, err := call(http.MethodGet, g.url("/_local/"+url.PathEscape("checkpoint/"+id)), nil, &cp)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("checkpoint %s of %s: status %d", id, g.name, code)
	}
	return cp, err
}

// checkpointPrefix is what the checkpoints of a replication are named by, before the direction.
func (g *gateway) checkpointPrefix(id string) string {
	g.t.Helper()
	var def struct {
		Cluster string `json:"cluster_uuid"`
	}
	if code, err := call(http.MethodGet, g.url("/_replication/"+id), nil, &def); err != nil || code != http.StatusOK {
		g.t.Fatalf("_replication/%s: status %d: %v", id, code, err)
	}
	if def.Cluster == "" {
		return "sgr2cp:"
	}
	return def.Cluster + ":sgr2cp:"
}

// agree returns the sequence of the checkpoints of a replication in a direction, which must be the same on both sides.
func (g *gateway) agree(other *gateway, id, direction string) (seq string, err error) {
	name := g.checkpointPrefix(id) + direction + ":" + id
	here, err := g.checkpoint(name)
	if err != nil {
		return "", err
	}
	there, err := other.checkpoint(name)
	if err != nil {
		return "", err
	}
	if here != there {
		return "", fmt.Errorf("checkpoints of %s: %+v here, %+v there", name, here, there)
	}
	return here.LastSequence, nil
}

// readAttachments reads every attachment and returns how many there are.
func (g *gateway) readAttachments() (n int, err error) {
	var feed struct {
		Results []struct {
			ID  string
			Doc struct {
				Attachments map[string]struct {
					Digest string
					Length int
				} `json:"_attachments"`
			}
		}
	}
	if _, err := call(http.MethodGet, g.url("/_changes?include_docs=true"), nil, &feed); err != nil {
		return 0, err
	}
	for _, e := range feed.Results {
		for name, a := range e.Doc.Attachments {
			res, err := http.Get(g.url("/" + e.ID + "/" + name))
			if err != nil {
				return n, err
			}
			data, err := io.ReadAll(res.Body)
			res.Body.Close()
			sum := sha1.Sum(data)
			if got := "sha1-" + base64.StdEncoding.EncodeToString(sum[:]); err != nil || got != a.Digest || len(data) != a.Length {
				return n, fmt.Errorf("%s of %s at %s: status %d, %d bytes with digest %s, not %d with %s: %w", name, e.ID, g.name, res.StatusCode, len(data), got, a.Length, a.Digest, err)
			}
			n++
		}
	}
	return n, nil
}
