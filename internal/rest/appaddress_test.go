package rest

import (
	"context"
	"testing"

	"github.com/tidegate/tidegate"
)

// appID is the client_app_id of the app that the database "db" of a rig has.
const appID = "db-a1b2c"

func appOfDB(_ context.Context, id string) (string, error) {
	if id != appID {
		return "", tidegate.Errorf(tidegate.NotFound, "no app")
	}
	return "db", nil
}

// A database is under its app as it is by itself, and the root there has another uuid in each epoch.
func TestD32AddressUnderTheApp(t *testing.T) {
	r := newRig(t, rigOptions{startup: cheapPasswords, database: openGuest})
	r.create("other", openGuest)
	const app = "/_app/" + appID
	r.p("PUT", app+"/db/doc", `{"channels":["a"]}`).is(201)
	r.p("GET", "/db/doc", "").is(200)
	r.p("GET", app+"/db/_changes", "").is(200)
	r.p("GET", app+"/db", "").is(200)
	r.p("GET", app+"/db/a%2Fb", "").is(404)
	for _, path := range []string{app + "/other/", app + "/other/_changes", "/_app/nothing-00000/db/", "/_app/nothing-00000/", "/_app//db/", "/_app/", app + "//db/", app + "/_all_dbs"} {
		if a := r.p("GET", path, ""); a.status != 404 && a.status != 400 {
			t.Errorf("GET %s: %d %s", path, a.status, a.body)
		}
	}
	uuid := func(path string) string { return r.p("GET", path, "").is(200).member("uuid") }
	server, first := uuid("/"), uuid(app+"/")
	if want := r.running("db").SyncEpoch(); first != want || uuid(app) != want {
		t.Errorf("uuid %q under the app, want the epoch %q", first, want)
	}
	if err := r.running("db").DeviceSync().ResetAll(t.Context(), "a test", "a test"); err != nil {
		t.Fatal(err)
	}
	if again := uuid(app + "/"); again == first || again != r.running("db").SyncEpoch() {
		t.Errorf("uuid %q in the next epoch", again)
	}
	if uuid("/") != server {
		t.Error("the server's uuid changed with a database's epoch")
	}
}
