package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// databaseClient makes requests to a database.
type databaseClient struct {
	endpoint
	http *http.Client
}

// requestTimeout bounds one request. Stopping a replication may take ten seconds.
const requestTimeout = 30 * time.Second

func newDatabaseClient(e endpoint) *databaseClient {
	return &databaseClient{e, &http.Client{Timeout: requestTimeout}}
}

// answerError is an answer that says no.
type answerError struct {
	status int
	reason string
}

func (e *answerError) Error() string {
	if e.reason == "" {
		return fmt.Sprintf("it answered %d %s", e.status, http.StatusText(e.status))
	}
	return fmt.Sprintf("it answered %d: %s", e.status, e.reason)
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 8 << 20

// request makes a request below the database and reads the answer into result, unless that is nil. The error is an
// *answerError if there was an answer.
func (c *databaseClient) request(ctx context.Context, method, path string, body, result any) error {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, sent)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		var said struct {
			Reason string `json:"reason"`
		}
		_ = json.Unmarshal(answer, &said) // an answer of something else has no reason that we could tell
		return &answerError{res.StatusCode, said.Reason}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("%s is no gateway: its answer cannot be read: %w", c.url, err)
	}
	return nil
}

// replicationStatus is the part of a replication's status that is shown.
type replicationStatus struct {
	Status        string `json:"status"`
	Error         string `json:"error_message"`
	Ended         bool   `json:"ended"` // it was ad hoc and is gone
	Read          int64  `json:"docs_read"`
	CheckedPull   int64  `json:"docs_checked_pull"`
	RejectedLocal int64  `json:"rejected_by_local"`
	LastPull      string `json:"last_seq_pull"`
	Written       int64  `json:"docs_written"`
	CheckedPush   int64  `json:"docs_checked_push"`
	WriteFailures int64  `json:"doc_write_failures"`
	Conflicts     int64  `json:"doc_write_conflict"`
	RejectedThere int64  `json:"rejected_by_remote"`
	LastPush      string `json:"last_seq_push"`
}

// copied is how many revisions have arrived, on either side.
func (s *replicationStatus) copied() int64 { return s.Read + s.Written }

// checked is how many changes were offered, by either side.
func (s *replicationStatus) checked() int64 { return s.CheckedPull + s.CheckedPush }

// failed is how many revisions did not arrive.
func (s *replicationStatus) failed() int64 { return s.RejectedLocal + s.WriteFailures }

// status asks for the status of a replication, also of one that has just ended.
func (c *databaseClient) status(ctx context.Context, id string) (*replicationStatus, error) {
	s := &replicationStatus{}
	var answer json.RawMessage
	err := c.request(ctx, http.MethodGet, "/_replicationStatus/"+url.PathEscape(id)+"?includeEnded=true", nil, &answer)
	if err != nil {
		return s, err
	}
	if answer[0] == '[' { // the form of 2.8, which a database may be set to: a list of one
		answer = bytes.Trim(answer, "[] \n")
	}
	err = json.Unmarshal(answer, s)
	if err != nil {
		err = fmt.Errorf("read the status of a replication: %w", err)
	}
	return s, err
}

// lastSequence asks for the last sequence of the database; false if it does not tell, or in numbers that cannot be compared.
func (c *databaseClient) lastSequence(ctx context.Context) (int64, bool) {
	var info struct {
		UpdateSeq json.RawMessage `json:"update_seq"`
	}
	if err := c.request(ctx, http.MethodGet, "/", nil, &info); err != nil {
		return 0, false
	}
	return sequence(strings.Trim(string(info.UpdateSeq), `"`))
}

// sequence reads a sequence that is a plain number.
func sequence(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}
