package rest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tidegate/tidegate"
	"github.com/tidegate/tidegate/internal/database"
	"github.com/tidegate/tidegate/internal/jsondoc"
)

// rawSync is the member _sync of _raw (gateway-rest.md §17), what the gateway keeps beside a body. Values that
// tidegate has no use for are empty.
type rawSync struct {
	Rev               string                             `json:"rev"`
	Sequence          tidegate.Seq                       `json:"sequence"`
	RecentSequences   []tidegate.Seq                     `json:"recent_sequences"`
	History           rawHistory                         `json:"history"`
	Channels          map[string]*rawRemoval             `json:"channels,omitempty"`
	Access            map[string]map[string]tidegate.Seq `json:"access,omitempty"`
	RoleAccess        map[string]map[string]tidegate.Seq `json:"role_access,omitempty"`
	ChannelSet        []rawPeriod                        `json:"channel_set"`
	ChannelSetHistory []rawPeriod                        `json:"channel_set_history"`
	Attachments       map[string]json.RawMessage         `json:"attachments,omitempty"`
	CAS               string                             `json:"cas"`
	ValueCRC32C       string                             `json:"value_crc32c"`
	TimeSaved         string                             `json:"time_saved"`
	Flags             int                                `json:"flags,omitempty"`
}

// rawHistory is a revision tree in columns: parents are indexes, -1 for a root.
type rawHistory struct {
	Revs     []string          `json:"revs"`
	Parents  []int             `json:"parents"`
	Deleted  []int             `json:"deleted,omitempty"`
	BodyMap  map[string]string `json:"bodymap,omitempty"`
	Channels [][]string        `json:"channels"`
}

// rawRemoval tells when a document left a channel.
type rawRemoval struct {
	Seq     tidegate.Seq `json:"seq"`
	Rev     string       `json:"rev"`
	Deleted bool         `json:"del,omitempty"`
}

// rawPeriod tells when a document was in a channel.
type rawPeriod struct {
	Name  string       `json:"name"`
	Start tidegate.Seq `json:"start"`
	End   tidegate.Seq `json:"end,omitempty"`
}

// Flags of rawSync.
const (
	rawDeleted  = 1
	rawConflict = 2
)

var errRedactDoc = tidegate.Errorf(tidegate.Invalid, "redact and include_doc cannot be true at the same time")

// handleRaw answers GET {ks}/_raw/{docid}.
func (s *Server) handleRaw(w http.ResponseWriter, r *request) error {
	id, err := r.docID()
	if err != nil {
		return err
	}
	redact := r.q.boolean("redact", false)
	if redact && r.q.has("include_doc") && r.q.boolean("include_doc", true) {
		return errRedactDoc
	}
	raw, err := r.handle.Raw(r.Context(), id)
	if err != nil {
		return err
	}
	show := func(name string) string { return name }
	if redact {
		show = redactor(r.q.text("salt"))
	}
	sync, err := json.Marshal(newRawSync(raw, show))
	if err != nil {
		return fmt.Errorf("encode _raw: %w", err)
	}
	body := []byte("{}")
	if !redact && r.q.boolean("include_doc", true) {
		body = raw.Bodies[raw.Rev].Body
	}
	return s.writeJSON(w, http.StatusOK, jsondoc.AppendDoc(nil, body, jsondoc.Member{Name: "_sync", Value: sync}))
}

// redactor replaces names by hashes that are the same within one answer, or for one salt.
func redactor(salt string) func(string) string {
	if salt == "" {
		salt = rand.Text()
	}
	return func(name string) string {
		if name == tidegate.AllChannels || name == tidegate.PublicChannel {
			return name
		}
		sum := sha256.Sum256([]byte(salt + name))
		return hex.EncodeToString(sum[:16])
	}
}

func newRawSync(raw *database.RawDocument, show func(string) string) *rawSync {
	current := raw.Bodies[raw.Rev]
	crc := crc32.Checksum(current.Body, crc32.MakeTable(crc32.Castagnoli))
	sync := &rawSync{
		Rev:             raw.Rev.String(),
		Sequence:        raw.Seq,
		RecentSequences: []tidegate.Seq{raw.Seq},
		History:         newRawHistory(raw, show),
		Access:          showGrants(raw.Access, show),
		RoleAccess:      showGrants(raw.Roles, show),
		ChannelSet:      []rawPeriod{}, ChannelSetHistory: []rawPeriod{},
		ValueCRC32C: fmt.Sprintf("0x%08x", crc),
		TimeSaved:   raw.Saved.UTC().Format(time.RFC3339Nano),
	}
	if raw.Deleted {
		sync.Flags |= rawDeleted
	}
	if raw.Tree.LiveLeaves() > 1 {
		sync.Flags |= rawConflict
	}
	sync.addChannels(raw, show)
	for name, a := range current.Attachments {
		if sync.Attachments == nil {
			sync.Attachments = make(map[string]json.RawMessage, len(current.Attachments))
		}
		sync.Attachments[name] = a.AppendStubJSON(nil)
	}
	return sync
}

func (sync *rawSync) addChannels(raw *database.RawDocument, show func(string) string) {
	sync.Channels = make(map[string]*rawRemoval, len(raw.Channels))
	for _, name := range slices.Sorted(maps.Keys(raw.Channels)) {
		c := raw.Channels[name]
		shown := show(name)
		sync.Channels[shown] = nil
		if c.Removed.Removed {
			sync.Channels[shown] = &rawRemoval{Seq: c.Removed.Seq, Rev: c.Removed.Rev.String(), Deleted: c.Removed.Deleted}
		}
		sync.ChannelSet = append(sync.ChannelSet, rawPeriod{shown, c.Latest.Start, c.Latest.End})
		for _, p := range c.Past {
			sync.ChannelSetHistory = append(sync.ChannelSetHistory, rawPeriod{shown, p.Start, p.End})
		}
	}
}

func newRawHistory(raw *database.RawDocument, show func(string) string) rawHistory {
	n := raw.Tree.Len()
	h := rawHistory{Revs: make([]string, n), Parents: make([]int, n), Channels: make([][]string, n)}
	for i := range n {
		rev := raw.Tree.At(i)
		h.Revs[i], h.Parents[i] = rev.ID.String(), rev.Parent
		if rev.Deleted() {
			h.Deleted = append(h.Deleted, i)
		}
		for _, c := range rev.Channels {
			h.Channels[i] = append(h.Channels[i], show(c))
		}
		if body, ok := raw.Bodies[rev.ID]; ok && raw.Tree.IsLeaf(i) && rev.ID != raw.Rev {
			if h.BodyMap == nil {
				h.BodyMap = make(map[string]string)
			}
			h.BodyMap[strconv.Itoa(i)] = string(body.Body)
		}
	}
	return h
}

// showGrants copies grants with names as they are to be shown.
func showGrants(grants map[string]tidegate.Grants, show func(string) string) map[string]map[string]tidegate.Seq {
	if len(grants) == 0 {
		return nil
	}
	shown := make(map[string]map[string]tidegate.Seq, len(grants))
	for who, what := range grants {
		m := make(map[string]tidegate.Seq, len(what))
		for name, seq := range what {
			m[show(name)] = seq
		}
		shown[show(who)] = m
	}
	return shown
}
