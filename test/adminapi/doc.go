// Package adminapi holds the API procedures of the seed "Pause or Terminate Sync" as a script with curl, pause-terminate-enable.sh, and the
// test that runs it against a real process. The script is written to be read: it is what docs/admin-api.md shows.
//
//	go test ./test/adminapi
//	ADMIN=http://127.0.0.1:4985 TIDEGATE=bin/tidegate DATABASE=todo ./test/adminapi/pause-terminate-enable.sh
package adminapi
