package clustersync

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// StartRequest is the body of /start as it was sent (spec §5.1): its types are right, what it asks for is not checked yet. Pointers are nil
// where nothing was given.
type StartRequest struct {
	Source                  string             `json:"source"`
	Destination             string             `json:"destination"`
	Reversible              bool               `json:"reversible"`
	EnableUserWriteBlocking *writeBlockingWish `json:"enableUserWriteBlocking"`
	BuildIndexes            *string            `json:"buildIndexes"`
	IncludeNamespaces       []NamespacePattern `json:"includeNamespaces"`
	ExcludeNamespaces       []NamespacePattern `json:"excludeNamespaces"`
	CopyInNaturalOrder      []NamespacePattern `json:"copyInNaturalOrder"`
	DetectRandomID          *bool              `json:"detectRandomId"`
	PreExistingDestination  *bool              `json:"preExistingDestinationData"`
	DestinationDataHandling *string            `json:"destinationDataHandling"`
	Verification            *struct {
		Enabled *bool `json:"enabled"`
	} `json:"verification"`
	Sharding           *shardingWish       `json:"sharding"`
	NamespaceRemap     []remapWish         `json:"namespaceRemap"`
	DocumentFilter     *documentFilterWish `json:"documentFilter"`
	SkipDiskSpaceCheck bool                `json:"skipDiskSpaceCheck"`
}

type shardingWish struct {
	CreateSupportingIndexes bool                 `json:"createSupportingIndexes"`
	ShardingEntries         *[]shardingEntryWish `json:"shardingEntries"`
}

type shardingEntryWish struct {
	Database        string `json:"database"`
	Collection      string `json:"collection"`
	ShardCollection struct {
		Key []jsontext.Value `json:"key"`
	} `json:"shardCollection"`
}

type remapWish struct {
	From struct {
		Database string `json:"database"`
	} `json:"from"`
	To struct {
		Database string `json:"database"`
	} `json:"to"`
}

type documentFilterWish struct {
	Field       string         `json:"field"`
	MatchValues jsontext.Value `json:"matchValues"`
}

// writeBlockingWish is a boolean, or the name of a mode.
type writeBlockingWish string

// UnmarshalJSON takes both forms: true is sourceAndDestination, false is none.
func (w *writeBlockingWish) UnmarshalJSON(b []byte) error {
	switch jsontext.Value(b).Kind() {
	case jsontext.KindTrue:
		*w = writeBlockingWish(BlockBoth)
	case jsontext.KindFalse:
		*w = writeBlockingWish(BlockNone)
	case jsontext.KindString:
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		*w = writeBlockingWish(s)
	default:
		return errWrongType
	}
	return nil
}

var errWrongType = errors.New("neither a boolean nor a string")

// Bounds of a body.
const (
	maxBodyDepth = 64
	maxPatterns  = 10_000 // elements of one list of a body
)

// ParseStart reads the body of /start. Its errors are InvalidRequest and name the member that is wrong.
func ParseStart(body []byte) (*StartRequest, error) {
	if err := checkBody(body); err != nil {
		return nil, err
	}
	var req StartRequest
	if err := json.Unmarshal(body, &req, json.RejectUnknownMembers(true)); err != nil {
		return nil, badBody(err)
	}
	return &req, nil
}

// ParseEmpty reads the body of a call without parameters: an object without members, nothing else (spec §3).
func ParseEmpty(body []byte) error {
	if err := checkBody(body); err != nil {
		return err
	}
	var none struct{}
	if err := json.Unmarshal(body, &none, json.RejectUnknownMembers(true)); err != nil {
		return badBody(err)
	}
	return nil
}

// checkBody makes sure that the body is one JSON object without duplicate members, and without null where a value is asked for: null could be
// taken for absent and for false.
func checkBody(body []byte) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return Errorf(InvalidRequest, "the body is empty; it must be a JSON object, {} if there is nothing to say")
	}
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	if dec.PeekKind() != jsontext.KindBeginObject {
		if _, err := dec.ReadValue(); err != nil {
			return badBody(err)
		}
		return Errorf(InvalidRequest, "the body must be a JSON object")
	}
	for {
		tok, err := dec.ReadToken()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return badBody(err)
		case dec.StackDepth() > maxBodyDepth:
			return Errorf(InvalidRequest, "the body is nested too deeply")
		case dec.StackDepth() == 0 && dec.PeekKind() != jsontext.KindInvalid:
			return Errorf(InvalidRequest, "there is more in the body than one JSON object")
		case tok.Kind() == jsontext.KindNull && !inMatchValues(dec.StackPointer()):
			return Errorf(InvalidRequest, "member %s must not be null", member(dec.StackPointer()))
		}
	}
}

// inMatchValues: values of a document filter are judged by type later.
func inMatchValues(p jsontext.Pointer) bool {
	return jsontext.Pointer("/documentFilter/matchValues").Contains(p)
}

// badBody says what is wrong with a body, without quoting values of it.
func badBody(err error) error {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			return Errorf(InvalidRequest, "member %s is given twice", member(e.JSONPointer))
		case errors.Is(err, io.ErrUnexpectedEOF):
			return Errorf(InvalidRequest, "the body is not valid JSON: it ends too early")
		}
		return Errorf(InvalidRequest, "the body is not valid JSON: syntax error at byte %d", e.ByteOffset)
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		if errors.Is(err, json.ErrUnknownName) {
			return Errorf(InvalidRequest, "member %s is not known", member(e.JSONPointer))
		}
		return Errorf(InvalidRequest, "member %s is of the wrong type: a JSON %s cannot be used here", member(e.JSONPointer), e.JSONKind)
	}
	return Errorf(InvalidRequest, "the body cannot be read")
}

// member names a member of a body as people write it: sharding.shardingEntries[0].key.
func member(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		switch {
		case isIndex(token) && b.Len() > 0:
			fmt.Fprintf(&b, "[%s]", token)
			continue
		case b.Len() > 0:
			b.WriteByte('.')
		}
		b.WriteString(token)
		if b.Len() > maxShownMember {
			return fmt.Sprintf("%q…", strings.ToValidUTF8(b.String()[:maxShownMember], ""))
		}
	}
	return strconv.Quote(b.String())
}

// maxShownMember bounds what of a member's name is repeated.
const maxShownMember = 200

func isIndex(token string) bool {
	for _, c := range token {
		if c < '0' || c > '9' {
			return false
		}
	}
	return token != ""
}
