#!/bin/sh
# Pauses, resumes, terminates and re-enables device sync of a database over the App Services Admin API, with curl alone: the API procedures
# of "Pause or Terminate Sync", step by step.
#
#   ADMIN     the admin listener, http://127.0.0.1:4985
#   TIDEGATE  the tidegate program
#   DATABASE  the database, todo; it must exist
#
# It stops with a message at the first step that does not do what it should.
set -eu

ADMIN=${ADMIN:-http://127.0.0.1:4985}
TIDEGATE=${TIDEGATE:-tidegate}
DATABASE=${DATABASE:-todo}
API=$ADMIN/api/admin/v3.0

fail() { echo "FAILED: $*" >&2; exit 1; }

# text NAME reads JSON and prints the first string member of that name.
text() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# api METHOD PATH [BODY] makes a request with the access token and prints the answer, then its status on a line of its own.
api() {
    if [ $# -gt 2 ]; then
        curl -sS -X "$1" "$API$2" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d "$3" -w '\n%{http_code}\n'
    else
        curl -sS -X "$1" "$API$2" -H "Authorization: Bearer $TOKEN" -w '\n%{http_code}\n'
    fi
}

# expect STATUS reads what api printed and prints the body, if the status is that.
expect() {
    answer=$(cat)
    status=$(printf '%s\n' "$answer" | tail -n 1)
    body=$(printf '%s\n' "$answer" | sed '$d')
    [ "$status" = "$1" ] || fail "status $status, expected $1: $body"
    printf '%s\n' "$body"
}

echo "== an API key (once, by the operator)"
KEY=$("$TIDEGATE" admin apikey create --admin "$ADMIN" -o json)
PUBLIC=$(echo "$KEY" | text public_key)
PRIVATE=$(echo "$KEY" | text private_key)

echo "== Get an Authentication Token"
LOGIN=$(curl -sS -X POST "$API/auth/providers/mongodb-cloud/login" -H 'Content-Type: application/json' -H 'Accept: application/json' \
    -d "{\"username\":\"$PUBLIC\",\"apiKey\":\"$PRIVATE\"}")
TOKEN=$(echo "$LOGIN" | text access_token)
[ -n "$TOKEN" ] || fail "no access token: $LOGIN"

echo "== Get Group, App, and Service IDs"
GROUP=$(api GET /auth/profile | expect 200 | text group_id)
APP=$(api GET "/groups/$GROUP/apps" | expect 200 | sed 's/},{/}\n{/g' | grep "\"name\":\"$DATABASE\"" | text _id)
[ -n "$APP" ] || fail "there is no app $DATABASE"
SERVICE=$(api GET "/groups/$GROUP/apps/$APP/services" | expect 200 | text _id)
echo "   group $GROUP, app $APP, service $SERVICE"
CONFIG="/groups/$GROUP/apps/$APP/services/$SERVICE/config"

# sync STATE is the blob of the procedure: just the flexible_sync part, with a state.
sync() {
    cat <<BLOB
{
  "flexible_sync": {
    "state": "$1",
    "database_name": "$DATABASE",
    "permissions": {
      "rules": {},
      "defaultRoles": []
    },
    "client_max_offline_days": 30,
    "is_recovery_mode_disabled": false
  }
}
BLOB
}

# state prints the state that the configuration shows.
state() { api GET "$CONFIG" | expect 200 | sed 's/.*"flexible_sync":{"state":"\([^"]*\)".*/\1/'; }

# clients CODE checks how a device's feed is answered.
clients() {
    got=$(curl -sS -o /dev/null -w '%{http_code}' "$PUBLIC_URL/$DATABASE/_changes")
    [ "$got" = "$1" ] || fail "a device's _changes is answered $got, expected $1"
}
PUBLIC_URL=${PUBLIC_URL:-http://127.0.0.1:4984}

echo "== Get the Sync Service Configuration"
api GET "$CONFIG" | expect 200
[ "$(state)" = enabled ] || fail "not enabled at the beginning"
clients 200

echo "== Pause Sync"
api PATCH "$CONFIG" "$(sync disabled)" | expect 204
[ "$(state)" = disabled ] || fail "not paused"
clients 503

echo "== Re-Enable Sync after the pause"
api PATCH "$CONFIG" "$(sync enabled)" | expect 204
[ "$(state)" = enabled ] || fail "not resumed"
clients 200

echo "== Terminate Sync"
api PATCH "$CONFIG" "$(sync '')" | expect 204
[ "$(state)" = "" ] || fail "not terminated"
tries=0
while [ "$(api GET "/groups/$GROUP/apps/$APP/sync/state?sync_type=flexible" | expect 200)" != '{"state":""}' ]; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail "the termination does not end"
    sleep 0.1
done
clients 503
EPOCH=$(api GET "/groups/$GROUP/apps/$APP/sync/lifecycle" | expect 200 | sed 's/.*"epoch":{"no":\([0-9]*\).*/\1/')

echo "== Re-Enable Sync after the termination"
api PATCH "$CONFIG" '{"flexible_sync":{"state":"enabled"}}' | expect 400
api PATCH "$CONFIG" "$(sync enabled)" | expect 204
[ "$(state)" = enabled ] || fail "not enabled again"
clients 200
[ "$EPOCH" -ge 1 ] || fail "the termination has begun no new epoch"

echo "== done"
