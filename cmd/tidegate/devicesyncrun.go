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
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// deviceSyncStatus is what the gateway says of a database's device sync.
type deviceSyncStatus struct {
	raw json.RawMessage

	SyncState string `json:"sync_state"`
	State     string `json:"state"`
	Phase     string `json:"phase"`
	Epoch     struct {
		No        uint64    `json:"no"`
		ID        string    `json:"id"`
		StartedAt time.Time `json:"started_at"`
		Reason    string    `json:"reason"`
	} `json:"epoch"`
	HistoryFloor  uint64     `json:"history_floor"`
	DisabledBy    string     `json:"disabled_by"`
	LastDisabled  int64      `json:"last_disabled"`
	Sessions      int        `json:"sessions"`
	Clients       int        `json:"clients"`
	Pending       int        `json:"pending_reset_clients"`
	Deadline      *time.Time `json:"resume_deadline"`
	MustTerminate bool       `json:"must_terminate"`
	Ledger        struct {
		Rows int64 `json:"rows"`
	} `json:"ledger"`
	Quarantine struct {
		Rows int64 `json:"rows"`
	} `json:"quarantine"`
	Termination *struct {
		Step  string `json:"step"`
		Done  int64  `json:"done"`
		Total int64  `json:"total"`
	} `json:"termination"`
	Error *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
	Config json.RawMessage `json:"config"`
}

func (st *deviceSyncStatus) parse() error {
	if err := json.Unmarshal(st.raw, st); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	return nil
}

// deviceSyncClient carries commands of device-sync out.
type deviceSyncClient struct {
	o    *deviceSyncOptions
	db   *databaseClient
	std  stdio
	poll time.Duration
}

// run carries out what the command line asks for.
func (c *deviceSyncClient) run(ctx context.Context) error {
	switch c.o.verb + " " + c.o.sub {
	case "status ":
		return c.status(ctx)
	case "pause ":
		return c.pause(ctx)
	case "enable ", "resume ":
		return c.enable(ctx)
	case "terminate ":
		return c.terminate(ctx)
	case "config pull":
		return c.pull(ctx)
	case "config push":
		return c.push(ctx)
	case "sessions ":
		return c.list(ctx, "/_device_sync/sessions", "sessions", "kind", "user", "peer", "remote", "started")
	case "clients ":
		return c.clients(ctx)
	case "reset-client ":
		return c.post(ctx, "/_device_sync/reset_client", map[string]any{"file_ident": c.o.fileIdent}, "client %d resets at its next connection", c.o.fileIdent)
	case "reset-all ":
		return c.resetAll(ctx)
	case "trim ":
		return c.post(ctx, "/_device_sync/trim", map[string]any{}, "history of %s is trimmed", c.o.name)
	default:
		return c.quarantine(ctx)
	}
}

// post asks for something and says that it was done.
func (c *deviceSyncClient) post(ctx context.Context, path string, body any, done string, args ...any) error {
	if err := c.db.request(ctx, http.MethodPost, path, body, nil); err != nil {
		return err
	}
	c.say(done, args...)
	return nil
}

func (c *deviceSyncClient) say(format string, args ...any) {
	if !c.o.json {
		fmt.Fprintf(c.std.out, format+"\n", args...)
	}
}

// ask asks a question, unless nobody is to be asked.
func (c *deviceSyncClient) ask(question string) error {
	if c.o.yes {
		return nil
	}
	fmt.Fprintf(c.std.err, "%s [y/N] ", question)
	switch strings.ToLower(strings.TrimSpace(c.answer())) {
	case "y", "yes":
		return nil
	}
	return errNotConfirmed
}

