package clustersync

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestWrongClusters: a clear error for clusters that cannot be synced, and nothing is changed.
func TestWrongClusters(t *testing.T) {
	t.Parallel()
	a, b := newGateway(t), newGateway(t)
	t.Run("same cluster twice", func(t *testing.T) {
		p := run(t, nil, "clustersync", "--cluster0", a.uri(), "--cluster1", a.uri(), "--port", freePort(t))
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.log.String(), "same cluster") {
			t.Errorf("ended with %d:\n%s", code, p.log)
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		for _, uri := range []string{"mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500", "tidegate://127.0.0.1:1"} {
			s := newSyncer(t, a.uri(), uri)
			err := s.try("start", startBody(false))
			if err == nil || !strings.Contains(err.Error(), "InvalidStateTransition") && !strings.Contains(err.Error(), "ClusterUnreachable") {
				t.Errorf("start with %s: %v", uri, err)
			}
			if code := s.stop(); code != 0 {
				t.Errorf("ended with %d:\n%s", code, s.log)
			}
			if strings.Contains(s.log.String(), "panic") {
				t.Errorf("log:\n%s", s.log)
			}
		}
	})
	t.Run("not a cluster", func(t *testing.T) {
		for _, uri := range []string{"http://127.0.0.1:4985", "mongodb://user:sec%ret@host", "tidegate://u:pass-word@h/path"} {
			p := run(t, nil, "clustersync", "--cluster0", a.uri(), "--cluster1", uri, "--port", freePort(t))
			<-p.done
			if code := p.cmd.ProcessState.ExitCode(); code == 0 || strings.Contains(p.log.String(), "%re") || strings.Contains(p.log.String(), "pass-word") {
				t.Errorf("%s ended with %d:\n%s", uri, code, p.log)
			}
		}
	})
	t.Run("destination not empty", func(t *testing.T) {
		fill(t, a, 40)
		if err := b.create(t.Context(), namespace(b.kind(), 0, "theirs")); err != nil {
			t.Fatal(err)
		}
		s := newSyncer(t, a.uri(), b.uri())
		s.awaitProgress("state IDLE", inState("IDLE"))
		if err := s.try("start", startBody(false)); err == nil || !strings.Contains(err.Error(), "DestinationNotEmpty") {
			t.Errorf("start: %v", err)
		}
		if p, err := s.progress(); err != nil || p.State != "IDLE" {
			t.Errorf("progress %+v, %v", p, err)
		}
	})
}

// TestStrangerIsFound: without write blocking, somebody writes to the destination before canWrite. The commit must not succeed.
func TestStrangerIsFound(t *testing.T) {
	t.Parallel()
	onEachPair(t, func(t *testing.T, a, b endpoint) {
		fill(t, a, 200)
		s := newSyncer(t, a.uri(), b.uri())
		s.awaitProgress("state IDLE", inState("IDLE"))
		s.post("start", map[string]any{"source": "cluster0", "destination": "cluster1", "enableUserWriteBlocking": "none"})
		s.awaitProgress("canCommit", canCommit)
		if err := b.put(t.Context(), namespaces(b.kind())[3], newDocument("stranger", 5)); err != nil {
			t.Fatal(err)
		}
		if err := s.try("commit", nil); err != nil {
			t.Fatalf("commit: %v", err)
		}
		failed := ""
		await(t, "the commit to fail", func() (bool, string) {
			a, err := s.request(http.MethodGet, "progress", nil)
			if err == nil && !a.Success {
				failed = a.Error + ": " + a.ErrorDescription
			}
			if err == nil && a.Success && a.Progress.CanWrite {
				t.Fatalf("canWrite with a stranger's document on the destination:\n%s", s.log)
			}
			return failed != "" || s.ended(), fmt.Sprintf("%+v %v", a, err)
		})
		if log := s.log.String(); !strings.Contains(failed+log, "VerificationFailed") && !strings.Contains(failed+log, "differ") || !strings.Contains(failed+log, "stranger") {
			t.Errorf("failed with %q:\n%s", failed, log)
		}
	})
}

// TestWriteBlock: during the sync people cannot write to the destination, the sync can, and the source is free.
func TestWriteBlock(t *testing.T) {
	t.Parallel()
	onEachPair(t, func(t *testing.T, a, b endpoint) {
		fill(t, a, 200)
		s := newSyncer(t, a.uri(), b.uri())
		s.awaitProgress("state IDLE", inState("IDLE"))
		s.post("start", startBody(true))
		s.awaitProgress("canCommit", canCommit)
		theirs := namespaces(b.kind())[2]
		if err := b.put(t.Context(), theirs, newDocument("refused", 1)); !b.refused(err) {
			t.Errorf("a write to the destination during the sync: %v", err)
		}
		if _, err := b.all(t.Context(), theirs); err != nil {
			t.Errorf("a read of the destination during the sync: %v", err)
		}
		mine := namespaces(a.kind())[2]
		if err := a.put(t.Context(), mine, newDocument("free", 1)); err != nil {
			t.Errorf("a write to the source during the sync: %v", err)
		}
		await(t, "the sync to bring it over", func() (bool, string) {
			docs, err := b.all(t.Context(), theirs)
			return err == nil && docs["free"] != "", fmt.Sprint(len(docs), err)
		})
	})
}

