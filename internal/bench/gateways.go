package bench

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// benchReplication is the ID of the replication that is measured.
const benchReplication = "bench"

// gatewayPull has the gateway pull the documents from its peer.
func (b *run) gatewayPull(ctx context.Context) error { return b.gateways(ctx, "pull") }

// gatewayPush has the gateway push the documents to its peer.
func (b *run) gatewayPush(ctx context.Context) error { return b.gateways(ctx, "push") }

// gateways has the gateway replicate a database once with one of its peer, which logs it in as a user. Both databases are
// made for it; without a peer both are the gateway's own.
func (b *run) gateways(ctx context.Context, direction string) error {
	here, there := b.opts, b.opts
	here.DB, there.DB = b.opts.DB+"-"+direction, b.opts.DB+"-"+direction+"-peer"
	if b.opts.Peer != "" {
		there.URL, there.Admin = b.opts.Peer, b.opts.PeerAdmin
	}
	local, err := setUp(ctx, here)
	if err != nil {
		return err
	}
	remote, err := setUp(ctx, there)
	if err != nil {
		return fmt.Errorf("set up the peer: %w", err)
	}
	filler := &run{opts: b.opts, target: remote}
	if direction == "push" {
		filler.target = local
	}
	if err := filler.fill(ctx, "g-", b.opts.Documents, varied); err != nil {
		return err
	}
	written := (b.opts.Documents + 99) / 100 * 100 // fill writes hundreds
	user, password := remote.login()
	definition, err := json.Marshal(map[string]any{
		"replication_id": benchReplication, "direction": direction,
		"remote": there.URL + remote.path, "remote_username": user, "remote_password": password,
	})
	if err != nil {
		return err
	}
	r := &gatewayRun{b: b, url: here.Admin + local.path, direction: direction, docs: written}
	return r.measure(ctx, definition)
}

// login returns the name and password of the target's user.
func (t *target) login() (user, password string) {
	// basic encoded it.
	text, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(t.auth, "Basic "))
	user, password, _ = strings.Cut(string(text), ":")
	return user, password
}

// gatewayRun is one replication between gateways.
type gatewayRun struct {
	b         *run
	url       string // of the local database, on the admin API
	direction string
	docs      int
}

// replicationPoll is how often it is asked whether it is over.
const replicationPoll = 20 * time.Millisecond

// measure starts the replication, waits for its end and adds a row.
func (r *gatewayRun) measure(ctx context.Context, definition []byte) error {
	o, admin := &r.b.opts, &target{}
	cpu, peerCPU, start := processesCPU(o.PIDs), processCPU(o.PeerPID), time.Now()
	if err := admin.request(ctx, http.MethodPost, r.url+"/_replication/", definition); err != nil {
		return err
	}
	ticker := time.NewTicker(replicationPoll)
	defer ticker.Stop()
	for over := false; !over; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		var err error
		if over, err = r.over(ctx); err != nil {
			return err
		}
	}
	took := time.Since(start)
	row := Row{Name: "gateway " + r.direction, Clients: 1, Value: float64(r.docs) / took.Seconds(), Unit: "docs/s"}
	if len(o.PIDs) > 0 {
		row.CPU = (processesCPU(o.PIDs) - cpu) / time.Duration(r.docs)
	}
	if o.PeerPID != 0 {
		row.PeerCPU = (processCPU(o.PeerPID) - peerCPU) / time.Duration(r.docs)
	}
	r.b.add(row)
	return admin.request(ctx, http.MethodDelete, r.url+"/_replication/"+benchReplication, nil)
}

// over asks whether the replication is over. It is an error if that is so and documents are missing.
func (r *gatewayRun) over(ctx context.Context) (bool, error) {
	var s struct {
		Status  string `json:"status"`
		Error   string `json:"error_message"`
		Read    int    `json:"docs_read"`
		Written int    `json:"docs_written"`
	}
	if err := getJSON(ctx, r.url+"/_replicationStatus/"+benchReplication, &s); err != nil {
		return false, err
	}
	switch copied := s.Read + s.Written; {
	case s.Error != "":
		return false, fmt.Errorf("the replication is %s: %s", s.Status, s.Error)
	case s.Status != "stopped":
		return false, nil
	case copied != r.docs:
		return false, fmt.Errorf("%d of %d documents were copied", copied, r.docs)
	}
	return true, nil
}

// getJSON reads the answer to a GET.
func getJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(into)
}