// answer reads a line; "" if there is none.
func (c *deviceSyncClient) answer() string {
	line, err := bufio.NewReader(c.std.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return strings.TrimRight(line, "\r\n")
}

func (c *deviceSyncClient) pause(ctx context.Context) error {
	if err := c.ask(fmt.Sprintf("Pause device sync of %s? All clients are disconnected; settings and history are kept.", c.o.name)); err != nil {
		return err
	}
	return c.act(ctx, map[string]any{"action": "pause"}, "paused")
}

// enable resumes, or enables with a configuration. That sync must be terminated first is an exit status of its own.
func (c *deviceSyncClient) enable(ctx context.Context) error {
	body := map[string]any{"action": "enable"}
	if c.o.file != "" {
		config, err := c.readConfig()
		if err != nil {
			return err
		}
		body["config"] = config
	}
	if err := c.ask(fmt.Sprintf("Enable device sync of %s?", c.o.name)); err != nil {
		return err
	}
	err := c.act(ctx, body, "enabled")
	if answer, ok := errors.AsType[*answerError](err); ok && answer.status == http.StatusConflict {
		if st, failed := c.fetch(ctx); failed == nil && st.MustTerminate {
			return &exitStatus{exitMustTerminate, err}
		}
	}
	return err
}

func (c *deviceSyncClient) terminate(ctx context.Context) error {
	if !c.o.yes && c.o.confirm == "" {
		st, err := c.fetch(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.std.err, "This destroys the settings and the sync history of %s. Documents stay. All %d clients that are known must reset.\nType %q to go on: ",
			c.o.name, st.Clients, confirmTermination)
		c.o.confirm = c.answer()
	}
	if c.o.yes {
		c.o.confirm = confirmTermination
	}
	if c.o.confirm != confirmTermination {
		return errNotConfirmed
	}
	return c.act(ctx, map[string]any{"action": "terminate", "confirm": c.o.confirm}, "terminated")
}

// act asks for an action, waits for it if that is asked for, and prints what there is now.
func (c *deviceSyncClient) act(ctx context.Context, body map[string]any, word string) error {
	path := "/_device_sync"
	if c.o.destructive {
		path += "?allow_destructive_changes=true"
	}
	st := &deviceSyncStatus{}
	err := c.db.request(ctx, http.MethodPost, path, body, &st.raw)
	if err == nil {
		err = st.parse()
	}
	if err != nil {
		return fmt.Errorf("device sync of %s: %w", c.o.name, err)
	}
	if c.o.wait {
		if st, err = c.pollUntil(ctx, func(st *deviceSyncStatus) bool { return st.Phase == "steady" || st.Phase == "error" }); err != nil {
			return err
		}
	}
	if c.o.json {
		_, err = fmt.Fprintf(c.std.out, "%s\n", st.raw)
		return err
	}
	switch {
	case st.Phase == "steady":
		c.say("device sync of %s is %s", c.o.name, word)
	default:
		c.say("device sync of %s is %s (%s; --wait waits for the end)", c.o.name, word, st.Phase)
	}
	return nil
}

func (c *deviceSyncClient) resetAll(ctx context.Context) error {
	if err := c.ask(fmt.Sprintf("Make every client of %s reset? Settings stay.", c.o.name)); err != nil {
		return err
	}
	return c.post(ctx, "/_device_sync/reset_all", map[string]any{"reason": c.o.reason}, "a new epoch of %s has begun: every client resets", c.o.name)
}

// status prints the state of one database, or of all.
func (c *deviceSyncClient) status(ctx context.Context) error {
	names := []string{c.o.name}
	if c.o.name == "" {
		names = nil
		if err := newDatabaseClient(c.o.admin).request(ctx, http.MethodGet, "/_all_dbs", nil, &names); err != nil {
			return fmt.Errorf("list databases: %w", err)
		}
		slices.Sort(names)
	}
	all := map[string]json.RawMessage{}
	table := tabwriter.NewWriter(c.std.out, 0, 0, 2, ' ', 0)
	if !c.o.json {
		fmt.Fprintln(table, "DATABASE\tSTATE\tPHASE\tEPOCH\tFLOOR\tSESSIONS\tCLIENTS\tTO RESET\tRESUME UNTIL")
	}
	for _, name := range names {
		one := *c
		options := *c.o
		options.name = name
		one.o = &options
		one.db = newDatabaseClient(c.o.admin)
		one.db.url += "/" + url.PathEscape(name)
		st, err := one.fetch(ctx)
		if err != nil {
			return err
		}
		all[name] = st.raw
		if !c.o.json {
			st.row(table, name)
		}
	}
	if c.o.json {
		return c.printJSON(all)
	}
	return table.Flush()
}

// row prints one line, and more if there is more to say.
func (st *deviceSyncStatus) row(w io.Writer, name string) {
	until := "-"
	switch {
	case st.MustTerminate:
		until = "must be terminated"
	case st.Deadline != nil:
		until = st.Deadline.Local().Format(time.DateTime)
	}
	phase := st.Phase
	if t := st.Termination; t != nil {
		phase = fmt.Sprintf("%s: %s %d/%d", st.Phase, t.Step, t.Done, t.Total)
	}
	if st.Error != nil {
		phase += ": " + st.Error.Code
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%d (%s)\t%d\t%d\t%d\t%d\t%s\n", name, st.SyncState, phase, st.Epoch.No, st.Epoch.Reason,
		st.HistoryFloor, st.Sessions, st.Clients, st.Pending, until)
}

func (c *deviceSyncClient) printJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.std.out, "%s\n", b)
	return err
}

