package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tidegate/tidegate/internal/database"
)

// planLine is a line of the answer to a dry run.
type planLine struct {
	Progress *resyncStatus   `json:"progress"`
	Report   json.RawMessage `json:"report"`
	Error    string          `json:"error"`
	Reason   string          `json:"reason"`
}

// runPlan has the gateway carry a dry run out and shows how far it is. raw is the report as it came.
func runPlan(ctx context.Context, o *planOptions, view *resyncView) (report *database.PlanReport, raw json.RawMessage, err error) {
	defer view.end()
	b, err := json.Marshal(o.body())
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.db.url+"/_resync?action=dry_run&stream=true", bytes.NewReader(b))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if o.db.user != "" {
		req.SetBasicAuth(o.db.user, o.db.password)
	}
	res, err := http.DefaultClient.Do(req) // it takes as long as it takes
	if err != nil {
		return nil, nil, fmt.Errorf("ask for a dry run: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer)) // what there is of it
		var said planLine
		_ = json.Unmarshal(answer, &said) // an answer of something else has no reason that we could tell
		return nil, nil, fmt.Errorf("ask for a dry run: %w", &answerError{res.StatusCode, said.Reason})
	}
	if raw, err = readPlan(res.Body, view); err != nil {
		return nil, nil, err
	}
	report = &database.PlanReport{}
	if err := json.Unmarshal(raw, report); err != nil {
		return nil, nil, fmt.Errorf("read the report of a dry run: %w", err)
	}
	return report, raw, nil
}

// readPlan reads the lines up to the report.
func readPlan(body io.Reader, view *resyncView) (json.RawMessage, error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		var line planLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return nil, fmt.Errorf("read the answer to a dry run: %w", err)
		}
		switch {
		case line.Error != "":
			return nil, fmt.Errorf("the dry run did not come to its end: %s", line.Reason)
		case line.Report != nil:
			return line.Report, nil
		case line.Progress != nil:
			view.show(line.Progress, time.Now())
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the answer to a dry run: %w", err)
	}
	return nil, errors.New("the gateway ended the dry run without a report")
}

// newPlanView shows how far a dry run is, as for a resync.
func newPlanView(out io.Writer) *resyncView {
	v := newResyncView(out)
	v.shownAt = v.started // nothing is said of a short one where there is no terminal
	return v
}
