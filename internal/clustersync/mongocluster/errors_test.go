package mongocluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/tidegate/tidegate/internal/clustersync"
	"github.com/tidegate/tidegate/internal/clustersync/mongocluster/fakemongo"
)

// logins are what can happen to the login of a connection, and what it means for the call that wanted the connection.
var logins = []struct {
	name    string
	command string // of the login that it happens to
	action  fakemongo.Action
	want    error
}{
	{"cut at its beginning", "saslStart", fakemongo.DropBefore, clustersync.ErrUnreachable},
	{"cut in its middle", "saslContinue", fakemongo.DropBefore, clustersync.ErrUnreachable},
	{"cut before its last answer", "saslContinue", fakemongo.DropAfter, clustersync.ErrUnreachable},
	{"a server that goes down", "saslStart", fakemongo.Answer(91), clustersync.ErrUnreachable},
	{"a server that is overloaded", "saslStart", fakemongo.Answer(462, "SystemOverloadedError"), clustersync.ErrUnreachable},
	{"wrong user", "saslStart", fakemongo.Answer(codeAuthFailed), clustersync.ErrUnauthorized},
	{"wrong password", "saslContinue", fakemongo.Answer(codeAuthFailed), clustersync.ErrUnauthorized},
	{"no right to log in", "saslContinue", fakemongo.Answer(codeUnauthorized), clustersync.ErrUnauthorized},
	{"refused by Atlas", "saslContinue", fakemongo.Answer(codeAtlas), clustersync.ErrUnauthorized},
	{"mechanism not there", "saslStart", fakemongo.Answer(334), clustersync.ErrUnauthorized},
	{"a server that does not know the password", "saslContinue", fakemongo.Reply(bson.D{{Key: "conversationId", Value: 1}, {Key: "done", Value: true},
		{Key: "payload", Value: []byte("v=bm90IHRoZSBzaWduYXR1cmU=")}}), clustersync.ErrUnauthorized},
}

// TestLogin: a connection that breaks in its login says nothing of who logs in; a server that refuses the login does. The errors are those
// that the driver makes of it.
func TestLogin(t *testing.T) {
	for _, tt := range logins {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, _ := loggingIn(t, tt.command, tt.action)
			_, err := c.once(t.Context(), "ping", "admin", bson.D{{Key: "ping", Value: 1}})
			if got := theKind(err); got != tt.want {
				t.Errorf("%v is %v, want %v", err, got, tt.want)
			}
			if wasCleared(err) {
				t.Errorf("%v is the error of a call that waited", err)
			}
		})
	}
}

// TestLoginOfAnother: calls that wait for a connection while another one's login fails have not been refused, whatever happened to that. Made
// again, they are told what is so.
func TestLoginOfAnother(t *testing.T) {
	for _, tt := range logins {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const calls = 3
			fail := make(chan struct{})
			c, waiting := loggingIn(t, tt.command, fakemongo.After(fail, tt.action))
			errs := make(chan error, calls)
			for range calls {
				go func() {
					_, err := c.once(t.Context(), "ping", "admin", bson.D{{Key: "ping", Value: 1}})
					errs <- err
				}()
			}
			for range calls {
				<-waiting
			}
			close(fail)
			others := 0
			for range calls {
				err, want := <-errs, tt.want
				if wasCleared(err) {
					others++
					want = clustersync.ErrUnreachable
					if !strings.Contains(err.Error(), "auth error") {
						t.Errorf("%v does not quote the login", err)
					}
				}
				if got := theKind(err); got != want {
					t.Errorf("%v is %v, want %v", err, got, want)
				}
			}
			if others == 0 {
				t.Error("no call waited for the login of another")
			}
			if tt.want == clustersync.ErrUnreachable {
				return
			}
			if _, err := c.run(t.Context(), "ping", "admin", bson.D{{Key: "ping", Value: 1}}); theKind(err) != tt.want {
				t.Errorf("made again: %v, want %v", err, tt.want)
			}
		})
	}
}

// TestBrokenHandshakes: a driver that closes a connection since it broke in its handshake says at times that it was canceled. Nobody canceled
// the call.
func TestBrokenHandshakes(t *testing.T) {
	t.Parallel()
	canceled := 0
	for range 100 {
		c, _ := loggingIn(t, "saslStart", fakemongo.DropBefore)
		_, err := c.once(t.Context(), "ping", "admin", bson.D{{Key: "ping", Value: 1}})
		if theKind(err) != clustersync.ErrUnreachable {
			t.Fatalf("%v is %v", err, theKind(err))
		}
		if errors.Is(err, context.Canceled) {
			canceled++
		}
	}
	t.Logf("%d were said to be canceled", canceled)
}

// loggingIn returns a cluster to which an action happens when a connection logs in, and what is sent to when a call begins to wait for one.
func loggingIn(t *testing.T, command string, a fakemongo.Action) (*Cluster, <-chan struct{}) {
	t.Helper()
	s := fakemongo.Start(t, fakemongo.Options{})
	s.Break(func(name string, _ int) fakemongo.Action {
		if name == command {
			return a
		}
		return fakemongo.Pass
	})
	parsed, err := parseURI(strings.Replace(s.URI, "://", "://someone:secret@", 1) + "?directConnection=true")
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{Retry: time.Minute}.withDefaults()
	waiting := make(chan struct{}, 100)
	client, err := mongo.Connect(parsed.clientOptions(opts).SetMaxConnecting(1).SetPoolMonitor(&event.PoolMonitor{Event: func(e *event.PoolEvent) {
		if e.Type == event.ConnectionCheckOutStarted {
			waiting <- struct{}{}
		}
	}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return &Cluster{client: client, uri: parsed, opts: opts}, waiting
}

// theKind is the error of the contract that a failure carries, or nil.
func theKind(err error) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.kind
	}
	return nil
}