// TestDroppedConnections: the connections between the sync and both clusters break again and again, but not before they were of some use: on a
// busy machine the logins alone may take as long as a driver waits until it tries again.
func TestDroppedConnections(t *testing.T) {
	t.Parallel()
	const answers, enough = 40, 5
	a, b := newMongo(t), newMongo(t)
	fill(t, a, 400)
	var uris [2]string
	var proxies []*proxy
	for i, e := range []endpoint{a, b} {
		server := e.(*mongoServer)
		p := newProxy(t, fmt.Sprintf("127.0.0.1:%d", server.server.Port))
		proxies = append(proxies, p)
		uris[i] = strings.Replace(server.admin, fmt.Sprintf("127.0.0.1:%d", server.server.Port), p.address(), 1) + "&directConnection=true"
	}
	stop := make(chan struct{})
	stopped := make(chan struct{})
	drops := 0
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(150 * time.Millisecond)
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-ticker.C:
				if proxies[i%2].dropAfter(answers) {
					drops++
				}
			case <-stop:
				return
			}
		}
	}()
	writers := gather(t, a, *seed)
	s := newSyncer(t, uris[0], uris[1])
	s.awaitProgress("state IDLE", inState("IDLE"))
	s.post("start", startBody(true))
	s.awaitProgress("canCommit", writers.whileInTime(canCommit))
	s.commit()
	s.awaitProgress("state COMMITTED", writers.whileInTime(inState("COMMITTED")))
	close(stop)
	<-stopped
	if drops < enough {
		t.Errorf("the connections broke %d times only", drops)
	}
	writers.disperse()
	verify(t, a, b, 0)
}

// TestLargeDocuments: documents of nearly 16 MB, made, updated and deleted.
func TestLargeDocuments(t *testing.T) {
	t.Parallel()
	a, b := newMongo(t), newMongo(t)
	ns := namespace(a.kind(), 0, "large")
	large := newDocument("large", 1)
	large.Text = strings.Repeat("x", 16<<20-1024)
	if err := a.put(t.Context(), ns, large); err != nil {
		t.Fatal(err)
	}
	s := newSyncer(t, a.uri(), b.uri())
	s.awaitProgress("state IDLE", inState("IDLE"))
	s.post("start", startBody(true))
	s.awaitProgress("canCommit", canCommit)
	other := large
	other.ID = "large-too"
	for _, write := range []func() error{
		func() error { return a.put(t.Context(), ns, other) },
		func() error { return a.update(t.Context(), ns, newDocument("large", 77)) },
		func() error { return a.remove(t.Context(), ns, other.ID) },
		func() error { return a.put(t.Context(), ns, other) },
	} {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	s.commit()
	s.awaitProgress("state COMMITTED", inState("COMMITTED"))
	verify(t, a, b, 0)
}

// TestUniqueIndex: values move between documents under a unique index; it is unique on the destination afterwards, both ways.
func TestUniqueIndex(t *testing.T) {
	t.Parallel()
	a, b := newMongo(t), newMongo(t)
	ns := namespace(a.kind(), 0, "unique")
	for i := range 20 {
		if err := a.put(t.Context(), ns, newDocument(fmt.Sprint("u", i), i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.index(t.Context(), ns, "n", true); err != nil {
		t.Fatal(err)
	}
	s := newSyncer(t, a.uri(), b.uri())
	s.awaitProgress("state IDLE", inState("IDLE"))
	s.post("start", startBody(true))
	s.awaitProgress("canCommit", canCommit)
	from, to := a, b
	for way := range 2 {
		rotate(t, from, way)
		s.commit()
		s.awaitProgress("state COMMITTED", inState("COMMITTED"))
		verify(t, from, to, 0)
		if err := to.put(t.Context(), ns, newDocument("duplicate", 3)); err == nil {
			t.Errorf("a duplicate is taken by the destination after the commit")
		}
		if way == 0 {
			s.post("reverse", nil)
			s.awaitProgress("canCommit after reverse", canCommit)
			from, to = b, a
		}
	}
}

// rotate has each document give its value up and take its neighbour's.
func rotate(t *testing.T, e endpoint, way int) {
	t.Helper()
	ns := namespace(e.kind(), 0, "unique")
	const n = 20
	for round := range 3 {
		shift := way*3 + round + 1
		for i := range 2 * n {
			value := 1000 + i // which none has
			if i >= n {
				value = (i + shift) % n
			}
			if err := e.update(t.Context(), ns, newDocument(fmt.Sprint("u", i%n), value)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
