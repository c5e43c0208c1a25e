package clustersync

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/testkit"
)

// process is a program of ours, with the end of its log.
type process struct {
	cmd  *exec.Cmd
	log  *logTail
	done chan struct{} // closed when it has ended
}

// run starts tidegate with these arguments and calls line with each line it prints.
func run(t testing.TB, line func([]byte), args ...string) *process {
	t.Helper()
	bin, err := testkit.Binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(bin, args...), log: &logTail{}, done: make(chan struct{})}
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var whole io.Writer = io.Discard
	if dir := os.Getenv("TIDEGATE_TEST_LOGS"); dir != "" { // for people: the logs in full
		f, err := os.CreateTemp(dir, args[0]+"-*.log")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		whole = f
	}
	go func() {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			p.log.add(lines.Bytes())
			fmt.Fprintf(whole, "%s\n", lines.Bytes())
			if line != nil {
				line(lines.Bytes())
			}
		}
	}()
	go func() { _ = p.cmd.Wait(); w.Close(); close(p.done) }()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process at once and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// stop asks the process to end and returns its exit code.
func (p *process) stop() int {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// ended reports whether the process has ended by itself.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// logTail keeps the end of a log.
type logTail struct {
	mu    sync.Mutex
	lines [][]byte
}

const keptLines = 60

func (l *logTail) add(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(line, []byte(`"level":"debug"`)) {
		return // of each request
	}
	if len(line) > 1000 {
		line = line[:1000]
	}
	l.lines = append(l.lines, bytes.Clone(line))
	if len(l.lines) > keptLines {
		l.lines = l.lines[1:]
	}
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.Join(l.lines, []byte("\n")))
}

// syncer is `tidegate clustersync` between two clusters, over as many lives as it takes.
type syncer struct {
	t    testing.TB
	args []string
	port string
	*process
}

// newSyncer starts the sync between cluster0 and cluster1.
func newSyncer(t testing.TB, cluster0, cluster1 string, args ...string) *syncer {
	t.Helper()
	port := freePort(t)
	s := &syncer{t: t, port: port, args: append([]string{"clustersync", "--cluster0", cluster0, "--cluster1", cluster1, "--port", port}, args...)}
	s.start()
	return s
}

// start starts the process, and returns once it answers.
func (s *syncer) start() {
	s.t.Helper()
	s.process = run(s.t, nil, s.args...)
	await(s.t, "the sync process to answer", func() (bool, string) {
		if s.ended() {
			s.t.Fatalf("the sync process ended with %d while starting:\n%s", s.cmd.ProcessState.ExitCode(), s.log)
		}
		_, err := s.progress()
		return err == nil, fmt.Sprint(err)
	})
}

// restart kills the process and starts it again.
func (s *syncer) restart() {
	s.t.Helper()
	s.kill()
	s.start()
}

// progressBody is what the tests read of GET /progress.
type progressBody struct {
	State            string
	CanCommit        bool
	CanWrite         bool
	Info             string
	LagTimeSeconds   *int64
	DirectionMapping struct{ Source, Destination string }
	CollectionCopy   *struct{ EstimatedTotalBytes, EstimatedCopiedBytes int64 }
	Warnings         []string
	Verification     json.RawMessage
}

// answer is the envelope of the API.
type answer struct {
	Success          bool
	Error            string
	ErrorDescription string
	Progress         progressBody
}

func (a answer) err() error {
	if a.Success {
		return nil
	}
	return fmt.Errorf("%s: %s", a.Error, a.ErrorDescription)
}

func (s *syncer) request(method, call string, body any) (answer, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://127.0.0.1:"+s.port+"/api/v1/"+call, bytes.NewReader(raw))
	if err != nil {
		return answer{}, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	var a answer
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("%s answers %s: %w", call, res.Status, err)
	}
	return a, nil
}

// progress asks for it; a failure that the API tells is an error.
func (s *syncer) progress() (progressBody, error) {
	a, err := s.request(http.MethodGet, "progress", nil)
	return a.Progress, errors.Join(err, a.err())
}

// post makes a call that must succeed. It is repeated while another request is in progress.
func (s *syncer) post(call string, body any) {
	s.t.Helper()
	await(s.t, call, func() (bool, string) {
		err := s.try(call, body)
		if err != nil && !strings.Contains(err.Error(), "in progress") {
			s.t.Fatalf("%s: %v\n%s", call, err, s.log)
		}
		return err == nil, fmt.Sprint(err)
	})
}

func (s *syncer) try(call string, body any) error {
	if body == nil {
		body = struct{}{}
	}
	a, err := s.request(http.MethodPost, call, body)
	if err != nil {
		return err
	}
	return a.err()
}

// startBody is the body of /start for a sync that can be reversed.
func startBody(reversible bool) map[string]any {
	b := map[string]any{"source": "cluster0", "destination": "cluster1"}
	if reversible {
		b["reversible"], b["enableUserWriteBlocking"] = true, true
	}
	return b
}

// awaitProgress waits until the progress is as wanted, and fails if the sync does.
func (s *syncer) awaitProgress(what string, holds func(progressBody) bool) progressBody {
	s.t.Helper()
	var p progressBody
	await(s.t, what, func() (bool, string) {
		if s.ended() {
			s.t.Fatalf("the sync process ended with %d, waiting for %s:\n%s", s.cmd.ProcessState.ExitCode(), what, s.log)
		}
		var err error
		p, err = s.progress()
		if err != nil {
			s.t.Fatalf("progress, waiting for %s: %v\n%s", what, err, s.log)
		}
		now := p
		now.LagTimeSeconds = nil // it grows while nothing happens
		shown, err := json.Marshal(now)
		if err != nil {
			s.t.Fatal(err)
		}
		return holds(p), string(shown)
	})
	return p
}

// commit makes the call until it is accepted: canCommit may pass while people write.
func (s *syncer) commit() {
	s.t.Helper()
	await(s.t, "a commit to be accepted", func() (bool, string) {
		if s.ended() {
			s.t.Fatalf("the sync process ended with %d before the commit:\n%s", s.cmd.ProcessState.ExitCode(), s.log)
		}
		err := s.try("commit", nil)
		return err == nil, fmt.Sprint(err)
	})
}

func inState(state string) func(progressBody) bool {
	return func(p progressBody) bool { return p.State == state }
}

func canCommit(p progressBody) bool { return p.CanCommit }

// await polls until a condition holds. What it is now may change for some time; then it may not stay the same for as long as the tests' patience.
func await(t testing.TB, what string, holds func() (ok bool, now string)) {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	const most = 5 // times the patience, whatever changes
	var last string
	began := time.Now()
	for changed := began; ; <-poll.C {
		ok, now := holds()
		if ok {
			return
		}
		if now != last {
			last, changed = now, time.Now()
		}
		if time.Since(changed) > *patience || time.Since(began) > most**patience {
			t.Fatalf("waited %s in vain for %s; now: %s", time.Since(began).Round(time.Second), what, now)
		}
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	return strconv.Itoa(testkit.FreePort(t).Number())
}
