package database_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tidegate/tidegate/internal/access"
	"github.com/tidegate/tidegate/internal/changes"
	"github.com/tidegate/tidegate/internal/database"
)

// Many feeds are read by one goroutine, in the order in which they say that they are due, while documents, users
// and roles change. None is forgotten.
func TestArmedFeedsShareOneGoroutine(t *testing.T) {
	const readers, writes = 60, 150
	e := open(t, database.Options{})
	users := []string{"bob", "amy", "eve"}
	handles := make([]*database.Handle, len(users))
	for i, name := range users {
		handles[i] = e.user(name, "end", name)
	}
	due := make(chan int, readers) // each feed is in it once at most
	feeds := make([]*database.Feed, readers)
	for i := range feeds {
		feeds[i] = e.feed(handles[i%len(handles)], database.ChangesOptions{IncludeDocs: i%2 == 0})
		due <- i
	}
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		for n := range writes {
			name := users[n%len(users)]
			e.put(fmt.Sprintf(`{"_id":"d%d","channels":[%q,"extra%d"]}`, n, name, n%4))
			if n%5 == 0 {
				e.grant(name, "end", name, fmt.Sprint("extra", n%4))
			}
		}
		e.put(`{"_id":"end","channels":["end"]}`)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for left := readers; left > 0; {
		var i int
		select {
		case i = <-due:
		case <-ctx.Done():
			t.Fatalf("%d feeds were never told", left)
		}
		switch ended, err := serve(ctx, feeds[i], func() { due <- i }); {
		case err != nil:
			t.Fatal(err)
		case ended:
			left--
		}
	}
	if e.db.Stats().FeedWakeups.Load() == 0 {
		t.Error("nobody was counted as woken")
	}
}

// serve reads a feed until it sleeps or has read the document "end".
func serve(ctx context.Context, f *database.Feed, notify func()) (ended bool, err error) {
	for ready := true; ready; {
		page, err := f.Next(ctx, 7)
		if err != nil {
			return false, err
		}
		for _, c := range page {
			if c.ID == "end" {
				f.Close()
				return true, nil
			}
		}
		if len(page) > 0 {
			continue
		}
		if ready, err = f.Arm(notify); err != nil {
			return false, err
		}
	}
	return false, nil
}

// What was read and not returned yet is there to be read.
func TestArmWithEntriesAtHand(t *testing.T) {
	const docs = 70 // more than are rendered at once
	e := open(t, database.Options{})
	for i := range docs {
		e.put(fmt.Sprintf(`{"_id":"d%d"}`, i))
	}
	f := e.feed(e.admin, database.ChangesOptions{IncludeDocs: true})
	page, err := f.Next(t.Context(), 0)
	if err != nil || len(page) == docs {
		t.Fatalf("%d entries, %v", len(page), err)
	}
	if ready, err := f.Arm(func() { t.Error("told") }); !ready || err != nil {
		t.Fatalf("%v, %v", ready, err)
	}
	if n := len(page) + len(drain(t, f, 0)); n != docs {
		t.Errorf("%d entries", n)
	}
	told := make(chan struct{})
	for ready := true; ready; {
		drain(t, f, 0)
		if ready, err = f.Arm(func() { close(told) }); err != nil {
			t.Fatal(err)
		}
	}
	e.put(`{"_id":"another"}`)
	<-told
	if f.Disarm() {
		t.Error("it is armed still")
	}
	f.Close()
	if _, err := f.Arm(func() {}); !errors.Is(err, changes.ErrFeedClosed) {
		t.Errorf("closed: %v", err)
	}
}

// grant sets the channels of a user.
func (e *env) grant(name string, channels ...string) {
	e.t.Helper()
	if _, err := e.db.Access().PutUser(e.t.Context(), name, access.UserUpdate{AdminChannels: channels}, false); err != nil {
		e.t.Error(err)
	}
}