// list prints rows of an answer: the member name of it, with these columns.
func (c *deviceSyncClient) list(ctx context.Context, path, name string, columns ...string) error {
	var answer map[string]json.RawMessage
	if err := c.db.request(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return err
	}
	if c.o.json {
		_, err := fmt.Fprintf(c.std.out, "%s\n", answer[name])
		return err
	}
	var rows []map[string]any
	dec := json.NewDecoder(bytes.NewReader(answer[name]))
	dec.UseNumber()
	if err := dec.Decode(&rows); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	table := tabwriter.NewWriter(c.std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.ToUpper(strings.Join(columns, "\t")))
	for _, row := range rows {
		for i, col := range columns {
			if i > 0 {
				fmt.Fprint(table, "\t")
			}
			if v, ok := row[col]; ok && v != nil {
				fmt.Fprint(table, v)
			}
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

func (c *deviceSyncClient) clients(ctx context.Context) error {
	q := url.Values{"limit": {strconv.Itoa(c.o.limit)}}
	if c.o.resetStateSet {
		q.Set("state", c.o.resetState)
	}
	return c.list(ctx, "/_device_sync/clients?"+q.Encode(), "clients", "file_ident", "kind", "user", "epoch", "last_seen", "last_since", "reset", "reason")
}

func (c *deviceSyncClient) quarantine(ctx context.Context) error {
	one := "/_device_sync/quarantine/" + url.PathEscape(c.o.id)
	switch c.o.sub {
	case "list":
		return c.list(ctx, "/_device_sync/quarantine?limit="+strconv.Itoa(c.o.limit), "quarantine", "id", "doc_id", "rev", "user", "cause", "received_at")
	case "show":
		var body json.RawMessage
		if err := c.db.request(ctx, http.MethodGet, one, nil, &body); err != nil {
			return err
		}
		var b bytes.Buffer
		if err := json.Indent(&b, body, "", "  "); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.std.out, b.String())
		return err
	case "restore":
		return c.post(ctx, one+"/restore", map[string]any{}, "%s is the current revision of its document", c.o.id)
	default:
		if err := c.ask("Remove this body for good?"); err != nil {
			return err
		}
		if err := c.db.request(ctx, http.MethodDelete, one, nil, nil); err != nil {
			return err
		}
		c.say("%s is removed", c.o.id)
		return nil
	}
}

// maxSyncConfigBytes bounds a file with a configuration.
const maxSyncConfigBytes = 1 << 20

// readConfig reads the file with a configuration: a flexible_sync object, or sync/config.json of an export.
func (c *deviceSyncClient) readConfig() (map[string]json.RawMessage, error) {
	in := c.std.in
	if c.o.file != "-" {
		f, err := os.Open(c.o.file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxSyncConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", c.o.file, err)
	}
	var config map[string]json.RawMessage
	if len(b) > maxSyncConfigBytes || json.Unmarshal(b, &config) != nil || config == nil {
		return nil, usageErrorf("%s does not hold a JSON object of at most %d bytes", c.o.file, maxSyncConfigBytes)
	}
	if inner, ok := config["flexible_sync"]; ok { // a whole service config
		if err := json.Unmarshal(inner, &config); err != nil {
			return nil, usageErrorf("%s: flexible_sync is not an object", c.o.file)
		}
	}
	for _, name := range []string{"type", "service_name", "last_disabled"} { // of exports; nothing is configured by them
		delete(config, name)
	}
	return config, nil
}

// pull writes the configuration as sync/config.json has it.
func (c *deviceSyncClient) pull(ctx context.Context) error {
	st, err := c.fetch(ctx)
	if err != nil {
		return err
	}
	var config map[string]json.RawMessage
	if err := json.Unmarshal(st.Config, &config); err != nil {
		return err
	}
	config["type"], config["service_name"] = json.RawMessage(`"flexible"`), json.RawMessage(`"mongodb-atlas"`)
	b, err := json.MarshalIndent(config, "", "    ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if c.o.file == "-" {
		_, err = c.std.out.Write(b)
		return err
	}
	return os.WriteFile(c.o.file, b, 0o600)
}

// push puts a configuration in force, after it has shown what changes.
func (c *deviceSyncClient) push(ctx context.Context) error {
	config, err := c.readConfig()
	if err != nil {
		return err
	}
	st, err := c.fetch(ctx)
	if err != nil {
		return err
	}
	diff, err := configDiff(st.Config, config)
	if err != nil {
		return err
	}
	if len(diff) == 0 {
		c.say("nothing differs")
		return nil
	}
	for _, line := range diff {
		c.say("%s", line)
	}
	if string(config["state"]) == `""` && st.State != "" {
		return &exitStatus{exitRefused, errors.New(`a push does not terminate: use "tidegate device-sync terminate"`)}
	}
	if c.o.dryRun {
		return nil
	}
	if err := c.ask("Put this in force?"); err != nil {
		return err
	}
	return c.act(ctx, map[string]any{"action": "configure", "config": config}, "configured")
}

// sorted returns a value in one form, however it was written; "" for none.
func sorted(raw json.RawMessage) string {
	var v any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&v) != nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// configDiff says what the members of a configuration would change.
func configDiff(live json.RawMessage, config map[string]json.RawMessage) ([]string, error) {
	var is map[string]json.RawMessage
	if err := json.Unmarshal(live, &is); err != nil {
		return nil, fmt.Errorf("read the gateway's configuration: %w", err)
	}
	var diff []string
	for name, want := range config {
		wanted, have := sorted(want), sorted(is[name])
		if have == "" {
			have = "(default)"
		}
		if have != wanted {
			diff = append(diff, fmt.Sprintf("%s: %s -> %s", name, have, wanted))
		}
	}
	slices.Sort(diff)
	return diff, nil
}
